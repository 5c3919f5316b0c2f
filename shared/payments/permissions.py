"""The permissions that a restricted Stripe key needs, and how to find out whether it has them.

Source: https://docs.stripe.com/keys/restricted-api-keys
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from shared.errors import StripeFailedError, StripeRefusedError
from shared.payments.library import stripe
from shared.payments.stripe_failures import REQUEST_ERRORS, FailureKind, classify

# An id that no customer has: Stripe refuses a request about it without effect.
UNKNOWN_CUSTOMER = "cus_prepaid_doctor"


_NAMED = re.compile(r"rak_(\w+)_(read|write)")


class Access(StrEnum):
    """The access of a key to a resource, as in the Dashboard; Write includes Read."""

    READ = "Read"
    WRITE = "Write"


@dataclass(frozen=True, slots=True)
class Probe:
    """A request that changes nothing: a list of one, or a POST that Stripe refuses."""

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Permission:
    """A permission with its name in the Dashboard; `id` is its name in Stripe's errors."""

    name: str
    access: Access
    id: str
    probes: tuple[Probe, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.access}"


def _list_of(*paths: str) -> tuple[Probe, ...]:
    return tuple(Probe("get", path, {"limit": 1}) for path in paths)


PERMISSIONS = (
    Permission(
        "Charges and Refunds",
        Access.READ,
        "rak_charge_read",
        _list_of("/v1/refunds"),
    ),
    Permission(
        "Checkout Sessions",
        Access.WRITE,
        "rak_checkout_session_write",
        (Probe("post", "/v1/checkout/sessions"),),
    ),
    Permission(
        "Customer portal",
        Access.WRITE,
        "rak_customer_portal_write",
        (Probe("post", "/v1/billing_portal/sessions"),),
    ),
    Permission(
        "Customers",
        Access.WRITE,
        "rak_customer_write",
        (Probe("post", f"/v1/customers/{UNKNOWN_CUSTOMER}"),),
    ),
    Permission(
        "Disputes",
        Access.READ,
        "rak_dispute_read",
        _list_of("/v1/disputes"),
    ),
    Permission(
        "Events",
        Access.READ,
        "rak_event_read",
        _list_of("/v1/events"),
    ),
    Permission(
        "Invoices",
        Access.READ,
        "rak_invoice_read",
        _list_of("/v1/invoices", "/v1/invoice_payments"),
    ),
    Permission(
        "PaymentIntents",
        Access.WRITE,
        "rak_payment_intent_write",
        (Probe("post", "/v1/payment_intents"),),
    ),
    Permission(
        "PaymentMethods",
        Access.READ,
        "rak_payment_method_read",
        _list_of("/v1/payment_methods"),
    ),
    Permission(
        "Prices",
        Access.READ,
        "rak_plan_read",
        _list_of("/v1/prices"),
    ),
    Permission(
        "Subscriptions",
        Access.READ,
        "rak_subscription_read",
        _list_of("/v1/subscriptions"),
    ),
)

# Of commands alone: a process works without them.
COMMAND_PERMISSIONS = (
    Permission(
        "Webhook Endpoints",
        Access.WRITE,
        "rak_webhook_write",
        (Probe("post", "/v1/webhook_endpoints"),),
    ),
)


def named(detail: str) -> str | None:
    """Return the permission that an error of Stripe asks for, as the Dashboard names it."""
    match = _NAMED.search(detail)
    if match is None:
        return None
    for permission in PERMISSIONS:
        if permission.id.rpartition("_")[0] == f"rak_{match[1]}":
            return f"{permission.name}: {match[2].title()}"
    return match[0]


async def lacking(client: stripe.StripeClient) -> list[Permission]:
    """Return the permissions that the client's key lacks, in the order of the table.

    Nothing is created or changed at Stripe. Raises StripeRefusedError if Stripe does not accept
    the key, and StripeFailedError if it does not answer.
    """
    return [
        permission
        for permission in PERMISSIONS
        if not all([await _may(client, probe) for probe in permission.probes])
    ]


async def _may(client: stripe.StripeClient, probe: Probe) -> bool:
    try:
        await client.raw_request_async(probe.method, probe.path, **probe.params)
    except REQUEST_ERRORS as error:
        failure = classify(error)
        if failure.kind is FailureKind.FORBIDDEN:
            return False
        if failure.kind is FailureKind.UNAUTHORIZED:
            raise StripeRefusedError(failure.detail) from error
        if failure.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND):
            return True  # permitted: Stripe validated the parameters
        raise StripeFailedError(f"Stripe did not answer {probe.path}: {failure.detail}") from error
    return True
