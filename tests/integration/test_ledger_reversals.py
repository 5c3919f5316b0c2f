"""Refunds and disputes: a level to reach, from the very lots that the payment paid for."""

from __future__ import annotations

import asyncio
import itertools
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from shared.ledger import service
from shared.ledger.model import PostingResult
from tests.fixtures.ledger import balances, grant, left, post, usage
from tests.fixtures.product import payment, receive, transactions

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from worker.drainer import Drainer


async def pay(pool: Pool, drainer: Drainer, name: str = "1") -> None:
    """Credit a payment of 10.00 the way Stripe's events do."""
    await receive(pool, payment(name))
    await drainer.drain()


async def reverse(
    pool: Pool, refunded: Any = 0, withdrawn: Any = 0, *, payment_intent: str = "pi_1"
) -> PostingResult | None:
    async with pool.acquire() as connection, connection.transaction():
        return await service.reverse_payment(
            connection,
            payment_intent,
            refunded=Decimal(refunded),
            withdrawn=Decimal(withdrawn),
            disputed=bool(withdrawn),
        )


async def test_a_refund_takes_from_the_lot_that_was_paid_for_and_no_other(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await post(pool, grant(organization, 5, priority=0))
    await pay(pool, drainer)
    result = await reverse(pool, "4.5")
    assert result is not None
    assert (result.amount, result.balance_after) == (Decimal("-4.5"), Decimal("10.5"))
    assert await left(pool, organization) == [5, Decimal("5.5")]


async def test_credits_that_are_spent_are_taken_from_other_lots_and_then_become_debt(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await pay(pool, drainer)
    await post(pool, usage(organization, 8), grant(organization, 3))
    await reverse(pool, 10)
    assert await left(pool, organization) == [0, 0]
    assert await balances(pool, organization) == (-5, 0)


async def test_refunds_and_disputes_together_take_no_more_than_was_granted(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await pay(pool, drainer)
    await reverse(pool, refunded=7)
    await reverse(pool, refunded=7, withdrawn=10)
    assert await balances(pool, organization) == (0, 0)
    await reverse(pool, refunded=7, withdrawn=0)
    assert await balances(pool, organization) == (3, 0), "the dispute was won"
    types = [row["type"] for row in await transactions(pool)]
    assert types == ["purchase", "refund", "dispute", "dispute_reversal"]


async def test_told_twice_is_done_once(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await pay(pool, drainer)
    assert await reverse(pool, 4) is not None
    assert await reverse(pool, 4) is None
    assert await balances(pool, organization) == (6, 0)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_the_order_in_which_levels_are_told_does_not_matter(
    pool: Pool, organization: Organization, drainer: Drainer, order: tuple[int, ...]
) -> None:
    await pay(pool, drainer)
    levels = [(2, 0), (5, 0), (5, 10)]
    for index in order:
        await reverse(pool, *levels[index])
    await reverse(pool, 5, 0)
    assert await balances(pool, organization) == (5, 0)


async def test_a_payment_that_was_never_credited_is_not_reversed(pool: Pool) -> None:
    assert await reverse(pool, 5, payment_intent="pi_unknown") is None


async def test_reversals_of_one_payment_at_once_reach_the_level_once(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await pay(pool, drainer)
    results = await asyncio.gather(*(reverse(pool, 6) for _ in range(8)))
    assert sum(result is not None for result in results) == 1
    assert await balances(pool, organization) == (4, 0)
