"""`prepaid doctor` on events, messages and differences that wait for an operator."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fixtures.documents import arguments, parse
from tests.fixtures.product import create_organization, payment, receive
from worker.invariant_checker import InvariantChecker

if TYPE_CHECKING:
    from sandbox.stripe.process import SimulatorProcess
    from shared.db.pool import Pool
    from tests.fixtures.commands import Command
    from worker.drainer import Drainer

RUNBOOK = (Path(__file__).parents[2] / "docs/runbook.md").read_text(encoding="utf-8")
RUN = """
INSERT INTO reconciliation_runs (
    id, mode, state, requested_by, executor, since, started_at, finished_at, problems
)
VALUES (
    '019a0000-0000-7000-8000-00000000000c', 'report', 'finished', 'test', 'command', now(),
    now() - interval '{age}', now(), '{problems}'
);
"""
FINDING = """
INSERT INTO reconciliation_findings (run_id, kind, object_id, outcome, detail)
VALUES (
    '019a0000-0000-7000-8000-00000000000c', 'charged_not_credited', 'pi_1', 'refused', 'No.'
);
"""
DEAD_MESSAGE = """
INSERT INTO webhook_endpoints (id, url, secret, types)
VALUES (
    '019a0000-0000-7000-8000-00000000000e', 'https://app.example.com',
    'whsec_' || repeat('A', 32), '{}'
);
INSERT INTO outbound_messages (
    id, endpoint_id, organization_id, type, payload, state, reason, settled_at
)
SELECT
    '019a0000-0000-7000-8000-00000000000b', '019a0000-0000-7000-8000-00000000000e', id,
    'credits.low', '{}', 'dead', 'the receiver answered 500', now()
FROM organizations
"""
PAUSED = """
INSERT INTO event_breakers (event_type, failures_in_row, paused_until)
VALUES ('payment_intent.succeeded', 10, now() + interval '5 minutes')
"""
QUARANTINED = "UPDATE stripe_events SET state = 'quarantined'"
BROKEN = {
    "a dead event": ("SELECT 1", "events", "warning", "1 dead, so that"),
    "a quarantined event": (QUARANTINED, "events", "warning", "1 quarantined, of another mode"),
    "a paused type": (PAUSED, "events", "problem", "payment_intent.succeeded is paused until"),
    "a dead message": (DEAD_MESSAGE, "messages", "warning", "1 dead: your app did not get them"),
    "a difference": (
        RUN.format(age="1 minute", problems="[]") + FINDING,
        "reconciliation",
        "problem",
        "not repaired: 1 charged_not_credited",
    ),
    "a list that was not compared": (
        RUN.format(age="1 minute", problems='["refunds"]'),
        "reconciliation",
        "problem",
        "not repaired: 1 list at Stripe not compared",
    ),
    "an old reconciliation": (
        RUN.format(age="3 days", problems="[]"),
        "reconciliation",
        "warning",
        "the last one that finished began 72 hours ago",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_doctor_names_what_waits_with_a_command_that_runs_and_a_section_that_exists(
    what: str, pool: Pool, drainer: Drainer, prepaid: Command, stand_in: SimulatorProcess
) -> None:
    statement, name, level, words = BROKEN[what]
    await receive(pool, payment("1", organization="nobody"))
    await drainer.drain()
    await create_organization(pool, "acme")
    await pool.execute(statement)
    finished = await prepaid("doctor", "--json", STRIPE_API_BASE=stand_in.url)
    (check,) = (check for check in finished.json["checks"] if check["name"] == name)
    assert check["level"] == level
    assert check["detail"].startswith(words)
    anchor = re.search(r"docs/runbook\.md#([a-z-]+)\)$", check["detail"])
    assert anchor is not None
    headings = re.findall(r"^## (.*)$", RUNBOOK, re.MULTILINE)
    assert anchor[1] in {heading.lower().replace(" ", "-") for heading in headings}
    words_of_fix = arguments(check["fix"].removeprefix("prepaid "))
    parse(words_of_fix)
    ran = await prepaid(*words_of_fix, STRIPE_API_BASE=stand_in.url)
    assert ran.code == 0, ran.stderr


async def test_doctor_names_invariants_that_no_worker_has_checked_lately(
    pool: Pool, prepaid: Command, stand_in: SimulatorProcess
) -> None:
    await InvariantChecker(pool).check()
    await pool.execute(
        "UPDATE invariant_passes SET checked_at = '2026-03-01 12:00Z' WHERE name = 'balances'"
    )
    finished = await prepaid("doctor", "--json", STRIPE_API_BASE=stand_in.url)
    (check,) = [c for c in finished.json["checks"] if c["name"] == "invariants"]
    assert check["level"] == "problem"
    assert check["detail"] == "balances was last checked at 2026-03-01 12:00 UTC"
    assert "worker.loop_failed" in check["fix"]


async def test_a_long_pass_that_goes_on_is_no_problem_to_doctor(
    pool: Pool, prepaid: Command, stand_in: SimulatorProcess
) -> None:
    await InvariantChecker(pool).check()
    await pool.execute("UPDATE invariant_results SET checked_at = now() - interval '3 hours'")
    finished = await prepaid("doctor", "--json", STRIPE_API_BASE=stand_in.url)
    (check,) = [c for c in finished.json["checks"] if c["name"] == "invariants"]
    assert check["level"] == "ok"
