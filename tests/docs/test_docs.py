"""What the documents say is true of the code: links, commands, variables, metrics, states, SQL."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
from prometheus_client.metrics import MetricWrapperBase

from cli import doctor
from sandbox.stripe.process import SimulatorProcess
from shared import config, metrics
from shared.inbox.model import EventState
from shared.outbound.model import MessageState
from shared.payments.objects import CREDITS_METADATA, EXPIRES_METADATA
from tests.fixtures.documents import (
    NEEDED,
    ROOT,
    arguments,
    compose_text,
    env_example,
    parse,
    variables_read_by_config,
)

if TYPE_CHECKING:
    from shared.db.pool import Connection

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CODE = [
    file for house in ("cli", "sandbox", "shared") for file in sorted((ROOT / house).rglob("*.py"))
]
MARKDOWN_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^[ ]*```(\w*)\n(.*?)^[ ]*```$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`([^`\n]+)`")
CLIENT = "prepaid_client"  # the package
COMMAND = re.compile(r"^(?:docker compose exec \w+ )?(?:\.venv/bin/)?prepaid (?=[a-z])")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """Return a page without its fenced blocks, whose brackets and hashes mean other things."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def fences(page: Path, language: str) -> list[str]:
    return fences_in(page.read_text(encoding="utf-8"), language)


def fences_in(text: str, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(text) if kind == language]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#{1,6} (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links() -> Iterator[tuple[Path, str, str]]:
    for page in PAGES:
        for text, target in MARKDOWN_LINK.findall(prose(page)):
            if not target.startswith(("http://", "https://")):
                yield page, text, target


def commands_of(page: Path) -> Iterator[list[str]]:
    """Find every `prepaid …` in a page's blocks and sentences."""
    lines = [line for block in fences(page, "sh") for line in block.splitlines()]
    for text in (*lines, *INLINE_CODE.findall(prose(page))):
        line = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", text.strip())
        if COMMAND.match(line) and "…" not in line and "|" not in line:
            yield arguments(COMMAND.sub("", line))


def test_there_are_pages_to_check() -> None:
    names = {name_of(page) for page in PAGES}
    assert {"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/runbook.md"} <= names
    assert sum(name.startswith("docs/adr/") for name in names) >= 8


def test_every_relative_link_leads_to_a_file_and_its_anchor_to_a_heading() -> None:
    broken = []
    for page, _, target in links():
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(f"{name_of(page)}: {target}")
    assert broken == []


def test_a_link_named_after_code_leads_to_a_file_that_has_it() -> None:
    missing = []
    for page, text, target in links():
        named = re.fullmatch(r"`([\w.]+)`", text)
        file = page.parent / target
        if named and file.suffix in {".py", ".sql"}:
            source = file.read_text(encoding="utf-8")
            absent = [word for word in named[1].split(".") if not re.search(rf"\b{word}\b", source)]
            missing += [f"{name_of(page)}: {word} in {target}" for word in absent]
    assert missing == []


def test_decisions_are_numbered_without_gaps_and_have_the_same_four_parts() -> None:
    decisions = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
    assert [int(page.name[:4]) for page in decisions] == list(range(1, len(decisions) + 1))
    for page in decisions:
        text = page.read_text(encoding="utf-8")
        parts = ["Status: ", "## Context", "## Decision", "## Consequences"]
        places = [text.find(part) for part in parts]
        assert all(0 <= a < b for a, b in pairwise(places)), name_of(page)
        assert re.findall(r"^## .*$", text, re.MULTILINE) == parts[1:], name_of(page)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_in_the_pages_parses(page: Path) -> None:
    for words in commands_of(page):
        parse(words)


@pytest.mark.parametrize("name", ["docs/tutorial.md", "docs/runbook.md"])
def test_the_pages_for_operators_show_commands(name: str) -> None:
    assert len(list(commands_of(ROOT / name))) >= 10


