"""The runbook's pages followed on an installation that is broken in their way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shared.recharge import service
from tests.docs.test_docs import fences_in, section
from tests.docs.test_runbook_commands import RUNBOOK, printed
from tests.fixtures.commands import Command
from tests.fixtures.outbound_messages import add, announce, states
from tests.fixtures.product import (
    Endpoint,
    closed_port,
    create_organization,
    event_states,
    payment,
    receive,
)
from tests.fixtures.recharging import Shop

if TYPE_CHECKING:
    from sandbox.stripe.process import SimulatorProcess
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

PRINTED_MESSAGE = "01a2069d-5ade-7000-8000-000000000001"


async def test_without_postgresql_commands_say_so_as_the_page_has_it(
    prepaid: Command, database_url: str, stand_in: SimulatorProcess
) -> None:
    assert "*PostgreSQL did not answer*" in section(RUNBOOK, "PostgreSQL is down")
    parts = urlsplit(database_url)
    gone = parts._replace(netloc=f"{parts.username}@127.0.0.1:{closed_port()}").geturl()
    listed = await prepaid("events", "list", DATABASE_URL=gone)
    assert (listed.code, "PostgreSQL did not answer" in listed.stderr) == (1, True), listed
    (doctor,) = printed("PostgreSQL is down", "doctor")
    finished = await prepaid(*doctor, DATABASE_URL=gone, STRIPE_API_BASE=stand_in.url)
    assert finished.code == 1
    assert "FAIL  postgres" in finished.stdout


async def test_without_a_worker_doctor_says_that_none_runs(
    prepaid: Command, stand_in: SimulatorProcess
) -> None:
    (doctor,) = printed("No worker runs", "doctor")
    finished = await prepaid(*doctor, STRIPE_API_BASE=stand_in.url)
    assert finished.code == 1
    assert "no worker runs" in finished.stdout


async def test_the_query_for_one_organization_names_the_session_that_has_its_row(
    pool: Pool, organization: Organization
) -> None:
    (query,) = fences_in(section(RUNBOOK, "One organization gets 503"), "sql")
    async with pool.acquire() as holder, holder.transaction():
        await holder.execute("SELECT FROM accounts FOR UPDATE")
        pid = holder.get_server_pid()
        # Younger than what the page looks for: the test does not wait a second.
        at_once = query.replace("interval '1 second'", "interval '0 seconds'")
        assert at_once != query
        rows = {row["pid"]: row for row in await pool.fetch(at_once)}
        assert "FOR UPDATE" in rows[pid]["query"]


async def test_doctor_names_the_request_that_stripe_refuses_and_the_attempt_goes_on_by_itself(
    shop: Shop, prepaid: Command, stand_in: SimulatorProcess
) -> None:
    await shop.sim(
        "faults", method="POST", path="/v1/payment_intents", fault="unauthorized_401", times=1
    )
    await shop.open()
    await shop.work()
    doctor, retrying = printed("Stripe refuses us", "doctor", "events list")
    finished = await prepaid(*doctor, STRIPE_API_BASE=stand_in.url)
    assert finished.code == 1
    assert "1 attempt waiting" in finished.stdout
    assert "401 payment_intents.create" in finished.stdout
    assert (await prepaid(*retrying)).code == 0
    await shop.work_until_settled()
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.tick(connection, now=shop.clock())
    over = await prepaid(*doctor, STRIPE_API_BASE=stand_in.url)
    assert "ok    recharges      no attempt waits" in over.stdout


async def test_the_commands_for_quarantined_events_list_and_close_one(
    pool: Pool, endpoint: Endpoint, prepaid: Command
) -> None:
    live = json.dumps(json.loads(payment("123")) | {"livemode": True}).encode()
    assert (await endpoint.deliver(live)).status == 200
    (listing,) = printed("Quarantined events", "events list")
    assert "evt_123" in (await prepaid(*listing)).stdout
    (discard,) = printed("Quarantined events", "events discard")
    assert (await prepaid(*discard)).code == 0
    assert await event_states(pool) == {"evt_123": "discarded"}
    assert "no events" in (await prepaid(*listing)).stdout


async def test_the_commands_for_dead_messages_list_show_and_send_them_again(
    pool: Pool, organization: Organization, prepaid: Command
) -> None:
    await add(pool, "https://app.example.com/hooks")
    await announce(pool, organization)
    await pool.execute(
        "UPDATE outbound_messages SET id = $1, state = 'dead', settled_at = now(), reason = 'x'",
        PRINTED_MESSAGE,
    )
    for command in printed("Dead messages", "messages list", "messages show", "endpoints list"):
        finished = await prepaid(*command)
        assert finished.code == 0, finished
    replay_all, replay_one, *_ = printed("Dead messages", "messages replay")
    assert (await prepaid(*replay_all)).code == 0
    assert await states(pool) == {"pending": 1}
    assert (await prepaid(*replay_one)).code == 0
    discard_one, _ = printed("Dead messages", "messages discard")
    assert (await prepaid(*discard_one)).code == 0
    assert await states(pool) == {"discarded": 1}


async def test_the_commands_for_the_backlog_and_an_old_event_list_and_replay_it(
    pool: Pool, prepaid: Command, stand_in: SimulatorProcess
) -> None:
    await create_organization(pool)
    await receive(pool, payment("123"))
    received, _ = printed("The backlog grows", "events list")
    assert "evt_123" in (await prepaid(*received)).stdout
    (replay,) = printed("An old event", "events replay")
    finished = await prepaid(*replay, STRIPE_API_BASE=stand_in.url)
    assert finished.code == 0, finished
    assert await event_states(pool) == {"evt_123": "applied"}


async def test_the_commands_for_a_suspended_rule_show_and_resume_it(
    shop: Shop, prepaid: Command
) -> None:
    await shop.open()
    suspend = ("recharge", "suspend", "acme", "--reason", "a test")
    assert (await prepaid(*suspend)).code == 0
    for command in printed("A rule is suspended", "recharge list", "recharge show"):
        finished = await prepaid(*command)
        assert "acme" in finished.stdout, finished
    (resume,) = printed("A recharge does not fire", "recharge resume")
    assert (await prepaid(*resume)).code == 0
    (listing,) = printed("A rule is suspended", "recharge list")
    assert "acme" not in (await prepaid(*listing)).stdout
