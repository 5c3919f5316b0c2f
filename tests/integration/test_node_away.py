"""A node of a cluster is away: PostgreSQL answers, and what needs the node fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.inbox.rules import LEASES_LOST_MAX
from tests.fixtures.product import balances, create_organization, event_row, payment, receive

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from worker.drainer import Drainer

LOST = """
CREATE FUNCTION lose_node() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'connection to the remote node failed' USING ERRCODE = '{code}';
END $$;
CREATE TRIGGER node_lost BEFORE INSERT ON credit_transactions FOR EACH ROW
WHEN (new.organization_id = '{organization}') EXECUTE FUNCTION lose_node()
"""
FOUND = "DROP TRIGGER node_lost ON credit_transactions"
DUE = "UPDATE stripe_events SET available_at = now() WHERE state = 'received'"


# What Citus 14 reports: its own connection failed, or what the node said before it went away.
@pytest.mark.parametrize("code", ["08006", "08001", "57P01", "57P02", "57P03"])
async def test_the_events_of_a_node_that_is_away_wait_and_nothing_is_counted_against_any(
    pool: Pool, drainer: Drainer, organization: Organization, code: str
) -> None:
    away = await create_organization(pool, "globex")
    await pool.execute(LOST.format(code=code, organization=away.id))
    await receive(
        pool,
        *(payment(str(n)) for n in range(3)),
        *(payment(f"away_{n}", organization="globex") for n in range(2)),
    )
    for _ in range(LEASES_LOST_MAX + 1):
        await drainer.drain()
        await pool.execute(DUE)
    assert await balances(pool) == {"acme": 30, "globex": 0}
    for event_id in ("evt_away_0", "evt_away_1"):
        row = await event_row(pool, event_id)
        assert (row["state"], row["lane"], row["lease_token"]) == ("received", "alone", None)
        assert (row["attempts"], row["leases_lost"]) == (0, 0)
    await pool.execute(FOUND)
    await drainer.drain()
    assert await balances(pool) == {"acme": 30, "globex": 20}


async def test_an_event_that_waits_for_its_node_is_not_due_at_once(
    pool: Pool, drainer: Drainer, organization: Organization
) -> None:
    await pool.execute(LOST.format(code="08006", organization=organization.id))
    await receive(pool, payment("1"))
    await drainer.drain()
    row = await event_row(pool, "evt_1")
    assert row["available_at"] > await pool.fetchval("SELECT now()")
