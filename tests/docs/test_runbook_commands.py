"""The runbook's commands, as printed, against a system that is broken in that way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.docs.test_docs import COMMAND, fences_in, section
from tests.fixtures.documents import ROOT, arguments
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
