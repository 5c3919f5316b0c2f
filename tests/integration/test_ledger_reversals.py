"""Refunds and disputes: a level to reach, from the very grants that the payment paid for."""

from __future__ import annotations

import asyncio
import itertools
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from shared.ledger import service
from shared.ledger.verification import verify
from tests.fixtures.ledger import balances, grant, hold, left, post, usage
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
) -> Any:
    async with pool.acquire() as connection, connection.transaction():
        return await service.reverse_payment(
            connection,
            payment_intent,
            refunded=Decimal(refunded),
            withdrawn=Decimal(withdrawn),
            disputed=bool(withdrawn),
        )


async def test_a_refund_takes_from_the_grant_that_was_paid_for_and_no_other(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await post(pool, grant(organization, 5, priority=0))
    await pay(pool, drainer)
    result = await reverse(pool, "4.5")
    assert result is not None
    assert (result.amount, result.balance_after) == (Decimal("-4.5"), Decimal("10.5"))
    assert await left(pool, organization) == [5, Decimal("5.5")]


async def test_credits_that_are_spent_are_taken_from_other_grants_and_then_become_debt(
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


async def test_a_payment_that_an_older_release_bound_and_never_credited_is_not_reversed(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 20))
    await pool.execute(
        "INSERT INTO stripe_payments (payment_intent_id, organization_id, amount_minor, currency,"
        " credits) VALUES ('pi_1', $1, 1000, 'usd', 10)",
        organization.id,
    )
    assert await reverse(pool, 10) is None
    assert await balances(pool, organization) == (20, 0)


async def test_reversals_of_one_payment_at_once_reach_the_level_once(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await pay(pool, drainer)
    results = await asyncio.gather(*(reverse(pool, 6) for _ in range(8)))
    assert sum(result is not None for result in results) == 1
    assert await balances(pool, organization) == (4, 0)


# What the refunds and the disputes of a payment have come to: at some moments, and in the end.
LATE = [(2, 0), (5, 0), (5, 10)]
FINAL = (5, 4)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_whatever_was_told_before_the_last_level_is_the_one_that_counts(
    pool: Pool, organization: Organization, drainer: Drainer, order: tuple[int, ...]
) -> None:
    await pay(pool, drainer)
    await post(pool, grant(organization, 3), usage(organization, 6))
    for index in order:
        await reverse(pool, *LATE[index])
        await reverse(pool, *LATE[index])
    await reverse(pool, *FINAL)
    assert await balances(pool, organization) == (-2, 0)
    bound = await pool.fetchrow("SELECT reversed, reversals FROM stripe_payments")
    assert bound is not None
    moved = [
        row["amount"]
        for row in await transactions(pool)
        if row["type"] in ("refund", "dispute", "dispute_reversal")
    ]
    assert (sum(moved), len(moved)) == (-9, bound["reversals"])
    assert bound["reversed"] == 9


async def test_a_dispute_that_is_won_gives_back_once(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await pay(pool, drainer)
    lost = await reverse(pool, withdrawn=10)
    won = await reverse(pool, withdrawn=0)
    assert lost is not None
    assert won is not None
    assert (lost.amount, won.amount) == (Decimal(-10), Decimal(10))
    assert await reverse(pool, withdrawn=0) is None
    keys = [row["idempotency_key"] for row in await transactions(pool)]
    assert keys[1:] == ["stripe:pi_1:reversal:1", "stripe:pi_1:reversal:2"]
    assert await left(pool, organization) == [0, 10]
    assert await balances(pool, organization) == (10, 0)


async def test_a_refund_takes_from_the_purchase_before_what_was_given_back_of_it(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await pay(pool, drainer)
    await reverse(pool, withdrawn=4)
    await reverse(pool, withdrawn=1)
    assert await left(pool, organization) == [6, 3]
    await reverse(pool, refunded=3, withdrawn=1)
    assert await left(pool, organization) == [3, 3]
    await reverse(pool, refunded=8, withdrawn=1)
    assert await left(pool, organization) == [0, 1]


async def test_what_was_given_back_pays_the_debt_that_the_dispute_made(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await pay(pool, drainer)
    await post(pool, usage(organization, 8))
    await reverse(pool, withdrawn=10)
    assert await balances(pool, organization) == (-8, 0)
    await reverse(pool, withdrawn=0)
    assert await balances(pool, organization) == (2, 0)
    assert await left(pool, organization) == [0, 2]


async def test_a_refund_takes_credits_that_are_on_hold_too(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await pay(pool, drainer)
    await hold(pool, organization, 8)
    result = await reverse(pool, 10)
    assert result is not None
    assert result.status == "posted"
    assert await balances(pool, organization) == (0, 8)


async def test_a_refund_leaves_the_payments_of_others_alone(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await pay(pool, drainer, "1")
    await pay(pool, drainer, "2")
    await reverse(pool, 7, payment_intent="pi_2")
    assert await left(pool, organization) == [10, 3]
    await reverse(pool, 10, payment_intent="pi_2")
    assert await left(pool, organization) == [10, 0]


@pytest.mark.parametrize("levels", [(1000, 0), (0, 1000), (6, 6)])
async def test_no_more_is_taken_back_than_was_granted(
    pool: Pool, organization: Organization, drainer: Drainer, levels: tuple[int, int]
) -> None:
    await pay(pool, drainer)
    await reverse(pool, *levels)
    assert await balances(pool, organization) == (0, 0)
    await reverse(pool, refunded=-5)
    assert await balances(pool, organization) == (10, 0), "no level is below nothing"


async def test_a_refusal_is_not_recorded_as_a_reversal(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await pay(pool, drainer)
    await pool.execute("UPDATE accounts SET closed_at = now()")
    refused = await reverse(pool, 4)
    assert refused is not None
    assert refused.status == "closed"
    await pool.execute("UPDATE accounts SET closed_at = NULL")
    again = await reverse(pool, 4)
    assert again is not None
    assert again.status == "posted"
    assert await balances(pool, organization) == (6, 0)


async def test_different_levels_at_once_end_at_the_one_that_came_last(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await pay(pool, drainer)
    await post(pool, usage(organization, 5))
    await asyncio.gather(*(reverse(pool, refunded=n % 11, withdrawn=n % 3) for n in range(24)))
    taken = await pool.fetchval("SELECT reversed FROM stripe_payments")
    assert await balances(pool, organization) == (5 - taken, 0)
    async with pool.acquire() as connection:
        assert (await verify(connection))["problems"] == []


async def test_what_is_rolled_back_was_never_taken_back(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await pay(pool, drainer)
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await service.reverse_payment(
            connection, "pi_1", refunded=Decimal(4), withdrawn=Decimal(0), disputed=False
        )
        await transaction.rollback()
    assert await balances(pool, organization) == (10, 0)
    assert await reverse(pool, 4) is not None
    assert await balances(pool, organization) == (6, 0)
