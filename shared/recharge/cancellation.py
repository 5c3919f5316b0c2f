"""Cancels one live attempt on request: of a person, or of the top-up that replaces it.

An attempt without a PaymentIntent is canceled at once, any other after Stripe has canceled its
PaymentIntent, so that a canceled attempt can never charge.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from shared.access.model import Actor
from shared.errors import ConflictError, LeaseLostError, NotFoundError, StripeFailedError
from shared.payments.payment_intents import (
    ChargeRefused,
    Intent,
    ObjectMissing,
    OutcomeUnknown,
    Subject,
)
from shared.recharge import outcomes
from shared.recharge.attempts import store as attempt_store
from shared.recharge.flow import Charger
from shared.recharge.model import ArmedAttempt, Attempt, AttemptState
from shared.recharge.transitions import CancellationOnRequest, CancellationRequest

if TYPE_CHECKING:
    import asyncpg

RETRY_AFTER_SECONDS = 2


async def cancel(
    charger: Charger,
    organization_id: UUID,
    attempt_id: UUID,
    *,
    actor: Actor | str,
    reason: str | None,
) -> asyncpg.Record:
    """Cancel a live attempt and return it; one that is canceled already is returned unchanged.

    Auto-recharge then waits for the next usage. `actor` and `reason` go into the audit log. Raises
    NotFoundError, ConflictError if the attempt has ended, is leased by a worker, or has a payment
    that can no longer be canceled, and StripeFailedError if Stripe did not answer.
    """
    async with charger.pool.acquire() as connection:
        row = await attempt_store.find_attempt(connection, organization_id, attempt_id)
    if row is None:
        raise NotFoundError("There is no such attempt.")
    if row["state"] == AttemptState.CANCELED:
        return row
    await end(
        charger,
        organization_id,
        attempt_id,
        detail=f"canceled by {actor}" + (f": {reason}" if reason else ""),
        waits=True,
        request=CancellationRequest(actor, reason),
    )
    async with charger.pool.acquire() as connection:
        after = await attempt_store.find_attempt(connection, organization_id, attempt_id)
    assert after is not None  # noqa: S101 - attempts are never deleted
    return after


async def end(
    charger: Charger,
    organization_id: UUID,
    attempt_id: UUID,
    *,
    detail: str,
    waits: bool,
    request: CancellationRequest | None = None,
) -> None:
    """Cancel an attempt under a lease; `waits`: arm no other before the next usage.

    A request is audited in the transaction that cancels the attempt.
    """
    async with charger.pool.acquire() as connection:
        lease = await attempt_store.take(
            connection, organization_id, attempt_id, uuid4(), charger.lease
        )
    if lease is None:
        raise ConflictError(
            "The attempt has ended, or is being charged right now.",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        )
    async with charger.renewed(lease):
        try:
            await _cancel_at_stripe(charger, lease.attempt)
        except (ConflictError, StripeFailedError):
            with contextlib.suppress(LeaseLostError):
                await charger.apply(lease, outcomes.postponed(lease.attempt, None, timedelta(0)))
            raise
        effect = CancellationOnRequest(waits=waits, request=request)
        await charger.apply(lease, outcomes.canceled(detail, effect))


async def _cancel_at_stripe(charger: Charger, attempt: Attempt) -> None:
    """Cancel its PaymentIntent, so that it never charges; raise if that is not certain."""
    if isinstance(attempt, ArmedAttempt) or attempt.payment_intent_id is None:
        return  # a PaymentIntent without a stored id was never confirmed
    account = attempt.stripe_account
    answer = await charger.gateway.cancel(attempt.payment_intent_id, stripe_account=account)
    if isinstance(answer, OutcomeUnknown):  # refused in its status, or the response was lost
        answer = await charger.gateway.retrieve(attempt.payment_intent_id, stripe_account=account)
    match answer:
        case Intent(status="canceled") | ObjectMissing(subject=Subject.INTENT):
            return
        case Intent(status=status):
            raise ConflictError(f"The payment cannot be canceled any more: it is {status}.")
        case ChargeRefused(detail=detail):
            raise ConflictError(f"The payment cannot be canceled: {detail}")
        case _:
            raise StripeFailedError(f"Stripe did not say: {answer.detail}")
