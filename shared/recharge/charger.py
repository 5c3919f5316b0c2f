"""Carries recharge attempts from armed to settled: at most one capture each, credited once.

Every step is written down before the next. Whatever dies between two steps, the next worker finds
the attempt when its lease ends, asks Stripe what became of its PaymentIntent, and goes on.
"""

from __future__ import annotations

import asyncio
import random as random_module
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import structlog

from shared import metrics
from shared.db.pool import UNAVAILABLE
from shared.errors import PrepaidError
from shared.ids import new_id
from shared.ledger import service as ledger
from shared.ledger.model import PostingResult, PostingStatus
from shared.notifications import service as notifications
from shared.notifications.model import Message, MessageType
from shared.payments.charges import Answer, Charge, Charges, Intent, NotNow, Refused, Unknown
from shared.payments.messages import purchase_completed
from shared.recharge import rules, service, store
from shared.recharge.model import REFUSED, Attempt, AttemptState, SuspensionReason, Trigger
from shared.recharge.recovery import link_digest, new_link

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

log = structlog.get_logger()

ATTEMPTS_AT_ONCE_MAX = 8
LEASE = timedelta(seconds=6)
RENEW_SECONDS = 2.0


class LeaseLostError(PrepaidError):
    """The lease on this attempt has passed to another worker; nothing was committed."""


class CreditRefusedError(PrepaidError):
    """The ledger refused to credit a captured recharge."""


