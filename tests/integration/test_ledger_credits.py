"""Credits in one batch: each table is written once, and row by row as in the general case."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from shared.ids import new_id
from shared.ledger.model import PostingStatus as Status
from shared.ledger.model import TransactionType as Kind
from shared.ledger.verification import verify
from tests.fixtures.ledger import grant, hold, keyed_posting, make_due, post, posting, usage
from tests.fixtures.product import create_organization

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.db.pool import Connection, Pool
    from shared.ledger.model import Posting
    from shared.organizations.model import Organization

SOON = datetime.now(UTC) + timedelta(days=1)
PAST = datetime.now(UTC) - timedelta(days=1)
COUNT_INSERTS = """
CREATE TABLE inserts (table_name text);
CREATE FUNCTION count_insert() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
$$ BEGIN INSERT INTO inserts VALUES (TG_TABLE_NAME); RETURN NULL; END $$;
CREATE TRIGGER counts AFTER INSERT ON credit_grants
FOR EACH STATEMENT EXECUTE FUNCTION count_insert();
CREATE TRIGGER counts AFTER INSERT ON credit_transactions
FOR EACH STATEMENT EXECUTE FUNCTION count_insert();
"""
ACCOUNT = """
SELECT
    balance, held, consumed, burning_grant_id IS NULL AS burns, expired, last_seq,
    next_due_at > now() AS due_later, recharge_waits, alert_below, alert_above,
    closed_at IS NULL AS is_open
FROM accounts WHERE organization_id = $1
"""
ROWS = """
SELECT
    seq, type, amount, counterparty, balance_after, consumed_after, description,
    idempotency_key = any('{before,one,two,three,four,five,six,seven}') AS named,
    grant_id = id AS opens, payment_intent_id, metadata
FROM credit_transactions WHERE organization_id = $1 ORDER BY seq
"""
GRANTS = """
SELECT
    g.seq, g.original, g.remaining, g.priority, g.promotional, g.payment_intent_id,
    g.expires_at > now() AS lives, g.expires_at > a.expired_through AS expires_later,
    g.ended_by, t.seq AS of, g.id = t.id AS named, g.created_at = t.created_at AS at_once
FROM credit_grants AS g
JOIN credit_transactions AS t
    ON t.organization_id = g.organization_id AND t.id = g.transaction_id
