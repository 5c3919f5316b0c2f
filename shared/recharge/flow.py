"""The flow of a recharge attempt: take, decide, ask Stripe, apply.

Each step is stored before the next. If a process dies between two steps, another worker takes the
attempt when its lease ends, retrieves its PaymentIntent, and continues.
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

from shared import outages, tracing
from shared.db.pool import UNAVAILABLE
from shared.errors import LeaseLostError
from shared.ids import new_id
from shared.payments.model import SaleTerms
from shared.payments.payment_intents import (
    ChargeRequest,
    GatewayAnswer,
    Intent,
    PaymentIntentGateway,
)
from shared.recharge import effects, outcomes, reports, rules, states, store
from shared.recharge.attempts import store as attempt_store
from shared.recharge.effects import EffectContext
from shared.recharge.model import (
    ArmedAttempt,
    Attempt,
    ChargingAttempt,
    Lease,
    RechargeState,
    Trigger,
)
from shared.recharge.outcomes import Look
from shared.recharge.recovery import link_digest, new_link
from shared.recharge.transitions import CancelFirst, Decline, Link, Step, Transition

if TYPE_CHECKING:
    from shared.db.pool import Connection, Connections

log = structlog.get_logger()

ATTEMPTS_AT_ONCE_MAX = 8
LEASE = timedelta(seconds=6)
RENEW_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Charger:
    """Processes attempts from armed to final. Time, ids, randomness and links are passed in.

    Guarantees: an attempt confirms only the PaymentIntent whose id is stored; credits are posted
    under that PaymentIntent's key, by the response or the webhook, whichever is first; no
    transaction is open during a request to Stripe; a worker that lost its lease commits nothing.
    One charge costs at most `units_max`, in units of the currency, whatever the rule.
    """

    pool: Connections
    gateway: PaymentIntentGateway
    terms: SaleTerms
    units_max: Decimal
    public_url: str
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    random: Callable[[], float] = random_module.random
    make_id: Callable[[], UUID] = new_id
    make_link: Callable[[], str] = new_link
    customer_link: str | None = None
    lease: timedelta = LEASE

    async def work(self, *, on_full: Callable[[], None] = lambda: None) -> int:
        """Take the due attempts and process each as far as possible; return how many.

        Calls `on_full` before it processes them, where more than these may be due.
        """
        async with self.pool.acquire() as connection, connection.transaction():
            leases = await attempt_store.claim(
                connection, rows_max=ATTEMPTS_AT_ONCE_MAX, token=uuid4(), lease=self.lease
            )
        if len(leases) == ATTEMPTS_AT_ONCE_MAX:
            on_full()
        await asyncio.gather(*(self.carry(lease) for lease in leases))
        return len(leases)

    def on_session(self, link: str) -> Charger:
        """Return an on-session copy: the customer authenticates and returns through `link`."""
        return replace(self, customer_link=link, make_link=lambda: link)

    async def carry(self, lease: Lease[Attempt]) -> None:
        """Process an attempt as far as possible now. Raises nothing."""
        attempt = lease.attempt
        with structlog.contextvars.bound_contextvars(
            attempt_id=str(attempt.id), organization_id=str(attempt.organization_id)
        ):
            try:
                with tracing.span("recharge.attempt", about=str(attempt.id)):
                    async with self.renewed(lease):
                        await self._advance(lease)
            except LeaseLostError:
                log.warning("recharge.lease_lost")
            except UNAVAILABLE as error:
                if not outages.POSTGRES.failed(error):
                    log.warning("recharge.attempt_failed", error=repr(error))
            except Exception:  # retried when the lease ends; other attempts continue
                log.exception("recharge.failed_unexpectedly", state=attempt.state)

    @asynccontextmanager
    async def renewed(self, lease: Lease[Attempt]) -> AsyncIterator[None]:
        """Renew the lease during requests to Stripe, so that it can be short."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(RENEW_SECONDS)
                async with self.pool.acquire() as connection:
                    if not await attempt_store.renew(connection, lease, self.lease):
                        return

        renewal = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)

    async def apply(self, lease: Lease[Attempt], transition: Transition) -> None:
        """Commit a transition with its effect, then count and log it."""
        async with self.pool.acquire() as connection:
            if transition.effect is None:
                await attempt_store.transition(connection, lease, transition, now=self.now())
            else:
                async with connection.transaction():
                    transition = await effects.commit(self._context(connection), lease, transition)
        reports.report(lease.attempt, transition)

    async def _advance(self, lease: Lease[Attempt]) -> None:
        attempt = lease.attempt
        if isinstance(attempt, ArmedAttempt):
            charging = await self._decide(Lease(attempt, lease.token))
            if charging is None:
                return
            unwanted = None
        else:
            charging = Lease(attempt, lease.token)
            unwanted = await self._reason_not_to_confirm(attempt)
        is_first = charging.attempt.payment_intent_id is None
        if is_first and unwanted is not None:
            # A PaymentIntent whose id was never stored was never confirmed: nothing was charged.
            await self.apply(charging, outcomes.given_up(unwanted, due_again=True))
            return
        charging, answer = await self._ask(charging, confirms=unwanted is None)
        look = self._look(charging.attempt, unwanted=unwanted, is_first=is_first)
        await self._apply_step(
            charging, outcomes.after_answer(charging.attempt, answer, look), look
        )

    async def _decide(self, lease: Lease[ArmedAttempt]) -> Lease[ChargingAttempt] | None:
        """Decide by the current circumstances and store the decision; None: no charge."""
        attempt, now = lease.attempt, self.now()
        async with self.pool.acquire() as connection, connection.transaction():
            await store.lock_account(connection, attempt.organization_id)
            current = await store.circumstances(
                connection, attempt.organization_id, month_start=rules.month_start(now)
            )
            decision = rules.decide_attempt(
                attempt,
                current,
                credits_per_unit=self.terms.credits_per_unit,
                units_max=self.units_max,
                now=now,
            )
            result = await self._commit_decision(connection, lease, decision, now)
        if isinstance(result, Transition):
            reports.report(attempt, result)
            return None
        log.info(
            "recharge.charging",
            amount_minor=result.attempt.amount_minor,
            currency=result.attempt.currency,
        )
        return result

    async def _commit_decision(
        self,
        connection: Connection,
        lease: Lease[ArmedAttempt],
        decision: rules.Decision,
        now: datetime,
    ) -> Lease[ChargingAttempt] | Transition:
        if isinstance(decision, rules.ChargeDecision):
            return await attempt_store.begin(
                connection, lease, decision, credits_per_unit=self.terms.credits_per_unit, now=now
            )
        transition = outcomes.not_charged(lease.attempt, decision, now)
        await effects.commit(self._context(connection), lease, transition)
        return transition

    async def _reason_not_to_confirm(self, attempt: ChargingAttempt) -> str | None:
        """Return why an attempt that began earlier must not be confirmed, if so."""
        if self.now() >= states.deadline(attempt):
            return "Stripe did not confirm the payment in time"
        if attempt.trigger is Trigger.TOP_UP:
            return None
        async with self.pool.acquire() as connection:
            (auto,) = await store.settings(connection, organization_id=attempt.organization_id)
        on = auto.state in (RechargeState.ACTIVE, RechargeState.PAUSED_REQUIRES_ACTION)
        return None if on else f"auto-recharge is {auto.state}"

    async def _ask(
        self, lease: Lease[ChargingAttempt], *, confirms: bool
    ) -> tuple[Lease[ChargingAttempt], GatewayAnswer]:
        """Return the state of the attempt's PaymentIntent: retrieved, or created and confirmed.

        Creation is repeated under the same idempotency key while responses are lost, so that Stripe
        creates only one PaymentIntent; the key changes only after Stripe has stored a failure under
        it. A PaymentIntent whose id was not stored is never confirmed, so it never charges.
        """
        attempt = lease.attempt
        account = attempt.stripe_account
        if attempt.payment_intent_id is None:
            key = f"recharge:{attempt.id}:{attempt.create_key}"
            answer = await self.gateway.create(_charge_request(attempt), key=key)
            if not isinstance(answer, Intent):
                return lease, answer
            async with self.pool.acquire() as connection:
                await attempt_store.store_intent(connection, lease, answer.id)
            attempt = replace(attempt, payment_intent_id=answer.id)
            lease = replace(lease, attempt=attempt)
        else:
            answer = await self.gateway.retrieve(attempt.payment_intent_id, stripe_account=account)
        if isinstance(answer, Intent) and answer.status == "requires_confirmation":
            if confirms:
                answer = await self._confirm(attempt, answer.id)
            else:
                answer = await self.gateway.cancel(answer.id, stripe_account=account)
        return lease, answer

    async def _confirm(self, attempt: ChargingAttempt, intent_id: str) -> GatewayAnswer:
        account = attempt.stripe_account
        if self.customer_link is None:
            key = f"recharge:{attempt.id}:{attempt.tries}:confirm"
            return await self.gateway.confirm(intent_id, key=key, stripe_account=account)
        return await self.gateway.confirm_with_customer(
            intent_id,
            attempt.payment_method_id,
            return_url=f"{self.public_url}/pay/{self.customer_link}/done",
            stripe_account=account,
        )

    async def _apply_step(self, lease: Lease[ChargingAttempt], step: Step, look: Look) -> None:
        """Apply a step; cancel its PaymentIntent first if the step requires that."""
        if isinstance(step, CancelFirst):
            attempt = lease.attempt
            if isinstance(step.then.effect, Decline):
                attempt = await self._store_decline(lease, step.then)
            answer = await self.gateway.cancel(
                step.payment_intent_id, stripe_account=attempt.stripe_account
            )
            step = outcomes.after_cancellation(attempt, answer, step, look)
        await self.apply(lease, step)

    async def _store_decline(
        self, lease: Lease[ChargingAttempt], then: Transition
    ) -> ChargingAttempt:
        """Store a decline before its PaymentIntent is canceled: after a crash it still counts.

        Returns the attempt with the decline.
        """
        async with self.pool.acquire() as connection:
            await attempt_store.store_decline(connection, lease, then)
        return replace(
            lease.attempt,
            reason=then.reason,
            decline_code=then.decline_code,
            network_advice=then.network_advice,
        )

    def _look(self, attempt: ChargingAttempt, *, unwanted: str | None, is_first: bool) -> Look:
        now, link = self.now(), self.make_link()
        return Look(
            now=now,
            retry_wait=rules.retry_delay(attempt.tries, self.random()),
            link=Link(
                sha256=link_digest(link),
                url=f"{self.public_url}/pay/{link}",
                expires_at=now + states.link_lifetime(attempt.trigger),
            ),
            unwanted=unwanted,
            is_first=is_first,
        )

    def _context(self, connection: Connection) -> EffectContext:
        return EffectContext(
            connection=connection, terms=self.terms, now=self.now(), make_id=self.make_id
        )


def _charge_request(attempt: ChargingAttempt) -> ChargeRequest:
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
