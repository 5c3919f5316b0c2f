"""The runbook's commands, as printed, against a system that is broken in that way."""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from shared.http.health import Health
from tests.docs.test_docs import COMMAND, INLINE_CODE, fences, fences_in, prose, section
from tests.fixtures.alert_rules import RULES
from tests.fixtures.documents import ROOT, arguments, parse
from tests.fixtures.dumps import program
from tests.fixtures.product import create_organization, event_states, payment, receive

if TYPE_CHECKING:
    from sandbox.stripe.process import SimulatorProcess
    from shared.db.pool import Pool
    from tests.fixtures.commands import Command, Finished
    from worker.drainer import Drainer

RUNBOOK = ROOT / "docs/runbook.md"


def printed(heading: str, *beginnings: str) -> list[list[str]]:
    """Return the commands of a section that begin so, in its order."""
    lines = [
        COMMAND.sub("", line.strip())
        for block in fences_in(section(RUNBOOK, heading), "sh")
        for line in block.splitlines()
    ]
    found = [arguments(line) for line in lines if line.startswith(beginnings)]
    assert len(found) >= len(beginnings), heading
    return found


LINES = [line.strip() for block in fences(RUNBOOK, "sh") for line in block.splitlines() if line]


@pytest.mark.parametrize("line", LINES)
def test_every_line_of_a_block_of_commands_is_one_that_its_program_takes(line: str) -> None:
    words = shlex.split(line)
    match words[0]:
        case "prepaid":
            parse(arguments(COMMAND.sub("", line)))
        case "curl":
            assert urlsplit(f"http://{words[-1]}").path in OPERATIONS_PATHS
        case "pg_restore":
            options = {word.partition("=")[0] for word in words if word.startswith("--")}
            usage = subprocess.run(
                [program("pg_restore"), "--help"], check=True, capture_output=True, text=True
            ).stdout
            assert options <= set(re.findall(r"--[a-z-]+", usage))
        case other:
            pytest.fail(f"nothing checks {other}")


OPERATIONS_PATHS = {
    route.path
    for route in Health(
        required={}, optional={}, operations={}, measurements=[], token=None
    ).operations_routes()
}


def test_every_command_in_a_sentence_parses_with_its_dots() -> None:
    """`prepaid bind acme pi_… --reason "…"` was not looked at."""
    commands = [
        COMMAND.sub("", text)
        for text in INLINE_CODE.findall(prose(RUNBOOK))
        if COMMAND.match(text) and text != "prepaid …"
    ]
    assert any("…" in command for command in commands)
    for command in commands:
        parse(arguments(command))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_the_page_of_an_alert_says_how_one_sees_it_what_to_do_and_when_it_is_over(
    rule: dict[str, dict[str, str]],
) -> None:
    anchor = rule["annotations"]["runbook_url"].partition("#")[2]
    headings = re.findall(r"^## (.*)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)
    (heading,) = (h for h in headings if h.lower().replace(" ", "-").rstrip("?") == anchor)
    text = section(RUNBOOK, heading)
    for part in ("**How you see it.**", "**It is over**", "**What not to do.**"):
        assert part in text, (heading, part)
    assert re.search(r"\*\*(What it means, and what|What) to do|\*\*Repair\.", text)


async def test_the_commands_for_an_unknown_organization_credit_its_payment(
    pool: Pool, drainer: Drainer, prepaid: Command, stand_in: SimulatorProcess
) -> None:
    async def run(command: list[str]) -> Finished:
        finished = await prepaid(*command, STRIPE_API_BASE=stand_in.url)
        assert finished.code == 0, finished
        return finished

    await receive(pool, payment("123", organization="globex"))
    await drainer.drain()
    assert await event_states(pool) == {"evt_123": "dead"}
    for command in printed("Dead letters", "events list", "events show"):
        assert "evt_123" in (await run(command)).stdout
    for command in printed("Unknown organization", "orgs create", "events replay"):
        await run(command)
    assert await event_states(pool) == {"evt_123": "applied"}
    assert "ok" in (await run(printed("Verify the ledger", "ledger verify")[0])).stdout


async def test_the_command_that_closes_dead_letters_of_a_class_closes_them(
    pool: Pool, drainer: Drainer, prepaid: Command
) -> None:
    await create_organization(pool, "acme", currency="eur")
    await receive(pool, payment("123", organization="acme"))
    await drainer.drain()
    (_, by_class) = printed("Dead letters", "events discard")
    finished = await prepaid(*by_class)
    assert finished.code == 0, finished
    assert await event_states(pool) == {"evt_123": "discarded"}