def test_a_wrong_command_would_be_found() -> None:
    for words in (["events", "lst"], ["events"], ["events", "list", "--sate", "dead"]):
        with pytest.raises(Exception, match=r"no 'lst'|one more word|No such option"):
            parse(words)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_in_the_pages_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    lines = [line for block in fences(page, "sh") for line in block.splitlines()]
    texts = [*lines, *INLINE_CODE.findall(prose(page))]
    named = {
        found[1] for text in texts if (found := re.match(r"(?:[A-Z_]+=\S+ )*make ([a-z-]+)", text))
    }
    assert named <= targets


def test_env_example_has_every_variable_that_the_settings_read() -> None:
    assert variables_read_by_config() <= set(env_example())


def test_env_example_has_no_variable_that_nobody_reads() -> None:
    source = "".join(file.read_text(encoding="utf-8") for file in CODE)
    in_code = {name for name in env_example() if f'"{name}"' in source}
    in_compose = set(re.findall(r"\$\{([A-Z_]+)", compose_text()))
    assert set(env_example()) - variables_read_by_config() - in_code - in_compose == set()


def test_env_example_shows_the_defaults() -> None:
    as_documented = {name: env_example()[name] for name in variables_read_by_config()}
    assert config.load(as_documented | NEEDED) == config.load(NEEDED)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_variable_in_the_pages_is_in_env_example(page: Path) -> None:
    named = set(re.findall(r"\b(?:PREPAID|STRIPE|LOG)_[A-Z_]+\b", page.read_text(encoding="utf-8")))
    assert named <= set(env_example())


@cache
def metric_names() -> frozenset[str]:
    names: set[str] = set()
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            for family in metric.describe():
                suffixes = {"counter": ["_total"], "histogram": ["", "_bucket", "_count", "_sum"]}
                names |= {family.name + end for end in suffixes.get(family.type, [""])}
    return frozenset(names)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_metric_in_the_pages_exists(page: Path) -> None:
    named = set(re.findall(r"\bprepaid_[a-z_]+", page.read_text(encoding="utf-8")))
    assert named - {CREDITS_METADATA, EXPIRES_METADATA, CLIENT} <= metric_names()


def test_operations_lists_every_metric() -> None:
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in metric_names()}
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    assert {name for name in families if f"`{name}" not in text} == set()


def test_operations_lists_the_checks_of_doctor_in_their_order() -> None:
    table = section(ROOT / "docs/operations.md", "Doctor")
    cells = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    listed = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert listed == ["settings", *(name for name, _, _ in doctor._CHECKS)]  # noqa: SLF001


def test_every_log_line_that_the_pages_name_is_written_by_the_code() -> None:
    source = "".join(
        file.read_text(encoding="utf-8")
        for house in ("api", "cli", "shared", "webhooks", "worker")
        for file in (ROOT / house).rglob("*.py")
    )
    # report.py makes these from the state.
    made = {f"events.{state}" for state in EventState}
    lines = r"`((?:inbox|events|drainer|wakeup|listener|http|sweeper|outbound)\.[a-z_]+)`"
    for name in ("docs/operations.md", "docs/runbook.md"):
        named = set(re.findall(lines, (ROOT / name).read_text(encoding="utf-8")))
        assert named, name
        assert {line for line in named if f'"{line}"' not in source} - made == set(), name


def section(page: Path, heading: str) -> str:
    text = page.read_text(encoding="utf-8")
    return text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def states_in(text: str) -> tuple[set[str], set[str]]:
    """Return the states of a section's table and of its drawing."""
    table = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    moves = re.findall(r"^\s+(\S+) --> (\w+)", text, re.MULTILINE)
    drawn = {state for move in moves for state in move} - {"[*]"}
    return table, drawn


