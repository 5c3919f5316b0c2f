"""`prepaid …` as operators run it: exit codes, one JSON document, one line when it is refused."""

from __future__ import annotations

import asyncio
import getpass
import json
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from tests.fixtures.commands import Command, Finished, assert_refused
from tests.fixtures.product import create_organization, event_states, payment, receive, transactions
from tests.fixtures.servers import process_url

if TYPE_CHECKING:
    from sandbox.stripe.process import SimulatorProcess
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from worker.drainer import Drainer


def assert_usage(finished: Finished, *words: str) -> None:
    assert finished.code == 2, finished
    assert finished.stdout == ""
    assert "Traceback" not in finished.stderr
    for word in words:
        assert word in finished.stderr


async def dead_letter(pool: Pool, drainer: Drainer, *names: str) -> None:
    await receive(pool, *(payment(name) for name in names))
    await drainer.drain()


async def test_an_organization_is_created_shown_and_listed(prepaid_process: Command) -> None:
    made = await prepaid_process("orgs", "create", "--slug", "acme", "--name", "Acme ä", "--json")
    assert (made.code, made.json["slug"], made.json["currency"]) == (0, "acme", "usd")
    shown = await prepaid_process("orgs", "show", "acme", "--json")
    assert shown.code == 0
    assert shown.json | {"createdAt": None} == {
        "id": made.json["id"],
        "slug": "acme",
        "name": "Acme ä",
        "currency": "usd",
        "email": None,
        "status": "active",
        "stripeCustomerId": None,
        "balance": 0,
        "held": 0,
        "createdAt": None,
    }
    listed = await prepaid_process("orgs", "list", "--json")
    assert [row["id"] for row in listed.json["organizations"]] == [made.json["id"]]
    assert_refused(await prepaid_process("orgs", "create", "--slug", "acme", "--name", "A"), "acme")


@pytest.mark.parametrize(
    "arguments",
    [
        ("orgs", "create", "--slug", "Not a slug", "--name", "A", "--json"),
        ("orgs", "show", "nobody", "--json"),
        ("keys", "create", "--name", "", "--scope", "read", "--all", "--json"),
        ("keys", "create", "--name", "a", "--scope", "read", "--organization", "nobody"),
        ("keys", "revoke", str(UUID(int=1)), "--json"),
        ("events", "show", "evt_nobody", "--json"),
        ("events", "replay", "evt_nobody", "--json"),
        ("events", "discard", "evt_nobody", "--reason", "x", "--json"),
    ],
    ids=" ".join,
)
async def test_what_cannot_be_done_is_refused_in_one_line(
    prepaid: Command, arguments: tuple[str, ...]
) -> None:
    assert_refused(await prepaid(*arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("orgs", "create", "--json"),
        ("events", "list", "--state", "nonsense"),
        ("events", "list", "--limit", "0"),
        ("events", "list", "--since", "yesterday"),
        ("events", "list", "--since", "99999999999d"),
        ("events", "list", "--cursor", "nonsense"),
        ("events", "replay"),
        ("events", "discard", "evt_1"),
        ("keys", "revoke", "nonsense"),
        ("serve", "nonsense"),
    ],
    ids=" ".join,
)
async def test_wrong_usage_is_exit_code_2(prepaid: Command, arguments: tuple[str, ...]) -> None:
    assert_usage(await prepaid(*arguments))


@pytest.mark.parametrize("scope", ["root", "", "READ", "read,root"])
async def test_an_unknown_scope_is_wrong_usage_in_one_line(prepaid: Command, scope: str) -> None:
    refused = await prepaid("keys", "create", "--name", "a", "--scope", scope, "--all", "--json")
    assert_refused(refused, "--scope", "read, write, admin", code=2)


