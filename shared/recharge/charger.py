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
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import structlog

from shared import outages
from shared.db.pool import UNAVAILABLE
from shared.ids import new_id
from shared.outbound.model import MessageType
from shared.payments.model import SaleTerms
from shared.payments.payment_intents import (
    ChargeRefused,
    ChargeRequest,
    GatewayAnswer,
    InstallationRefused,
    Intent,
    ObjectMissing,
    OutcomeUnknown,
    PaymentIntentGateway,
    Subject,
    TryLater,
)
from shared.recharge import alerts, rules, service, states, store
from shared.recharge.model import STRIPE_ERROR, Attempt, AttemptState, RechargeState, Trigger
from shared.recharge.outcomes import LeaseLostError, Outcome, fence, report
from shared.recharge.recovery import link_digest, new_link

if TYPE_CHECKING:
    from shared.db.pool import Connection, Connections

log = structlog.get_logger()

ATTEMPTS_AT_ONCE_MAX = 8
LEASE = timedelta(seconds=6)
RENEW_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Charger:
    """Works on attempts that are due. Time, ids, randomness and links are passed in.

    Guarantees: an attempt confirms one PaymentIntent alone, the one whose id it keeps; credits are
    posted under that PaymentIntent's key, whichever of answer and webhook is first; no transaction
    is open while Stripe is asked; a worker that lost its lease commits nothing. What a rule asks
    for is charged up to `units_max`, in units of the currency.
    """

    pool: Connections
    charges: PaymentIntentGateway
    terms: SaleTerms
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
                async with self.leased(attempt, token):
                    await self._advance(attempt, token)
            except LeaseLostError:
                log.warning("recharge.lease_lost")
            except UNAVAILABLE as error:
                if not outages.POSTGRES.failed(error):
                    log.warning("recharge.attempt_failed", error=repr(error))
            except Exception:  # the lease ends and the attempt is taken again; others go on
                log.exception("recharge.failed_unexpectedly", state=attempt.state)

    @asynccontextmanager
    async def leased(self, attempt: Attempt, token: UUID) -> AsyncIterator[None]:
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
    async def ending(self, attempt: Attempt, token: UUID) -> AsyncIterator[Outcome]:
        """Give a transaction that has the organization's account: its first lock, always."""
        async with self.pool.acquire() as connection, connection.transaction():
            await store.lock_account(connection, attempt.organization_id)
            yield self._outcome(connection, attempt, token)

    def _outcome(self, connection: Connection, attempt: Attempt, token: UUID) -> Outcome:
        return Outcome(
            connection=connection,
            attempt=attempt,
            token=token,
            terms=self.terms,
            now=self.now(),
            make_id=self.make_id,
        )

    async def _advance(self, attempt: Attempt, token: UUID) -> None:
        if attempt.state is AttemptState.ARMED:
            begun = await self._begin(attempt, token)
            if begun is None:
                return
            attempt, unwanted = begun, None
        else:
            unwanted = await self._unwanted(attempt)
        fresh = attempt.payment_intent_id is None
        if fresh and unwanted is not None:
            # A PaymentIntent whose id was never stored was never confirmed: nothing was charged.
            async with self.ending(attempt, token) as outcome:
                await outcome.given_up(unwanted, due_again=True)
            return
        attempt, answer = await self._intent(attempt, token, confirms=unwanted is None)
        await self._act_on(attempt, token, answer, fresh=fresh)

    def _is_overdue(self, attempt: Attempt) -> bool:
        return self.now() >= states.deadline(attempt)

    async def _unwanted(self, attempt: Attempt) -> str | None:
        """Say why an attempt that was begun before is not to be confirmed any more, if so."""
        if self._is_overdue(attempt):
            return "Stripe did not confirm the payment in time"
        if attempt.trigger is Trigger.TOP_UP:
            return None
        async with self.pool.acquire() as connection:
            (found,) = await store.settings(connection, organization_id=attempt.organization_id)
        on = found.state in (RechargeState.ACTIVE, RechargeState.PAUSED_REQUIRES_ACTION)
        return None if on else f"auto-recharge is {found.state}"

    async def _begin(self, attempt: Attempt, token: UUID) -> Attempt | None:
        """Decide as things are now, and write it down; None: there is nothing to charge."""
        now = self.now()
        async with self.ending(attempt, token) as outcome:
            connection = outcome.connection
            found = await store.circumstances(
                connection, attempt.organization_id, month_start=rules.month_start(now)
            )
            if found is None:
                await outcome.canceled("there is no auto-recharge")
                return None
            decision = self._decide(attempt, found, now)
            if isinstance(decision, rules.Wait):
                await self._wait(outcome, decision.until)
                return None
            if isinstance(decision, rules.Stop):
                await outcome.canceled(decision.detail, due_again=decision.due_again)
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
            fence(
                await store.begin(
                    connection,
                    attempt,
                    token,
                    card,
                    decision,
                    currency=found.currency,
                    credits_per_unit=self.terms.credits_per_unit,
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
            charged_at=now,
            stripe_account=card.stripe_account,
        )

    def _decide(
        self, attempt: Attempt, found: store.Circumstances, now: datetime
    ) -> rules.Decision:
        needed = None if attempt.needed is None else attempt.needed - found.overdraft_limit
        return rules.decide(
            attempt.trigger,
            found.auto,
            spendable=found.spendable,
            needed=needed,
            currency=found.currency,
            credits_per_unit=self.terms.credits_per_unit,
            units_max=self.units_max,
            card=found.card,
            card_undescribed=found.card_undescribed,
            spent=found.spent,
            now=now,
        )

    async def _wait(self, outcome: Outcome, until: datetime) -> None:
        """Look again then; one that has waited for too long is armed anew when that is over."""
        attempt, latest = outcome.attempt, states.deadline(outcome.attempt)
        now = self.now()
        if latest <= now:
            await outcome.canceled("it waited for too long", due_again=True)
            return
        wait = min(until, latest) - now
        fence(
            await store.postpone(
                outcome.connection, attempt, outcome.token, attempt.state, None, wait=wait
            )
        )

    async def _intent(
        self, attempt: Attempt, token: UUID, *, confirms: bool
    ) -> tuple[Attempt, GatewayAnswer]:
        """Return the attempt's PaymentIntent: asked for, or created and kept, and confirmed if new.

        It is created under one idempotency key, however often the answer is lost, so that Stripe
        has one PaymentIntent alone; under another key only where Stripe stores a failure. One whose
        id was never stored is never confirmed, so it never charges.
        """
        account = attempt.stripe_account
        if attempt.payment_intent_id is None:
            key = f"recharge:{attempt.id}:{attempt.create_key}"
            answer = await self.charges.create(_charge(attempt), key=key)
            if not isinstance(answer, Intent):
                return attempt, answer
            async with self.pool.acquire() as connection:
                fence(await store.keep_intent(connection, attempt, token, answer.id))
            attempt = replace(attempt, payment_intent_id=answer.id)
        else:
            answer = await self.charges.retrieve(attempt.payment_intent_id, stripe_account=account)
        if isinstance(answer, Intent) and answer.status == "requires_confirmation":
            if confirms:
                answer = await self._confirm(attempt, answer.id)
            else:
                answer = await self.charges.cancel(answer.id, stripe_account=account)
        return attempt, answer

    async def _confirm(self, attempt: Attempt, intent_id: str) -> GatewayAnswer:
        if self.customer_link is None:
            key = f"recharge:{attempt.id}:{attempt.tries}:confirm"
            return await self.charges.confirm(
                intent_id, key=key, stripe_account=attempt.stripe_account
            )
        assert attempt.payment_method_id is not None  # noqa: S101 - the schema has it from `charging`
        return await self.charges.confirm_with_customer(
            intent_id,
            attempt.payment_method_id,
            return_url=f"{self.public_url}/pay/{self.customer_link}/done",
            stripe_account=attempt.stripe_account,
        )

    async def _act_on(
        self, attempt: Attempt, token: UUID, answer: GatewayAnswer, *, fresh: bool
    ) -> None:
        """Do what an answer means. `fresh`: nothing was asked about the attempt before this."""
        match answer:
            case Intent():
                await self._act_on_intent(attempt, token, answer)
            case OutcomeUnknown(detail, stored):
                # The page of a customer who is to act stays open meanwhile.
                waits = attempt.state is AttemptState.REQUIRES_ACTION
                state = attempt.state if waits else AttemptState.UNKNOWN
                await self._later(attempt, token, state, detail, another_key=stored)
            case TryLater(detail):
                await self._later(attempt, token, attempt.state, detail)
            case InstallationRefused():
                await self._our_fault(attempt, token, answer, fresh=fresh)
            case ObjectMissing(detail, Subject.INTENT):
                async with self.ending(attempt, token) as outcome:
                    await outcome.given_up(detail, due_again=True)
            case ChargeRefused() | ObjectMissing():
                await self._refused(attempt, token, answer)

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
                async with self.pool.acquire() as connection, connection.transaction():
                    await self._outcome(connection, attempt, token).succeeded(intent)
            case AttemptState.PROCESSING:
                await self._processing(attempt, token, intent)
            case AttemptState.REQUIRES_ACTION:
                await self._requires_action(attempt, token, intent)
            case AttemptState.CANCELED:
                await self._canceled(attempt, token, intent, became)
            case _:
                await self._declined(attempt, token, intent, became)

    async def _processing(self, attempt: Attempt, token: UUID, intent: Intent) -> None:
        """Look again in an hour; give up where the bank has not decided for a month."""
        attempt = replace(attempt, state=AttemptState.PROCESSING)
        if self._is_overdue(attempt):
            detail = "its bank did not decide in time"
            answer = await self.charges.cancel(intent.id, stripe_account=attempt.stripe_account)
            async with self.ending(attempt, token) as outcome:
                if isinstance(answer, Intent) and answer.status == "canceled":
                    await outcome.given_up(detail)
                else:
                    await outcome.written_off(detail)
            return
        wait = min(rules.PROCESSING_LOOK, states.deadline(attempt) - self.now())
        async with self.pool.acquire() as connection:
            fence(
                await store.postpone(
                    connection, attempt, token, AttemptState.PROCESSING, None, wait=wait
                )
            )

    async def _requires_action(self, attempt: Attempt, token: UUID, intent: Intent) -> None:
        """Tell the customer's app once where to send them; give up when the link expires."""
        now = self.now()
        if attempt.link_expires_at is not None and attempt.link_expires_at <= now:
            if await self._canceled_at_stripe(attempt, token, intent.id):
                async with self.ending(attempt, token) as outcome:
                    await outcome.expired()
            return
        link, expires_at = self.make_link(), now + states.link_lifetime(attempt.trigger)
        async with self.ending(attempt, token) as outcome:
            connection = outcome.connection
            fence(
                await store.require_action(
                    connection,
                    attempt,
                    token,
                    intent.error_message,
                    link_sha256=link_digest(link),
                    link_expires_at=expires_at,
                )
            )
            if attempt.link_expires_at is not None:
                return  # they have been told
            if attempt.trigger is not Trigger.TOP_UP:  # what a customer does here stops no rule
                await store.pause(connection, attempt.organization_id)
            url = f"{self.public_url}/pay/{link}"
            data = {"paymentIntentId": intent.id, "url": url, "expiresAt": expires_at}
            await outcome.announce(MessageType.RECHARGE_REQUIRES_ACTION, data)
        report(attempt, "requires_action", payment_intent_id=intent.id)

    async def _declined(
        self, attempt: Attempt, token: UUID, intent: Intent, became: rules.Became
    ) -> None:
        """Make sure that the PaymentIntent can never charge any more, then say that it failed.

        Why is written down first: whoever finds it canceled must know that it was a decline.
        """
        attempt = replace(
            attempt,
            reason=became.reason,
            decline_code=intent.decline_code,
            network_advice=intent.network_advice,
        )
        async with self.pool.acquire() as connection:
            fence(await store.note_decline(connection, attempt, token))
        if await self._canceled_at_stripe(attempt, token, intent.id):
            async with self.ending(attempt, token) as outcome:
                await outcome.declined(intent.error_message, became)

    async def _refused(
        self, attempt: Attempt, token: UUID, answer: ChargeRefused | ObjectMissing
    ) -> None:
        """End what Stripe will never do for this customer."""
        intent_id = attempt.payment_intent_id
        if intent_id is not None and not await self._canceled_at_stripe(attempt, token, intent_id):
            return  # nobody knows what it may still do: it is looked at, not given up
        async with self.pool.acquire() as connection, connection.transaction():
            if isinstance(answer, ObjectMissing) and answer.subject is Subject.CUSTOMER:
                assert attempt.customer_id is not None  # noqa: S101 - it was charged
                # The organization's row comes before its account.
                await store.forget_customer(
                    connection, attempt.organization_id, attempt.customer_id
                )
            await store.lock_account(connection, attempt.organization_id)
            outcome = self._outcome(connection, attempt, token)
            if isinstance(answer, ObjectMissing):
                await outcome.missing(answer)
            else:
                await outcome.refused(answer)

    async def _our_fault(
        self, attempt: Attempt, token: UUID, answer: InstallationRefused, *, fresh: bool
    ) -> None:
        """Wait until it is mended, and say so to the operators alone.

        A customer who is here is not kept waiting: their top-up is canceled, unless what was asked
        before may have charged them. A PaymentIntent that was not confirmed never charges.
        """
        if attempt.trigger is Trigger.TOP_UP and fresh:
            if attempt.payment_intent_id is not None:
                await self.charges.cancel(
                    attempt.payment_intent_id, stripe_account=attempt.stripe_account
                )
            async with self.ending(attempt, token) as outcome:
                await outcome.given_up(answer.detail, reason=STRIPE_ERROR)
            log.error("recharge.top_up_refused", cause=answer.cause, detail=answer.detail)
            return
        wait = self._wait_after_failure(attempt)
        async with self.pool.acquire() as connection, connection.transaction():
            fence(
                await store.postpone(
                    connection,
                    attempt,
                    token,
                    attempt.state,
                    answer.detail,
                    wait=wait,
                    another_key=answer.stored,
                    blocked_by=answer.cause,
                )
            )
            await alerts.begin(connection, answer.cause, answer.detail, self.now())
        log.info("recharge.blocked", cause=answer.cause, wait_seconds=wait.total_seconds())

    async def _canceled_at_stripe(self, attempt: Attempt, token: UUID, intent_id: str) -> bool:
        """Cancel the PaymentIntent; where that is not sure, leave the attempt for another look."""
        answer = await self.charges.cancel(intent_id, stripe_account=attempt.stripe_account)
        match answer:
            case Intent(status="canceled") | ObjectMissing(subject=Subject.INTENT):
                return True
            case InstallationRefused():
                await self._our_fault(attempt, token, answer, fresh=False)
            case Intent(status=status):
                await self._later(
                    attempt, token, AttemptState.UNKNOWN, f"cannot be canceled: {status}"
                )
            case _:
                await self._later(
                    attempt, token, AttemptState.UNKNOWN, f"cannot be canceled: {answer.detail}"
                )
        return False

    async def _canceled(
        self, attempt: Attempt, token: UUID, intent: Intent, became: rules.Became
    ) -> None:
        """Go on where the cancellation was ours and its answer did not come."""
        expires_at = attempt.link_expires_at
        ours = await self._unwanted(attempt) is not None
        async with self.ending(attempt, token) as outcome:
            if attempt.declined is not None:
                declined = rules.declined(attempt.declined, attempt.network_advice)
                await outcome.declined(intent.error_message, declined)
            elif expires_at is not None and expires_at <= outcome.now:
                await outcome.expired()
            else:
                await outcome.given_up(became.reason or "canceled", due_again=ours)

    async def _later(
        self,
        attempt: Attempt,
        token: UUID,
        state: AttemptState,
        detail: str,
        *,
        another_key: bool = False,
    ) -> None:
        wait = self._wait_after_failure(attempt)
        async with self.pool.acquire() as connection:
            fence(
                await store.postpone(
                    connection, attempt, token, state, detail, wait=wait, another_key=another_key
                )
            )
        seconds = wait.total_seconds()
        log.warning("recharge.postponed", state=state, detail=detail, wait_seconds=seconds)

    def _wait_after_failure(self, attempt: Attempt) -> timedelta:
        return rules.retry_delay(attempt.tries, self.random())


def _charge(attempt: Attempt) -> ChargeRequest:
    assert attempt.amount_minor is not None  # noqa: S101 - the schema has these from `charging` on
    assert attempt.currency and attempt.customer_id  # noqa: S101, PT018
    assert attempt.payment_method_id and attempt.payment_method_type  # noqa: S101, PT018
    return ChargeRequest(
        attempt_id=attempt.id,
        organization_id=attempt.organization_id,
        trigger=str(attempt.trigger),
        amount_minor=attempt.amount_minor,
        currency=attempt.currency,
        customer_id=attempt.customer_id,
        payment_method_id=attempt.payment_method_id,
        payment_method_type=attempt.payment_method_type,
        stripe_account=attempt.stripe_account,
    )
