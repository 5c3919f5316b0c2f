"""Statements: an organization's credits in a month, by reason."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from api.framework import fields
from api.framework.csv_replies import JSON, Csv
from api.framework.fields import Number, Request, Response
from api.framework.operation import Call, Operation, Reply, not_found
from shared.access.model import Scope
from shared.errors import NotFoundError
from shared.months import Month
from shared.spreadsheets import CONTENT_TYPE, csv_text
from shared.statements import rules, service
from shared.statements.model import CategoryTotal, Line, Position, Statement


class StatementQuery(Request):
    """`format`: json or csv; the default follows the `Accept` header."""

    format: Literal["json", "csv"] | None = None


class PositionResponse(Response):
    """A balance after a row; before the first row, the sequence is 0 and there is no hash."""

    balance: Number
    change_sequence: int
    hash: str | None


class CategoryUsageResponse(Response):
    """The usage of a category; null: usage without one.

    `isRest`: the sum of all categories beyond the first 1,000.
    """

    category: str | None
    amount: Number
    transactions: int
    is_rest: bool


class StatementResponse(Response):
    """A statement. Opening + purchased + … + voided = closing; what is taken is negative.

    Rows belong to the month in which they were created, in UTC. A `complete` statement never
    changes again.
    """

    organization_id: UUID
    month: str
    period_start: datetime
    period_end: datetime
    complete: bool
    opening: PositionResponse
    purchased: Number
    recharged: Number
    granted: Number
    used: Number
    expired: Number
    refunded: Number
    disputed: Number
    adjusted: Number
    voided: Number
    closing: PositionResponse
    transactions: int
    used_by_category: list[CategoryUsageResponse]


async def statement(call: Call) -> Reply:
    """Return an organization's statement of a month, such as 2026-11.

    The opening and the closing balance have the sequence and the hash of their row, which tie the
    statement to the ledger. The statement of the current month reaches until now. As CSV with
    `format=csv` or `Accept: text/csv`.
    """
    query: StatementQuery = call.query
    try:
        month = Month.parse(call.path["month"])
    except ValueError:
        raise not_found("month", call.path["month"]) from None
    if month.start > call.now:
        raise NotFoundError(f"{month} has not begun.")
    async with call.api.searching() as connection:
        found = await service.statement(connection, call.owner.id, month, now=call.now)
    if query.format == "csv" or (query.format is None and call.prefers_csv):
        name = f"statement-{call.owner.slug}-{month}.csv"
        return Reply(Csv(name, csv_text(rules.csv_rows(found))))
    return Reply(_response(found))


def _response(found: Statement) -> StatementResponse:
    return StatementResponse(
        organization_id=found.organization_id,
        month=str(found.month),
        period_start=found.month.start,
        period_end=found.month.end,
        complete=found.complete,
        opening=_position(found.opening),
        **{line: fields.format_number(found.lines[line].amount) for line in Line},
        closing=_position(found.closing),
        transactions=found.transactions,
        used_by_category=[_category(part) for part in found.used],
    )


def _position(position: Position) -> PositionResponse:
    return PositionResponse(
        balance=fields.format_number(position.balance),
        change_sequence=position.seq,
        hash=rules.hash_text(position),
    )


def _category(part: CategoryTotal) -> CategoryUsageResponse:
    return CategoryUsageResponse(
        category=part.category,
        amount=fields.format_number(part.total.amount),
        transactions=part.total.transactions,
        is_rest=part.is_rest,
    )


OPERATIONS = (
    Operation(
        name="getStatement",
        tag="Reports",
        method="GET",
        path="/v1/billing/{organizationId}/statements/{month}",
        handle=statement,
        query=StatementQuery,
        response=StatementResponse,
        media=(JSON, CONTENT_TYPE),
        scope=Scope.READ,
        errors=(NotFoundError,),
        cost=10,
    ),
)