@dataclass(frozen=True, slots=True)
class Charger:
    """Works on attempts that are due. Time, ids, randomness and links are passed in.

    Guarantees: an attempt confirms one PaymentIntent alone, the one whose id it keeps; credits are
    posted under that PaymentIntent's key, whichever of answer and webhook is first; no transaction
    is open while Stripe is asked; a worker that lost its lease commits nothing. What a rule asks
    for is charged up to `units_max`, in units of the currency.
    """

    pool: Pool
    charges: Charges
    credits_per_unit: Decimal
    units_max: Decimal
    public_url: str
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    random: Callable[[], float] = random_module.random
    make_id: Callable[[], UUID] = new_id
    make_link: Callable[[], str] = new_link
    customer_link: str | None = None
    lease: timedelta = LEASE

    async def work(self) -> int:
        """Take what is due and carry each attempt as far as it goes now; return how many."""
        token = uuid4()
        async with self.pool.acquire() as connection:
            attempts = await store.claim(
                connection, rows_max=ATTEMPTS_AT_ONCE_MAX, token=token, lease=self.lease
            )
        await asyncio.gather(*(self.carry(attempt, token) for attempt in attempts))
        return len(attempts)

    def with_customer(self, link: str) -> Charger:
        """Return one for a customer who is here: they confirm, and come back by this link."""
        return replace(self, customer_link=link, make_link=lambda: link)

    async def carry(self, attempt: Attempt, token: UUID) -> None:
        """Carry an attempt that is under this lease as far as it goes now. Raises nothing."""
        with structlog.contextvars.bound_contextvars(
            attempt_id=str(attempt.id), organization_id=str(attempt.organization_id)
        ):
            try:
                async with self._leased(attempt, token):
                    await self._advance(attempt, token)
            except LeaseLostError:
                log.warning("recharge.lease_lost")
            except UNAVAILABLE as error:
                log.warning("recharge.database_unavailable", error=repr(error))
            except Exception:  # the lease ends and the attempt is taken again; others go on
                log.exception("recharge.failed_unexpectedly", state=attempt.state)

    @asynccontextmanager
    async def _leased(self, attempt: Attempt, token: UUID) -> AsyncIterator[None]:
        """Renew the lease while Stripe takes its time, so that it can be short."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(RENEW_SECONDS)
                async with self.pool.acquire() as connection:
                    if not await store.renew(connection, attempt, token, self.lease):
                        return

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    @asynccontextmanager
    async def _locked(self, attempt: Attempt) -> AsyncIterator[Connection]:
        """Give a transaction that has the organization's account: its first lock, always."""
        async with self.pool.acquire() as connection, connection.transaction():
            await store.lock_account(connection, attempt.organization_id)
            yield connection

    async def _advance(self, attempt: Attempt, token: UUID) -> None:
        if attempt.state is AttemptState.ARMED:
            begun = await self._begin(attempt, token)
            if begun is None:
                return
            attempt = begun
        attempt, answer = await self._intent(attempt, token)
        await self._act_on(attempt, token, answer)

    async def _begin(self, attempt: Attempt, token: UUID) -> Attempt | None:
        """Decide as things are now, and write it down; None: there is nothing to charge."""
        now = self.now()
        async with self._locked(attempt) as connection:
            found = await store.circumstances(
                connection, attempt.organization_id, month_start=rules.month_start(now)
            )
            if found is None:
                await self._cancel(connection, attempt, token, "there is no auto-recharge")
                return None
            decision = rules.decide(
                attempt.trigger,
                found.auto,
                balance=found.balance,
                currency=found.currency,
                credits_per_unit=self.credits_per_unit,
                units_max=self.units_max,
                card=found.card,
                spent=found.spent,
                now=now,
            )
            if isinstance(decision, rules.Wait):
                _fence(
                    await store.postpone(
                        connection, attempt, token, attempt.state, None, until=decision.until
                    )
                )
                return None
            if isinstance(decision, rules.Stop):
                await self._cancel(connection, attempt, token, decision.detail)
                if decision.suspension is not None:
                    await service.suspend(
                        connection,
                        attempt.organization_id,
                        decision.suspension,
                        decision.detail,
                        now=now,
                        until=decision.until,
                        make_id=self.make_id,
                    )
                return None
            card = found.card
            assert card is not None  # noqa: S101 - a decision to charge has looked at the card
            _fence(
                await store.begin(
                    connection,
                    attempt,
                    token,
                    card,
                    amount=decision.credits,
                    amount_minor=decision.amount_minor,
                    currency=found.currency,
                    now=now,
                )
            )
        log.info("recharge.charging", amount_minor=decision.amount_minor, currency=found.currency)
        return replace(
            attempt,
            state=AttemptState.CHARGING,
            amount=decision.credits,
            amount_minor=decision.amount_minor,
            currency=found.currency,
            customer_id=card.customer_id,
            payment_method_id=card.id,
            payment_method_type=card.type,
        )

    async def _intent(self, attempt: Attempt, token: UUID) -> tuple[Attempt, Answer]:
        """Return the attempt's PaymentIntent: asked for, or created and kept, and confirmed if new.

        The keys differ from try to try: Stripe answers a key again with the first answer, be it a
        500. A PaymentIntent whose id was never kept is never confirmed, so it never charges.
        """
        key = f"recharge:{attempt.id}:{attempt.tries}"
        if attempt.payment_intent_id is None:
            answer = await self.charges.create(_charge(attempt), key=key)
            if not isinstance(answer, Intent):
                return attempt, answer
            async with self.pool.acquire() as connection:
                _fence(await store.keep_intent(connection, attempt, token, answer.id))
            attempt = replace(attempt, payment_intent_id=answer.id)
        else:
            answer = await self.charges.retrieve(attempt.payment_intent_id)
        if isinstance(answer, Intent) and answer.status == "requires_confirmation":
            answer = await self._confirm(attempt, answer.id, f"{key}:confirm")
        return attempt, answer

    async def _confirm(self, attempt: Attempt, intent_id: str, key: str) -> Answer:
        if self.customer_link is None:
            return await self.charges.confirm(intent_id, key=key)
        assert attempt.payment_method_id is not None  # noqa: S101 - the schema has it from `charging`
        return await self.charges.confirm_with_customer(
            intent_id,
            attempt.payment_method_id,
            return_url=f"{self.public_url}/pay/{self.customer_link}/done",
        )

    async def _act_on(self, attempt: Attempt, token: UUID, answer: Answer) -> None:
        match answer:
            case Intent():
                await self._act_on_intent(attempt, token, answer)
            case Unknown(detail):
                # The page of a customer who is to act stays open meanwhile.
                waits = attempt.state is AttemptState.REQUIRES_ACTION
                state = attempt.state if waits else AttemptState.UNKNOWN
                await self._later(attempt, token, state, detail)
            case NotNow(detail):
                await self._later(attempt, token, attempt.state, detail)
            case Refused(detail, code):
                await self._refused(attempt, token, detail, code)

    async def _act_on_intent(self, attempt: Attempt, token: UUID, intent: Intent) -> None:
        became = rules.judge(
            intent.status,
            was=attempt.state,
            error_code=intent.error_code,
            decline_code=intent.decline_code,
            network_advice=intent.network_advice,
        )
        if isinstance(became, rules.Confirm):
            await self._later(attempt, token, AttemptState.UNKNOWN, "not confirmed yet")
            return
        match became.state:
            case AttemptState.SUCCEEDED:
                await self._captured(attempt, token, intent)
            case AttemptState.PROCESSING:
                until = self.now() + rules.PROCESSING_LOOK
                async with self.pool.acquire() as connection:
                    _fence(
                        await store.postpone(
                            connection, attempt, token, AttemptState.PROCESSING, None, until=until
                        )
                    )
            case AttemptState.REQUIRES_ACTION:
                await self._requires_action(attempt, token, intent)
            case AttemptState.CANCELED:
                await self._canceled(attempt, token, intent, became)
            case _:
                await self._declined(attempt, token, intent, became)

    async def _captured(self, attempt: Attempt, token: UUID, intent: Intent) -> None:
        """Credit what was captured; its webhook may have done so before."""
        assert attempt.amount is not None  # noqa: S101 - the schema has it from `charging` on
        now = self.now()
        async with self.pool.acquire() as connection, connection.transaction():
            # The payment, then the account (the posting takes it), as the payment's event does.
            await store.bind_payment(connection, attempt, intent.id, intent.charge_id)
            posting = rules.posting(
                attempt.organization_id,
                intent.id,
                intent.amount_received_minor,
                intent.currency,
                attempt.amount,
                trigger=attempt.trigger,
                posting_id=self.make_id(),
            )
            (result,) = await ledger.post(connection, [posting])
            if result.status not in (PostingStatus.POSTED, PostingStatus.REPLAYED):
                raise CreditRefusedError(f"{intent.id}: {result.status} {result.error or ''}")
            _fence(await store.settle(connection, attempt, token, AttemptState.SUCCEEDED, now=now))
            await store.record_success(connection, attempt.organization_id, now)
            await self._tell_success(connection, attempt, intent, result)
        _report(attempt, "succeeded", payment_intent_id=intent.id)

    async def _tell_success(
        self, connection: Connection, attempt: Attempt, intent: Intent, result: PostingResult
    ) -> None:
        paid = {"paymentIntentId": intent.id}
        if attempt.trigger is not Trigger.TOP_UP:
            await self._announce(connection, attempt, MessageType.RECHARGE_SUCCEEDED, paid)
        elif result.status is PostingStatus.POSTED:  # else its webhook has told of the purchase
            paid |= {"amountMinor": attempt.amount_minor, "currency": attempt.currency}  # type: ignore[dict-item]
            message = purchase_completed(result, paid, self.now())
            await notifications.announce(connection, [message])

    async def _requires_action(self, attempt: Attempt, token: UUID, intent: Intent) -> None:
        """Tell the customer's app once where to send them; give up when the link expires."""
        now = self.now()
        if attempt.link_expires_at is not None and attempt.link_expires_at <= now:
            await self._expire(attempt, token, intent.id)
            return
        link = self.make_link()
        async with self._locked(attempt) as connection:
            _fence(
                await store.require_action(
                    connection,
                    attempt,
                    token,
                    intent.error_message,
                    link_sha256=link_digest(link),
                    link_expires_at=now + rules.LINK_LIFETIME,
                )
            )
            if attempt.link_expires_at is not None:
                return  # they have been told
            await store.pause(connection, attempt.organization_id)
            await self._announce(
                connection,
                attempt,
                MessageType.RECHARGE_REQUIRES_ACTION,
                {
                    "paymentIntentId": intent.id,
                    "url": f"{self.public_url}/pay/{link}",
                    "expiresAt": now + rules.LINK_LIFETIME,
                },
            )
        _report(attempt, "requires_action", payment_intent_id=intent.id)

    async def _expire(self, attempt: Attempt, token: UUID, intent_id: str) -> None:
        if await self._canceled_at_stripe(attempt, token, intent_id):
            await self._expired(attempt, token)

    async def _expired(self, attempt: Attempt, token: UUID) -> None:
        if attempt.trigger is Trigger.TOP_UP:  # what a customer left undone by hand stops no rule
            await self._ended_elsewhere(attempt, token, "nobody authenticated it in time")
            return
        now = self.now()
        async with self._locked(attempt) as connection:
            await self._cancel(connection, attempt, token, "nobody authenticated it in time")
            await service.suspend(
                connection,
                attempt.organization_id,
                SuspensionReason.AUTHENTICATION_EXPIRED,
                "nobody authenticated the payment in time",
                now=now,
                make_id=self.make_id,
            )

    async def _declined(
        self, attempt: Attempt, token: UUID, intent: Intent, became: rules.Became
    ) -> None:
        """Make sure that the PaymentIntent can never charge any more, then say that it failed.

        Why is written down first: whoever finds it canceled must know that it was a decline.
        """
        async with self.pool.acquire() as connection:
            _fence(
                await store.note_decline(
                    connection,
                    attempt,
                    token,
                    reason=became.reason,
                    decline_code=intent.decline_code,
                    network_advice=intent.network_advice,
                )
            )
        attempt = replace(
            attempt,
            reason=became.reason,
            decline_code=intent.decline_code,
            network_advice=intent.network_advice,
        )
        if await self._canceled_at_stripe(attempt, token, intent.id):
            await self._failed(attempt, token, intent.error_message, became)

    async def _failed(
        self, attempt: Attempt, token: UUID, detail: str | None, became: rules.Became
    ) -> None:
        now = self.now()
        async with self._locked(attempt) as connection:
            _fence(
                await store.settle(
                    connection,
                    attempt,
                    token,
                    AttemptState.FAILED,
                    now=now,
                    reason=became.reason,
                    detail=detail,
                    decline_code=attempt.decline_code,
                    network_advice=attempt.network_advice,
                )
            )
            await store.unpause(connection, attempt.organization_id)
            await self._announce(
                connection,
                attempt,
                MessageType.RECHARGE_FAILED,
                {"reason": became.reason, "detail": detail},
            )
            if attempt.trigger is not Trigger.TOP_UP:  # the customer saw it, and can choose a card
                await self._after_decline(connection, attempt, became, now)
        _report(attempt, "failed", reason=became.reason)

    async def _after_decline(
        self, connection: Connection, attempt: Attempt, became: rules.Became, now: datetime
    ) -> None:
        found = await store.circumstances(
            connection, attempt.organization_id, month_start=rules.month_start(now)
        )
        if found is None:
            return
        after = rules.after_decline(found.auto.declines_in_row, hard=became.hard, now=now)
        await store.record_decline(
            connection, attempt.organization_id, after.declines_in_row, after.not_before
        )
        if after.suspended:
            await service.suspend(
                connection,
                attempt.organization_id,
                SuspensionReason.DECLINES,
                f"the card was declined: {became.reason}",
                now=now,
                fingerprint=found.card.fingerprint if found.card else None,
                make_id=self.make_id,
            )

    async def _refused(self, attempt: Attempt, token: UUID, detail: str, code: str | None) -> None:
        """End what Stripe will never do: a setting or a mistake, which a person must mend."""
        intent_id = attempt.payment_intent_id
        if intent_id is not None and not await self._canceled_at_stripe(attempt, token, intent_id):
            return  # nobody knows what it may still do: it is looked at, not given up
        now = self.now()
        async with self._locked(attempt) as connection:
            _fence(
                await store.settle(
                    connection,
                    attempt,
                    token,
                    AttemptState.FAILED,
                    now=now,
                    reason=code or REFUSED,
                    detail=detail,
                )
            )
            await self._announce(
                connection,
                attempt,
                MessageType.RECHARGE_FAILED,
                {"reason": code or REFUSED, "detail": detail},
            )
            if attempt.trigger is Trigger.TOP_UP:
                await store.unpause(connection, attempt.organization_id)
            else:
                await service.suspend(
                    connection,
                    attempt.organization_id,
                    SuspensionReason.CHARGE_REFUSED,
                    detail,
                    now=now,
                    make_id=self.make_id,
                )
        _report(attempt, "refused", detail=detail)

    async def _canceled_at_stripe(self, attempt: Attempt, token: UUID, intent_id: str) -> bool:
        """Cancel the PaymentIntent; where that is not sure, leave the attempt for another look."""
        answer = await self.charges.cancel(intent_id)
        if isinstance(answer, Intent) and answer.status == "canceled":
            return True
        detail = answer.status if isinstance(answer, Intent) else answer.detail
        await self._later(attempt, token, AttemptState.UNKNOWN, f"cannot be canceled: {detail}")
        return False

    async def _canceled(
        self, attempt: Attempt, token: UUID, intent: Intent, became: rules.Became
    ) -> None:
        """Go on where the cancellation was ours and its answer did not come."""
        if attempt.declined is not None:
            declined = rules.declined(attempt.declined, attempt.network_advice)
            await self._failed(attempt, token, intent.error_message, declined)
        elif attempt.link_expires_at is not None and attempt.link_expires_at <= self.now():
            await self._expired(attempt, token)
        else:
            await self._ended_elsewhere(attempt, token, became.reason)

    async def _ended_elsewhere(self, attempt: Attempt, token: UUID, reason: str | None) -> None:
        async with self._locked(attempt) as connection:
            await self._cancel(connection, attempt, token, reason or "canceled")
            await store.unpause(connection, attempt.organization_id)

    async def _cancel(
        self, connection: Connection, attempt: Attempt, token: UUID, detail: str
    ) -> None:
        _fence(
            await store.settle(
                connection,
                attempt,
                token,
                AttemptState.CANCELED,
                now=self.now(),
                reason="canceled",
                detail=detail,
            )
        )
        _report(attempt, "canceled", detail=detail)

    async def _later(self, attempt: Attempt, token: UUID, state: AttemptState, detail: str) -> None:
        until = self.now() + rules.retry_delay(attempt.tries, self.random())
        async with self.pool.acquire() as connection:
            _fence(await store.postpone(connection, attempt, token, state, detail, until=until))
        log.warning("recharge.postponed", state=state, detail=detail, until=until.isoformat())

    async def _announce(
        self, connection: Connection, attempt: Attempt, kind: MessageType, data: dict[str, Any]
    ) -> None:
        about = {"attemptId": str(attempt.id), "trigger": str(attempt.trigger)}
        if attempt.amount is not None:
            about |= {"amount": attempt.amount, "currency": attempt.currency}  # type: ignore[dict-item]
        message = Message(
            organization_id=attempt.organization_id,
            type=kind,
            data=about | data,
            id=self.make_id(),
            at=self.now(),
        )
        await notifications.announce(connection, [message])


def _fence(held: bool) -> None:  # noqa: FBT001 - reads as a sentence
    if not held:
        raise LeaseLostError


def _charge(attempt: Attempt) -> Charge:
    assert attempt.amount_minor is not None  # noqa: S101 - the schema has these from `charging` on
    assert attempt.currency and attempt.customer_id  # noqa: S101, PT018
    assert attempt.payment_method_id and attempt.payment_method_type  # noqa: S101, PT018
    return Charge(
        attempt_id=attempt.id,
        organization_id=attempt.organization_id,
        trigger=str(attempt.trigger),
        amount_minor=attempt.amount_minor,
        currency=attempt.currency,
        customer_id=attempt.customer_id,
        payment_method_id=attempt.payment_method_id,
        payment_method_type=attempt.payment_method_type,
    )


def _report(attempt: Attempt, outcome: str, **details: Any) -> None:
    metrics.RECHARGE_ATTEMPTS.labels(outcome).inc()
    log.info("recharge.settled", outcome=outcome, tries=attempt.tries, **details)