def test_the_glossary_has_each_word_once() -> None:
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    words = [
        word
        for entry in re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)
        if entry != "Word"
        for word in entry.split(", ")
    ]
    assert {"lane", "heartbeat", "session", "scope", "checkpoint", "online step"} <= set(words)
    assert sorted(words) == sorted(set(words))


def test_the_states_of_an_event_are_those_of_the_code() -> None:
    table, drawn = states_in(section(ROOT / "docs/states.md", "Stripe event"))
    assert table == drawn == {str(state) for state in EventState}


def test_the_states_of_an_outbound_message_are_those_of_the_code() -> None:
    table, drawn = states_in(section(ROOT / "docs/states.md", "Outbound message"))
    assert table == drawn == {str(state) for state in MessageState}


def test_the_states_of_a_purchase_are_those_of_the_schema() -> None:
    schema = "".join(
        file.read_text(encoding="utf-8") for file in sorted((ROOT / "migrations/sql").glob("*.sql"))
    )
    check = re.findall(r"purchases_state_known CHECK \(state IN \(([^)]+)\)", schema)[-1]
    table, drawn = states_in(section(ROOT / "docs/states.md", "Purchase"))
    assert table == drawn == set(re.findall(r"'(\w+)'", check))


def test_the_limits_in_the_pages_are_those_of_the_code() -> None:
    from shared.inbox import rules  # noqa: PLC0415 - only here
    from shared.outbound import sender  # noqa: PLC0415 - only here
    from tests.fixtures.product import settings  # noqa: PLC0415 - only here
    from worker import drainer, messenger, sweeper  # noqa: PLC0415 - only here

    runbook = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
    architecture = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    faults = (ROOT / "docs/faults.md").read_text(encoding="utf-8")
    assert f"failed {rules.BREAKER_FAILURES} times in a row" in runbook
    assert f"after {rules.ATTEMPTS_MAX} attempts" in runbook
    assert f"{rules.ATTEMPTS_MAX} attempts; {rules.BREAKER_FAILURES} failures" in faults
    assert f"looks every {sweeper.SWEEP_SECONDS:g} s" in architecture
    assert f"up to {drainer.BATCH_ROWS_MAX} due events" in architecture
    assert f"the lease ends ({messenger.LEASE_SECONDS} s); sent again" in faults
    assert f"the lease ends ({drainer.LEASE_SECONDS} s), which a worker that lives" in faults
    assert f"`PREPAID_LEASE_SECONDS` ({drainer.LEASE_SECONDS})" in runbook
    assert settings().lease_seconds == drainer.LEASE_SECONDS
    assert f"no answer within {sender.RESPONSE_SECONDS_MAX} s" in runbook


async def test_the_simulator_takes_the_event_that_the_tutorial_sends(
    stand_in: SimulatorProcess,
) -> None:
    (first_steps,) = (b for b in fences(ROOT / "docs/tutorial.md", "sh") if "_sim/events" in b)
    command = re.findall(r"^curl .*?'$", first_steps, re.MULTILINE | re.DOTALL)[0]
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-euc", command),
        env={**os.environ, "SIMULATOR": stand_in.url},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await shell.communicate()
    assert json.loads(output)["data"]["object"]["id"] == "pi_first"


def test_the_runbook_says_what_ends_each_suspension() -> None:
    from shared.recharge.model import SuspensionReason  # noqa: PLC0415 - only here

    table, _ = states_in(section(ROOT / "docs/runbook.md", "A rule is suspended"))
    assert table == {str(reason) for reason in SuspensionReason}


def test_the_changelog_has_a_place_for_what_is_unreleased() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[Unreleased\]$", text, re.MULTILINE)
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


async def test_every_query_in_the_pages_runs_on_the_schema(connection: Connection) -> None:
    ran = 0
    for page in PAGES:
        for query in fences(page, "sql"):
            try:
                await connection.fetch(query)
            except asyncpg.PostgresError as error:
                pytest.fail(f"{name_of(page)}: {error}\n{query}")
            ran += 1
    assert ran >= 5
