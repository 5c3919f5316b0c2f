"""GET and POST /pay/{token}: the page on which a customer authenticates a recharge with their bank.

The server confirms the payment and sends the browser on to the bank's page, so that no script and
no publishable key is needed, and real Stripe and the simulator are the same to it.
Source: https://docs.stripe.com/payments/3d-secure/authentication-flow#manual-redirect
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from api.framework.shares import Tenant, acting_for
from api.pay import pages
from shared import outages
from shared.db.pool import UNAVAILABLE
from shared.errors import DeadlineError, UnavailableError
from shared.http.deadlines import Deadlines
from shared.payments.payment_intents import GatewayAnswer, Intent, PaymentIntentGateway
from shared.recharge import recovery
from shared.recharge.attempts import store as attempt_store
from shared.recharge.recovery import Recovery, Standing
from shared.token_bucket import TokenBuckets

if TYPE_CHECKING:
    from shared.db.pool import Connections

log = structlog.get_logger()

TOKEN_LENGTH_MAX = 100
ASKED_PER_SECOND = 0.2
ASKED_BURST = 10
PAGE_SECONDS_MAX = 20.0
PATH = "/pay/{token}"
_ENDED = {
    Standing.PAID: "The payment is complete already. There is nothing more to do.",
    Standing.EXPIRED: "It was not used in time, and nothing was charged. Ask for a new one.",
    Standing.ENDED: "The payment was given up, and nothing was charged.",
}


@dataclass(frozen=True, slots=True)
class PayPage:
    """Shows the payment of a link, and takes the customer to their bank and back.

    A link is known by its digest, and ends with its attempt. GET changes nothing. What the page
    tells of a payment comes from Stripe and PostgreSQL, never from the address it is opened with.
    `asked` bounds how often one link can have Stripe asked.
    """

    pool: Connections
    charges: PaymentIntentGateway
    public_url: str
    stripe_api_base: str
    deadlines: Deadlines = field(default_factory=Deadlines)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    asked: TokenBuckets[str] = field(
        default_factory=lambda: TokenBuckets(ASKED_PER_SECOND, ASKED_BURST)
    )

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of the page."""
        return [
            web.get(PATH, self._kindly(self.show)),
            web.post(PATH, self._kindly(self.go)),
            web.get(f"{PATH}/done", self._kindly(self.done)),
        ]

    async def show(self, request: web.Request) -> web.Response:
        """Show what is to be paid, or why nothing is."""
        found = await self._find(request)
        if found is None:
            return pages.unknown()
        return self._closed(found) or pages.ask(found, bank_origins=self._bank_origins())

    async def go(self, request: web.Request) -> web.Response:
        """Confirm the payment in the customer's presence, and send them on to their bank."""
        found = await self._find(request)
        if found is None:
            return pages.unknown()
        if closed := self._closed(found):
            return closed
        if self.asked.take(found.payment_intent_id):
            return pages.try_later(429)
        done = f"{self.public_url}/pay/{request.match_info['token']}/done"
        account = found.stripe_account
        answer = await self.charges.retrieve(found.payment_intent_id, stripe_account=account)
        if isinstance(answer, Intent) and answer.status in _TO_CONFIRM:
            answer = await self.charges.confirm_with_customer(
                found.payment_intent_id,
                found.payment_method_id,
                return_url=done,
                stripe_account=account,
            )
        if not isinstance(answer, Intent):
            return _away(answer)
        if answer.status == "requires_action" and answer.redirect_url:
            return web.Response(status=303, headers={"Location": answer.redirect_url})
        return web.Response(status=303, headers={"Location": done})

    async def done(self, request: web.Request) -> web.Response:
        """Show what has become of it, as Stripe says now; have a worker settle it at once."""
        found = await self._find(request)
        if found is None:
            return pages.unknown()
        match found.standing(self.now()):
            case Standing.PAID:
                return pages.paid(found)
            case Standing.ENDED:
                return pages.ended(_ENDED[Standing.ENDED])
        if self.asked.take(found.payment_intent_id):
            return pages.try_later(429)
        account = found.stripe_account
        answer = await self.charges.retrieve(found.payment_intent_id, stripe_account=account)
        async with self.pool.acquire() as connection:
            await attempt_store.wake(connection, [found.payment_intent_id])
        return _became(found, answer, request.match_info["token"])

    async def _find(self, request: web.Request) -> Recovery | None:
        token = request.match_info["token"]
        if len(token) > TOKEN_LENGTH_MAX or not token.isascii():
            return None
        async with self.pool.acquire() as connection:
            return await recovery.find(connection, token)

    def _kindly(
        self, handle: Callable[[web.Request], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Answer a person with a page where PostgreSQL is away, not with an envelope for programs.

        All pages together have the share of one key, and each link that of one organization.
        """

        async def answer(request: web.Request) -> web.Response:
            link = recovery.link_digest(request.match_info["token"])
            try:
                with acting_for(Tenant(PATH, link)):
                    return await self.deadlines.within(PAGE_SECONDS_MAX, handle(request))
            except DeadlineError as error:
                log.warning("pay.too_slow", error=repr(error.__cause__))
                return pages.try_later(504)
            except UnavailableError:
                return pages.try_later(503)
            except UNAVAILABLE as error:
                if not outages.POSTGRES.failed(error):
                    log.warning("pay.database_busy", error=repr(error))
                return pages.try_later(503)

        return answer

    def _closed(self, found: Recovery) -> web.Response | None:
        standing = found.standing(self.now())
        if standing is Standing.UNDER_WAY:
            return pages.under_way(found)
        return pages.ended(_ENDED[standing]) if standing in _ENDED else None

    def _bank_origins(self) -> str:
        """Say where the form may lead to: any bank over TLS, or the stand-in's own page."""
        base = urlsplit(self.stripe_api_base)
        return "https:" if base.scheme == "https" else f"https: {base.scheme}://{base.netloc}"


_TO_CONFIRM = frozenset({"requires_payment_method", "requires_confirmation"})


def _became(found: Recovery, answer: GatewayAnswer, token: str) -> web.Response:
    """Return the page of what Stripe says of a payment that its customer came back from."""
    if not isinstance(answer, Intent):
        return _away(answer)
    if answer.status == "succeeded":
        return pages.paid(found)
    if answer.status == "processing":
        return pages.under_way(found)
    return pages.not_done(token)


def _away(answer: GatewayAnswer) -> web.Response:
    log.warning("pay.stripe_did_not_say", answer=type(answer).__name__)
    return pages.try_later(502)
