"""The functions that a cluster has in place of others, on one PostgreSQL that plays both parts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from migrations.runner import CITUS_FUNCTIONS
from shared.db.pool import connect
from shared.ledger import service as ledger
from shared.ledger.model import Deferral, PostedTransaction, TransactionType
from shared.ledger.shards import Shard, node_of, uuid_hash
from shared.ledger.verification import verify
from tests.fixtures.ledger import balances, grant, hold, post, posting, statuses, usage
from tests.fixtures.product import create_organization

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization


KEYED = "idempotency-key:a"


@pytest.fixture
async def cluster(pool: Pool, database_url: str) -> Pool:
    """Return a pool of a database with the functions of a cluster."""
    connection = await connect(database_url, application_name="test")
    await connection.execute(CITUS_FUNCTIONS.read_text(encoding="utf-8"))
    await connection.close()
    return pool


async def test_a_cluster_posts_as_one_postgresql_does(cluster: Pool) -> None:
    one = await create_organization(cluster, slug="one")
    two = await create_organization(cluster, slug="two")
    assert await statuses(
        cluster,
        grant(one, 10),
        usage(two, 1),
        usage(one, 4),
        usage(one, 7),
        grant(two, 5),
        usage(two, 2),
    ) == ["posted", "insufficient", "posted", "insufficient", "posted", "posted"]
    again = usage(one, 1, key="again")
    assert await statuses(cluster, again) == ["posted"]
    assert await statuses(cluster, again) == ["replayed"]
    async with cluster.acquire() as connection:
        assert (await verify(connection))["ok"]
    assert await balances(cluster, one) == (5, 0)


async def test_what_a_posting_on_a_node_announces_is_announced_by_the_coordinator(
    cluster: Pool, organization: Organization
) -> None:
    await cluster.execute(
        "INSERT INTO webhook_endpoints (id, url, secret, types)"
        " VALUES ($1, 'https://app.example/hook', 'whsec_' || repeat('A', 32), '{}')",
        UUID(int=1),
    )
    await post(cluster, grant(organization, 10))
    await post(cluster, usage(organization, 10))
    rows = await cluster.fetch("SELECT type FROM outbound_messages")
    assert [row["type"] for row in rows] == ["credits.depleted"]
    async with cluster.acquire() as connection, connection.transaction():
        await ledger.post(connection, [usage(organization, 1)])
        setting = await connection.fetchval("SELECT current_setting('prepaid.on_a_node', TRUE)")
    assert not setting


async def test_an_attempt_that_a_node_arms_wakes_a_worker(
    cluster: Pool, organization: Organization, database_url: str
) -> None:
    await cluster.execute(
        "INSERT INTO auto_recharges"
        " (organization_id, state, threshold, amount, consented_at, consented_by)"
        " VALUES ($1, 'active', 5, 20, now(), 'a person')",
        organization.id,
    )
    await cluster.execute("UPDATE accounts SET recharge_below = 5")
    woken = asyncio.Event()
    listener = await connect(database_url, application_name="test")
    await listener.add_listener("prepaid_recharge", lambda *_: woken.set())
    await post(cluster, grant(organization, 10), usage(organization, 8))
    async with asyncio.timeout(10):
        await woken.wait()
    await listener.close()
    assert await cluster.fetchval("SELECT state FROM recharge_attempts") == "armed"


async def test_an_account_that_is_locked_is_busy_and_the_others_are_posted(
    cluster: Pool, organization: Organization
) -> None:
    other = await create_organization(cluster, slug="other")
    await post(cluster, grant(organization, 10), grant(other, 10))
    async with cluster.acquire() as holder, holder.transaction():
        await holder.execute(
            "SELECT FROM accounts WHERE organization_id = $1 FOR UPDATE", organization.id
        )
        async with cluster.acquire() as connection:
            outcomes = await ledger.post_shared(
                connection,
                [usage(organization, 1), usage(other, 1), usage(organization, 2, key=KEYED)],
                lock_milliseconds_max=0,
                grants_max=20,
            )
    assert outcomes[0] is Deferral.BUSY
    assert isinstance(outcomes[1], PostedTransaction)
    assert outcomes[2] is Deferral.BUSY


async def test_a_posting_that_would_read_many_grants_is_heavy(
    cluster: Pool, organization: Organization
) -> None:
    await post(cluster, *(grant(organization, 1) for _ in range(25)))
    async with cluster.acquire() as connection:
        outcomes = await ledger.post_shared(
            connection, [usage(organization, 22)], lock_milliseconds_max=0, grants_max=20
        )
    assert outcomes == [Deferral.HEAVY]
    assert await statuses(cluster, usage(organization, 22)) == ["posted"]


async def test_a_key_that_another_request_has_is_a_conflict(
    cluster: Pool, organization: Organization
) -> None:
    await post(cluster, grant(organization, 10))
    await cluster.execute(
        "INSERT INTO idempotent_requests (tenant_id, key, digest, id, locked_until, token)"
        " VALUES ($1, 'a', '\\x00', $2, now() + interval '1 minute', $2)",
        organization.id,
        UUID(int=7),
    )
    found = await statuses(
        cluster, usage(organization, 1), usage(organization, 2, key=KEYED), usage(organization, 3)
    )
    assert found == ["posted", "conflict", "posted"]


async def test_expirations_are_posted_through_the_node(
    cluster: Pool, organization: Organization
) -> None:
    await post(cluster, posting(organization, TransactionType.GRANT, 10))
    await hold(cluster, organization, 1)
    await cluster.execute("UPDATE credit_grants SET expires_at = now() - interval '1 second'")
    await cluster.execute("UPDATE accounts SET next_due_at = now() - interval '1 second'")
    async with cluster.acquire() as connection, connection.transaction():
        assert await ledger.post_expirations(connection) == 1
    types = await cluster.fetch("SELECT type FROM credit_transactions ORDER BY seq")
    assert [row["type"] for row in types] == ["grant", "expiration"]


async def test_the_shard_of_an_organization_is_computed_as_postgresql_hashes_it(
    pool: Pool,
) -> None:
    ids = [UUID(int=0), UUID(int=2**128 - 1), *(UUID(int=7**n) for n in range(40))]
    rows = await pool.fetch("SELECT uuid_hash(i) AS hash FROM unnest($1::uuid[]) AS i", ids)
    assert [uuid_hash(one) for one in ids] == [row["hash"] for row in rows]
    shards = [Shard(-(2**31), -1, "a:5432"), Shard(0, 2**31 - 1, "b:5432")]
    for one, row in zip(ids, rows, strict=True):
        assert node_of(shards, one) == ("b:5432" if row["hash"] >= 0 else "a:5432")
    assert node_of([], UUID(int=1)) is None
