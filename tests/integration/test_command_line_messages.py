"""`prepaid endpoints …` and `prepaid messages …` as operators run them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import asyncpg
import pytest

from shared.organizations.model import Organization
from shared.outbound import service
from shared.outbound.model import MessageType, OutboundMessage
from shared.outbound.rules import public_id
from tests.fixtures.commands import Command, Finished
from tests.fixtures.product import create_organization
from tests.fixtures.receiver import Receiver
from worker.messenger import Messenger

if TYPE_CHECKING:
    from shared.db.pool import Pool

URL = "https://example.com/hooks"
NOBODY = str(UUID(int=1))


async def announce(
    pool: Pool, organization: Organization, message_type: MessageType = MessageType.CREDITS_LOW
) -> str:
    sent = OutboundMessage(
        organization.id, message_type, {"balance": 1}, uuid4(), datetime.now(UTC)
    )
    async with pool.acquire() as connection:
        await service.announce(connection, [sent])
    return public_id(sent.id)


async def die(pool: Pool) -> None:
    await pool.execute(
        "UPDATE outbound_messages SET state = 'dead', settled_at = now(), reason = 'no answer',"
        " attempts = 10 WHERE state = 'pending'"
    )


async def audit(pool: Pool) -> list[asyncpg.Record]:
    return await pool.fetch("SELECT * FROM audit_log ORDER BY at, id")


def refused(finished: Finished, code: int = 1) -> bool:
    lines = finished.stderr.strip().splitlines()
    return finished.code == code and finished.stdout == "" and (code == 2 or len(lines) == 1)


async def test_an_endpoint_is_added_listed_rotated_and_removed_and_its_secret_is_shown_once(
    prepaid_process: Command, pool: Pool
) -> None:
    made = await prepaid_process(
        *("endpoints", "add", "--url", URL, "--type", "credits.low"),
        *("--type", "dispute.opened", "--description", "billing", "--json"),
    )
    assert made.code == 0, made
    assert set(made.json) == {
        *("id", "url", "types", "description", "createdAt", "disabledAt", "disabledReason"),
        "secret",
    }
    assert made.json["types"] == ["credits.low", "dispute.opened"]
    assert made.json["secret"].startswith("whsec_")

    listed = await prepaid_process("endpoints", "list", "--json")
    assert listed.json["endpoints"] == [
        {name: value for name, value in made.json.items() if name != "secret"}
    ]

    rotated = await prepaid_process("endpoints", "rotate", made.json["id"], "--json")
    assert rotated.json["secret"] not in {made.json["secret"], ""}
    row = await pool.fetchrow("SELECT * FROM webhook_endpoints")
    assert row is not None
    assert (row["secret"], row["previous_secret"]) == (rotated.json["secret"], made.json["secret"])

    removed = await prepaid_process("endpoints", "remove", made.json["id"], "--json")
    assert removed.json == {"id": made.json["id"], "removed": True, "discarded": 0}
    (left,) = (await prepaid_process("endpoints", "list", "--json")).json["endpoints"]
    assert left["disabledReason"] == "removed"

    lines = await audit(pool)
    assert [line["action"] for line in lines] == [
        "endpoints.add",
        "endpoints.rotate",
        "endpoints.remove",
    ]
    assert {line["subject"] for line in lines} == {made.json["id"]}
    assert "whsec_" not in str([dict(line) for line in lines])


@pytest.mark.parametrize(
    "arguments",
    [
        ("endpoints", "add", "--url", "http://example.com"),
        ("endpoints", "add", "--url", "https://127.0.0.1/x"),
        ("endpoints", "add", "--url", "https://user@example.com"),
        ("endpoints", "add", "--url", "nonsense"),
        ("endpoints", "remove", NOBODY),
        ("endpoints", "rotate", NOBODY),
        ("messages", "show", NOBODY),
        ("messages", "replay", NOBODY),
        ("messages", "discard", NOBODY, "--reason", "x"),
    ],
    ids=" ".join,
)
async def test_what_cannot_be_done_is_refused_in_one_line(
    prepaid: Command, pool: Pool, arguments: tuple[str, ...]
) -> None:
    assert refused(await prepaid(*arguments, "--json"))
    assert await audit(pool) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("endpoints", "add"),
        ("endpoints", "add", "--url", URL, "--type", "nonsense"),
        ("endpoints", "remove", "nonsense"),
        ("messages", "list", "--state", "nonsense"),
        ("messages", "list", "--limit", "0"),
        ("messages", "show", "nonsense"),
        ("messages", "replay"),
        ("messages", "replay", "nonsense"),
        ("messages", "discard", NOBODY),
    ],
    ids=" ".join,
)
async def test_wrong_usage_is_exit_code_2(prepaid: Command, arguments: tuple[str, ...]) -> None:
    assert refused(await prepaid(*arguments), 2)


async def test_the_permission_for_private_addresses_is_a_variable(prepaid: Command) -> None:
    arguments = ("endpoints", "add", "--url", "http://127.0.0.1:8000/hooks", "--json")
    assert refused(await prepaid(*arguments))
    assert refused(await prepaid(*arguments, PREPAID_WEBHOOKS_ALLOW_PRIVATE="maybe"))
    assert (await prepaid(*arguments, PREPAID_WEBHOOKS_ALLOW_PRIVATE="1")).code == 0
    assert refused(await prepaid(*arguments, PREPAID_WEBHOOKS_ALLOW_PRIVATE="1"))


async def test_messages_are_listed_newest_first_and_by_state_and_type(
    prepaid: Command, pool: Pool, organization: Organization
) -> None:
    await prepaid("endpoints", "add", "--url", URL)
    dead = await announce(pool, organization)
    await die(pool)
    low = await announce(pool, organization)
    opened = await announce(pool, organization, MessageType.DISPUTE_OPENED)

    async def listed(*arguments: str) -> list[str]:
        found = await prepaid("messages", "list", "--json", *arguments)
        return [message["id"] for message in found.json["messages"]]

    assert await listed() == [opened, low, dead]
    assert await listed("--limit", "1") == [opened]
    assert await listed("--state", "dead") == [dead]
    assert await listed("--type", "credits.low") == [low, dead]
    human = await prepaid("messages", "list")
    assert dead in human.stdout
    assert "no answer" in human.stdout


async def test_a_message_is_shown_with_its_body_for_each_endpoint(
    prepaid: Command, pool: Pool, organization: Organization
) -> None:
    for name in ("one", "two"):
        await prepaid("endpoints", "add", "--url", f"https://{name}.example.com")
    sent = await announce(pool, organization)
    shown = (await prepaid("messages", "show", sent, "--json")).json["messages"]
    assert sorted(row["url"] for row in shown) == [
        "https://one.example.com",
        "https://two.example.com",
    ]
    assert shown[0]["payload"]["data"]["organizationId"] == str(organization.id)
    assert shown[0]["nextAttemptAt"] is not None
    human = await prepaid("messages", "show", sent.removeprefix("msg_"))
    assert human.code == 0
    assert '"type": "credits.low"' in human.stdout


async def test_dead_messages_are_replayed_and_a_worker_sends_them(
    prepaid: Command,
    pool: Pool,
    organization: Organization,
    receiver: Receiver,
    messenger: Messenger,
) -> None:
    await prepaid(
        *("endpoints", "add", "--url", receiver.url()), PREPAID_WEBHOOKS_ALLOW_PRIVATE="1"
    )
    sent = sorted([await announce(pool, organization) for _ in range(2)])
    await die(pool)
    replayed = await prepaid(
        *("messages", "replay", "--state", "dead", "--reason", "the app is back", "--json")
    )
    assert (replayed.code, replayed.json["replayed"]) == (0, sent)
    await messenger.deliver()
    assert sorted(one.id for one in receiver.received) == sent
    line = (await audit(pool))[-1]
    assert (line["action"], line["reason"]) == ("messages.replay", "the app is back")
    assert line["subject"] == replayed.json["batchId"]
    assert line["details"] == {"filter": {"state": "dead"}}
    nothing = await prepaid("messages", "replay", "--state", "dead", "--json")
    assert (nothing.code, nothing.json["replayed"]) == (0, [])

    # One that was delivered is sent again where a person names it.
    again = await prepaid("messages", "replay", sent[0])
    assert (again.code, "1 will be sent again" in again.stdout) == (0, True)
    await messenger.deliver()
    assert len(receiver.received) == 3
    assert refused(await prepaid("messages", "replay", sent[0], "--state", "dead"))


async def test_what_waits_for_its_backoff_is_sent_at_once_by_a_replay(
    prepaid: Command, pool: Pool, organization: Organization
) -> None:
    await prepaid("endpoints", "add", "--url", URL)
    sent = await announce(pool, organization)
    await pool.execute(
        "UPDATE outbound_messages SET attempts = 3, available_at = now() + interval '1 hour'"
    )
    assert (await prepaid("messages", "replay", sent, "--json")).json["replayed"] == [sent]
    row = await pool.fetchrow(
        "SELECT attempts, available_at <= now() AS due FROM outbound_messages"
    )
    assert row is not None
    assert (row["attempts"], row["due"]) == (0, True)


async def test_a_message_under_a_lease_or_of_a_disabled_endpoint_is_not_replayed(
    prepaid: Command, pool: Pool, organization: Organization
) -> None:
    made = await prepaid("endpoints", "add", "--url", URL, "--json")
    leased = await announce(pool, organization)
    await pool.execute(
        "UPDATE outbound_messages SET lease_token = gen_random_uuid(),"
        " available_at = now() + interval '1 minute'"
    )
    assert refused(await prepaid("messages", "replay", leased))
    await prepaid("endpoints", "remove", made.json["id"])
    assert refused(await prepaid("messages", "replay", leased))


async def test_a_message_is_discarded_with_a_reason_once(
    prepaid: Command, pool: Pool, organization: Organization
) -> None:
    await prepaid("endpoints", "add", "--url", URL)
    sent = await announce(pool, organization)
    await die(pool)
    done = await prepaid("messages", "discard", sent, "--reason", "a test", "--json")
    assert (done.code, done.json) == (0, {"id": sent, "state": "discarded", "reason": "a test"})
    line = (await audit(pool))[-1]
    assert (line["action"], line["subject"], line["reason"]) == ("messages.discard", sent, "a test")
    assert line["organization_id"] == organization.id
    assert refused(await prepaid("messages", "discard", sent, "--reason", "again"))
    assert refused(await prepaid("messages", "discard", sent, "--reason", " "), code=2)


async def test_a_dry_run_names_the_messages_and_changes_none(
    prepaid: Command, pool: Pool, organization: Organization
) -> None:
    await prepaid("endpoints", "add", "--url", URL)
    name = await announce(pool, organization)
    await die(pool)
    shown = await prepaid("messages", "replay", "--state", "dead", "--dry-run", "--json")
    assert (shown.code, shown.json["replayed"], shown.json["batchId"]) == (0, [name], None)
    assert await pool.fetchval("SELECT state FROM outbound_messages") == "dead"
    assert "messages.replay" not in {line["action"] for line in await audit(pool)}
    assert (await prepaid("messages", "discard", name, "--reason", "gone")).code == 0
    row = await pool.fetchrow("SELECT reason, discard_reason FROM outbound_messages")
    assert row is not None
    assert tuple(row) == ("no answer", "gone")


async def test_messages_of_one_organization_are_replayed_and_discarded(
    prepaid: Command, pool: Pool, organization: Organization
) -> None:
    await prepaid("endpoints", "add", "--url", URL)
    other = await create_organization(pool, "globex")
    ours, theirs = await announce(pool, organization), await announce(pool, other)
    await die(pool)
    replayed = await prepaid("messages", "replay", "--organization", organization.slug, "--json")
    assert (replayed.code, replayed.json["replayed"]) == (0, [ours])
    assert refused(await prepaid("messages", "replay", theirs, "--organization", organization.slug))
    why = ("--reason", "too old", "--json")
    discarded = await prepaid("messages", "discard", "--organization", str(other.id), *why)
    assert (discarded.code, discarded.json["ids"]) == (0, [theirs])
    for act in ("replay", "discard"):
        assert refused(await prepaid("messages", act, "--organization", "nobody", *why))
