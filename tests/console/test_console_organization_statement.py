"""The statement of an organization in the console."""

from __future__ import annotations

from datetime import UTC, datetime

from shared.months import Month
from shared.organizations.model import Organization
from tests.fixtures.console import ConsoleBrowser
from tests.fixtures.ledger import grant, post, usage


def path(organization: Organization) -> str:
    return f"/console/organizations/{organization.id}/statement"


async def test_the_statement_of_this_month_or_of_another_is_shown(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await post(operator.pool, grant(organization, 100), usage(organization, "1.5", category="<b>"))
    month = Month.of(datetime.now(UTC))
    page = await operator.get(path(organization))
    lines = {row[0]: row[1] for row in page.rows(f"Statement of {month}")}
    assert (lines["opening"], lines["granted"], lines["used"]) == ("0", "100", "-1.5")
    assert lines["closing"] == "98.5"
    assert page.rows("Used by category") == [["<b>", "-1.5", "1"]]
    assert "until now" in page.soup.get_text()
    past = await operator.get(f"{path(organization)}?month=2026-01")
    assert past.rows("Statement of 2026-01")[-1] == ["closing", "0"]
    assert "Nothing was used." in past.html


async def test_what_is_no_month_or_has_not_begun_is_refused(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    for wrong in ("2026-13", "x", "8999-01"):
        page = await operator.get(f"{path(organization)}?month={wrong}")
        assert page.status == 400, wrong
