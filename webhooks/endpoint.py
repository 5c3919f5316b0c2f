"""POST /v1/webhooks/stripe: verify, make durable, answer."""

from __future__ import annotations

import time
from collections.abc import Callable

from aiohttp import web

from shared import metrics
from shared.config import Settings
from shared.errors import PrepaidError
from shared.http.body import read_body
from shared.http.envelope import json_response
from shared.http.middleware import REQUEST_ID_KEY
from shared.inbox import rules
from shared.inbox.model import Delivery, Receipt
from shared.inbox.service import Inbox
from shared.payments.signature import verify

_COUNTERS = {
    result: metrics.WEBHOOK_EVENTS.labels(result)
    for result in ("received", "duplicate", "quarantined", "refused", "failed")
}


class StripeWebhook:
    """The endpoint that Stripe delivers to.

    200 means that the event is committed to PostgreSQL (or was before: `duplicate`). A body that
    is not a signed Stripe event is 400, one over 1 MiB 413, a packed one 415, one that never ends
    408. While PostgreSQL is away the answer is 503, and Stripe sends again.
    Source: https://docs.stripe.com/webhooks#best-practices
    """

    def __init__(
        self, settings: Settings, inbox: Inbox, unix_now: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._inbox = inbox
        self._unix_now = unix_now

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one delivery, and count what became of it."""
        started = time.perf_counter()
        try:
            receipt = await self._receive(request)
        except PrepaidError as error:
            _COUNTERS["refused" if error.status < 500 else "failed"].inc()  # noqa: PLR2004
            raise
        except Exception:
            _COUNTERS["failed"].inc()
            raise
        finally:
            metrics.WEBHOOK_ACK_SECONDS.observe(time.perf_counter() - started)
        return json_response(
            {"received": True, "eventId": receipt.event_id, "duplicate": receipt.duplicate}
        )

    async def _receive(self, request: web.Request) -> Receipt:
        body = await read_body(request)
        header, payload = rules.read_header(body)
        verify(
            payload,
            request.headers.get("Stripe-Signature"),
            self._settings.stripe_webhook_secrets,
            unix_now=int(self._unix_now()),
        )
        quarantine = rules.quarantine_reason(
            header, livemode=self._settings.livemode, accounts=self._settings.stripe_accounts
        )
        receipt = await self._inbox.receive(
            Delivery(header, payload, request[REQUEST_ID_KEY], quarantine)
        )
        result = "duplicate" if receipt.duplicate else "quarantined" if quarantine else "received"
        _COUNTERS[result].inc()
        return receipt
