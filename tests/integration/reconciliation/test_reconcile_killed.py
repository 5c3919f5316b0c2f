"""A reconciliation killed at a named step of a repair: what never arrived is credited once."""

from __future__ import annotations

from shared.reconciliation.model import RunMode
from tests.crash_points import steps
from tests.fixtures.crash_points import Killer
from tests.fixtures.product import transactions
from tests.integration.reconciliation.conftest import FOR_US, Books


async def test_a_repair_that_is_killed_credits_each_payment_once(
    killer: Killer, books: Books
) -> None:
    await books.lose("*", "never_generated", times=99 * killer.rounds)
    for number, step in killer.cases(steps.REPAIR):
        await books.shop.charge(**FOR_US)
        await killer.kill_command(step, "reconcile", "--since", "1h", "--repair", "--json")
        repaired = await books.run(RunMode.REPAIR)
        assert repaired.drift == 0, step.name
        assert len(await transactions(books.pool)) == number + 1, step.name
    assert (await books.run()).findings == {}
