"""Auto-recharge: attempts, required customer actions, resuming, and the no-cap reminder."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from api.endpoints import billing
from api.endpoints.billing import BillingResponse
from api.framework import cursors, fields
from api.framework.fields import NumberOrNull, PageQuery, Request, Response, Text
from api.framework.operation import Call, Operation, Reply, Retry, not_found
from shared.access.model import Scope
from shared.errors import ConflictError, NotFoundError, StripeFailedError
from shared.http.completion import run_to_completion
from shared.ids import parse_id
from shared.payments.payment_intents import Intent
from shared.recharge import cancellation, service, store
from shared.recharge.attempts import store as attempt_store
from shared.recharge.model import AttemptState, RechargeState, Trigger

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

CURSOR = "attempts"
BASE = "/v1/billing/{organizationId}"
STRIPE_SECONDS_MAX = 20.0


class ReminderResponse(Response):
    """`show` is true while auto-recharge is on without a monthly cap and it was not dismissed."""

    organization_id: UUID
    show: bool
    dismissed_at: datetime | None


class AttemptResponse(Response):
    """A charge attempt. `amount` is in credits, `amountMinor` in the currency's smallest unit.

    `reason` and `detail` explain a failure or cancellation.
    """

    id: UUID
    organization_id: UUID
    state: AttemptState
    trigger: Trigger
    amount: NumberOrNull
    amount_minor: int | None
    currency: str | None
    payment_intent_id: str | None
    reason: str | None
    detail: str | None
    decline_code: str | None
    created_at: datetime
    settled_at: datetime | None


class AttemptPage(Response):
    """A page of charge attempts, newest first."""

    data: list[AttemptResponse]
    next_cursor: str | None


class RequiredActionResponse(AttemptResponse):
    """A payment that requires customer action. Confirm it with Stripe.js and `clientSecret`."""

    client_secret: str | None
    expires_at: datetime


class RequiredActionList(Response):
    """The payments that require customer action: at most one."""

    data: list[RequiredActionResponse]


class CancelRequest(Request):
    """The reason for the cancellation, for the audit log."""

    reason: Text | None = None


class ResumeRequest(Request):
    """The reason for resuming, for the audit log."""

    reason: Text | None = None


def attempt_response(row: asyncpg.Record) -> AttemptResponse:
    """Return the response for an attempt."""
    return AttemptResponse(**_fields(row))


async def reminder(call: Call) -> Reply:
    """Return whether to remind a user that auto-recharge has no monthly cap."""
    async with call.acquire() as connection:
        return Reply(await _reminder(call, connection))


async def dismiss(call: Call) -> Reply:
    """Dismiss the no-cap reminder. Repeating the request changes nothing."""
    async with call.transaction() as connection:
        if await store.dismiss_reminder(connection, call.owner.id, call.now):
            await call.record(connection, "recharge.reminder_dismissed")
        return Reply(await _reminder(call, connection))


async def requires_action(call: Call) -> Reply:
    """List the payments that require customer action, each with a fresh client secret.

    Payments that were authenticated or have ended are left out. A key without the scope
    `purchases` gets no client secret, since a secret allows acting on the payment.
    """
    may_pay = call.caller.may(Scope.PURCHASES)
    async with call.api.pool.acquire() as connection:
        rows = await attempt_store.waiting_attempts(connection, call.owner.id, call.now)
    waiting = []
    for row in rows:
        answer = await call.api.charger.gateway.retrieve(
            row["payment_intent_id"], stripe_account=row["stripe_account"]
        )
        if not isinstance(answer, Intent):
            raise StripeFailedError(f"Stripe did not return the payment: {answer.detail}")
        if answer.status in _WAITING:
            waiting.append(
                RequiredActionResponse(
                    **_fields(row),
                    client_secret=answer.client_secret if may_pay else None,
                    expires_at=row["link_expires_at"],
                )
            )
    return Reply(RequiredActionList(data=waiting))


# Declined off session because authentication is required, or with the bank now.
_WAITING = frozenset({"requires_payment_method", "requires_confirmation", "requires_action"})


async def attempts(call: Call) -> Reply:
    """List charge attempts, newest first, both automatic recharges and top-ups."""
    query: PageQuery = call.query
    async with call.api.pool.acquire() as connection:
        rows = await attempt_store.attempts(
            connection, call.owner.id, rows_max=query.limit + 1, after=_after(query)
        )
    page = rows[: query.limit]
    more = _cursor(page[-1]) if len(rows) > len(page) else None
    return Reply(AttemptPage(data=[attempt_response(row) for row in page], next_cursor=more))


async def cancel(call: Call) -> Reply:
    """Cancel an attempt that has not ended: armed, or waiting for the customer or the bank.

    Nothing is charged, and auto-recharge waits for the next usage. 409 if the attempt has ended
    otherwise, or its payment can no longer be canceled. An attempt that is already canceled is
    returned unchanged.
    """
    body: CancelRequest = call.body
    attempt_id = parse_id(call.path["attemptId"])
    if attempt_id is None:
        raise not_found("attempt", call.path["attemptId"])
    # Stripe may have canceled the payment when the request's deadline passes.
    row = await run_to_completion(
        cancellation.cancel(
            call.api.charger,
            call.owner.id,
            attempt_id,
            actor=call.actor,
            reason=body.reason,
        )
    )
    return Reply(attempt_response(row))


async def resume(call: Call) -> Reply:
    """End a suspension of auto-recharge, whatever its reason, and reset the decline count.

    A suspension that only a person can end persists while auto-recharge is off, and can be ended
    here then. 409 if there is no suspension.
    """
    body: ResumeRequest = call.body
    async with call.transaction() as connection:
        resumed = await service.resume(
            connection, call.owner.id, actor=call.actor, reason=body.reason
        )
        if not resumed:
            raise ConflictError("Auto-recharge is not suspended.")
        return Reply(await billing.billing_response(call, connection))


async def _reminder(call: Call, connection: Connection) -> ReminderResponse:
    row = await store.billing(connection, call.owner.id)
    capped = row["monthly_cap"] is not None or row["monthly_count_cap"] is not None
    on = RechargeState(row["state"]) is not RechargeState.OFF
    return ReminderResponse(
        organization_id=call.owner.id,
        show=on and not capped and row["reminder_dismissed_at"] is None,
        dismissed_at=row["reminder_dismissed_at"],
    )


def _cursor(row: asyncpg.Record) -> str:
    microseconds = (row["created_at"] - _EPOCH) // timedelta(microseconds=1)
    return cursors.encode(CURSOR, f"{microseconds}.{row['id']}")


def _after(query: PageQuery) -> tuple[datetime, UUID] | None:
    if query.cursor is None:
        return None
    microseconds, _, attempt_id = cursors.decode(CURSOR, query.cursor).partition(".")
    try:
        return _EPOCH + timedelta(microseconds=int(microseconds)), UUID(attempt_id)
    except (ValueError, OverflowError):
        raise fields.invalid(("query", "cursor"), cursors.WRONG) from None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _fields(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "id": row["id"],
        "organization_id": row["organization_id"],
        "state": AttemptState(row["state"]),
        "trigger": Trigger(row["trigger"]),
        "amount": fields.format_number_or_null(row["amount"]),
        "amount_minor": row["amount_minor"],
        "currency": row["currency"],
        "payment_intent_id": row["payment_intent_id"],
        "reason": row["reason"],
        # A refusal of our key or settings is for the operators, not for the client.
        "detail": None if row["blocked_by"] else row["detail"],
        "decline_code": row["decline_code"],
        "created_at": row["created_at"],
        "settled_at": row["settled_at"],
    }


_TAG = "Auto-recharge"
OPERATIONS = (
    Operation(
        name="getNoCapReminder",
        tag=_TAG,
        method="GET",
        path=f"{BASE}/no-cap-reminder",
        handle=reminder,
        response=ReminderResponse,
        scope=Scope.READ,
    ),
    Operation(
        name="dismissNoCapReminder",
        tag=_TAG,
        method="POST",
        path=f"{BASE}/no-cap-reminder/dismiss",
        handle=dismiss,
        response=ReminderResponse,
        scope=Scope.BILLING,
        retry=Retry.STORED,
    ),
    Operation(
        name="listRequiredActions",
        tag=_TAG,
        method="GET",
        path=f"{BASE}/auto-recharge/requires-action",
        handle=requires_action,
        response=RequiredActionList,
        scope=Scope.READ,
        errors=(StripeFailedError,),
        seconds_max=STRIPE_SECONDS_MAX,
        cost=10,
    ),
    Operation(
        name="listRechargeAttempts",
        tag=_TAG,
        method="GET",
        path=f"{BASE}/auto-recharge/attempts",
        handle=attempts,
        query=PageQuery,
        response=AttemptPage,
        scope=Scope.READ,
    ),
    Operation(
        name="cancelRechargeAttempt",
        tag=_TAG,
        method="POST",
        path=f"{BASE}/auto-recharge/attempts/{{attemptId}}/cancel",
        handle=cancel,
        body=CancelRequest,
        response=AttemptResponse,
        scope=Scope.BILLING,
        retry=Retry.RESUMED,
        errors=(NotFoundError, ConflictError, StripeFailedError),
        seconds_max=STRIPE_SECONDS_MAX,
        cost=10,
        example={"reason": "the customer pays by invoice"},
    ),
    Operation(
        name="resumeAutoRecharge",
        tag=_TAG,
        method="POST",
        path=f"{BASE}/auto-recharge/resume",
        handle=resume,
        body=ResumeRequest,
        response=BillingResponse,
        scope=Scope.BILLING,
        retry=Retry.STORED,
        errors=(ConflictError,),
        example={"reason": "the dispute was withdrawn"},
    ),
)
