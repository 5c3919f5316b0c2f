"""Commits a transition of an attempt: its fenced write and its effect, in one transaction.

The rule, the ledger, the messages and the alerts change together with the attempt's state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.access import service as audit
from shared.ledger.model import PostedTransaction, PostingStatus
from shared.outbound import service as outbound
from shared.outbound.model import MessageType, OutboundMessage
from shared.payments import crediting, offers, sales
from shared.payments.crediting import CreditResult
from shared.payments.messages import purchase_completed
from shared.payments.model import NotSold, Sale, SaleTerms
from shared.payments.payment_intents import Intent, Subject
from shared.recharge import alerts, outcomes, rules, service, store
from shared.recharge.attempts import store as attempt_store
from shared.recharge.clock import store as clock_store
from shared.recharge.model import (
    Attempt,
    AttemptState,
    Card,
    ChargingAttempt,
    Lease,
    SuspensionReason,
    Trigger,
)
from shared.recharge.suspensions import store as suspension_store
from shared.recharge.transitions import (
    Alert,
    Cancellation,
    CancellationOnRequest,
    Capture,
    CustomerAction,
    Decline,
    ExpiredLink,
    Failure,
    MissingObject,
    Transition,
    Uncredited,
)

if TYPE_CHECKING:
    from shared.db.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectContext:
    """The caller's transaction, and what effects need: sale terms, the time and new ids."""

    connection: Connection
    terms: SaleTerms
    now: datetime
    make_id: Callable[[], UUID]


async def commit(
    context: EffectContext, lease: Lease[Attempt], transition: Transition
) -> Transition:
    """Write a transition with its effect; raise LeaseLostError if another process has the lease.

    Returns the transition that was written: another one where the ledger refuses the credit of a
    captured payment, which ends the attempt too. The organization's account is locked first, by the
    global lock order; a capture locks its payment before the posting locks the account, as the
    payment's event does.
    """
    attempt, connection = lease.attempt, context.connection
    if not isinstance(attempt, ChargingAttempt):
        await store.lock_account(connection, attempt.organization_id)
        await attempt_store.transition(connection, lease, transition, now=context.now)
        await _apply_to_any(context, attempt, transition)
        return transition
    effects = _Effects(context, attempt, transition)
    match transition.effect:
        case Capture(intent):
            posted = await effects.credit(intent)
            if not isinstance(posted, PostedTransaction):
                why = posted.reason if isinstance(posted, NotSold) else posted.detail
                return await commit(context, lease, outcomes.not_credited(intent, why))
            await attempt_store.transition(connection, lease, transition, now=context.now)
            await effects.after_capture(intent, posted)
            return transition
        case MissingObject(Subject.CUSTOMER):  # lock the organization before its account
            await attempt_store.forget_customer(
                connection, attempt.organization_id, attempt.customer_id
            )
    if not isinstance(transition.effect, Alert):
        await store.lock_account(connection, attempt.organization_id)
    await attempt_store.transition(connection, lease, transition, now=context.now)
    await effects.apply()
    return transition


async def _apply_to_any(context: EffectContext, attempt: Attempt, transition: Transition) -> None:
    """Apply an effect that does not need a charging attempt."""
    connection, organization_id = context.connection, attempt.organization_id
    match transition.effect:
        case Cancellation() as effect:
            if effect.due_again and attempt.trigger is Trigger.SCHEDULE:
                await clock_store.due_again(connection, organization_id, context.now)
            if effect.rearm:
                await suspension_store.unpause(connection, organization_id)
                await attempt_store.arm_low(connection, [organization_id])
            if effect.suspension is not None:
                await _suspend(
                    context, attempt, effect.suspension, transition.detail, until=effect.until
                )
        case CancellationOnRequest(waits, request):
            await suspension_store.unpause(connection, organization_id)
            if waits and attempt.trigger is not Trigger.TOP_UP:
                await attempt_store.wait_for_usage(connection, organization_id)
            if request is not None:
                await audit.record(
                    connection,
                    actor=request.actor,
                    action="recharge.cancel",
                    subject=str(attempt.id),
                    organization_id=organization_id,
                    reason=request.reason,
                )


async def _suspend(
    context: EffectContext,
    attempt: Attempt,
    reason: SuspensionReason,
    detail: str | None,
    *,
    until: datetime | None = None,
) -> None:
    await service.suspend(
        context.connection,
        attempt.organization_id,
        reason,
        detail or reason,
        now=context.now,
        until=until,
        make_id=context.make_id,
    )


