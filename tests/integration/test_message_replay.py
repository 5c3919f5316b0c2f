"""A replay of outbound messages is a batch: it selects, counts, stops, resumes and runs once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from shared.errors import ConflictError, LeaseLostError, NotFoundError, ValidationError
from shared.outbound import service
from shared.outbound.model import MessageFilter, MessageState, MessageType
from shared.outbound.rules import public_id
from shared.replay import messages, rules
from shared.replay.messages import MessageReplayer, MessageReplayReport
from shared.replay.model import ReplayOptions
from tests.fixtures.outbound_messages import add, announce, states

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

WHO = "cli:test"
DEAD = MessageFilter()
URL = "https://app.example.com/hooks"
DIE = (
    "UPDATE outbound_messages SET state = 'dead', reason = 'no answer', attempts = 9,"
    " settled_at = now()"
)


@pytest.fixture
def replayer(pool: Pool) -> MessageReplayer:
    return MessageReplayer(pool)


async def dead(pool: Pool, organization: Organization, count: int) -> list[UUID]:
    """Let messages to one endpoint die, the oldest first; return their ids."""
    await add(pool, URL)
    ids = [message.id for message in await announce(pool, organization, count)]
    await pool.execute(DIE)
    for age, message_id in enumerate(reversed(ids)):
        await pool.execute(
            "UPDATE outbound_messages SET created_at = now() - $2::interval WHERE id = $1",
            message_id,
            timedelta(minutes=age + 1),
        )
    return ids


def counts(report: MessageReplayReport) -> tuple[int, int, int, int]:
    return report["selected"], report["applied"], report["noop"], report["failed"]


async def test_a_filter_of_messages_selects_by_state_type_moment_and_endpoint(
    pool: Pool, organization: Organization, replayer: MessageReplayer
) -> None:
    other = await add(pool, "https://other.example.com")
    ids = await dead(pool, organization, 4)
    await pool.execute("UPDATE outbound_messages SET type = 'dispute.opened' WHERE id = $1", ids[0])
    await pool.execute(
        "UPDATE outbound_messages SET created_at = now() - interval '2 days' WHERE id = $1", ids[1]
    )
    await pool.execute("UPDATE outbound_messages SET state = 'discarded' WHERE id = $1", ids[2])
    wanted = MessageFilter(
        type=MessageType.CREDITS_LOW,
        since=datetime.now(UTC) - timedelta(days=1),
        endpoint_id=other.endpoint.id,
    )
    preview = await replayer.preview(wanted)
    assert (preview["dryRun"], preview["replayed"]) == (True, [public_id(ids[3])])
    assert await states(pool) == {"dead": 6, "discarded": 2}
    report = await replayer.replay(wanted, actor=WHO, reason="fixed")
    assert (counts(report), report["replayed"]) == ((1, 1, 0, 0), preview["replayed"])
    rows = await pool.fetch(
        "SELECT id, endpoint_id, attempts FROM outbound_messages WHERE state = 'pending'"
    )
    assert [tuple(row) for row in rows] == [(ids[3], other.endpoint.id, 0)]
    batch = await pool.fetchrow("SELECT * FROM replay_batches")
    assert batch is not None
    assert (batch["kind"], batch["actor"], batch["reason"], batch["state"]) == (
        "messages",
        WHO,
        "fixed",
        "finished",
    )
    assert batch["filter"]["type"] == "credits.low"


async def test_messages_of_the_same_moment_are_each_selected_once(
    pool: Pool,
    organization: Organization,
    replayer: MessageReplayer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rules, "BATCH_ROWS_MAX", 2)
    monkeypatch.setattr(messages, "PREVIEW_ROWS_MAX", 2)
    monkeypatch.setattr(messages, "NAMES_MAX", 3)
    await add(pool, "https://other.example.com")
    await dead(pool, organization, 5)
    await pool.execute("UPDATE outbound_messages SET created_at = now() - interval '1 hour'")
    preview = await replayer.preview(DEAD)
    report = await replayer.replay(DEAD, actor=WHO, reason=None)
    assert preview["selected"] == report["applied"] == 10
    assert len(report["replayed"]) == 3
    assert await states(pool) == {"pending": 10}


async def test_a_replay_of_messages_has_a_rate(
    pool: Pool, organization: Organization, replayer: MessageReplayer
) -> None:
    ids = await dead(pool, organization, 5)
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    slow = replace(replayer, sleep=sleep, clock=lambda: 0.0)
    report = await slow.replay(ids, actor=WHO, reason=None, options=ReplayOptions(rate=2))
    assert (report["applied"], pauses) == (5, [1.0, 1.0, 0.5])


class DyingError(BaseException):
    """The process ends: nothing handles this."""


@pytest.mark.parametrize("after", [0, 1, 3])
async def test_a_replay_of_messages_that_dies_resumes_with_exact_counts(
    pool: Pool, organization: Organization, replayer: MessageReplayer, after: int
) -> None:
    await dead(pool, organization, 5)
    left = iter(range(after))

    async def sleep(_seconds: float) -> None:
        if next(left, None) is None:
            raise DyingError

    dying = replace(replayer, sleep=sleep, clock=lambda: 0.0)
    with suppress(DyingError):
        await dying.replay(DEAD, actor=WHO, reason="why", options=ReplayOptions(rate=1))
    assert await states(pool) == {"dead": 4 - after, "pending": after + 1}
    batch_id = await pool.fetchval("SELECT id FROM replay_batches WHERE state = 'running'")
    resumed = await replace(replayer, sleep=_no_sleep).resume(batch_id, actor=WHO)
    assert (resumed["state"], counts(resumed)) == ("finished", (5, 5, 0, 0))
    assert await states(pool) == {"pending": 5}
    with pytest.raises(ConflictError, match="finished"):
        await replayer.resume(batch_id, actor=WHO)
    actions = await pool.fetch("SELECT action FROM audit_log WHERE action LIKE 'messages%'")
    assert [row["action"] for row in actions] == ["messages.replay", "messages.replay.resume"]


async def test_a_replay_of_messages_stops_after_so_many_failures(
    pool: Pool, organization: Organization, replayer: MessageReplayer
) -> None:
    """Their endpoint is disabled after they were selected; each is then counted as failed."""
    ids = await dead(pool, organization, 5)

    async def disable(_seconds: float) -> None:
        await pool.execute(
            "UPDATE webhook_endpoints SET disabled_at = now(), disabled_reason = 'removed'"
        )

    racing = replace(replayer, sleep=disable, clock=lambda: 0.0)
    options = ReplayOptions(rate=1, stop_after=2)
    stopped = await racing.replay(ids, actor=WHO, reason=None, options=options)
    assert (stopped["state"], counts(stopped)) == ("stopped", (3, 1, 0, 2))
    assert {each["error"] for each in stopped["failures"]} == {messages.DISABLED}
    await pool.execute("UPDATE webhook_endpoints SET disabled_at = NULL, disabled_reason = NULL")
    batch_id = UUID(stopped["batchId"])
    resumed = await replace(replayer, sleep=_no_sleep).resume(batch_id, actor=WHO)
    assert (resumed["state"], counts(resumed)) == ("finished", (5, 3, 0, 2))


async def test_a_second_replay_of_messages_is_refused_and_one_of_events_is_not_in_the_way(
    pool: Pool, organization: Organization, replayer: MessageReplayer
) -> None:
    ids = await dead(pool, organization, 2)
    await pool.execute(
        "INSERT INTO replay_batches (id, kind, ids, actor, options, holder)"
        " VALUES ($1, 'events', '{evt_1}', 'cli:events', '{}', $1)",
        UUID(int=7),
    )
    running, go_on = asyncio.Event(), asyncio.Event()

    async def sleep(_seconds: float) -> None:
        running.set()
        await go_on.wait()

    slow = replace(replayer, sleep=sleep, clock=lambda: 0.0)
    first = asyncio.create_task(
        slow.replay(ids, actor="cli:first", reason=None, options=ReplayOptions(rate=1))
    )
    await running.wait()
    with pytest.raises(ConflictError, match=r"started by cli:first.*prepaid messages replay"):
        await replayer.replay(ids, actor=WHO, reason=None)
    batch_id = await pool.fetchval("SELECT id FROM replay_batches WHERE kind = 'messages'")
    quick = replace(replayer, sleep=_no_sleep)
    assert counts(await quick.resume(batch_id, actor=WHO)) == (2, 2, 0, 0)
    go_on.set()
    with pytest.raises(LeaseLostError, match="Another process"):
        await first
    with pytest.raises(NotFoundError):
        await replayer.resume(UUID(int=7), actor=WHO)


async def _no_sleep(_seconds: float) -> None:
    """Go on at once."""


async def test_a_message_that_changed_after_it_was_selected_is_a_noop(
    pool: Pool, organization: Organization, replayer: MessageReplayer
) -> None:
    first, second, third = sorted(await dead(pool, organization, 3))

    async def meanwhile(_seconds: float) -> None:
        await pool.execute(
            "UPDATE outbound_messages SET state = 'discarded', reason = 'x', settled_at = now()"
            " WHERE id = $1",
            second,
        )
        await pool.execute(
            "UPDATE outbound_messages SET state = 'pending', settled_at = NULL,"
            " lease_token = gen_random_uuid(), available_at = now() + interval '1 minute'"
            " WHERE id = $1",
            third,
        )

    # Named ones are replayed from any state, but for those that a worker is sending.
    racing = replace(replayer, sleep=meanwhile, clock=lambda: 0.0)
    options = ReplayOptions(rate=1)
    ids = [first, second, third]
    report = await racing.replay(ids, actor=WHO, reason=None, options=options)
    assert counts(report) == (3, 2, 1, 0)


async def test_a_replay_of_messages_leaves_out_disabled_endpoints_and_refuses_to_name_one(
    pool: Pool, organization: Organization, replayer: MessageReplayer
) -> None:
    ids = await dead(pool, organization, 2)
    (endpoint,) = await pool.fetch("SELECT id FROM webhook_endpoints")
    async with pool.acquire() as connection:
        await service.remove_endpoint(connection, endpoint["id"])
    assert counts(await replayer.replay(DEAD, actor=WHO, reason=None)) == (0, 0, 0, 0)
    with pytest.raises(ConflictError, match="disabled"):
        await replayer.replay(ids, actor=WHO, reason=None)
    with pytest.raises(ConflictError, match="add it again"):
        await replayer.replay(MessageFilter(endpoint_id=endpoint["id"]), actor=WHO, reason=None)
    with pytest.raises(NotFoundError, match="endpoint"):
        await replayer.replay(MessageFilter(endpoint_id=uuid4()), actor=WHO, reason=None)
    with pytest.raises(NotFoundError, match="msg_"):
        await replayer.preview([uuid4()])
    with pytest.raises(ValidationError, match="500"):
        await replayer.replay(DEAD, actor=WHO, reason="x" * 501)


async def test_messages_are_discarded_by_a_filter(
    pool: Pool, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "BATCH_ROWS_MAX", 2)
    ids = await dead(pool, organization, 5)
    (late,) = await announce(pool, organization)
    found = await messages.discard(pool, DEAD, actor=WHO, reason="too old")
    assert (found.count, set(found.ids)) == (5, {public_id(each) for each in ids})
    assert await states(pool) == {"discarded": 5, "pending": 1}
    row = await pool.fetchrow("SELECT * FROM outbound_messages WHERE id = $1", ids[0])
    assert row is not None
    assert (row["reason"], row["discard_reason"]) == ("no answer", "too old")
    entries = await pool.fetch("SELECT * FROM audit_log WHERE action = 'messages.discard'")
    assert (len(entries), len({entry["subject"] for entry in entries})) == (3, 1)
    pending = MessageFilter(state=MessageState.PENDING)
    found = await messages.discard(pool, pending, actor=WHO, reason="too old")
    assert found.ids == [public_id(late.id)]
    delivered = MessageFilter(state=MessageState.DELIVERED)
    with pytest.raises(ConflictError, match="nothing left to discard"):
        await messages.discard(pool, delivered, actor=WHO, reason="too old")
