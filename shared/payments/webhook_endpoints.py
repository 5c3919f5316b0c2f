"""The webhook endpoint at Stripe: how it is set, and how it should be.

Source: https://docs.stripe.com/api/webhook_endpoints
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from shared.errors import NotFoundError, PrepaidError, StripeFailedError, StripeRefusedError
from shared.inbox.model import DELIVERY_PATH
from shared.payments.library import stripe
from shared.payments.stripe_failures import REQUEST_ERRORS, FailureKind, classify

ENDPOINTS_MAX = 100
# Stripe's earliest version whose events have the same effect as today's.
API_VERSION_MIN = "2022-11-15"
ALL_EVENTS = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeEndpoint:
    """A webhook endpoint at Stripe. `api_version` None: the account's default version."""

    id: str
    url: str
    status: str
    api_version: str | None
    enabled_events: Sequence[str]

    @property
    def enabled(self) -> bool:
        """Whether Stripe delivers events to it."""
        return self.status == "enabled"

    def missing_events(self, handled: Collection[str]) -> list[str]:
        """Return the types that Prepaid handles and this endpoint does not receive."""
        if ALL_EVENTS in self.enabled_events:
            return []
        return sorted(set(handled) - set(self.enabled_events))


@dataclass(frozen=True, slots=True)
class EndpointProblem:
    """What is wrong with an endpoint, and the command that corrects it."""

    detail: str
    fix: str


def delivers_here(endpoint: StripeEndpoint, public_url: str) -> bool:
    """Say whether an endpoint leads to this installation.

    A public URL that only this machine can reach is not an endpoint's: then its path decides.
    """
    if public_url.startswith("https://"):
        return endpoint.url == public_url + DELIVERY_PATH
    return urlsplit(endpoint.url).path == DELIVERY_PATH


def problems(
    endpoints: Sequence[StripeEndpoint], public_url: str, handled: Collection[str]
) -> list[EndpointProblem]:
    """Return what is wrong with the endpoints that lead here, or that there is none."""
    own = [endpoint for endpoint in endpoints if delivers_here(endpoint, public_url)]
    if not own:
        base = public_url if public_url.startswith("https://") else "https://YOUR-HOST"
        url = base + DELIVERY_PATH
        return [
            EndpointProblem(
                f"Stripe has no webhook endpoint with the URL {url}",
                f"prepaid stripe endpoint create --url {url}",
            )
        ]
    return [problem for endpoint in own for problem in _problems_of(endpoint, handled)]


def _problems_of(endpoint: StripeEndpoint, handled: Collection[str]) -> list[EndpointProblem]:
    update = f"prepaid stripe endpoint update {endpoint.id}"
    found = []
    if not endpoint.enabled:
        found.append(EndpointProblem(f"{endpoint.id} is disabled", update))
    if missing := endpoint.missing_events(handled):
        found.append(
            EndpointProblem(f"{endpoint.id} does not receive {', '.join(missing)}", update)
        )
    if endpoint.api_version is not None and endpoint.api_version < API_VERSION_MIN:
        found.append(
            EndpointProblem(
                f"{endpoint.id} has the API version {endpoint.api_version}; Prepaid reads"
                f" {API_VERSION_MIN} and later",
                f"prepaid stripe endpoint create --url {endpoint.url}",
            )
        )
    return found


async def list_endpoints(client: stripe.StripeClient) -> list[StripeEndpoint] | None:
    """Return the account's endpoints; None where the key may not list them."""
    try:
        page = await client.v1.webhook_endpoints.list_async({"limit": ENDPOINTS_MAX})
    except REQUEST_ERRORS as error:
        if classify(error).kind is FailureKind.FORBIDDEN:
            return None
        raise _refused(error) from error
    return [_endpoint(found) for found in page.data]


async def create(
    client: stripe.StripeClient, url: str, events: Collection[str], *, connect: bool
) -> tuple[StripeEndpoint, str]:
    """Create an endpoint in the newest API version; return it with its secret.

    Stripe shows the secret this once.
    """
    params: Any = {
        "url": url,
        "enabled_events": sorted(events),
        "api_version": stripe.api_version,
        "connect": connect,
        "description": "Prepaid",
    }
    try:
        made = await client.v1.webhook_endpoints.create_async(params)
    except REQUEST_ERRORS as error:
        raise _refused(error) from error
    return _endpoint(made), str(made.secret)


async def update(
    client: stripe.StripeClient, endpoint_id: str, url: str | None, events: Collection[str]
) -> StripeEndpoint:
    """Enable an endpoint and set its event types, and its URL where one is given.

    Its API version stays: Stripe changes it only with a new endpoint.
    """
    params: Any = {"enabled_events": sorted(events), "disabled": False}
    if url is not None:
        params["url"] = url
    try:
        changed = await client.v1.webhook_endpoints.update_async(endpoint_id, params)
    except REQUEST_ERRORS as error:
        raise _refused(error) from error
    return _endpoint(changed)


def _endpoint(found: stripe.WebhookEndpoint) -> StripeEndpoint:
    return StripeEndpoint(
        id=found.id,
        url=found.url,
        status=found.status,
        api_version=found.api_version,
        enabled_events=list(found.enabled_events),
    )


def _refused(error: Exception) -> PrepaidError:
    failure = classify(error)
    if failure.status == HTTPStatus.NOT_FOUND:
        return NotFoundError(f"Stripe has no such endpoint: {failure.detail}")
    if failure.kind is FailureKind.FORBIDDEN:
        return StripeRefusedError(
            f"{failure.detail} Give the key the permission Webhook Endpoints: Write, or use a"
            " secret key for this command."
        )
    if failure.kind is FailureKind.UNAUTHORIZED:
        return StripeRefusedError(f"Stripe refuses STRIPE_API_KEY: {failure.detail}")
    return StripeFailedError(failure.detail)
