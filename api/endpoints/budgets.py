"""/v1/billing/{organizationId}/budgets: limits on what a user, a key, a category or a tag uses."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from api.framework import cursors, fields
from api.framework.fields import Number, NumberOrNull, PageQuery, Request, Response
from api.framework.operation import Call, Operation, Reply, Retry, not_found
from shared.access.model import Scope
from shared.budgets import rules, service
from shared.budgets.model import (
    BudgetAction,
    BudgetChange,
    BudgetState,
    NewBudget,
    SubjectKind,
    SubjectState,
    WindowKind,
)
from shared.errors import (
    AlreadyExistsError,
    ConflictError,
    IdempotencyError,
    NotFoundError,
    ValidationError,
)
from shared.ids import parse_id

CURSOR = "budgets"
PATH = "/v1/billing/{organizationId}/budgets"

Thresholds = Annotated[
    list[Annotated[int, msgspec.Meta(ge=1, le=rules.PERCENT_MAX)]],
    msgspec.Meta(max_length=rules.THRESHOLDS_MAX),
]


class BudgetRequest(Request):
    """A limit in credits on one subject, or on each subject by itself (`*`)."""

    subject_kind: SubjectKind
    subject: str
    window: WindowKind
    limit: Number
    action: BudgetAction = BudgetAction.REFUSE
    thresholds: Thresholds = msgspec.field(default_factory=lambda: [80, 100])


class BudgetChangeRequest(Request):
    """What to change. Subject and window stay: remove the budget and create another."""

    limit: Number | UnsetType = UNSET
    action: BudgetAction | UnsetType = UNSET
    thresholds: Thresholds | UnsetType = UNSET


class SubjectResponse(Response):
    """What a subject has used in the current window, holds, and may still use."""

    subject: str
    used: Number
    held: Number
    left: Number


class BudgetResponse(Response):
    """A budget in its current window, which ends at `resetsAt`.

    `used`, `held` and `left` are those of the subject that the budget names, and null for a budget
    of each subject. `subjects` are the up to 100 subjects that used or hold most. `spent`: a
    subject has reached the limit.
    """

    id: UUID
    organization_id: UUID
    subject_kind: SubjectKind
    subject: str
    window: WindowKind
    limit: Number
    action: BudgetAction
    thresholds: list[int]
    used: NumberOrNull
    held: NumberOrNull
    left: NumberOrNull
    resets_at: datetime | None
    spent: bool
    subjects: list[SubjectResponse]
    created_at: datetime
    updated_at: datetime


class BudgetPage(Response):
    """A page of budgets, newest first."""

    data: list[BudgetResponse]
    next_cursor: str | None


class RemovedBudgetResponse(Response):
    """A removed budget."""

    id: UUID
    removed: bool


async def create(call: Call) -> Reply:
    """Create a budget.

    It counts what was used in the current window before it, and what active holds reserve. Once
    the limit would be exceeded, debits and holds are refused with 402 `budget_exceeded_error`, or,
    with the action `tell`, only announced. A budget that names a subject replaces the one of `*`
    with the same window. Windows turn at their exact moment in UTC, by when a debit is posted.
    """
    body: BudgetRequest = call.body
    new = NewBudget(
        subject_kind=body.subject_kind,
        subject=body.subject,
        window_kind=body.window,
        limit=fields.parse_number(body.limit, "body", "limit"),
        action=body.action,
        thresholds=tuple(body.thresholds),
    )
    async with call.transaction() as connection:
        state = await service.create(
            connection, call.owner.id, new, actor=call.actor, now=call.now, budget_id=call.id
        )
    return Reply(_response(state))


async def list_(call: Call) -> Reply:
    """List budgets with what is used, held and left of each, newest first."""
    query: PageQuery = call.query
    # The subjects that used most are found among all of a budget of `*`.
    async with call.api.searching() as connection:
        states = await service.page(
            connection,
            call.owner.id,
            before=cursors.decode_id(CURSOR, query.cursor),
            limit=query.limit + 1,
        )
    page = states[: query.limit]
    more = cursors.encode(CURSOR, page[-1].budget.id) if len(states) > len(page) else None
    return Reply(BudgetPage(data=[_response(state) for state in page], next_cursor=more))


async def retrieve(call: Call) -> Reply:
    """Return a budget with what is used, held and left of it."""
    async with call.api.searching() as connection:
        return Reply(_response(await service.find(connection, call.owner.id, _budget_id(call))))


async def change(call: Call) -> Reply:
    """Change limit, action or thresholds. A limit below what is used refuses at once."""
    body: BudgetChangeRequest = call.body
    limit: Decimal | None = None
    if body.limit is not UNSET:
        limit = fields.parse_number(body.limit, "body", "limit")
    changes = BudgetChange(
        limit=limit,
        action=None if body.action is UNSET else body.action,
        thresholds=None if body.thresholds is UNSET else tuple(body.thresholds),
    )
    budget_id = _budget_id(call)
    async with call.transaction() as connection:
        state = await service.change(
            connection, call.owner.id, budget_id, changes, actor=call.actor, now=call.now
        )
    return Reply(_response(state))


async def remove(call: Call) -> Reply:
    """Remove a budget: it limits nothing any more."""
    budget_id = _budget_id(call)
    async with call.transaction() as connection:
        await service.remove(connection, call.owner.id, budget_id, actor=call.actor, now=call.now)
    return Reply(RemovedBudgetResponse(id=budget_id, removed=True))


def _budget_id(call: Call) -> UUID:
    budget_id = parse_id(call.path["id"])
    if budget_id is None:
        raise not_found("budget", call.path["id"])
    return budget_id


def _response(state: BudgetState) -> BudgetResponse:
    budget, own = state.budget, state.own
    return BudgetResponse(
        id=budget.id,
        organization_id=budget.organization_id,
        subject_kind=budget.subject_kind,
        subject=budget.subject,
        window=budget.window_kind,
        limit=fields.format_number(budget.limit),
        action=budget.action,
        thresholds=list(budget.thresholds),
        used=fields.format_number_or_null(None if own is None else own.used),
        held=fields.format_number_or_null(None if own is None else own.held),
        left=fields.format_number_or_null(None if own is None else state.left(own)),
        resets_at=state.resets_at,
        spent=state.is_spent,
        subjects=[_subject(state, subject) for subject in state.subjects],
        created_at=budget.created_at,
        updated_at=budget.updated_at,
    )


def _subject(state: BudgetState, subject: SubjectState) -> SubjectResponse:
    return SubjectResponse(
        subject=subject.subject,
        used=fields.format_number(subject.used),
        held=fields.format_number(subject.held),
        left=fields.format_number(state.left(subject)),
    )


_TAG = "Budgets and alerts"
OPERATIONS = (
    Operation(
        name="createBudget",
        tag=_TAG,
        method="POST",
        path=PATH,
        handle=create,
        body=BudgetRequest,
        response=BudgetResponse,
        cost=10,
        scope=Scope.BILLING,
        status=HTTPStatus.CREATED,
        retry=Retry.STORED,
        errors=(ValidationError, AlreadyExistsError, ConflictError, IdempotencyError),
        example={"subjectKind": "user", "subject": "user-7", "window": "day", "limit": 5},
    ),
    Operation(
        name="listBudgets",
        tag=_TAG,
        method="GET",
        path=PATH,
        handle=list_,
        query=PageQuery,
        response=BudgetPage,
        cost=10,
        scope=Scope.READ,
        or_scopes=(Scope.BILLING,),
    ),
    Operation(
        name="getBudget",
        tag=_TAG,
        method="GET",
        path=f"{PATH}/{{id}}",
        handle=retrieve,
        response=BudgetResponse,
        cost=10,
        scope=Scope.READ,
        or_scopes=(Scope.BILLING,),
        errors=(NotFoundError,),
    ),
    Operation(
        name="changeBudget",
        tag=_TAG,
        method="PATCH",
        path=f"{PATH}/{{id}}",
        handle=change,
        body=BudgetChangeRequest,
        response=BudgetResponse,
        scope=Scope.BILLING,
        retry=Retry.STORED,
        errors=(ValidationError, NotFoundError),
        example={"limit": 10, "action": "tell"},
    ),
    Operation(
        name="removeBudget",
        tag=_TAG,
        method="DELETE",
        path=f"{PATH}/{{id}}",
        handle=remove,
        response=RemovedBudgetResponse,
        scope=Scope.BILLING,
        retry=Retry.STORED,
        errors=(NotFoundError,),
    ),
)