JOIN accounts AS a ON a.organization_id = g.organization_id
WHERE g.organization_id = $1 ORDER BY g.seq
"""
SEGMENTS = """
SELECT s.lower, s.upper, g.seq
FROM burn_segments AS s
LEFT JOIN credit_grants AS g ON g.organization_id = s.organization_id AND g.id = s.grant_id
WHERE s.organization_id = $1 ORDER BY s.lower
"""


async def new(pool: Pool, owner: Organization) -> None:
    """Leave it as it was made."""


async def used(pool: Pool, owner: Organization) -> None:
    await post(pool, grant(owner, 10), usage(owner, 4))
    await hold(pool, owner, 2)


async def in_debt(pool: Pool, owner: Organization) -> None:
    await post(pool, grant(owner, 5), usage(owner, 12, may_overdraw=True))


async def in_small_debt(pool: Pool, owner: Organization) -> None:
    await post(pool, usage(owner, 1, may_overdraw=True))


async def due(pool: Pool, owner: Organization) -> None:
    first, _ = await post(pool, grant(owner, 7, expires_at=SOON), grant(owner, 1))
    await make_due(pool, "credit_grants", first.id)


async def due_hold(pool: Pool, owner: Organization) -> None:
    await post(pool, grant(owner, 7))
    await make_due(pool, "holds", (await hold(pool, owner, 2)).id)


async def alerted(pool: Pool, owner: Organization) -> None:
    await pool.execute(
        "UPDATE accounts SET alert_thresholds = '{1, 4, 20}' WHERE organization_id = $1", owner.id
    )
    await post(pool, grant(owner, 30), usage(owner, 28))


async def waiting(pool: Pool, owner: Organization) -> None:
    await post(pool, grant(owner, 3))
    await pool.execute(
        "UPDATE accounts SET recharge_waits = TRUE, recharge_below = 50, overdraft_limit = 5"
        " WHERE organization_id = $1",
        owner.id,
    )


async def closed(pool: Pool, owner: Organization) -> None:
    await post(pool, grant(owner, 3))
    await pool.execute("UPDATE accounts SET closed_at = now() WHERE organization_id = $1", owner.id)


def credits_of(owner: Organization) -> list[Posting]:
    """Return credits of every type, with one that repeats a key, and one that conflicts."""
    purchase = posting(
        owner, Kind.PURCHASE, "12.5", key="one", payment_intent_id="pi_1", description="A pack"
    )
    return [
        keyed_posting(owner, "before", 2),
        purchase,
        posting(owner, Kind.RECHARGE, 3, key="two", payment_intent_id="pi_2", expires_at=SOON),
        posting(owner, Kind.GRANT, "0.000000001", key="three", priority=1, promotional=True),
        purchase,
        posting(owner, Kind.BONUS, 4, key="four", expires_at=PAST, metadata={"why": "thanks"}),
        posting(owner, Kind.ADJUSTMENT, 5, key="five"),
        posting(owner, Kind.DISPUTE_REVERSAL, 6, key="six", payment_intent_id="pi_1"),
        posting(owner, Kind.PURCHASE, 9, key="two"),
        keyed_posting(owner, "before", 3),
        posting(owner, Kind.GRANT, 5, key="seven", promotional=False, priority=100),
    ]


def outcome(results: list[Any]) -> list[tuple[Any, ...]]:
    fields = ("status", "seq", "amount", "balance_after")
    return [tuple(getattr(result, name, None) for name in fields) for result in results]


async def state(pool: Pool, owner: Organization) -> dict[str, list[dict[str, Any]]]:
    statements = {"account": ACCOUNT, "rows": ROWS, "grants": GRANTS, "segments": SEGMENTS}
    return {
        name: [dict(row) for row in await pool.fetch(statement, owner.id)]
        for name, statement in statements.items()
    }


async def verify_all(connection: Connection, owner: Organization) -> None:
    assert (await verify(connection, owner.id))["problems"] == []


async def test_a_batch_of_credits_writes_each_table_once(
    pool: Pool, organization: Organization
) -> None:
    await pool.execute(COUNT_INSERTS)
    await post(pool, *(grant(organization, 1) for _ in range(20)))
    inserts = await pool.fetch("SELECT table_name FROM inserts ORDER BY 1")
    assert [row["table_name"] for row in inserts] == ["credit_grants", "credit_transactions"]


@pytest.mark.parametrize(
    "prepare", [new, used, in_debt, in_small_debt, due, due_hold, alerted, waiting, closed]
)
@pytest.mark.parametrize("known", [False, True])
async def test_credits_alone_are_posted_as_among_others(
    pool: Pool,
    connection: Connection,
    prepare: Callable[[Pool, Organization], Awaitable[None]],
    known: bool,
) -> None:
    """A void that is refused changes nothing, and leads the batch through the general case."""
    states, outcomes = [], []
    for alone in (True, False):
        owner = await create_organization(pool, f"alone-{alone}".lower())
        if known:
            await post(pool, keyed_posting(owner, "before", 2))
        await prepare(pool, owner)
        postings = [msgspec.structs.replace(each, id=new_id()) for each in credits_of(owner)]
        void = posting(owner, Kind.VOID, None, grant_id=new_id())
        results = await post(pool, *postings, *([] if alone else [void]))
        outcomes.append(outcome(results[: len(postings)]))
        states.append(await state(pool, owner))
        if prepare not in (waiting, closed):  # their settings are in no audit log
            await verify_all(connection, owner)
    assert outcomes[0] == outcomes[1]
    assert states[0] == states[1]


async def test_a_batch_of_replays_changes_nothing(pool: Pool, organization: Organization) -> None:
    postings = [grant(organization, n, expires_at=SOON) for n in range(1, 7)]
    first = await post(pool, *postings)
    before = await state(pool, organization)
    again = await post(pool, *reversed(postings))
    assert {result.status for result in again} == {Status.REPLAYED}
    assert [result.id for result in again] == [result.id for result in reversed(first)]
    assert await state(pool, organization) == before
