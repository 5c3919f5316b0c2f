"""Payloads, bodies of messages and texts of attempts are cleared after their retention."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from shared import metrics
from shared.durations import Duration
from shared.ids import new_id
from shared.outbound.admin import store as admin
from shared.outbound.model import MessageKey
from tests.fixtures.product import create_organization, payment, receive
from worker.cleaners import PayloadCleaner
from worker.drainer import Drainer
from worker.retention import RetentionCleaner

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

MONTH = Duration(time=timedelta(days=30))
ENDPOINT = "INSERT INTO webhook_endpoints (id, url, secret) VALUES ($1, 'https://a.test/', $2)"
MESSAGE = """
INSERT INTO outbound_messages
    (id, endpoint_id, organization_id, type, payload, state, settled_at, last_status, reason)
VALUES ($1, $2, $3, 'credits.low', '{"type": "credits.low"}', $4, now() - $5::interval, 200, 'x')
"""
ATTEMPT = """
INSERT INTO recharge_attempts
    (organization_id, id, state, reason, detail, decline_code, created_at, settled_at)
VALUES
    ($1, $2, 'canceled', 'declined', 'Your card was declined.', 'lost', now(), now() - $3::interval)
"""


def cleared(kind: str) -> float:
    return float(metrics.RETENTION_CLEARED.labels(kind)._value.get())  # noqa: SLF001


def oldest_seconds(kind: str) -> float:
    return float(metrics.RETENTION_OLDEST_SECONDS.labels(kind)._value.get())  # noqa: SLF001


async def test_payloads_of_events_are_counted_and_the_oldest_that_stays_is_measured(
    pool: Pool, drainer: Drainer
) -> None:
    await create_organization(pool)
    await receive(pool, *(payment(name) for name in ("a", "b", "c", "new", "dead")))
    await drainer.drain()
    await pool.execute("UPDATE stripe_events SET settled_at = now() - interval '40 days'")
    await pool.execute("UPDATE stripe_events SET settled_at = now() WHERE id = 'evt_new'")
    await pool.execute(
        "UPDATE stripe_events SET state = 'dead', reason = 'x' WHERE id = 'evt_dead'"
    )
    before, now = cleared("payloads"), datetime.now(UTC) + timedelta(hours=3)
    cleaner = PayloadCleaner(pool, retention=MONTH, rows_max=2, now=lambda: now)
    assert await cleaner.clean() == 3
    assert cleared("payloads") == before + 3
    assert timedelta(seconds=oldest_seconds("payloads")) // timedelta(hours=1) == 3, "of evt_new"
    await pool.execute("UPDATE stripe_events SET state = 'dead', reason = 'x'")
    await cleaner.clean()
    assert oldest_seconds("payloads") == 0, "nothing is left to clear"


async def test_bodies_of_delivered_messages_are_cleared_in_batches_and_dead_ones_stay(
    pool: Pool, organization: Organization
) -> None:
    endpoint = new_id()
    await pool.execute(ENDPOINT, endpoint, f"whsec_{'A' * 32}")
    for state, days in [("delivered", 40)] * 5 + [("dead", 40), ("delivered", 20)]:
        await pool.execute(
            MESSAGE, new_id(), endpoint, organization.id, state, timedelta(days=days)
        )
    before = cleared("messages")
    assert await RetentionCleaner(pool, messages=MONTH, rows_max=2).clean() == 5
    assert cleared("messages") == before + 5
    left = await pool.fetch(
        "SELECT state FROM outbound_messages WHERE payload <> '{}' ORDER BY state"
    )
    assert [row["state"] for row in left] == ["dead", "delivered"]
    async with pool.acquire() as connection:
        rows = await connection.fetch(
            "SELECT id, endpoint_id FROM outbound_messages WHERE state = 'delivered'"
        )
        keys = [MessageKey(row["id"], row["endpoint_id"]) for row in rows]
        sent_again = await admin.make_due(connection, keys, None)
    assert len(keys) > 1
    assert sum(row.is_due for row in sent_again) == 1, "a cleared body is not sent again"
    assert timedelta(seconds=oldest_seconds("messages")) // timedelta(days=1) == 20
    assert await RetentionCleaner(pool).clean() == 0, "forever"


async def test_details_of_ended_attempts_are_removed_and_the_attempt_stays(
    pool: Pool, organization: Organization
) -> None:
    for days in (40, 20):
        await pool.execute(ATTEMPT, organization.id, new_id(), timedelta(days=days))
    assert await RetentionCleaner(pool, attempt_details=MONTH, rows_max=1).clean() == 1
    rows = await pool.fetch(
        "SELECT detail, decline_code, reason FROM recharge_attempts ORDER BY settled_at"
    )
    assert [tuple(row) for row in rows] == [
        (None, "lost", "declined"),
        ("Your card was declined.", "lost", "declined"),
    ]
