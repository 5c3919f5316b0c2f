"""The pages of reconciliation."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from tests.fixtures.console import ConsoleBrowser

if TYPE_CHECKING:
    from shared.organizations.model import Organization

RUNS = "/console/reconciliation"
HOSTILE = "<script>alert(1)</script>&\"'"


async def finished_run(
    browser: ConsoleBrowser, organization: Organization, text: str = "pi", findings: int = 2
) -> str:
    """Store a finished run with findings; return the path of its page."""
    run_id = uuid4()
    await browser.pool.execute(
        "INSERT INTO reconciliation_runs (id, mode, state, requested_by, reason, executor, since,"
        " progress, problems, checked, started_at, saved_at, finished_at)"
        " VALUES ($1, 'report', 'finished', $2, $2, 'worker', now() - interval '1 day',"
        ' jsonb_build_object($2::text, \'{"checked": 7, "done": true}\'::jsonb),'
        " jsonb_build_array(jsonb_build_object('list', $2::text, 'detail', $2::text,"
        " 'permission', $2::text)), 7, now(), now(), now())",
        run_id,
        text,
    )
    await browser.pool.execute(
        "INSERT INTO reconciliation_findings (run_id, kind, object_id, organization_id, outcome,"
        " detail, amount_minor, currency, credits)"
        " SELECT $1, (ARRAY['missing_event', 'charged_not_credited'])[1 + n % 2],"
        " $2 || n, $3, 'found', $2, 2000, 'usd', 20 FROM generate_series(1, $4) AS n",
        run_id,
        text,
        organization.id,
        findings,
    )
    return f"{RUNS}/{run_id}"


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
