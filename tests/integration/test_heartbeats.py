"""Heartbeats of the workers in PostgreSQL, and what is measured beside them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from shared.heartbeats import store
from shared.heartbeats.model import RETENTION_SECONDS, STALE_SECONDS, Beat
from shared.inbox.store import QUERIES as INBOX
from shared.measurements import measurements
from shared.outbound.store import QUERIES as MESSAGES
from tests.fixtures.product import payment, receive

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool


async def age(connection: Connection, seconds: float) -> None:
    """Make every heartbeat older, or newer than now."""
    await connection.execute(
        "UPDATE worker_heartbeats SET beat_at = beat_at - make_interval(secs => $1)", seconds
    )


async def test_without_any_worker_that_is_what_is_wrong(pool: Pool, connection: Connection) -> None:
    """R13."""
    problem = (await store.health(connection)).problem
    assert problem is not None
    assert problem.startswith("no worker runs (none has ever run)")
    with pytest.raises(store.WorkersError):
        await store.check(pool)
    await store.measure(pool)
    assert REGISTRY.get_sample_value("prepaid_workers") == 0


async def test_a_worker_that_beats_is_there_until_its_beats_are_stale(
    pool: Pool, connection: Connection
) -> None:
    """R13."""
    await store.beat(connection, uuid4(), [Beat("sweeper"), Beat("heartbeat")])
    await store.check(pool)
    assert (await store.health(connection)).problem is None
    await age(connection, STALE_SECONDS + 1)
    with pytest.raises(store.WorkersError):
        await store.check(pool)
    await store.measure(pool)
    assert REGISTRY.get_sample_value("prepaid_workers") == 0
    oldest = REGISTRY.get_sample_value("prepaid_worker_heartbeat_age_seconds", {"loop": "sweeper"})
    assert oldest is not None
    assert oldest > STALE_SECONDS


async def test_one_worker_of_two_that_is_frozen_is_not_missed(connection: Connection) -> None:
    await store.beat(connection, uuid4(), [Beat("sweeper")])
    await age(connection, STALE_SECONDS + 1)
    await store.beat(connection, uuid4(), [Beat("sweeper")])
    found = await store.health(connection)
    assert (found.workers, found.problem) == (1, None)


async def test_a_loop_that_is_missing_or_fails_is_named(connection: Connection) -> None:
    """R12."""
    worker = uuid4()
    await store.beat(connection, worker, [Beat("messenger"), Beat("expirer", 7.5, "ValueError")])
    assert "failing: expirer (ValueError)" in str((await store.health(connection)).problem)
    since = await connection.fetchval(
        "SELECT extract(EPOCH FROM now() - failing_since) FROM worker_heartbeats"
        " WHERE loop = 'expirer'"
    )
    assert 7 < since < 60
    await age(connection, STALE_SECONDS + 1)
    await store.beat(connection, worker, [Beat("expirer")])
    assert "no worker runs messenger" in str((await store.health(connection)).problem)


async def test_a_clock_that_was_an_hour_ahead_makes_no_dead_worker_look_alive(
    connection: Connection,
) -> None:
    await store.beat(connection, uuid4(), [Beat("sweeper")])
    await age(connection, -3600)
    assert (await store.health(connection)).workers == 0
    await store.beat(connection, uuid4(), [Beat("sweeper")])
    assert (await store.health(connection)).workers == 1


async def test_workers_that_are_long_gone_are_forgotten(connection: Connection) -> None:
    await store.beat(connection, uuid4(), [Beat("sweeper")])
    await age(connection, RETENTION_SECONDS + 1)
    await store.beat(connection, uuid4(), [Beat("sweeper")])
    assert await connection.fetchval("SELECT count(*) FROM worker_heartbeats") == 1


async def test_measuring_reads_no_event_or_message_that_is_settled(
    pool: Pool, connection: Connection
) -> None:
    """R11: it read all of them, for everybody who asked."""
    await receive(pool, payment("1"))
    await connection.execute(
        "INSERT INTO stripe_events (account, livemode, id, type, stripe_created_at, payload,"
        " request_id, state, settled_at)"
        " SELECT '', FALSE, 'evt_settled_' || n, 'a.b', now(), '{}', '', 'applied', now()"
        " FROM generate_series(1, 20000) AS n"
    )
    await connection.execute("ANALYZE stripe_events, outbound_messages")
    for statement in (INBOX.backlog, MESSAGES.backlog):
        plan = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", 1000)
        text = json.dumps(json.loads(plan))
        if statement is INBOX.backlog:
            assert "Seq Scan" not in text
            assert sum(map(int, re.findall(r'"Rows Removed by Filter": (\d+)', text))) < 10
    for measure in measurements(pool):
        await measure()
    assert REGISTRY.get_sample_value("prepaid_inbox_backlog", {"state": "received"}) == 1
    assert REGISTRY.get_sample_value("prepaid_inbox_backlog", {"state": "dead"}) == 0
