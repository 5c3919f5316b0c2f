"""The page of an organization's budgets and alerts."""

from __future__ import annotations

from decimal import Decimal

from shared.budgets import service
from shared.organizations.model import Organization
from tests.fixtures.budgets import create_budget
from tests.fixtures.console import ConsoleBrowser
from tests.fixtures.ledger import grant, hold, post, usage

HOSTILE = "<script>alert(1)</script>&\"'<b>"


def path(organization: Organization) -> str:
    return f"/console/organizations/{organization.id}/budgets"


async def test_budgets_are_shown_with_what_is_used_held_and_left(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await create_budget(operator.pool, organization, 10, subject=HOSTILE)
    await create_budget(operator.pool, organization, 5, subject="*", window="total", action="tell")
    await post(
        operator.pool, grant(organization, 100), usage(organization, 5, user_id=HOSTILE),
        usage(organization, 1, user_id="mia"),
    )  # fmt: skip
    await hold(operator.pool, organization, 2, user_id=HOSTILE)
    page = await operator.get(path(organization))
    each, named = page.rows("Budgets")
    assert each[0].startswith("each user ")
    assert each[1:4] == ["total", "5", "tell reached"]
    assert each[0].replace(" ,", ",").endswith(f" most: {HOSTILE} 5, mia 1")
    assert named[0].startswith(f"user {HOSTILE} ")
    assert named[1:7] == ["month", "10", "refuse", "5", "2", "3"]


async def test_thresholds_of_the_balance_are_shown(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    page = await operator.get(path(organization))
    assert "No threshold of the balance is announced." in page.soup.get_text()
    async with operator.pool.acquire() as connection, connection.transaction():
        thresholds = [Decimal(10), Decimal("2.5")]
        await service.set_alerts(connection, organization.id, thresholds, actor="tests")
    page = await operator.get(path(organization))
    assert "A balance below 2.5, 10, and its recovery" in page.soup.get_text()
