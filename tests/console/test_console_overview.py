"""The overview: charts over time, causes of dead letters, invariants."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from shared.heartbeats import store as heartbeats
from shared.heartbeats.model import Beat
from shared.organizations.model import Organization
from tests.fixtures.console import ConsoleBrowser
from tests.fixtures.outbound_messages import add, announce
from tests.fixtures.product import payment, receive
from tests.fixtures.reconciliation_runs import finished_run

SAMPLES = """
INSERT INTO metric_samples (sampled_at, name, label, value)
SELECT date_trunc('minute', now()) - make_interval(mins => m), s.name, s.label, s.value + m % 3
FROM generate_series(0, 90) AS m,
(VALUES ('events_received', '', 12), ('event_to_ledger_p50_seconds', '', 0.02),
    ('event_to_ledger_p99_seconds', '', 0.4), ('backlog', '', 3), ('dead', '', 1),
    ('recharge_outcomes', 'succeeded', 5), ('recharge_outcomes', 'failed', 1),
    ('credits_outstanding', '', 123456.5)) AS s (name, label, value)
"""
CHARTS = [
    "Events received",
    "From event to ledger (seconds)",
    "Backlog (events)",
    "Dead letters (events)",
    "Recharge outcomes",
    "Credits outstanding (credits)",
]


async def test_an_installation_without_samples_says_so(operator: ConsoleBrowser) -> None:
    page = await operator.get("/console")
    assert [f.get_text(strip=True) for f in page.soup.select(".chart .empty")] == [
        "No values yet."
    ] * 6
    assert "There are no dead letters." in page.text
    assert "No worker has checked an invariant yet." in page.text


async def test_samples_are_drawn_with_the_table_of_their_numbers(
    operator: ConsoleBrowser,
) -> None:
    await operator.pool.execute(SAMPLES)
    page = await operator.get("/console?period=hour")
    captions = [" ".join(c.get_text(" ").split()) for c in page.soup.select("figcaption")]
    assert captions == CHARTS
    assert len(page.soup.select("svg[role=img][aria-label]")) == 6
    assert {len(row) for row in page.rows("Recharge outcomes")} == {3}
    assert page.rows("Credits outstanding")[0][1].startswith("123,45")
    assert 1 < len(page.rows("Backlog")) <= 120


async def test_the_page_is_bounded_for_two_weeks_of_samples(operator: ConsoleBrowser) -> None:
    await operator.pool.execute(SAMPLES.replace("90)", "20000)"))
    page = await operator.get("/console?period=fortnight")
    assert all(len(page.rows(caption.partition(" (")[0])) <= 121 for caption in CHARTS)
    assert len(page.html) < 500_000


async def test_an_unknown_period_is_a_day(operator: ConsoleBrowser) -> None:
    page = await operator.get("/console?period=x")
    assert page.one(".tabs a[aria-current]").get_text() == "last day"


async def test_dead_letters_are_counted_by_cause(operator: ConsoleBrowser) -> None:
    await receive(operator.pool, payment("one"), payment("two"))
    await operator.pool.execute(
        "UPDATE stripe_events SET state = 'dead', settled_at = now(), reason = '<b>gone</b>',"
        " error_class = 'UnknownOrganizationError'"
    )
    (row,) = (await operator.get("/console")).rows("Dead letters by cause")
    assert row[:3] == ["payment_intent.succeeded", "UnknownOrganizationError", "2"]
    assert row[5] == "<b>gone</b>"


async def test_a_violated_invariant_is_shown(operator: ConsoleBrowser) -> None:
    await operator.pool.execute(
        "INSERT INTO invariant_results (name, checked_at, ok, violations, example, failing_since)"
        " VALUES ('balances', now(), FALSE, 2, '{}', $1)",
        operator.clock() - timedelta(hours=3),
    )
    (row,) = (await operator.get("/console")).rows("Invariants")
    assert row[:2] == ["balances", "violated"]
    assert row[3].endswith("3 h ago")


async def test_workers_dead_messages_and_drift_are_shown(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    text = (await operator.get("/console")).text
    assert "no worker runs (none has ever run)" in text
    assert "Dead messages ok none" in text
    assert "Reconciliation none has finished yet" in text
    async with operator.pool.acquire() as connection:
        await heartbeats.beat(connection, uuid4(), [Beat("sweeper"), Beat("recharger")])
    await add(operator.pool, "https://app.example.com/hooks")
    await announce(operator.pool, organization, 2)
    await operator.pool.execute(
        "UPDATE outbound_messages SET state = 'dead', settled_at = now(), reason = 'no answer'"
    )
    await finished_run(operator, organization)
    text = (await operator.get("/console")).text
    assert "1 running, 2 loops with a heartbeat" in text
    assert "Dead messages dead 2" in text
    assert "1 charged not credited, 1 missing event, 1 not compared, " in text


async def test_a_bound_session_goes_to_its_organization(
    stranger: ConsoleBrowser, organization: Organization
) -> None:
    await stranger.sign_in("read", organization)
    answer = await stranger.get("/console", follow=False)
    assert answer.headers["Location"] == f"/console/organizations/{organization.id}"