@dataclass(frozen=True, slots=True)
class _Effects:
    """The effects of one transition of a charging attempt."""

    context: EffectContext
    attempt: ChargingAttempt
    transition: Transition

    async def apply(self) -> None:
        connection, organization_id = self.context.connection, self.attempt.organization_id
        match self.transition.effect:
            case Decline(hard):
                await suspension_store.unpause(connection, organization_id)
                await self._announce_failure()
                if (
                    self.attempt.trigger is not Trigger.TOP_UP
                ):  # a present customer can choose another card
                    await self._after_decline(hard=hard)
            case Failure(suspension):
                await self._fail(suspension)
            case Uncredited() if self.attempt.trigger is not Trigger.TOP_UP:
                await _suspend(
                    self.context,
                    self.attempt,
                    SuspensionReason.CHARGE_REFUSED,
                    self.transition.detail,
                )
            case MissingObject(subject):
                await self._detach(subject)
            case ExpiredLink():
                await self._expire_link()
            case CustomerAction(intent):
                await self._ask_customer(intent)
            case Alert(cause, detail):
                await alerts.begin(connection, cause, detail, self.context.now)
            case _:
                await _apply_to_any(self.context, self.attempt, self.transition)

    async def credit(self, intent: Intent) -> CreditResult:
        """Credit the captured payment; its webhook may have credited it already."""
        sale = _sale(self.attempt, intent, self.context)
        (result,) = await crediting.credit(self.context.connection, [sale], self.context.make_id)
        return result

    async def after_capture(self, intent: Intent, posted: PostedTransaction) -> None:
        """Clear the declines, begin the pause, and announce the purchase."""
        connection, now = self.context.connection, self.context.now
        attempt = self.attempt
        await suspension_store.record_success(connection, attempt.organization_id, now)
        payment = {"paymentIntentId": intent.id}
        if attempt.trigger is not Trigger.TOP_UP:
            await self._announce(MessageType.RECHARGE_SUCCEEDED, payment)
            return
        await service.purchased(
            connection, attempt.organization_id, now=now, make_id=self.context.make_id
        )
        if posted.status is PostingStatus.POSTED:  # else its webhook announced the purchase
            price = {"amountMinor": attempt.amount_minor, "currency": attempt.currency}
            message = purchase_completed(posted, payment | price, now)
            await outbound.announce(connection, [message])

    async def _fail(self, suspension: SuspensionReason | None) -> None:
        await self._announce_failure()
        if suspension is None or self.attempt.trigger is Trigger.TOP_UP:
            await suspension_store.unpause(self.context.connection, self.attempt.organization_id)
        else:
            await _suspend(self.context, self.attempt, suspension, self.transition.detail)

    async def _detach(self, subject: Subject) -> None:
        """Detach the object that Stripe lacks; suspend if no payment method is left."""
        connection, organization_id = self.context.connection, self.attempt.organization_id
        await attempt_store.detach_methods(
            connection,
            organization_id,
            self.context.now,
            customer_id=self.attempt.customer_id if subject is Subject.CUSTOMER else None,
            payment_method_id=self.attempt.payment_method_id,
        )
        another = await attempt_store.has_method(
            connection, organization_id
        ) or await attempt_store.has_undescribed_method(connection, organization_id)
        await self._fail(None if another else SuspensionReason.NO_CARD)

    async def _expire_link(self) -> None:
        """Suspend, unless the attempt is a top-up or another card would be charged now."""
        if self.attempt.trigger is Trigger.TOP_UP or await self._another_card_is_charged():
            await _apply_to_any(self.context, self.attempt, _REARMED)
            return
        await _suspend(
            self.context,
            self.attempt,
            SuspensionReason.AUTHENTICATION_EXPIRED,
            "the customer did not authenticate the payment in time",
        )

    async def _ask_customer(self, intent: Intent) -> None:
        if self.attempt.trigger is not Trigger.TOP_UP:  # a top-up does not pause the rule
            await suspension_store.pause(self.context.connection, self.attempt.organization_id)
        link = self.transition.link
        if link is not None:
            await self._announce(
                MessageType.RECHARGE_REQUIRES_ACTION,
                {"paymentIntentId": intent.id, "url": link.url, "expiresAt": link.expires_at},
            )

    async def _after_decline(self, *, hard: bool) -> None:
        """Count the decline if the same card would be charged again; wait or suspend."""
        connection, organization_id = self.context.connection, self.attempt.organization_id
        now = self.context.now
        current = await store.circumstances(
            connection, organization_id, month_start=rules.month_start(now)
        )
        if current is None or self._is_another(current.card):
            return
        after = rules.after_decline(current.auto.declines_in_row, hard=hard, now=now)
        await suspension_store.record_decline(
            connection, organization_id, after.declines_in_row, after.not_before
        )
        if after.suspended:
            await _suspend(
                self.context,
                self.attempt,
                SuspensionReason.DECLINES,
                f"the card was declined: {self.transition.reason}",
            )

    async def _another_card_is_charged(self) -> bool:
        current = await store.circumstances(
            self.context.connection,
            self.attempt.organization_id,
            month_start=rules.month_start(self.context.now),
        )
        return current is not None and self._is_another(current.card)

    def _is_another(self, card: Card | None) -> bool:
        return card is not None and card.id != self.attempt.payment_method_id

    async def _announce_failure(self) -> None:
        reason = {"reason": self.transition.reason, "detail": self.transition.detail}
        await self._announce(MessageType.RECHARGE_FAILED, reason)

    async def _announce(self, kind: MessageType, data: dict[str, Any]) -> None:
        attempt = self.attempt
        about: dict[str, Any] = {
            "attemptId": str(attempt.id),
            "trigger": str(attempt.trigger),
            "amount": attempt.amount,
            "currency": attempt.currency,
        }
        message = OutboundMessage(
            organization_id=attempt.organization_id,
            type=kind,
            data=about | data,
            id=self.context.make_id(),
            at=self.context.now,
        )
        await outbound.announce(self.context.connection, [message])


_REARMED = Transition(state=AttemptState.CANCELED, effect=Cancellation(due_again=True, rearm=True))


def _sale(attempt: ChargingAttempt, intent: Intent, context: EffectContext) -> Sale:
    """Return the sale of a captured attempt, at the price that was stored when it began."""
    offer = offers.offer_of_attempt(
        organization_id=attempt.organization_id,
        currency=intent.currency,
        amount_minor=attempt.amount_minor,
        credits_=attempt.amount,
        top_up=attempt.trigger is Trigger.TOP_UP,
    )
    return Sale(
        payment_intent_id=intent.id,
        organization_id=attempt.organization_id,
        gross_minor=intent.amount_received_minor,
        net_minor=offer.net_minor,
        currency=intent.currency,
        credits=attempt.amount,
        type=offer.type,
        description=offer.description,
        account=attempt.stripe_account,
        customer_id=attempt.customer_id,
        charge_id=intent.charge_id,
        expires_at=sales.expiry(context.terms, context.now),
    )
