"""The Stripe client, set up once: real time-outs, no telemetry, no retries of its own.

A retry inside the library would hide an unknown outcome. Retries belong to those who hold the
idempotency key and can ask Stripe what became of the first try.
"""

from __future__ import annotations

import stripe

STRIPE_SECONDS_MAX = 30


def create_client(api_key: str, api_base: str) -> stripe.StripeClient:
    """Return a client for the given address: Stripe's own, or a stand-in's."""
    stripe.enable_telemetry = False
    return stripe.StripeClient(
        api_key,
        base_addresses={"api": api_base},
        max_network_retries=0,
        http_client=stripe.AIOHTTPClient(timeout=STRIPE_SECONDS_MAX),
    )
