"""GET and POST /pay/{token}: the page on which a customer authenticates a recharge (3-D Secure).

The server confirms the payment and redirects the browser to the bank's page. So the page needs no
script and no publishable key, and works the same with Stripe and with the simulator.
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

from api.framework.shares import Tenant, act_for
from api.pay.pages import Pages
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
REQUESTS_PER_SECOND = 0.2
REQUESTS_BURST = 10
PAGE_SECONDS_MAX = 20.0
PATH = "/pay/{token}"


@dataclass(frozen=True, slots=True)
class PayPage:
    """Shows the payment of a link, and redirects the customer to their bank and back.

    A link is stored by its digest and ends with its attempt. GET changes nothing. The page shows
    only data from Stripe, PostgreSQL and the settings, none from its address. `stripe_requests`
    limits how often one link can cause a request to Stripe.
    """

    pool: Connections
    charges: PaymentIntentGateway
    public_url: str
    stripe_api_base: str
    deadlines: Deadlines = field(default_factory=Deadlines)
    pages: Pages = field(default_factory=Pages)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    stripe_requests: TokenBuckets[str] = field(
        default_factory=lambda: TokenBuckets(REQUESTS_PER_SECOND, REQUESTS_BURST)
    )

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of the page."""
        return [
            web.get(PATH, self._with_error_pages(self.show)),
            web.post(PATH, self._with_error_pages(self.confirm)),
            web.get(f"{PATH}/done", self._with_error_pages(self.done)),
        ]

    async def show(self, request: web.Request) -> web.Response:
        """Show the payment, or why it cannot be made."""
        payment = await self._find(request)
        if payment is None:
            return self.pages.unknown()
        return self._closed_page(payment) or self.pages.ask(
            payment, bank_origins=self._bank_origins()
        )

    async def confirm(self, request: web.Request) -> web.Response:
        """Confirm the payment on session, and redirect the customer to their bank."""
        payment = await self._find(request)
        if payment is None:
            return self.pages.unknown()
        if closed := self._closed_page(payment):
            return closed
        if self.stripe_requests.take(payment.payment_intent_id):
            return self.pages.try_later(429)
        done = f"{self.public_url}/pay/{request.match_info['token']}/done"
        account = payment.stripe_account
        answer = await self.charges.retrieve(payment.payment_intent_id, stripe_account=account)
        if isinstance(answer, Intent) and answer.status in _TO_CONFIRM:
            answer = await self.charges.confirm_with_customer(
                payment.payment_intent_id,
                payment.payment_method_id,
                return_url=done,
                stripe_account=account,
            )
        if not isinstance(answer, Intent):
            return self._stripe_unavailable(answer)
        if answer.status == "requires_action" and answer.redirect_url:
            return web.Response(status=303, headers={"Location": answer.redirect_url})
        return web.Response(status=303, headers={"Location": done})

    async def done(self, request: web.Request) -> web.Response:
        """Show the current outcome at Stripe, and have a worker finish the attempt at once."""
        payment = await self._find(request)
        if payment is None:
            return self.pages.unknown()
        match payment.standing(self.now()):
            case Standing.PAID:
                return self.pages.paid(payment)
            case Standing.CANCELED:
                return self.pages.canceled(payment)
            case Standing.FAILED:
                return self.pages.failed(payment)
        if self.stripe_requests.take(payment.payment_intent_id):
            return self.pages.try_later(429)
        account = payment.stripe_account
        answer = await self.charges.retrieve(payment.payment_intent_id, stripe_account=account)
        async with self.pool.acquire() as connection:
            await attempt_store.wake(connection, [payment.payment_intent_id])
        return self._outcome_page(payment, answer, request.match_info["token"])

    async def _find(self, request: web.Request) -> Recovery | None:
        token = request.match_info["token"]
        if len(token) > TOKEN_LENGTH_MAX or not token.isascii():
            return None
        async with self.pool.acquire() as connection:
            return await recovery.find(connection, token)

    def _with_error_pages(
        self, handle: Callable[[web.Request], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Return an HTML page on a failure, rather than the JSON error envelope.

        All pay pages together have the fair share of one key, each link that of one organization.
        """

        async def answer(request: web.Request) -> web.Response:
            link = recovery.link_digest(request.match_info["token"])
            act_for(Tenant(PATH, link))
            try:
                return await self.deadlines.within(PAGE_SECONDS_MAX, handle(request))
            except DeadlineError as error:
                log.warning("pay.too_slow", error=repr(error.__cause__))
                return self.pages.try_later(504)
            except UnavailableError:
                return self.pages.try_later(503)
            except UNAVAILABLE as error:
                if not outages.POSTGRES.failed(error):
                    log.warning("pay.database_busy", error=repr(error))
                return self.pages.try_later(503)

        return answer

    def _closed_page(self, payment: Recovery) -> web.Response | None:
        pages = {
            Standing.UNDER_WAY: self.pages.under_way,
            Standing.PAID: self.pages.already_paid,
            Standing.EXPIRED: self.pages.expired,
            Standing.FAILED: self.pages.failed,
            Standing.CANCELED: self.pages.canceled,
        }
        page = pages.get(payment.standing(self.now()))
        return page(payment) if page else None

    def _bank_origins(self) -> str:
        """Return the allowed form targets: any bank over TLS, or the simulator's page."""
        base = urlsplit(self.stripe_api_base)
        return "https:" if base.scheme == "https" else f"https: {base.scheme}://{base.netloc}"

    def _outcome_page(self, payment: Recovery, answer: GatewayAnswer, token: str) -> web.Response:
        """Return the page for Stripe's answer after the customer has returned."""
        if not isinstance(answer, Intent):
            return self._stripe_unavailable(answer)
        if answer.status == "succeeded":
            return self.pages.paid(payment)
        if answer.status == "processing":
            return self.pages.under_way(payment)
        return self.pages.not_done(payment, token)

    def _stripe_unavailable(self, answer: GatewayAnswer) -> web.Response:
        log.warning("pay.stripe_did_not_say", answer=type(answer).__name__)
        return self.pages.try_later(502)


_TO_CONFIRM = frozenset({"requires_payment_method", "requires_confirmation"})
