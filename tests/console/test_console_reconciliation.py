"""The pages of reconciliation."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from tests.fixtures.console import ConsoleBrowser
from tests.fixtures.reconciliation_runs import RUNS, finished_run

if TYPE_CHECKING:
    from shared.organizations.model import Organization

HOSTILE = "<script>alert(1)</script>&\"'"


async def test_a_run_shows_its_progress_and_its_findings(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    path = await finished_run(operator, organization)
    (row,) = (await operator.get(RUNS)).rows("Runs")
    assert (row[1].split()[0], row[2], row[4:7]) == ("finished", "report", ["7", "2", "0"])
    assert operator.page is not None
    assert [cells[1] for cells in operator.page.rows("Drift")] == ["2"]
    page = await operator.get(path)
    assert page.rows("Progress") == [["pi", "7", "finished"]]
    assert page.rows("Not compared") == [["pi", "pi", "pi"]]
    assert [cells[:3] for cells in page.rows("Findings")] == [
        ["charged not credited", "pi1", "found"],
        ["missing event", "pi2", "found"],
    ]
    assert len((await operator.get(f"{path}?kind=missing_event")).rows("Findings")) == 1


async def test_findings_have_pages(operator: ConsoleBrowser, organization: Organization) -> None:
    path = await finished_run(operator, organization, findings=60)
    page = await operator.get(path)
    assert len(page.rows("Findings")) == 50
    page = await operator.get(str(page.one('a[rel="next"]')["href"]))
    assert len(page.rows("Findings")) == 10
    for wrong in (f"{path}?kind=lost", f"{path}?cursor=1000000", f"{RUNS}?cursor=1000000"):
        assert (await operator.get(wrong)).status == 400
    assert (await operator.get(f"{RUNS}/{uuid4()}")).status == 404


async def test_a_run_is_requested_for_a_worker(operator: ConsoleBrowser) -> None:
    await operator.get(RUNS)
    assert operator.page is not None
    fields = operator.page.form(RUNS) | {"reason": "the endpoint was down"}
    page = await operator.post(RUNS, fields | {"mode": "repair", "since": "7d"})
    assert page.one(".flash").get_text() == "Requested: a worker begins within seconds."
    run = await operator.pool.fetchrow("SELECT * FROM reconciliation_runs")
    assert run is not None
    assert (run["mode"], run["state"], run["executor"]) == ("repair", "requested", "worker")
    entry = await operator.pool.fetchrow(
        "SELECT * FROM audit_log WHERE subject = $1", str(run["id"])
    )
    assert entry is not None
    assert (entry["actor"], entry["reason"]) == ("console:admin key 0", "the endpoint was down")
    for changed, status in (
        ({"since": "2999-01-01"}, 400),
        ({"since": ""}, 422),
        ({"mode": "all"}, 400),
        ({"reason": ""}, 422),
    ):
        assert (await operator.post(RUNS, fields | changed)).status == status
    assert await operator.pool.fetchval("SELECT count(*) FROM reconciliation_runs") == 1


async def test_html_in_a_run_is_shown_escaped(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    path = await finished_run(operator, organization, HOSTILE)
    for shown in (RUNS, path):
        page = await operator.get(shown)
        assert (page.status, page.soup.find_all("script")) == (200, [])
        assert HOSTILE in page.text


async def test_a_bound_key_has_no_page_of_reconciliation(
    stranger: ConsoleBrowser, organization: Organization
) -> None:
    path = await finished_run(stranger, organization)
    await stranger.sign_in("admin", organization)
    for shown in (RUNS, path):
        assert (await stranger.get(shown)).status == 404