@pytest.mark.parametrize(
    ("process", "variable"),
    [
        ("serve", "PORT"),
        ("serve", "PREPAID_OPERATIONS_PORT"),
        ("worker", "PREPAID_WORKER_PORT"),
    ],
)
async def test_a_port_that_is_taken_is_one_line_that_names_it(
    prepaid_process: Command, process: str, variable: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        async with asyncio.timeout(30):
            finished = await prepaid_process(process, **{"PORT": "0", variable: port})
    assert_refused(finished, f"{variable}: ", port, "another port")


async def test_an_address_that_is_not_this_machines_is_one_line(prepaid_process: Command) -> None:
    async with asyncio.timeout(30):
        finished = await prepaid_process("serve", HOST="192.0.2.1", PORT="0")
    assert_refused(finished, "HOST: ", "192.0.2.1")


async def test_a_key_is_shown_once_then_only_its_end(prepaid: Command) -> None:
    made = await prepaid("keys", "create", "--name", "app", "--scope", "write", "--all", "--json")
    assert made.code == 0
    assert set(made.json) == {"id", "key", "scope", "organizationId"}
    listed = await prepaid("keys", "list", "--json")
    assert made.json["key"] not in listed.stdout
    assert listed.json["keys"][0]["hint"] == f"…{made.json['key'][-4:]}"
    revoked = await prepaid("keys", "revoke", made.json["id"], "--json")
    assert (revoked.code, revoked.json) == (0, {"id": made.json["id"], "revoked": True})


async def test_a_key_may_be_bound_to_one_organization_and_the_audit_log_knows(
    prepaid: Command, database_url: str, pool: Pool, organization: Organization
) -> None:
    made = await prepaid(
        *("keys", "create", "--name", "app", "--scope", "read"),
        *("--organization", organization.slug, "--json"),
    )
    assert made.json["organizationId"] == str(organization.id)
    row = await pool.fetchrow("SELECT * FROM audit_log")
    assert row is not None
    assert (row["action"], row["organization_id"]) == ("keys.create", organization.id)
    role = urlsplit(process_url(database_url)).username
    assert row["actor"] == f"cli:{getpass.getuser()}@{role}"
    assert made.json["key"] not in str(dict(row))


async def test_events_are_listed_newest_first_in_pages(prepaid: Command, pool: Pool) -> None:
    for n in range(3):
        await receive(pool, payment(str(n)))
    first = await prepaid("events", "list", "--limit", "2", "--json")
    assert [row["id"] for row in first.json["events"]] == ["evt_2", "evt_1"]
    assert set(first.json["events"][0]) >= {
        "id",
        "type",
        "state",
        "attempts",
        "error",
        "receivedAt",
    }
    rest = await prepaid(
        *("events", "list", "--limit", "2", "--json", "--cursor", first.json["nextCursor"])
    )
    assert [row["id"] for row in rest.json["events"]] == ["evt_0"]
    assert rest.json["nextCursor"] is None


async def test_an_open_event_is_shown_with_its_lane_and_its_lost_leases(
    prepaid: Command, pool: Pool
) -> None:
    await receive(pool, payment("1"))
    await pool.execute("UPDATE stripe_events SET lane = 'suspect', leases_lost = 3")
    shown = (await prepaid("events", "show", "evt_1", "--json")).json["events"][0]
    assert (shown["lane"], shown["leasesLost"]) == ("suspect", 3)
    lines = [
        line.split() for line in (await prepaid("events", "show", "evt_1")).stdout.splitlines()
    ]
    assert ["lane", "suspect"] in lines


async def test_a_dead_letter_is_understood_mended_and_replayed(
    prepaid_process: Command, pool: Pool, drainer: Drainer, stand_in: SimulatorProcess
) -> None:
    stripe = {"STRIPE_API_BASE": stand_in.url}
    await dead_letter(pool, drainer, "1", "2")
    listed = await prepaid_process("events", "list", "--state", "dead", "--json")
    assert {row["id"] for row in listed.json["events"]} == {"evt_1", "evt_2"}
    assert all("acme" in row["error"] for row in listed.json["events"])
    finished = await prepaid_process("events", "show", "evt_1", "--payload", "--json")
    (shown,) = finished.json["events"]
    assert (shown["state"], shown["errorClass"]) == ("dead", "UnknownOrganizationError")
    assert (shown["lane"], shown["leasesLost"]) == (None, 0)
    assert "Traceback" in shown["errorTrace"]
    assert shown["payload"] == json.loads(payment("1")) | {"created": shown["payload"]["created"]}

    hopeless = await prepaid_process("events", "replay", "--state", "dead", "--json", **stripe)
    assert (hopeless.code, hopeless.json["failed"], hopeless.json["applied"]) == (1, 2, 0)

    acme = await create_organization(pool)
    replayed = await prepaid_process(
        *("events", "replay", "--state", "dead", "--reason", "done", "--json"), **stripe
    )
    assert replayed.code == 0
    report = replayed.json
    assert {"batchId", "selected", "applied", "noop", "failed", "diff"} <= set(report)
    assert (report["selected"], report["applied"], report["noop"], report["failed"]) == (2, 2, 0, 0)
    (diff,) = report["diff"]
    assert (diff["organizationId"], diff["before"], diff["after"]) == (str(acme.id), 0, 20)
    assert len(diff["transactions"]) == len(await transactions(pool)) == 2

    again = await prepaid_process("events", "replay", "evt_1", "evt_2", "--json", **stripe)
    assert (again.code, again.json["noop"], again.json["diff"]) == (0, 2, [])


async def test_a_replay_of_nothing_is_done(prepaid_process: Command) -> None:
    finished = await prepaid_process("events", "replay", "--state", "dead", "--json")
    assert (finished.code, finished.json["selected"]) == (0, 0)


async def test_an_event_is_discarded_with_a_reason_once(
    prepaid: Command, pool: Pool, drainer: Drainer
) -> None:
    await dead_letter(pool, drainer, "1")
    finished = await prepaid("events", "discard", "evt_1", "--reason", "a test", "--json")
    assert (finished.code, finished.json["state"]) == (0, "discarded")
    assert await event_states(pool) == {"evt_1": "discarded"}
    assert await pool.fetchval("SELECT reason FROM audit_log") == "a test"
    assert_refused(await prepaid("events", "discard", "evt_1", "--reason", "again"), "evt_1")


async def test_without_json_a_person_reads_lines(prepaid: Command, pool: Pool) -> None:
    await receive(pool, payment("1"))
    finished = await prepaid("events", "list")
    assert finished.code == 0
    assert "evt_1" in finished.stdout
    assert "payment_intent.succeeded" in finished.stdout


async def test_a_balance_is_printed_with_every_digit_and_no_exponent(
    prepaid_process: Command, pool: Pool, organization: Organization
) -> None:
    await pool.execute("UPDATE accounts SET balance = 12345678901234567890.000000001, held = 1e-9")
    finished = await prepaid_process("orgs", "show", "acme", "--json")
    assert '"balance": 12345678901234567890.000000001' in finished.stdout
    assert '"held": 0.000000001' in finished.stdout
