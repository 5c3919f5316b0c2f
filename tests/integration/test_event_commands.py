"""`prepaid events …` on dead letters: their money, their causes, previews, replays and discards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fixtures.commands import Command, Finished, start_command
from tests.fixtures.product import (
    balance,
    create_organization,
    environment,
    event_row,
    event_states,
    payment,
    receive,
    until,
)

if TYPE_CHECKING:
    from sandbox.stripe.process import SimulatorProcess
    from shared.db.pool import Pool
    from worker.drainer import Drainer

REASON = ("--reason", "a test")


async def dead_letters(pool: Pool, drainer: Drainer, *names: str) -> None:
    await receive(pool, *(payment(name, customer="cus_7") for name in names))
    await drainer.drain()


def assert_usage(finished: Finished, word: str) -> None:
    assert (finished.code, finished.stdout) == (2, "")
    assert word in finished.stderr
    assert "Traceback" not in finished.stderr


async def test_a_dead_letter_says_whose_money_it_is_and_what_to_do(
    prepaid: Command, pool: Pool, drainer: Drainer
) -> None:
    await dead_letters(pool, drainer, "1")
    (row,) = (await prepaid("events", "list", "--state", "dead", "--json")).json["events"]
    (shown,) = (await prepaid("events", "show", "evt_1", "--json")).json["events"]
    for found in (row, shown):
        assert (found["customerId"], found["amount"], found["currency"]) == ("cus_7", 10, "usd")
        assert (found["paymentIntentId"], found["organization"]) == ("pi_1", "acme")
        assert found["nextStep"].startswith("Create the organization")
        assert found["runbook"] == "docs/runbook.md#unknown-organization"
    lines = (await prepaid("events", "list")).stdout
    assert all(word in lines for word in ("cus_7", "10", "usd", "pi_1", "acme"))
    assert "payload" not in shown
    assert '"customer"' not in (await prepaid("events", "show", "evt_1")).stdout
    assert '"customer"' in (await prepaid("events", "show", "evt_1", "--payload")).stdout


async def test_dead_letters_are_grouped_by_their_cause(
    prepaid: Command, pool: Pool, drainer: Drainer
) -> None:
    await create_organization(pool)
    await receive(
        pool,
        payment("1", organization="nobody"),
        payment("2", organization="nobody"),
        payment("3", currency="eur"),
        payment("4"),
    )
    await drainer.drain()
    causes = (await prepaid("events", "causes", "--json")).json["causes"]
    assert [(cause["errorClass"], cause["events"], cause["exact"]) for cause in causes] == [
        ("CurrencyMismatchError", 1, True),
        ("UnknownOrganizationError", 2, True),
    ]
    assert causes[1]["lastId"] == "evt_2"
    assert "nobody" in causes[1]["lastError"]
    assert causes[1]["runbook"].endswith("#unknown-organization")
    assert "CurrencyMismatchError" in (await prepaid("events", "causes")).stdout


async def test_a_dry_run_prints_the_difference_and_changes_nothing(
    prepaid: Command, pool: Pool, drainer: Drainer, stand_in: SimulatorProcess
) -> None:
    stripe = {"STRIPE_API_BASE": stand_in.url}
    await dead_letters(pool, drainer, "1", "2")
    await create_organization(pool)
    preview = await prepaid("events", "replay", "--state", "dead", "--dry-run", "--json", **stripe)
    assert (preview.code, preview.json["applied"], preview.json["diff"][0]["after"]) == (0, 2, 20)
    assert [row["type"] for row in preview.json["diff"][0]["rows"]] == ["purchase", "purchase"]
    lines = (await prepaid("events", "replay", "evt_1", "--dry-run", **stripe)).stdout
    assert all(word in lines for word in ("dry run", "acme", "purchase 10"))
    assert set((await event_states(pool)).values()) == {"dead"}
    assert await balance(pool) == 0


async def test_a_filter_of_dead_letters_is_discarded_and_each_keeps_its_error(
    prepaid: Command, pool: Pool, drainer: Drainer
) -> None:
    await dead_letters(pool, drainer, "1", "2")
    await receive(pool, payment("3"))
    chosen = ("--state", "dead", "--error-class", "UnknownOrganizationError")
    finished = await prepaid("events", "discard", *chosen, *REASON, "--json")
    assert (finished.code, finished.json["discarded"]) == (0, 2)
    row = await event_row(pool, "evt_1")
    assert (row["state"], row["discard_reason"]) == ("discarded", "a test")
    assert "acme" in row["reason"]
    (shown,) = (await prepaid("events", "show", "evt_1", "--json")).json["events"]
    assert (shown["discardReason"], shown["nextStep"]) == ("a test", None)
    assert (await event_row(pool, "evt_3"))["state"] == "received"
    entry = await pool.fetchrow("SELECT * FROM audit_log")
    assert entry is not None
    assert (entry["action"], entry["details"]["events"]) == ("events.discard", ["evt_1", "evt_2"])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("replay", "evt_1", "--reason", "x" * 501), "500"),
        (("discard", "evt_1", "--reason", " "), "why"),
        (("replay", "--state", "dead", "--since", "2999-01-01"), "future"),
        (("discard", "--since", "2999-01-01", *REASON), "future"),
        (("list", "--since", "2999-01-01"), "future"),
        (("replay", "evt_1", "--state", "dead"), "not both"),
        (("replay", "evt_1", "--rate", "0"), "rate"),
        (("replay", "evt_1", "--stop-after", "0"), "stop-after"),
        (("replay", "--resume", "nonsense"), "batchId"),
        (
            ("replay", "evt_1", "--resume", "00000000-0000-0000-0000-000000000001"),
            "as it was started",
        ),
        (("discard", *REASON), "name event ids"),
    ],
)
async def test_wrong_options_are_wrong_usage(
    prepaid: Command, arguments: tuple[str, ...], word: str
) -> None:
    assert_usage(await prepaid("events", *arguments, COLUMNS="400"), word)


async def test_a_replay_that_was_killed_resumes_to_the_exact_end(
    prepaid_process: Command,
    pool: Pool,
    drainer: Drainer,
    database_url: str,
    redis_url: str,
    tmp_path: Path,
    stand_in: SimulatorProcess,
) -> None:
    stripe = {"STRIPE_API_BASE": stand_in.url}
    names = [str(n) for n in range(30)]
    await dead_letters(pool, drainer, *names)
    await create_organization(pool)
    process = await start_command(
        ("events", "replay", "--state", "dead", "--rate", "5"),
        environment(database_url, redis_url) | stripe,
        folder=tmp_path,
    )

    async def has_begun() -> bool:
        return bool(await pool.fetchval("SELECT applied > 0 FROM replay_batches"))

    await until(has_begun)
    process.kill()
    await process.wait()
    batch_id = await pool.fetchval("SELECT id FROM replay_batches WHERE state = 'running'")
    # It goes on at its rate; that would take seconds.
    await pool.execute("""UPDATE replay_batches SET options = '{"rate": 1000}'""")
    resumed = await prepaid_process(
        "events", "replay", "--resume", str(batch_id), "--json", **stripe
    )
    counts = {word: resumed.json[word] for word in ("selected", "applied", "noop", "failed")}
    assert counts == {"selected": 30, "applied": 30, "noop": 0, "failed": 0}
    assert resumed.json["diff"][0]["after"] == await balance(pool) == 300


async def test_a_line_feed_in_an_error_begins_no_line(
    prepaid: Command, pool: Pool, drainer: Drainer
) -> None:
    await dead_letters(pool, drainer, "1")
    await pool.execute("UPDATE stripe_events SET reason = E'gone\\nstate             applied'")
    lines = (await prepaid("events", "show", "evt_1")).stdout.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("state ")] == ["dead"]
