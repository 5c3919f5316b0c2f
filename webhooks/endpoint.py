"""POST /v1/webhooks/stripe: verify, make durable, answer."""

from __future__ import annotations

import time
from collections.abc import Callable

from aiohttp import web

from shared import metrics, tracing
from shared.config import Settings
from shared.errors import PrepaidError
from shared.http.body import SMALL_BODY_BYTES_MAX, LargeBodies, check_head, read_body
from shared.http.envelope import json_response
from shared.http.middleware import REQUEST_ID_KEY
from shared.inbox import rules
from shared.inbox.model import Delivery, Receipt
from shared.inbox.service import Inbox
from shared.payments import signature

LARGE_BODIES_AT_ONCE_MAX = 4
TURN_SECONDS_MAX = 10.0

_COUNTERS = {
    result: metrics.WEBHOOK_EVENTS.labels(result)
    for result in ("received", "duplicate", "quarantined", "refused", "failed")
}


class StripeWebhook:
    """The endpoint that Stripe delivers to.

    200 means that the event is committed to PostgreSQL (or was before: `duplicate`). A body that
    is not a signed Stripe event is 400, one over 1 MiB 413, a packed one 415, one that never ends
    408. While PostgreSQL is away the answer is 503, and Stripe sends again.

    What the head alone gives away is refused before the body is read, a signature that does not
    match before any JSON is parsed, and few large bodies are read at once: a stranger cannot make
    signed deliveries wait.
    Source: https://docs.stripe.com/webhooks#best-practices
    """

    def __init__(
        self, settings: Settings, inbox: Inbox, unix_now: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._inbox = inbox
        self._unix_now = unix_now
        self._large_bodies = LargeBodies(
            small_bytes_max=SMALL_BODY_BYTES_MAX,  # a typical event has 3 kB
            at_once_max=LARGE_BODIES_AT_ONCE_MAX,
            turn_seconds_max=TURN_SECONDS_MAX,
        )

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one delivery, and count its result."""
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
        check_head(request)
        signed_by = signature.check_header(
            request.headers.get("Stripe-Signature"), unix_now=int(self._unix_now())
        )
        async with self._large_bodies.turn(request):
            body = await read_body(request)
            signature.verify(body, signed_by, self._settings.stripe_webhook_secrets)
            header, payload = rules.read_header(body)
        quarantine = rules.quarantine_reason(
            header, livemode=self._settings.livemode, accounts=self._settings.stripe_accounts
        )
        attributes: tracing.Attributes = {"event.id": header.id, "event.type": header.type}
        with tracing.span("inbox.receive", attributes, about=header.id):
            receipt = await self._inbox.receive(
                Delivery(header, payload, request[REQUEST_ID_KEY], quarantine)
            )
        result = "duplicate" if receipt.duplicate else "quarantined" if quarantine else "received"
        _COUNTERS[result].inc()
        return receipt
