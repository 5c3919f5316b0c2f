"""The inbox on PostgreSQL: claims, leases, the fence, pages and counts."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import asyncpg
import pytest
from structlog.testing import capture_logs

from shared.inbox import rules, store
from shared.inbox.admin import store as admin
from shared.inbox.model import ClaimedEvent, Delivery, EventOutcome, EventState, Lane
from shared.inbox.service import Inbox
from tests.fixtures.product import LEASE, event_row, event_states, payment, receive

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

EXPIRED = timedelta(0)
FIRST = UUID(int=1)
SECOND = UUID(int=2)


async def claim(
    pool: Pool,
    token: UUID = FIRST,
    *,
    lease: timedelta = LEASE,
    rows_max: int = 200,
    lane: Lane = Lane.SHARED,
) -> list[ClaimedEvent]:
    async with pool.acquire() as connection:
        return await store.claim(connection, rows_max=rows_max, token=token, lease=lease, lane=lane)


async def finish(
    pool: Pool, token: UUID, events: list[ClaimedEvent], state: EventState = EventState.APPLIED
) -> int:
    outcomes = [EventOutcome(event.key, state, reason="because") for event in events]
    async with pool.acquire() as connection:
        return await store.finish(connection, token, outcomes)


def delivery(body: bytes) -> Delivery:
    return Delivery(*rules.read_header(body), "req_1", None)


async def test_a_claim_takes_what_is_due_and_counts_the_attempt(pool: Pool) -> None:
    await receive(pool, payment("1"), payment("2"))
    claimed = await claim(pool)
    assert {event.id for event in claimed} == {"evt_1", "evt_2"}
    assert {event.attempts for event in claimed} == {1}
    assert claimed[0].request_id == "req_test"


async def test_a_claim_takes_the_oldest_first_and_no_more_than_asked(pool: Pool) -> None:
    for name in ("1", "2", "3"):
        await receive(pool, payment(name))
    assert {event.id for event in await claim(pool, rows_max=2)} == {"evt_1", "evt_2"}
    assert {event.id for event in await claim(pool, rows_max=2)} == {"evt_3"}


async def test_what_is_under_a_lease_is_not_claimed_again(pool: Pool) -> None:
    await receive(pool, payment("1"))
    assert len(await claim(pool, FIRST)) == 1
    assert await claim(pool, SECOND) == []


async def test_an_expired_lease_is_due_again_with_its_attempt_counted(pool: Pool) -> None:
    await receive(pool, payment("1"))
    await claim(pool, FIRST, lease=EXPIRED)
    again = await claim(pool, SECOND, lane=Lane.ALONE)
    assert [(event.attempts, event.leases_lost) for event in again] == [(2, 1)]


async def test_a_zombie_cannot_settle_after_its_lease_passed_to_another(pool: Pool) -> None:
    await receive(pool, payment("1"))
    zombie = await claim(pool, FIRST, lease=EXPIRED)
    heir = await claim(pool, SECOND, lane=Lane.ALONE)
    assert await finish(pool, FIRST, zombie, EventState.DEAD) == 0
    assert (await event_row(pool, "evt_1"))["lease_token"] == SECOND
    assert await finish(pool, SECOND, heir) == 1
    assert await event_states(pool) == {"evt_1": "applied"}


async def test_a_worker_that_was_late_may_still_settle_while_nobody_took_over(
    pool: Pool,
) -> None:
    await receive(pool, payment("1"))
    late = await claim(pool, FIRST, lease=EXPIRED)
    assert await finish(pool, FIRST, late) == 1


async def test_an_event_is_settled_once(pool: Pool) -> None:
    await receive(pool, payment("1"))
    claimed = await claim(pool)
    assert await finish(pool, FIRST, claimed) == 1
    assert await finish(pool, FIRST, claimed, EventState.DEAD) == 0
    assert await event_states(pool) == {"evt_1": "applied"}


async def test_two_claimers_at_once_get_disjoint_sets_and_nobody_waits(pool: Pool) -> None:
    await receive(pool, *(payment(str(n)) for n in range(40)))
    async with pool.acquire() as one, pool.acquire() as two, one.transaction(), two.transaction():
        first = await store.claim(one, rows_max=20, token=FIRST, lease=LEASE)
        async with asyncio.timeout(10):
            second = await store.claim(two, rows_max=40, token=SECOND, lease=LEASE)
    assert len(first) == len(second) == 20
    assert {event.id for event in first}.isdisjoint({event.id for event in second})


async def test_many_claimers_at_once_take_every_event_exactly_once(pool: Pool) -> None:
    await receive(pool, *(payment(str(n)) for n in range(100)))
    claims = await asyncio.gather(*(claim(pool, uuid4(), rows_max=30) for _ in range(8)))
    taken = [event.id for claimed in claims for event in claimed]
    taken += [event.id for event in await claim(pool)]
    assert len(taken) == len(set(taken)) == 100


async def test_a_claim_that_rolled_back_leaves_the_event_due(pool: Pool) -> None:
    await receive(pool, payment("1"))
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await store.claim(connection, rows_max=1, token=FIRST, lease=LEASE)
        await transaction.rollback()
    assert [event.attempts for event in await claim(pool, SECOND)] == [1]


async def test_a_released_event_is_due_at_the_given_moment_and_its_attempt_is_not_counted(
    pool: Pool,
) -> None:
    await receive(pool, payment("1"), payment("2"))
    claimed = await claim(pool)
    async with pool.acquire() as connection:
        await store.release(connection, FIRST, [claimed[0].key], lane=Lane.SHARED)
        await store.release(
            connection, FIRST, [claimed[1].key], lane=Lane.SHARED, due_in=timedelta(hours=1)
        )
    again = await claim(pool, SECOND)
    assert [(event.id, event.attempts) for event in again] == [(claimed[0].id, 1)]


async def test_a_zombie_cannot_release_what_another_has(pool: Pool) -> None:
    await receive(pool, payment("1"))
    zombie = await claim(pool, FIRST, lease=EXPIRED)
    await claim(pool, SECOND, lane=Lane.ALONE)
    async with pool.acquire() as connection:
        await store.release(connection, FIRST, [zombie[0].key], lane=Lane.SHARED)
    assert await claim(pool) == []


@pytest.mark.parametrize("state", ["applied", "ignored", "dead", "discarded", "quarantined"])
async def test_what_is_settled_is_never_claimed(pool: Pool, state: str) -> None:
    await receive(pool, payment("1"))
    await finish(pool, FIRST, await claim(pool, FIRST, lease=EXPIRED), EventState(state))
    assert await claim(pool, SECOND) == []


async def test_a_retry_is_due_only_after_its_backoff(pool: Pool) -> None:
    await receive(pool, payment("1"), payment("2"))
    claimed = {event.id: event for event in await claim(pool)}
    async with pool.acquire() as connection:
        await store.finish(
            connection,
            FIRST,
            [
                EventOutcome(
                    claimed[event_id].key,
                    EventState.RETRYING,
                    reason="later",
                    retry_in=wait,
                    lane=Lane.ALONE,
                )
                for event_id, wait in [("evt_1", timedelta(0)), ("evt_2", timedelta(hours=1))]
            ],
        )
    again = await claim(pool, SECOND, lane=Lane.ALONE)
    assert [(event.id, event.attempts) for event in again] == [("evt_1", 2)]


async def test_a_discarded_event_escapes_the_worker_that_holds_it(pool: Pool) -> None:
    await receive(pool, payment("1"))
    claimed = await claim(pool)
    async with pool.acquire() as connection:
        assert await admin.discard(connection, ["evt_1"], "a person said so")
    assert await finish(pool, FIRST, claimed) == 0
    assert await event_states(pool) == {"evt_1": "discarded"}


async def test_an_applied_event_has_nothing_to_discard(pool: Pool) -> None:
    await receive(pool, payment("1"))
    await finish(pool, FIRST, await claim(pool))
    async with pool.acquire() as connection:
        assert not await admin.discard(connection, ["evt_1"], "too late")


async def test_the_backlog_counts_open_and_dead_events_by_state(
    pool: Pool, connection: Connection
) -> None:
    await receive(pool, *(payment(str(n)) for n in range(4)))
    claimed = await claim(pool, rows_max=2)
    await finish(pool, FIRST, claimed[:1], EventState.DEAD)
    await finish(pool, FIRST, claimed[1:], EventState.APPLIED)
    found = await store.backlog(connection)
    assert {state: count for state, (count, _) in found.items()} == {"received": 2, "dead": 1}
    assert found[EventState.RECEIVED][1] >= 0
    assert await store.pending(connection) == 2


async def test_the_database_refuses_a_settled_event_under_a_lease(pool: Pool) -> None:
    await receive(pool, payment("1"))
    with pytest.raises(asyncpg.CheckViolationError):
        await pool.execute(
            "UPDATE stripe_events SET state = 'applied', settled_at = now(), lease_token = $1",
            FIRST,
        )


async def test_deliveries_that_arrive_together_share_commits(pool: Pool) -> None:
    wakeups: list[None] = []
    inbox = Inbox(pool, lambda: wakeups.append(None))
    receipts = await asyncio.gather(*(inbox.receive(delivery(payment(str(n)))) for n in range(100)))
    assert [receipt.event_id for receipt in receipts] == [f"evt_{n}" for n in range(100)]
    assert not any(receipt.duplicate for receipt in receipts)
    assert len(wakeups) < 10
    await inbox.close()


async def test_a_worker_is_woken_before_the_deliveries_are_logged(pool: Pool) -> None:
    with capture_logs() as lines:
        seen: list[int] = []
        inbox = Inbox(pool, lambda: seen.append(len(lines)))
        await inbox.receive(delivery(payment("1")))
        await inbox.close()
    assert seen == [0]
    assert [line["event"] for line in lines] == ["inbox.committed"]


async def test_one_event_twice_in_one_commit_is_new_once(pool: Pool) -> None:
    inbox = Inbox(pool, lambda: None)
    receipts = await asyncio.gather(*(inbox.receive(delivery(payment("1"))) for _ in range(10)))
    assert sorted(receipt.duplicate for receipt in receipts) == [False] + [True] * 9
    await inbox.close()


async def test_closing_waits_for_the_deliveries_under_way(pool: Pool) -> None:
    inbox = Inbox(pool, lambda: None)
    waiting = [asyncio.create_task(inbox.receive(delivery(payment(str(n))))) for n in range(5)]
    await asyncio.sleep(0)
    await inbox.close()
    assert all(task.done() for task in waiting)
    assert len(await event_states(pool)) == 5
