"""An open purchase ends by itself, and is paid all the same when its money comes later."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from shared.ids import new_id
from shared.organizations.model import Organization
from shared.payments import store
from shared.payments.model import PurchasePrice
from tests.fixtures.product import payment, receive
from worker import purchase_expirer
from worker.purchase_expirer import PurchaseExpirer

if TYPE_CHECKING:
    import pytest

    from shared.db.pool import Pool
    from worker.drainer import Drainer


async def have_purchases(pool: Pool, owner: Organization, *, due: int, later: int = 0) -> None:
    for number in range(due + later):
        await pool.execute(
            "INSERT INTO purchases (id, organization_id, amount_minor, currency, closes_at)"
            " VALUES ($1, $2, 1000, 'usd', now() + $3 * interval '1 hour')",
            new_id(), owner.id, -1 if number < due else 1,
        )  # fmt: skip


async def states(pool: Pool) -> dict[str, int]:
    rows = await pool.fetch("SELECT state, count(*) AS count FROM purchases GROUP BY 1")
    return {row["state"]: row["count"] for row in rows}


async def test_what_nobody_paid_expires_after_its_time(
    pool: Pool, organization: Organization
) -> None:
    await have_purchases(pool, organization, due=2, later=1)
    assert await PurchaseExpirer(pool).expire() == 2
    assert await states(pool) == {"expired": 2, "open": 1}
    assert await PurchaseExpirer(pool).expire() == 0
    assert await pool.fetchval(
        "SELECT bool_and(settled_at IS NOT NULL) FROM purchases WHERE state = 'expired'"
    )


async def test_a_round_closes_so_many_at_a_time_until_none_is_due(
    pool: Pool, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purchase_expirer, "BATCH_ROWS_MAX", 2)
    await have_purchases(pool, organization, due=5)
    assert await PurchaseExpirer(pool).expire() == 5
    assert await states(pool) == {"expired": 5}


async def test_a_purchase_is_open_for_25_hours(pool: Pool, organization: Organization) -> None:
    async with pool.acquire() as connection:
        await store.open_purchase(
            connection,
            new_id(),
            organization.id,
            PurchasePrice(1000, "usd", Decimal(10), Decimal(1)),
        )
    assert await pool.fetchval(
        "SELECT closes_at - created_at BETWEEN interval '25 hours' AND interval '25 hours 1 second'"
        " FROM purchases"
    )


async def test_the_due_are_found_by_an_index(pool: Pool, organization: Organization) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")
        plan = await connection.fetch(
            "EXPLAIN " + store.QUERIES.expire_purchases.replace("$1", "200")
        )
    assert any("purchases_closing" in row[0] for row in plan)


async def test_money_that_comes_after_the_time_makes_it_paid(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await have_purchases(pool, organization, due=1)
    assert await PurchaseExpirer(pool).expire() == 1
    purchase_id = await pool.fetchval("SELECT id FROM purchases")
    named = {"organization_id": organization.slug, "purchase_id": str(purchase_id)}
    await receive(pool, payment("1", metadata=named))
    assert await drainer.drain() == 1
    assert await states(pool) == {"paid": 1}
    assert await pool.fetchval("SELECT balance FROM accounts") == 10
