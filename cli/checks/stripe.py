"""Stripe: the key and its permissions, the clock, and the webhook endpoint."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cli.checks.model import Caution, DoctorError, Finding
from cli.checks.postgres import clock_difference
from shared.config import Settings
from shared.events.rules import HANDLED_TYPES
from shared.payments import webhook_endpoints
from shared.payments.client import check_key, stripe_client
from shared.payments.permissions import PERMISSIONS, lacking

# Signatures are accepted for 300 s: a clock that is off by a part of that refuses slow deliveries.
CLOCK_SECONDS_MAX = 30.0
# The Date header has no fractions.
DATE_PRECISION = timedelta(seconds=1)


async def check_stripe(settings: Settings) -> Finding:
    """Check that Stripe accepts the key, and that its clock agrees with this machine's."""
    before = datetime.now(UTC)
    there = await check_key(settings.stripe_api_key, settings.stripe_api_base)
    after = datetime.now(UTC)
    accepted = f"{settings.stripe_api_base} accepts the key"
    if there is None:
        return accepted
    seconds = clock_difference(there, before - DATE_PRECISION, after)
    if abs(seconds) > CLOCK_SECONDS_MAX:
        raise DoctorError(
            f"this machine's clock and Stripe's differ by {seconds:+.0f} s: deliveries are refused"
            " beyond 300 s",
            "timedatectl set-ntp true",
        )
    return accepted


async def check_permissions(settings: Settings) -> Finding:
    """Check that a restricted key has every permission that the processes need."""
    if not settings.stripe_api_key.startswith("rk_"):
        return "a secret key has all permissions"
    async with stripe_client(settings.stripe_api_key, settings.stripe_api_base) as client:
        missing = await lacking(client)
    if missing:
        raise DoctorError(
            f"the restricted key lacks {', '.join(map(str, missing))}. Give it these permissions in"
            " Stripe's Dashboard, under API keys."
        )
    return f"the restricted key has all {len(PERMISSIONS)} permissions"


async def check_webhook(settings: Settings) -> Finding:
    """Compare the webhook endpoint at Stripe with what the code handles.

    In test mode `stripe listen` may deliver the events instead, so that it is only a warning.
    """
    async with stripe_client(settings.stripe_api_key, settings.stripe_api_base) as client:
        endpoints = await webhook_endpoints.list_endpoints(client)
    if endpoints is None:
        return "not checked: the restricted key lacks Webhook Endpoints: Read"
    problems = webhook_endpoints.problems(endpoints, settings.public_url, HANDLED_TYPES)
    if not problems:
        return f"Stripe delivers all {len(HANDLED_TYPES)} types that Prepaid handles"
    detail = "; ".join(problem.detail for problem in problems)
    if settings.livemode:
        raise DoctorError(detail, problems[0].fix)
    return Caution(detail, problems[0].fix)
