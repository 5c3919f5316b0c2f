"""What an erasure leaves alone: requests in progress, and events that are not finished."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from shared.erasure import service as erasure
from shared.inbox.model import EventKey
from shared.inbox.retention import store as retention
from tests.fixtures.commands import Command
from tests.fixtures.product import event_row, payment, receive
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

REQUEST = """
INSERT INTO idempotent_requests (tenant_id, key, digest, id, locked_until, status, answer)
VALUES ($1, $2, '', gen_random_uuid(), now() + interval '1 minute', $3, $4)
"""
KEY = EventKey("", livemode=False, id="evt_1")


async def test_an_erasure_leaves_the_key_of_a_request_that_is_in_progress(
    pool: Pool, organization: Organization, prepaid: Command
) -> None:
    """Without its row, a repetition of the request would run beside it."""
    await pool.execute(REQUEST, organization.id, "answered", 200, b"Jo Doe")
    await pool.execute(REQUEST, organization.id, "in progress", None, None)
    assert (await prepaid("orgs", "close", "acme", "--reason", "test")).code == 0
    async with pool.acquire() as connection:
        done = await erasure.erase(connection, organization, actor="test", reason="test")
    assert done.erased["idempotent_requests"] == 1
    left = await pool.fetch("SELECT key FROM idempotent_requests")
    assert [row["key"] for row in left] == ["in progress"]


@pytest.mark.parametrize(
    "change",
    [
        "state = 'received', settled_at = NULL",
        "state = 'retrying', settled_at = NULL, reason = 'x'",
        "state = 'dead', reason = 'x'",
        "state = 'quarantined', reason = 'x'",
        "state = 'ignored', reason = 'x', waits_for = 'cus_1'",
    ],
)
async def test_an_event_that_is_reopened_after_an_erasure_has_seen_it_is_not_reduced(
    pool: Pool, organization: Organization, drainer: Drainer, change: str
) -> None:
    await receive(pool, payment("1"))
    await drainer.drain()
    payload = (await event_row(pool, "evt_1"))["payload"]
    await pool.execute(f"UPDATE stripe_events SET {change}")  # noqa: S608 - one of the above
    async with pool.acquire() as connection, connection.transaction():
        assert await retention.delete_payloads_of(connection, [KEY]) == 0
    assert (await event_row(pool, "evt_1"))["payload"] == payload
    await pool.execute(
        "UPDATE stripe_events SET state = 'applied', settled_at = now(), waits_for = NULL"
    )
    async with pool.acquire() as connection, connection.transaction():
        assert await retention.delete_payloads_of(connection, [KEY]) == 1


async def test_a_payload_is_not_reduced_twice_so_that_the_time_of_its_deletion_stays(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await receive(pool, payment("1"))
    await drainer.drain()
    deleted = datetime(2026, 1, 1, tzinfo=UTC)
    await pool.execute("UPDATE stripe_events SET payload_forgotten_at = $1", deleted)
    async with pool.acquire() as connection, connection.transaction():
        assert await retention.delete_payloads_of(connection, [KEY]) == 0
    assert (await event_row(pool, "evt_1"))["payload_forgotten_at"] == deleted
