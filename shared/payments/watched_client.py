"""The HTTP client of the Stripe library, which tracks outages of Stripe."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from shared import outages, tracing
from shared.errors import StripeFailedError, StripeRefusedError
from shared.payments.library import stripe


@cache
def _tls_context() -> ssl.SSLContext:
    """Load the certificate authorities once: the library does so for each client, in 25 ms."""
    return ssl.create_default_context(cafile=stripe.ca_bundle_path)


class WatchedClient(stripe.AIOHTTPClient):
    """Observes every request of the library, so that an outage is logged once.

    It is created in the event loop that uses it.
    """

    def __init__(self, *, timeout: float) -> None:
        connector = aiohttp.TCPConnector(ssl=_tls_context())
        super().__init__(timeout=timeout, connector=connector)

    async def request_async(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        post_data: Any = None,
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Return Stripe's response; a 5xx, or none, is a failure that may begin an outage."""
        attributes: tracing.Attributes = {
            "http.request.method": method.upper(),
            "url.path": urlsplit(url).path,
        }
        with tracing.span("stripe.request", attributes) as span:
            try:
                answer = await super().request_async(method, url, headers, post_data)
            except Exception as error:
                outages.STRIPE.failed(error)
                raise
            if span is not None:
                span.set_attribute("http.response.status_code", answer[1])
        if answer[1] >= HTTPStatus.INTERNAL_SERVER_ERROR:
            outages.STRIPE.failed(StripeFailedError(f"Stripe answered {answer[1]}."))
        else:
            outages.STRIPE.succeeded()
        return answer


class ReadOnlyClient(WatchedClient):
    """Sends GET requests alone: a preview changes nothing at Stripe, whatever its handlers do."""

    async def request_async(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        post_data: Any = None,
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Return Stripe's answer to a GET; raise StripeRefusedError for any other method."""
        refuse_changes(method, url)
        return await super().request_async(method, url, headers, post_data)


def refuse_changes(method: str, url: str) -> None:
    """Raise StripeRefusedError for a request that may change something at Stripe."""
    if method.lower() != "get":
        raise StripeRefusedError(f"What only reads does not send {method.upper()} {url}.")
