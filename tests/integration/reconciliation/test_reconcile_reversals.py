"""Refunds and disputes of which no event arrived, also of payments from before the period."""

from __future__ import annotations

from decimal import Decimal

import pytest

from shared.reconciliation.model import FindingKind, Outcome, RunMode
from tests.fixtures.product import transactions
from tests.integration.reconciliation.conftest import FOR_US, Books


async def credited(books: Books) -> str:
    """Credit a payment by its event; lose everything that happens from now on."""
    payment = await books.shop.charge(**FOR_US)
    await books.shop.deliver_new()
    await books.lose("*", "never_generated", times=99)
    return payment


async def test_a_refund_without_an_event_is_taken_back_once(books: Books) -> None:
    payment = await credited(books)
    await books.shop.refund(payment, 500)
    (found,) = await books.findings(await books.run())
    assert (found.kind, found.outcome) == (FindingKind.REVERSED_NOT_RECORDED, Outcome.FOUND)
    assert found.credits == -5
    assert payment in found.detail
    assert await books.balance() == 20

    repaired = await books.run(RunMode.REPAIR)
    assert (repaired.repaired, repaired.drift) == (1, 0)
    assert await books.balance() == 15
    assert (await books.run()).findings == {}


async def test_several_refunds_of_a_payment_are_one_difference(books: Books) -> None:
    payment = await credited(books)
    await books.shop.refund(payment, 500)
    await books.shop.refund(payment, 700)
    (found,) = await books.findings(await books.run(RunMode.REPAIR))
    assert found.credits == -12
    assert (await books.run()).findings == {}


@pytest.mark.parametrize("outcome", ["won", "lost"])
async def test_a_dispute_without_an_event_is_recorded_and_so_is_its_end(
    books: Books, outcome: str
) -> None:
    payment = await credited(books)
    dispute = await books.shop.dispute(payment)
    assert await books.found() == {(FindingKind.REVERSED_NOT_RECORDED, dispute)}
    await books.run(RunMode.REPAIR)
    assert await books.balance() == 0
    assert (await books.run()).findings == {}

    await books.shop.sim(f"disputes/{dispute}/close", outcome=outcome)
    assert await books.found() == {(FindingKind.REVERSED_NOT_RECORDED, dispute)}
    await books.run(RunMode.REPAIR)
    assert await books.balance() == (20 if outcome == "won" else 0)
    assert (await books.run()).findings == {}


async def test_the_end_of_a_dispute_from_before_the_period_is_found(books: Books) -> None:
    payment = await credited(books)
    dispute = await books.shop.dispute(payment)
    await books.run(RunMode.REPAIR)
    await books.begin_a_new_period()
    await books.shop.sim(f"disputes/{dispute}/close", outcome="won")
    (found,) = await books.findings(await books.run(RunMode.REPAIR))
    assert (found.object_id, found.credits) == (dispute, Decimal(20))
    assert await books.balance() == 20


async def test_a_payment_that_was_refunded_before_it_was_credited_gets_what_is_left(
    books: Books,
) -> None:
    await books.lose("*", "never_generated", times=99)
    payment = await books.shop.charge(**FOR_US)
    await books.shop.refund(payment, 500)
    await books.run(RunMode.REPAIR)
    assert await books.balance() == 15
    assert [row["amount"] for row in await transactions(books.pool)] == [20, -5]
    assert (await books.run()).findings == {}


async def test_a_refund_of_another_product_is_no_difference(books: Books) -> None:
    await books.lose("*", "never_generated", times=99)
    payment = await books.shop.charge()
    await books.shop.refund(payment, 500)
    await books.shop.dispute(await books.shop.charge())
    assert (await books.run(RunMode.REPAIR)).findings == {}
