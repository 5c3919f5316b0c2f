"""Totals of usage by dimension: written with the posting, on every path, within their limit."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from shared.ledger.model import TransactionType
from tests.fixtures.ledger import grant, hold, post, posting, usage
from tests.fixtures.product import create_organization

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

LIMIT = "CREATE OR REPLACE FUNCTION ledger_subjects_max() RETURNS integer LANGUAGE sql IMMUTABLE"


async def turn_on(pool: Pool, owner: Organization, *dimensions: str) -> None:
    await pool.execute(
        "UPDATE accounts SET usage_dimensions = $2 WHERE organization_id = $1",
        owner.id,
        list(dimensions),
    )


async def totals(pool: Pool, owner: Organization) -> list[tuple[Any, ...]]:
    rows = await pool.fetch(
        "SELECT subject, sum(cost) AS cost, sum(transactions)::int AS transactions"
        " FROM usage_breakdowns WHERE organization_id = $1 GROUP BY 1 ORDER BY 2 DESC",
        owner.id,
    )
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("plain", [True, False])
async def test_both_ways_of_posting_add_to_the_same_totals(
    pool: Pool, organization: Organization, plain: bool
) -> None:
    await turn_on(pool, organization, "user", "model")
    await post(pool, grant(organization, 100))
    await post(pool, usage(organization, 1, user_id="ann", metadata={"model": "m"}))  # it burns now
    debits = [
        usage(organization, 2, user_id="ann", metadata={"model": "m"}),
        usage(organization, 4, user_id="ann", metadata={"prepaid:pricing": {"meter": "gpu"}}),
        usage(organization, "0.5"),
    ]
    others = [] if plain else [grant(organization, 1)]
    await post(pool, *debits, *others)
    assert await totals(pool, organization) == [
        ({"user": "ann", "model": "gpu"}, Decimal(4), 1),
        ({"user": "ann", "model": "m"}, Decimal(3), 2),
        ({"user": None, "model": None}, Decimal("0.5"), 1),
    ]


async def test_captures_count_and_other_debits_do_not(
    pool: Pool, organization: Organization
) -> None:
    await turn_on(pool, organization, "category", "tag")
    await post(pool, grant(organization, 10))
    made = await hold(pool, organization, 3)
    capture = posting(
        organization, TransactionType.HOLD_CAPTURE, -3, hold_id=made.id, category="images",
        metadata={"prepaid:tags": ["b", "a"]},
    )  # fmt: skip
    await post(pool, capture, posting(organization, TransactionType.ADJUSTMENT, -1, category="x"))
    assert await totals(pool, organization) == [
        ({"tag": ["a", "b"], "category": "images"}, Decimal(3), 1)
    ]


async def test_subjects_beyond_the_limit_of_an_hour_are_one(
    pool: Pool, organization: Organization
) -> None:
    await pool.execute(f"{LIMIT} AS $$ SELECT 2 $$")
    await turn_on(pool, organization, "user")
    await post(pool, grant(organization, 100))
    for name in ("a", "b", "c", "d", "a"):
        await post(pool, usage(organization, 1, user_id=name))
    await post(pool, *(usage(organization, 1, user_id=name) for name in ("b", "c", "e")))
    assert {str(s): c for s, c, _ in await totals(pool, organization)} == {
        "{'rest': True}": Decimal(4),
        "{'user': 'a'}": Decimal(2),
        "{'user': 'b'}": Decimal(2),
    }


async def test_an_organization_that_turned_nothing_on_has_no_totals(
    pool: Pool, organization: Organization
) -> None:
    other = await create_organization(pool, "other")
    await turn_on(pool, other, "user")
    await post(pool, grant(organization, 10), grant(other, 10))
    await post(pool, usage(organization, 1), usage(other, 1))
    await post(pool, usage(organization, 1, user_id="x"), usage(other, 2, user_id="y"))
    assert await totals(pool, organization) == []
    assert [total[1] for total in await totals(pool, other)] == [Decimal(2), Decimal(1)]


async def test_a_replay_adds_nothing(pool: Pool, organization: Organization) -> None:
    await turn_on(pool, organization, "user")
    debit = usage(organization, 1, user_id="x")
    await post(pool, grant(organization, 10))
    for _ in range(3):
        await post(pool, debit)
    assert [total[1:] for total in await totals(pool, organization)] == [(Decimal(1), 1)]
