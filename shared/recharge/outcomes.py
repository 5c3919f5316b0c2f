"""How a recharge attempt ends: its state, its rule and its message, in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog

from shared import metrics
from shared.errors import PrepaidError
from shared.ledger.model import PostedTransaction, PostingStatus
from shared.outbound import service as outbound
from shared.outbound.model import MessageType, OutboundMessage
from shared.payments import crediting
from shared.payments.messages import purchase_completed
from shared.payments.model import SaleTerms
from shared.payments.payment_intents import ChargeRefused, Intent, ObjectMissing, Subject
from shared.recharge import rules, service, store
from shared.recharge.model import (
    REFUSED,
    Attempt,
    AttemptState,
    Card,
    SuspensionReason,
    Trigger,
)

if TYPE_CHECKING:
    from shared.db.pool import Connection

log = structlog.get_logger()


class LeaseLostError(PrepaidError):
    """The lease on this attempt has passed to another worker; nothing was committed."""


class CreditRefusedError(PrepaidError):
    """The ledger refused to credit a captured recharge."""


def fence(held: bool) -> None:  # noqa: FBT001 - reads as a sentence
    """Raise LeaseLostError where a fenced statement found no row."""
    if not held:
        raise LeaseLostError


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Ends one attempt in the caller's transaction, which has the account but for `succeeded`.

    Every method is fenced by the lease, and raises LeaseLostError where it has passed on.
    """

    connection: Connection
    attempt: Attempt
    token: UUID
    terms: SaleTerms
    now: datetime
    make_id: Callable[[], UUID]

    async def succeeded(self, intent: Intent) -> None:
        """Credit what was captured; its webhook may have done so before.

        Locks the payment, then the account (the posting takes it), as the payment's event does.
        """
        attempt = self.attempt
        sale = rules.sale(
            attempt,
            self.terms,
            payment_intent_id=intent.id,
            gross_minor=intent.amount_received_minor,
            currency=intent.currency,
            charge_id=intent.charge_id,
            now=self.now,
        )
        (result,) = await crediting.credit(self.connection, [sale], self.make_id)
        if not isinstance(result, PostedTransaction):
            raise CreditRefusedError(result.detail)
        await self._settle(AttemptState.SUCCEEDED)
        await store.record_success(self.connection, attempt.organization_id, self.now)
        if attempt.trigger is Trigger.TOP_UP:
            await service.purchased(
                self.connection, attempt.organization_id, now=self.now, make_id=self.make_id
            )
        await self._announce_success(intent, result)
        report(attempt, "succeeded", payment_intent_id=intent.id)

    async def declined(self, detail: str | None, became: rules.Became) -> None:
        """Say that the payment was declined, and wait or suspend after it."""
        attempt = self.attempt
        await self._settle(
            AttemptState.FAILED,
            reason=became.reason,
            detail=detail,
            decline_code=attempt.decline_code,
            network_advice=attempt.network_advice,
        )
        await store.unpause(self.connection, attempt.organization_id)
        await self._announce_failure(became.reason, detail)
        if attempt.trigger is not Trigger.TOP_UP:  # the customer saw it, and can choose a card
            await self._after_decline(became)
        report(attempt, "failed", reason=became.reason)

    async def refused(self, answer: ChargeRefused) -> None:
        """Say that Stripe never makes this charge, for a reason about this customer."""
        await self._failed(answer.code or REFUSED, answer.detail, SuspensionReason.CHARGE_REFUSED)

    async def missing(self, answer: ObjectMissing) -> None:
        """Forget what Stripe does not know of this customer; without a card left, suspend."""
        organization_id = self.attempt.organization_id
        gone = answer.subject is Subject.CUSTOMER
        await store.detach_methods(
            self.connection,
            organization_id,
            self.now,
            customer_id=self.attempt.customer_id if gone else None,
            payment_method_id=self.attempt.payment_method_id,
        )
        another = await store.has_method(
            self.connection, organization_id
        ) or await store.has_undescribed_method(self.connection, organization_id)
        reason = None if another else SuspensionReason.NO_CARD
        await self._failed("resource_missing", answer.detail, reason)

    async def written_off(self, detail: str) -> None:
        """Give up a payment that has been processing for too long; a person looks at it."""
        await self._failed("processing_expired", detail, SuspensionReason.CHARGE_REFUSED)

    async def canceled(
        self, detail: str, *, reason: str = "canceled", due_again: bool = False
    ) -> None:
        """Say that nothing was charged and nothing will be.

        `due_again`: what a schedule wanted is charged once what was in its way is over.
        """
        await self._settle(AttemptState.CANCELED, reason=reason, detail=detail)
        if due_again and self.attempt.trigger is Trigger.SCHEDULE:
            await store.due_again(self.connection, self.attempt.organization_id, self.now)
        report(self.attempt, "canceled", detail=detail)

    async def given_up(
        self, detail: str, *, reason: str = "canceled", due_again: bool = False
    ) -> None:
        """Cancel, and arm anew where the rule still applies."""
        await self.canceled(detail, reason=reason, due_again=due_again)
        await store.unpause(self.connection, self.attempt.organization_id)
        await store.arm_low(self.connection, [self.attempt.organization_id])

    async def expired(self) -> None:
        """Cancel what nobody authenticated in time; what a rule wanted, suspends it."""
        detail = "nobody authenticated it in time"
        if self.attempt.trigger is Trigger.TOP_UP or await self._another_card_is_charged():
            await self.given_up(detail, due_again=True)
            return
        await self.canceled(detail)
        await self._suspend(
            SuspensionReason.AUTHENTICATION_EXPIRED,
            "nobody authenticated the payment in time",
        )

    async def announce(self, kind: MessageType, data: dict[str, Any]) -> None:
        """Tell the customer's app about this attempt."""
        attempt = self.attempt
        about = {"attemptId": str(attempt.id), "trigger": str(attempt.trigger)}
        if attempt.amount is not None:
            about |= {"amount": attempt.amount, "currency": attempt.currency}  # type: ignore[dict-item]
        message = OutboundMessage(
            organization_id=attempt.organization_id,
            type=kind,
            data=about | data,
            id=self.make_id(),
            at=self.now,
        )
        await outbound.announce(self.connection, [message])

    async def _settle(self, state: AttemptState, **why: str | None) -> None:
        fence(
            await store.settle(
                self.connection, self.attempt, self.token, state, now=self.now, **why
            )
        )

    async def _failed(self, reason: str, detail: str, suspension: SuspensionReason | None) -> None:
        await self._settle(AttemptState.FAILED, reason=reason, detail=detail)
        await self._announce_failure(reason, detail)
        if suspension is None or self.attempt.trigger is Trigger.TOP_UP:
            await store.unpause(self.connection, self.attempt.organization_id)
        else:
            await self._suspend(suspension, detail)
        report(self.attempt, "refused", reason=reason, detail=detail)

    async def _suspend(
        self, reason: SuspensionReason, detail: str, fingerprint: str | None = None
    ) -> None:
        await service.suspend(
            self.connection,
            self.attempt.organization_id,
            reason,
            detail,
            now=self.now,
            fingerprint=fingerprint,
            make_id=self.make_id,
        )

    async def _after_decline(self, became: rules.Became) -> None:
        organization_id = self.attempt.organization_id
        found = await store.circumstances(
            self.connection, organization_id, month_start=rules.month_start(self.now)
        )
        if found is None or self._is_of_another(found.card):
            return
        after = rules.after_decline(found.auto.declines_in_row, hard=became.hard, now=self.now)
        await store.record_decline(
            self.connection, organization_id, after.declines_in_row, after.not_before
        )
        if after.suspended:
            await self._suspend(
                SuspensionReason.DECLINES,
                f"the card was declined: {became.reason}",
                found.card.fingerprint if found.card else None,
            )

    async def _another_card_is_charged(self) -> bool:
        found = await store.circumstances(
            self.connection,
            self.attempt.organization_id,
            month_start=rules.month_start(self.now),
        )
        return found is not None and self._is_of_another(found.card)

    def _is_of_another(self, card: Card | None) -> bool:
        """Whether a card that is charged now is another than this attempt's."""
        return card is not None and card.id != self.attempt.payment_method_id

    async def _announce_success(self, intent: Intent, result: PostedTransaction) -> None:
        paid = {"paymentIntentId": intent.id}
        if self.attempt.trigger is not Trigger.TOP_UP:
            await self.announce(MessageType.RECHARGE_SUCCEEDED, paid)
        elif result.status is PostingStatus.POSTED:  # else its webhook announced the purchase
            amount = {"amountMinor": self.attempt.amount_minor, "currency": self.attempt.currency}
            message = purchase_completed(result, paid | amount, self.now)
            await outbound.announce(self.connection, [message])

    async def _announce_failure(self, reason: str | None, detail: str | None) -> None:
        await self.announce(MessageType.RECHARGE_FAILED, {"reason": reason, "detail": detail})


def report(attempt: Attempt, outcome: str, **details: Any) -> None:
    """Count and log what became of an attempt."""
    metrics.RECHARGE_ATTEMPTS.labels(outcome).inc()
    log.info("recharge.settled", outcome=outcome, tries=attempt.tries, **details)
