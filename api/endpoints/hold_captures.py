"""Captures of holds: the debits that use their credits."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from msgspec.structs import asdict, replace

from api.framework import fields
from api.framework.fields import Number, NumberOrNull
from api.framework.operation import Call, Operation, Reply, Retry
from api.transactions import debit_fields, holds, permissions, priced_usage, prices
from api.transactions.debit_fields import DebitFields, OnInsufficient
from api.transactions.holds import HoldResponse
from api.transactions.posting_keys import posting_key
from api.transactions.priced_usage import Draft
from api.transactions.prices import Measures
from shared.access.model import Scope
from shared.errors import (
    BudgetExceededError,
    ConflictError,
    IdempotencyError,
    InsufficientCreditsError,
    PrepaidError,
    ValidationError,
)
from shared.ids import transaction_public_id
from shared.ledger import keys
from shared.ledger import rules as ledger_rules
from shared.ledger import store as ledger
from shared.ledger.holds import rules, service
from shared.ledger.holds.model import Hold
from shared.ledger.model import Posting, PostingStatus, RefusedPosting, TransactionType
from shared.pricing.model import UsageItem

if TYPE_CHECKING:
    import asyncpg


class CaptureRequest(DebitFields, kw_only=True):
    """The amount used, or the `measures` to price, and what a debit has besides.

    Without `model` and `meter`, those of the hold are used. With `final: false` the hold stays open
    for more captures. `allowExceed` allows more than is left of the hold if the balance covers the
    rest, `onInsufficient: "overdraft"` in any case.
    """

    amount: NumberOrNull = msgspec.field(default_factory=fields.null)
    measures: Measures | None = None
    model: str | None = None
    meter: str | None = None
    final: bool = True
    allow_exceed: bool = False


class CaptureResponse(HoldResponse):
    """A hold after a capture, and the ledger row that used its credits.

    `captureTransactionId` is null for a capture of zero, which has no row.
    """

    capture_transaction_id: str | None
    capture_amount: Number
    balance_after: Number


async def capture(call: Call) -> Reply:
    """Use held credits. The rest of the hold becomes available again, unless `final` is false.

    An amount up to what the hold still reserves always succeeds while it is active. A capture of
    zero closes the hold without a ledger row. With a `transactionId`, repeating the capture returns
    the first response; several captures with `final: false` need one each. Without it, a hold has
    one capture: repeating it returns the first response, and another amount is a 409. So is a
    capture of a hold that has ended: `detail` says how, and what to do then.
    """
    hold = await holds.find(call, call.path["id"])
    posting, row = await _posting(call, hold)
    if row is not None:
        return Reply(await _captured(call, hold, dict(row)), replayed=True)
    if not posting.amount:
        return await _capture_nothing(call, hold, posting)
    result = await call.api.ledger.post(permissions.limit_overdraft(call, posting))
    if isinstance(result, RefusedPosting):
        raise await holds.capture_error(call, posting, result)
    replayed = result.status is PostingStatus.REPLAYED
    return Reply(await _captured(call, hold, asdict(result)), replayed=replayed)


async def _posting(call: Call, hold: Hold) -> tuple[Posting, asyncpg.Record | None]:
    """Return the posting of a capture, and the row that an earlier request posted, if it is known.

    Raises ValidationError for a body without an amount, and for usage that has no price.
    """
    body: CaptureRequest = call.body
    amount = fields.parse_number_or_none(body.amount, "body", "amount")
    if (amount is None) == (body.measures is None):
        raise fields.invalid(("body", "amount"), "send either an amount or measures")
    if body.measures is None:
        prices.check_no_subject(body.model, body.meter, ("body",))
        if amount is not None and amount < 0:
            raise fields.invalid(("body", "amount"), "must not be negative")
        return _unpriced(call, body, hold, amount), None
    item = priced_usage.item_with_hold(body.measures, body.model, body.meter, hold, ("body",))
    draft = Draft(
        posting=_unpriced(call, body, hold, None, usage=item),
        item=item,
        at=priced_usage.moment_of(call, body, ("body",)),
        where=("body",),
    )
    (priced,) = await priced_usage.price(call, [draft])
    if isinstance(priced, PrepaidError):
        raise priced
    return priced.posting, priced.row


async def _capture_nothing(call: Call, hold: Hold, posting: Posting) -> Reply:
    body: CaptureRequest = call.body
    if not body.final:
        raise fields.invalid(("body", "amount"), "must be positive where final is false")
    async with call.api.pool.acquire() as connection, connection.transaction():
        result = await service.capture_nothing(connection, call.owner.id, hold.id)
        # The account is locked now: nobody else can use the id. The error undoes the capture.
        rows = await ledger.find_by_keys(connection, call.owner.id, [posting.key])
        if rows and not isinstance(result, RefusedPosting):
            raise priced_usage.conflict(posting)
        balance = await ledger.balance(connection, call.owner.id)
    if isinstance(result, RefusedPosting):
        raise await holds.hold_error(call, str(hold.id), result)
    response = CaptureResponse(
        **holds.fields_of(result.hold),
        capture_transaction_id=None,
        capture_amount=fields.format_number(Decimal(0)),
        balance_after=fields.format_number(balance.balance if balance else Decimal(0)),
    )
    return Reply(response, replayed=result.status is PostingStatus.REPLAYED)


def _unpriced(
    call: Call,
    body: CaptureRequest,
    hold: Hold,
    amount: Decimal | None,
    usage: UsageItem | None = None,
) -> Posting:
    """Return the posting of a capture, with the fields of its hold where it has none."""
    overdraft = body.on_insufficient is OnInsufficient.OVERDRAFT
    posting = debit_fields.posting_of(
        call,
        body,
        _capture_key(call, body, hold.id),
        ("body",),
        type=TransactionType.HOLD_CAPTURE,
        amount=None if amount is None else -amount,
        hold_id=hold.id,
        may_overdraw=body.allow_exceed or overdraft,
        partial=not body.final,
        past_limit=overdraft,
    )
    if usage is not None:
        digest = ledger_rules.digest(posting, usage=prices.requested(usage))
        posting = replace(posting, digest=digest)
    return rules.capture_of(hold, posting)


def _capture_key(call: Call, body: CaptureRequest, hold_id: UUID) -> str:
    if body.transaction_id is not None:
        return posting_key(call, body.transaction_id)
    if body.final:
        return f"{keys.HOLD}{hold_id}:capture"
    if call.idempotency_key is None:
        raise fields.invalid(
            ("body", "transactionId"), "a capture with final false needs it, or an Idempotency-Key"
        )
    return f"{keys.HOLD}{hold_id}:{call.id}"


async def _captured(call: Call, before: Hold, row: Mapping[str, Any]) -> CaptureResponse:
    hold = await holds.find(call, str(before.id))
    return CaptureResponse(
        **holds.fields_of(hold),
        capture_transaction_id=transaction_public_id(row["id"]),
        capture_amount=fields.format_number(-row["amount"]),
        balance_after=fields.format_number(row["balance_after"]),
    )


OPERATIONS = (
    Operation(
        name="captureHold",
        tag="Holds",
        method="POST",
        path="/v1/billing/{organizationId}/holds/{id}/capture",
        handle=capture,
        body=CaptureRequest,
        response=CaptureResponse,
        scope=Scope.USAGE,
        route_rank=4,
        retry=Retry.LEDGER,
        errors=(
            ValidationError,
            InsufficientCreditsError,
            BudgetExceededError,
            ConflictError,
            IdempotencyError,
        ),
        example={"amount": 3.5},
    ),
)
