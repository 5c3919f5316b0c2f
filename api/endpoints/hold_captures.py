"""Captures of holds: the debits that use their credits."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from api.framework import fields
from api.framework.fields import Number
from api.framework.operation import Call, Operation, Reply, Retry
from api.transactions import debit_fields, holds, permissions
from api.transactions.debit_fields import DebitFields, OnInsufficient
from api.transactions.holds import HoldResponse
from api.transactions.posting_keys import posting_key
from shared.access.model import Scope
from shared.errors import (
    BudgetExceededError,
    ConflictError,
    IdempotencyError,
    InsufficientCreditsError,
    ValidationError,
)
from shared.ids import transaction_public_id
from shared.ledger import keys
from shared.ledger import store as ledger
from shared.ledger.holds import rules, service
from shared.ledger.holds.model import Hold
from shared.ledger.model import (
    PostedTransaction,
    Posting,
    PostingStatus,
    RefusedPosting,
    TransactionType,
)


class CaptureRequest(DebitFields, kw_only=True):
    """The amount used, and what a debit has besides.

    With `final: false` the hold stays open for more captures. `allowExceed` allows more than is
    left of the hold if the balance covers the rest, `onInsufficient: "overdraft"` in any case.
    """

    amount: Number
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
    body: CaptureRequest = call.body
    amount = fields.parse_number(body.amount, "body", "amount")
    if amount < 0:
        raise fields.invalid(("body", "amount"), "must not be negative")
    hold = await holds.find(call, call.path["id"])
    if amount == 0:
        return await _capture_nothing(call, hold)
    posting = capture_posting(call, body, hold, amount)
    result = await call.api.ledger.post(permissions.limit_overdraft(call, posting))
    if isinstance(result, RefusedPosting):
        raise await holds.capture_error(call, posting, result)
    hold = await holds.find(call, call.path["id"])
    return Reply(_captured(hold, result), replayed=result.status is PostingStatus.REPLAYED)


async def _capture_nothing(call: Call, hold: Hold) -> Reply:
    body: CaptureRequest = call.body
    if not body.final:
        raise fields.invalid(("body", "amount"), "must be positive where final is false")
    async with call.api.pool.acquire() as connection, connection.transaction():
        result = await service.capture_nothing(connection, call.owner.id, hold.id)
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


def capture_posting(call: Call, body: CaptureRequest, hold: Hold, amount: Decimal) -> Posting:
    """Return the posting of a capture, with the fields of its hold where it has none."""
    overdraft = body.on_insufficient is OnInsufficient.OVERDRAFT
    posting = debit_fields.posting_of(
        call,
        body,
        _capture_key(call, body, hold.id),
        ("body",),
        type=TransactionType.HOLD_CAPTURE,
        amount=-amount,
        hold_id=hold.id,
        may_overdraw=body.allow_exceed or overdraft,
        partial=not body.final,
        past_limit=overdraft,
    )
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


def _captured(hold: Hold, result: PostedTransaction) -> CaptureResponse:
    return CaptureResponse(
        **holds.fields_of(hold),
        capture_transaction_id=transaction_public_id(result.id),
        capture_amount=fields.format_number(-result.amount),
        balance_after=fields.format_number(result.balance_after),
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
