"""Replays of one process of the console: one at a time, and none that waits."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fixtures.commands import Command, assert_refused, start_command
from tests.fixtures.console import ConsoleBrowser
from tests.fixtures.outbound_messages import add, announce, states
from tests.fixtures.product import create_organization, environment, event_states, until
from tests.fixtures.storefront import Storefront

if TYPE_CHECKING:
    from shared.organizations.model import Organization

CAUSES = "/console/dead-letters"
CAUSE = f"{CAUSES}/cause?type=payment_intent.succeeded&error_class=UnknownOrganizationError"
DEAD_MESSAGES = "/console/messages?state=dead"


async def test_an_act_during_a_replay_is_refused_at_once_and_does_not_run_later(
    stripe_operator: ConsoleBrowser, storefront: Storefront
) -> None:
    await storefront.charge(metadata={"organization_id": "acme"})
    await storefront.deliver_new()
    await create_organization(storefront.pool)
    running = stripe_operator.console.replays

    async def is_running() -> bool:
        return running.locked()

    page = await stripe_operator.get(CAUSE)
    fields = page.form(f"{CAUSES}/replay") | {"reason": "acme exists now"}
    async with storefront.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM organizations FOR UPDATE")
        first = asyncio.create_task(stripe_operator.post(f"{CAUSES}/replay", fields))
        await until(is_running)
        refused = await stripe_operator.post(f"{CAUSES}/replay", fields)
        assert refused.status == 409
        assert "A replay or a preview is running in the console." in refused.text
        assert running.locked()
    assert "1 applied" in (await first).one(".flash").get_text()
    assert not running.locked()
    assert "dead" not in (await event_states(storefront.pool)).values()
    assert await storefront.pool.fetchval("SELECT count(*) FROM replay_batches") == 1


async def test_messages_are_not_replayed_while_a_preview_runs(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await add(operator.pool, "https://app.example.com/hooks")
    await announce(operator.pool, organization)
    await operator.pool.execute(
        "UPDATE outbound_messages SET state = 'dead', reason = 'x', settled_at = now()"
    )
    page = await operator.get(DEAD_MESSAGES)
    fields = page.form("/console/messages/replay-dead") | {"reason": "the app is back"}
    async with operator.console.replays:
        assert (await operator.post("/console/messages/replay-dead", fields)).status == 409
    assert await states(operator.pool) == {"dead": 1}
    page = await operator.post("/console/messages/replay-dead", fields)
    assert page.one(".flash").get_text() == "1 will be sent again."


async def test_a_replay_of_another_process_is_named_to_whoever_starts_a_second_one(
    stripe_operator: ConsoleBrowser,
    storefront: Storefront,
    prepaid: Command,
    database_url: str,
    redis_url: str,
    tmp_path: Path,
) -> None:
    for _ in range(2):
        await storefront.charge(metadata={"organization_id": "acme"})
    await storefront.deliver_new()
    await create_organization(storefront.pool)
    base = stripe_operator.console.settings.stripe_api_base
    variables = environment(database_url, redis_url) | {"STRIPE_API_BASE": str(base)}
    replay = ("events", "replay", "--state", "dead")
    first = await start_command((*replay, "--rate", "0.1"), variables, folder=tmp_path)

    async def pauses() -> bool:
        return bool(await storefront.pool.fetchval("SELECT applied = 1 FROM replay_batches"))

    await until(pauses)
    first.send_signal(signal.SIGSTOP)
    before = await event_states(storefront.pool)
    (event_id,) = [name for name, state in before.items() if state == "dead"]
    path = f"/console/events/{event_id}/replay"
    fields = (await stripe_operator.get(path)).form(path) | {"reason": "acme exists now"}
    refused = await stripe_operator.post(path, fields)
    assert refused.status == 409
    assert "started by cli:" in refused.text
    assert_refused(await prepaid(*replay, **variables), "runs since", "Wait for its end")
    assert await event_states(storefront.pool) == before
    first.send_signal(signal.SIGKILL)
    await first.wait()
    assert await storefront.pool.fetchval("SELECT count(*) FROM replay_batches") == 1
