"""Alerts: why Stripe refuses this installation, for operators to correct.

An alert lasts while attempts wait for its cause. It is logged once when it begins and once when
it ends, and is never sent to the customer's app.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import structlog

from shared import metrics
from shared.recharge.attempts import store as attempt_store

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeAlert:
    """A cause for which Stripe refuses this installation, with the number of waiting attempts.

    `cause` is the status and the request, such as `401 payment_intents.create`; `detail` is
    Stripe's latest error.
    """

    cause: str
    detail: str
    began_at: datetime
    seen_at: datetime
    attempts: int

    @property
    def remedy(self) -> str:
        """The action for an operator, by the HTTP status."""
        return _REMEDIES.get(self.cause.partition(" ")[0], _ANY_REMEDY)


_REMEDIES = {
    "401": "Deploy a STRIPE_API_KEY that Stripe accepts.",
    "403": "Give the key this permission in Stripe's Dashboard, under API keys.",
}
_ANY_REMEDY = "Correct what Stripe names, in the Dashboard or in the settings."


async def begin(connection: Connection, cause: str, detail: str, now: datetime) -> None:
    """Store that Stripe refused this installation, in the caller's transaction."""
    if await attempt_store.alert(connection, cause, detail, now):
        log.error("recharge.stripe_refuses_us", cause=cause, detail=detail)


async def end(connection: Connection) -> None:
    """End the alerts that no attempt waits for any more, in the caller's transaction."""
    for row in await attempt_store.end_alerts(connection):
        log.warning(
            "recharge.stripe_accepts_us", cause=row["cause"], began_at=row["began_at"].isoformat()
        )


async def current(connection: Connection) -> list[StripeAlert]:
    """Return the current alerts, oldest first."""
    return [StripeAlert(**row) for row in await attempt_store.alerts(connection)]


async def measure(pool: Pool) -> None:
    """Set the gauge of waiting attempts of the whole installation, from any worker."""
    async with pool.acquire() as connection:
        alerts = await current(connection)
    metrics.RECHARGE_ATTEMPTS_BLOCKED.set(sum(alert.attempts for alert in alerts))
