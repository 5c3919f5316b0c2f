"""The functions that a cluster has in place of others, on one PostgreSQL that plays both parts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.db.pool import connect
from shared.ledger import service as ledger
from shared.ledger.batches import Ledger
from shared.ledger.holds import service as holds
from shared.ledger.holds.model import PostedHold
from shared.ledger.model import (
    Deferral,
    InsufficientCredits,
    PostedTransaction,
    Posting,
    PostingStatus,
    TransactionType,
)
from shared.ledger.shards import Shard, node_of, uuid_hash
from shared.ledger.verification import verify
from tests.fixtures.citus_cluster import organizations_of_two_nodes
from tests.fixtures.ledger import (
    balances,
    grant,
    hold,
    post,
    posting,
    release,
    statuses,
    try_hold,
    usage,
)
from tests.fixtures.product import create_organization

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization


KEYED = "idempotency-key:a"


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


async def test_holds_change_through_the_node_as_on_one_postgresql(
    cluster: Pool, organization: Organization
) -> None:
    await post(cluster, grant(organization, 10))
    metadata = {"model": "m1", "places": [1, "é"]}
    held = await hold(
        cluster, organization, Decimal("4.5"), key="a", description="d", metadata=metadata
    )
    assert (held.amount, held.metadata, held.description) == (Decimal("4.5"), metadata, "d")
    assert await balances(cluster, organization) == (10, Decimal("4.5"))
    assert isinstance(await try_hold(cluster, organization, 6), InsufficientCredits)
    again = await hold(
        cluster, organization, Decimal("4.5"), key="a", description="d", metadata=metadata
    )
    assert again == held
    async with cluster.acquire() as connection, connection.transaction():
        extended = await holds.extend(connection, organization.id, held.id, seconds=7200)
    assert isinstance(extended, PostedHold)
    assert extended.hold.expires_at > held.expires_at
    assert await release(cluster, organization, held.id) == "posted"
    assert await release(cluster, organization, held.id) == "replayed"
    assert await release(cluster, organization, UUID(int=5)) == "unknown_hold"
    await hold(cluster, organization, 1)
    await hold(cluster, organization, 2)
    assert await cluster.fetchval("SELECT ledger_release_all($1)", organization.id) == 2
    assert await balances(cluster, organization) == (10, 0)


async def test_what_a_hold_expires_on_a_node_is_announced_by_the_coordinator(
    cluster: Pool, organization: Organization
) -> None:
    await cluster.execute(
        "INSERT INTO webhook_endpoints (id, url, secret, types)"
        " VALUES ($1, 'https://app.example/hook', 'whsec_' || repeat('A', 32), '{}')",
        UUID(int=1),
    )
    await post(cluster, grant(organization, 10))
    await cluster.execute("UPDATE credit_grants SET expires_at = now() - interval '1 second'")
    await cluster.execute("UPDATE accounts SET next_due_at = now() - interval '1 second'")
    async with cluster.acquire() as connection, connection.transaction():
        await holds.release(connection, organization.id, UUID(int=5))
        rows = await connection.fetch("SELECT type FROM outbound_messages")
        assert [row["type"] for row in rows] == ["credits.depleted"]
        setting = await connection.fetchval("SELECT current_setting('prepaid.on_a_node', TRUE)")
    assert not setting


class RecordedLedger(Ledger):
    """Records the organizations of each batch."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.batches: list[set[UUID]] = []

    async def _flush_shared(self, postings: Sequence[Posting]) -> list[Any]:
        self.batches.append({posting.organization_id for posting in postings})
        return await super()._flush_shared(postings)


async def test_a_shared_batch_is_of_one_node(cluster: Pool, database_url: str) -> None:
    one, other = await organizations_of_two_nodes(cluster, database_url)
    await post(cluster, *(grant(each, 10) for each in (*one, *other)))
    batches = RecordedLedger(cluster)
    await batches.post(usage(one[0], 1))
    await batches.close()  # the shards are read
    results = await asyncio.gather(*(batches.post(usage(each, 1)) for each in (*one, *other)))
    await batches.close()
    assert {result.status for result in results} == {PostingStatus.POSTED}
    on_one = {each.id for each in one}
    assert [batch for batch in batches.batches if batch & on_one and batch - on_one] == []


async def test_what_looks_on_all_nodes_is_planned_with_its_arguments(cluster: Pool) -> None:
    of_payment_attempts = "SELECT proconfig FROM pg_proc WHERE proname = 'payment_attempts'"
    async with cluster.acquire() as connection:
        settings = await connection.fetchval(of_payment_attempts)
    assert settings == ["enable_seqscan=off"]
