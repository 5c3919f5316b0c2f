"""Which grants paid for a debit, and which debits a credit paid for."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec

from api.endpoints import credit_transactions
from api.framework import cursors, fields
from api.framework.fields import Number, Response
from api.framework.operation import Call, Operation, Reply, not_found
from api.transactions.prices import PriceResponse, price_response
from shared.access.model import Scope
from shared.errors import NotFoundError
from shared.ids import transaction_public_id
from shared.ledger import service, store
from shared.ledger.model import Source, TransactionType, Use
from shared.ledger.origin import PRICING

USES_MAX = 1_000
CURSOR = "uses"


class ExplainQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The page of `uses`."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=USES_MAX)] = USES_MAX
    cursor: str | None = None


class CreditSourceResponse(Response):
    """A part of a debit and the grant that paid for it. Without a grant, the part is debt."""

    amount: Number
    grant_id: UUID | None
    grant_type: str | None
    payment_intent_id: str | None
    charge_id: str | None
    receipt_url: str | None


class GrantUseResponse(Response):
    """A part of a grant and the debit that it paid for."""

    amount: Number
    transaction_id: str
    change_sequence: int
    type: TransactionType
    created_at: datetime


class ExplanationResponse(Response):
    """A ledger row and its funding. The sources add up to the amount of a debit.

    `pricing` says how the amount of priced usage arose.
    """

    id: str
    organization_id: UUID
    change_sequence: int
    type: TransactionType
    amount: Number
    balance_after: Number
    created_at: datetime
    sources: list[CreditSourceResponse]
    uses: list[GrantUseResponse]
    pricing: PriceResponse | None
    next_cursor: str | None


async def explain(call: Call) -> Reply:
    """Return which grants paid for a debit, or which debits a credit paid for.

    `sources` lists the grants of a debit with their payments and receipts. `uses` lists the debits
    that a credit paid for, oldest first, in pages.
    """
    query: ExplainQuery = call.query
    after = 0 if query.cursor is None else cursors.decode_seq(CURSOR, query.cursor)
    row = await credit_transactions.find(call, call.path["id"])
    if row["organization_id"] != call.owner.id:
        raise not_found("transaction", call.path["id"])
    async with call.api.pool.acquire() as connection:
        sources = await service.explain(connection, row)
        uses: list[Use] = []
        if row["amount"] > 0:
            uses = await store.uses(
                connection, call.owner.id, row["grant_id"], after=after, limit=query.limit + 1
            )
    page = uses[: query.limit]
    return Reply(
        ExplanationResponse(
            id=transaction_public_id(row["id"]),
            organization_id=row["organization_id"],
            change_sequence=row["seq"],
            type=TransactionType(row["type"]),
            amount=fields.format_number(row["amount"]),
            balance_after=fields.format_number(row["balance_after"]),
            created_at=row["created_at"],
            sources=[_source(source) for source in sources],
            uses=[_use(use) for use in page],
            pricing=_pricing(row["metadata"]),
            next_cursor=cursors.encode(CURSOR, page[-1].seq) if len(uses) > len(page) else None,
        )
    )


def _pricing(metadata: dict[str, Any] | None) -> PriceResponse | None:
    record = (metadata or {}).get(PRICING)
    return None if record is None else price_response(record)


def _source(source: Source) -> CreditSourceResponse:
    return CreditSourceResponse(
        amount=fields.format_number(source.amount),
        grant_id=source.grant_id,
        grant_type=source.grant_type,
        payment_intent_id=source.payment_intent_id,
        charge_id=source.charge_id,
        receipt_url=source.receipt_url,
    )


def _use(use: Use) -> GrantUseResponse:
    return GrantUseResponse(
        amount=fields.format_number(use.amount),
        transaction_id=transaction_public_id(use.transaction_id),
        change_sequence=use.seq,
        type=TransactionType(use.type),
        created_at=use.created_at,
    )


OPERATIONS = (
    Operation(
        name="explainTransaction",
        tag="Balance and history",
        method="GET",
        path="/v1/billing/{organizationId}/transactions/{id}/explain",
        handle=explain,
        response=ExplanationResponse,
        query=ExplainQuery,
        scope=Scope.READ,
        errors=(NotFoundError,),
        cost=10,
    ),
)
