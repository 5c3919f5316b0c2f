"""Events on a cluster: a transaction is of one node, and one that is away delays its own events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from shared.events.nodes import NodeBatches
from shared.events.service import Applier
from tests.fixtures.citus_cluster import lose_node_a, organizations_of_two_nodes
from tests.fixtures.product import event_states, payment, receive
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool
    from shared.events.model import ProcessedEvent
    from shared.organizations.model import Organization


@dataclass
class Transactions:
    """Records the organizations of each transaction that applies events, and how it plans."""

    organizations: list[list[UUID]] = field(default_factory=list)
    plan_modes: set[str] = field(default_factory=set)

    async def record(self, connection: Connection, processed: Sequence[ProcessedEvent]) -> None:
        found = [one.outcome.organization_id for one in processed]
        self.organizations.append([each for each in found if each is not None])
        self.plan_modes.add(await connection.fetchval("SHOW plan_cache_mode"))


def payments_of(organizations: Sequence[Organization]) -> list[bytes]:
    """Return two events of each organization, by turns."""
    return [
        payment(f"{turn}{organization.slug}", organization=organization.slug)
        for turn in ("x", "y")
        for organization in organizations
    ]


def on_nodes(applier: Applier, pool: Pool, transactions: Transactions) -> Applier:
    return replace(applier, nodes=NodeBatches(pool), on_finish=transactions.record)


async def test_a_transaction_is_of_one_node(
    cluster: Pool, database_url: str, applier: Applier
) -> None:
    of_a, of_b = await organizations_of_two_nodes(cluster, database_url)
    mixed = [each for pair in zip(of_a, of_b, strict=False) for each in pair]
    await receive(cluster, *payments_of(mixed))
    transactions = Transactions()
    drainer = Drainer(cluster, on_nodes(applier, cluster, transactions), make_token=uuid4)
    assert await drainer.drain() == 2 * len(mixed)
    ids_of_a = {each.id for each in of_a}
    nodes = [{each in ids_of_a for each in applied} for applied in transactions.organizations]
    assert sorted(map(sorted, nodes)) == [[False], [True]]
    # Citus needs the arguments of a statement to plan it.
    assert transactions.plan_modes == {"auto"}


async def test_a_node_that_is_away_delays_the_events_of_its_organizations_alone(
    cluster: Pool, database_url: str, applier: Applier
) -> None:
    of_a, of_b = await organizations_of_two_nodes(cluster, database_url)
    await lose_node_a(database_url)
    await receive(cluster, *payments_of([*of_a, *of_b]))
    drainer = Drainer(cluster, on_nodes(applier, cluster, Transactions()), make_token=uuid4)
    await drainer.drain()
    slugs_of_a = {each.slug for each in of_a}
    assert {
        name: state
        for name, state in (await event_states(cluster)).items()
        if (state == "received") != (name[len("evt_x") :] in slugs_of_a)
    } == {}


async def test_on_one_postgresql_all_events_are_one_batch(
    pool: Pool, organization: Organization, applier: Applier
) -> None:
    await receive(pool, *payments_of([organization]))
    transactions = Transactions()
    drainer = Drainer(pool, on_nodes(applier, pool, transactions), make_token=uuid4)
    assert await drainer.drain() == 2
    assert transactions.organizations == [[organization.id] * 2]
    assert transactions.plan_modes == {"force_generic_plan"}
