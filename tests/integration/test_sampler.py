"""The sampler: one row a minute for each series, by one worker, from rows that an index finds."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from shared.samples import rules, store
from shared.samples.model import SAMPLE_RETENTION, Point, Series
from tests.fixtures.product import create_organization, payment, receive
from worker.cleaners import SampleCleaner
from worker.drainer import Drainer
from worker.sampler import Sampler

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def samples(pool: Pool) -> dict[tuple[str, str], Decimal]:
    rows = await pool.fetch("SELECT name, label, value FROM metric_samples")
    return {(row["name"], row["label"]): row["value"] for row in rows}


async def move_into_the_last_minute(pool: Pool) -> None:
    """Make every event one that arrived in the minute that is sampled, and took two seconds."""
    await pool.execute(
        "UPDATE stripe_events SET"
        " received_at = date_trunc('minute', now() - interval '5 s') - interval '10 s',"
        " settled_at = CASE WHEN settled_at IS NOT NULL"
        " THEN date_trunc('minute', now() - interval '5 s') - interval '8 s' END"
    )


async def test_a_minute_is_sampled_from_the_rows_of_that_minute(
    pool: Pool, drainer: Drainer
) -> None:
    organization = await create_organization(pool)
    await receive(pool, payment("1"), payment("2"), payment("3", organization="nobody"))
    await drainer.drain()
    await receive(pool, payment("4"))
    await move_into_the_last_minute(pool)
    await receive(pool, payment("5"))  # in the minute that has not ended
    await pool.execute(
        "INSERT INTO recharge_attempts (organization_id, id, state, reason, created_at, settled_at)"
        " VALUES ($1, $2, 'canceled', 'not_needed', now(),"
        " date_trunc('minute', now() - interval '5 s') - interval '1 s')",
        organization.id,
        uuid4(),
    )
    assert await Sampler(pool).sample() > 0
    found = await samples(pool)
    assert found["events_received", ""] == 4
    assert found["backlog", ""] == 2
    assert found["dead", ""] == 1
    assert found["event_to_ledger_p50_seconds", ""] == 2
    assert found["event_to_ledger_p99_seconds", ""] == 2
    assert found["credits_outstanding", ""] == 20
    assert {label: n for (name, label), n in found.items() if name == "recharge_outcomes"} == {
        "succeeded": 0,
        "failed": 0,
        "canceled": 1,
    }
    assert {name for name, _ in found} == set(Series)


async def test_of_several_workers_one_samples_each_minute(pool: Pool) -> None:
    stored = await asyncio.gather(*(Sampler(pool).sample() for _ in range(5)))
    assert sorted(stored)[:-1] == [0, 0, 0, 0]
    assert max(stored) == await pool.fetchval("SELECT count(*) FROM metric_samples")


async def test_a_minute_in_which_nothing_was_applied_has_no_latency(pool: Pool) -> None:
    await Sampler(pool).sample()
    found = await samples(pool)
    assert found["events_received", ""] == 0
    assert ("event_to_ledger_p50_seconds", "") not in found


async def test_points_combine_the_samples_of_their_step(connection: Connection) -> None:
    for minute in range(1, 61):
        for name in (Series.EVENTS_RECEIVED, Series.BACKLOG, Series.CREDITS_OUTSTANDING):
            await connection.execute(
                "INSERT INTO metric_samples (sampled_at, name, value) VALUES ($1, $2, $3)",
                NOON + timedelta(minutes=minute),
                name,
                minute % 60,
            )
    until = NOON + timedelta(hours=1)
    expected = {
        Series.EVENTS_RECEIVED: [sum(range(1, 31)), sum(range(31, 60))],
        Series.BACKLOG: [30, 59],
        Series.CREDITS_OUTSTANDING: [30, 0],
    }
    for series, values in expected.items():
        points = await store.points(connection, series, NOON, until, points_max=2)
        assert points == [
            Point("", NOON + timedelta(minutes=30), Decimal(values[0])),
            Point("", until, Decimal(values[1])),
        ]


async def test_samples_are_deleted_after_two_weeks_in_small_batches(pool: Pool) -> None:
    await pool.execute(
        "INSERT INTO metric_samples (sampled_at, name, value)"
        " SELECT now() - $1::interval + n * interval '1 minute', 'dead', 0"
        " FROM generate_series(-5, 5) AS n WHERE n <> 0",
        SAMPLE_RETENTION,
    )
    assert await SampleCleaner(pool, rows_max=2).clean() == 5
    assert await pool.fetchval("SELECT count(*) FROM metric_samples") == 5


@pytest.mark.parametrize(
    ("minute", "accounts", "sums"),
    [(0, 5e6, True), (1, 5e6, False), (15, 5e6, True), (7, 1e5, True), (7, -1, True)],
)
def test_all_balances_are_added_up_each_minute_only_where_that_is_cheap(
    minute: int, accounts: float, sums: bool
) -> None:
    assert rules.sums_balances(NOON.replace(minute=minute), accounts) is sums


@pytest.mark.parametrize(
    ("span", "minutes"),
    [(timedelta(minutes=5), 1), (timedelta(hours=3), 1), (timedelta(days=14), 101)],
)
def test_a_step_is_as_narrow_as_the_number_of_points_allows(span: timedelta, minutes: int) -> None:
    assert rules.step(NOON, NOON + span, points_max=200) == timedelta(minutes=minutes)
