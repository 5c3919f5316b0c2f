"""Each alert is silent on a healthy installation, and fires when its fault is injected.

Those about Stripe's refusals and about reconciliation are beside the tests of those rooms.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from aiohttp import ClientSession

from shared.heartbeats import store as heartbeats
from shared.heartbeats.model import Beat
from shared.http.health import Health
from shared.measurements import measurements
from tests.fixtures.alert_rules import Prometheus
from tests.fixtures.invariants import OLD, SUSPENSION, check, event
from tests.fixtures.outbound_messages import add, announce
from tests.fixtures.product import Endpoint, listening, payment, receive, until
from worker import clock
from worker.heartbeat import Heartbeat

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from worker.drainer import Drainer

LATE_EVENT = event(f"attempts = 3, available_at = {OLD}")
LATE_MESSAGE = f"UPDATE outbound_messages SET available_at = {OLD}"  # noqa: S608 - a constant


async def scrape(prometheus: Prometheus, pool: Pool) -> None:
    """Scrape this process: its counters, and the gauges as they are measured now."""
    for measure in measurements(pool):
        await measure()
    prometheus.scrape()


async def assert_silent(pool: Pool, *alerts: str) -> Prometheus:
    """Return what has scraped a healthy installation, on which none of these fires."""
    prometheus = Prometheus()
    await scrape(prometheus, pool)
    assert [alert for alert in alerts if prometheus.fires(alert)] == []
    return prometheus


async def beat(pool: Pool, *loops: str, seconds_ago: float = 0) -> None:
    """Store the heartbeat of another worker."""
    worker = uuid4()
    async with pool.acquire() as connection:
        await heartbeats.beat(connection, worker, [Beat(loop) for loop in loops])
        await connection.execute(
            "UPDATE worker_heartbeats SET beat_at = now() - make_interval(secs => $2)"
            " WHERE worker_id = $1",
            worker,
            seconds_ago,
        )


async def test_the_alert_for_no_worker_fires_when_the_last_heartbeat_is_stale(pool: Pool) -> None:
    await beat(pool, "heartbeat", "sweeper")
    prometheus = await assert_silent(pool, "PrepaidNoWorker")
    await pool.execute("UPDATE worker_heartbeats SET beat_at = now() - interval '21 seconds'")
    await scrape(prometheus, pool)
    assert prometheus.fires("PrepaidNoWorker")


async def test_the_alert_for_a_missing_loop_names_it_and_is_silent_where_another_worker_runs_it(
    pool: Pool,
) -> None:
    await beat(pool, "heartbeat", "messenger", seconds_ago=40)
    await beat(pool, "heartbeat", "messenger")
    prometheus = await assert_silent(pool, "PrepaidLoopMissing")
    await beat(pool, "heartbeat", "expirer", seconds_ago=40)
    await scrape(prometheus, pool)
    assert prometheus.fires("PrepaidLoopMissing") == [{"loop": "expirer"}]


async def test_a_loop_that_the_next_release_no_longer_has_is_not_missed_once_its_worker_stops(
    pool: Pool,
) -> None:
    stop = asyncio.Event()

    async def beaten() -> bool:
        return bool(await pool.fetchval("SELECT count(*) FROM worker_heartbeats"))

    clock.running["a loop of the last release"] = clock.LoopState()
    try:
        old = asyncio.create_task(Heartbeat(pool, uuid4(), interval_seconds=0.01).run(stop))
        await until(beaten)
        stop.set()
        await old
    finally:
        del clock.running["a loop of the last release"]
    await pool.execute("UPDATE worker_heartbeats SET beat_at = now() - interval '40 seconds'")
    await beat(pool, "heartbeat", "sweeper")
    await assert_silent(pool, "PrepaidLoopMissing")
    async with pool.acquire() as connection:
        assert (await heartbeats.health(connection)).problem is None


async def test_a_stopped_worker_leaves_the_time_of_its_last_heartbeat(pool: Pool) -> None:
    worker = uuid4()
    async with pool.acquire() as connection:
        await heartbeats.beat(connection, worker, [Beat("heartbeat"), Beat("sweeper")])
        await heartbeats.retire(connection, worker)
        await connection.execute("UPDATE worker_heartbeats SET beat_at = now() - interval '1 min'")
        problem = (await heartbeats.health(connection)).problem
    assert problem is not None
    assert "the last heartbeat is 60 s old" in problem


async def test_the_alert_for_no_scrapes_fires_when_no_process_is_there(pool: Pool) -> None:
    prometheus = await assert_silent(pool, "PrepaidNotScraped")
    prometheus.scrape("")
    assert prometheus.fires("PrepaidNotScraped")


async def test_the_alert_for_measurements_fires_after_a_minute_without_the_database(
    pool: Pool, client: ClientSession
) -> None:
    now = 0.0
    health = Health(
        required={}, optional={}, operations={}, measurements=measurements(pool), token=None,
        monotonic=lambda: now,
    )  # fmt: skip
    prometheus = Prometheus()

    async def scrape_over_http() -> None:
        async with client.get(f"http://127.0.0.1:{port}/metrics") as answer:
            prometheus.scrape(await answer.text())

    await pool.close()  # the database is gone for this process
    async with listening(health.operations_routes()) as port:
        await scrape_over_http()
        assert prometheus.fires("PrepaidNotMeasured") == []
        now = 61.0
        await scrape_over_http()
    assert prometheus.fires("PrepaidNotMeasured")
    assert prometheus.fires("PrepaidNoWorker") == [], "the gauges are gone"


async def test_the_alert_for_an_old_event_fires_for_one_that_nobody_applies(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await receive(pool, payment("applied"))
    await drainer.drain()
    await pool.execute("UPDATE stripe_events SET received_at = now() - interval '1 hour'")
    prometheus = await assert_silent(pool, "PrepaidOldEvent")
    await receive(pool, payment("waits"))
    await pool.execute("UPDATE stripe_events SET received_at = now() - interval '61 seconds'")
    await scrape(prometheus, pool)
    assert prometheus.fires("PrepaidOldEvent")
    await drainer.drain()
    await scrape(prometheus, pool)
    assert prometheus.fires("PrepaidOldEvent") == []


async def test_the_alert_for_failed_deliveries_fires_at_the_first_5xx(
    pool: Pool, endpoint: Endpoint
) -> None:
    prometheus = await assert_silent(pool, "PrepaidDeliveriesFail", "PrepaidDeliveriesRefused")
    await pool.execute("ALTER TABLE stripe_events RENAME TO gone")
    assert (await endpoint.deliver(payment("1"))).status >= 500
    prometheus.scrape()
    assert prometheus.fires("PrepaidDeliveriesFail")
    assert prometheus.fires("PrepaidDeliveriesRefused") == []


async def test_the_alert_for_refused_deliveries_fires_at_the_first_wrong_signature(
    pool: Pool, endpoint: Endpoint
) -> None:
    prometheus = await assert_silent(pool, "PrepaidDeliveriesRefused")
    answer = await endpoint.deliver(payment("1"), secret="whsec_of_another_endpoint")
    assert answer.status == 400
    prometheus.scrape()
    assert prometheus.fires("PrepaidDeliveriesRefused")


async def test_the_alert_for_quarantined_events_fires_for_a_live_event_at_a_test_key(
    pool: Pool, endpoint: Endpoint
) -> None:
    prometheus = await assert_silent(pool, "PrepaidQuarantinedEvents")
    live = json.dumps(json.loads(payment("1")) | {"livemode": True}).encode()
    assert (await endpoint.deliver(live)).status == 200
    await scrape(prometheus, pool)
    assert prometheus.fires("PrepaidQuarantinedEvents")


async def test_the_alert_for_dead_events_fires_for_an_unknown_organization(
    pool: Pool, drainer: Drainer
) -> None:
    prometheus = await assert_silent(pool, "PrepaidDeadEvents")
    await receive(pool, payment("1", organization="globex"))
    await drainer.drain()
    await scrape(prometheus, pool)
    assert prometheus.fires("PrepaidDeadEvents")


async def test_the_alert_for_dead_messages_fires_for_a_message_that_is_given_up(
    pool: Pool, organization: Organization
) -> None:
    await add(pool, "https://app.example.com/hooks")
    await announce(pool, organization)
    prometheus = await assert_silent(pool, "PrepaidDeadMessages")
    await pool.execute(
        "UPDATE outbound_messages SET state = 'dead', settled_at = now(), reason = 'x'"
    )
    await scrape(prometheus, pool)
    assert prometheus.fires("PrepaidDeadMessages")


@pytest.mark.parametrize(
    ("alert", "invariant", "fault"),
    [
        ("PrepaidMoneyInvariant", "zero_sum", "UPDATE accounts SET balance = balance + 1"),
        ("PrepaidDeadlineInvariant", "events_on_time", LATE_EVENT),
        ("PrepaidDeadlineInvariant", "suspensions_on_time", SUSPENSION),
        ("PrepaidMessagesLate", "messages_on_time", LATE_MESSAGE),
    ],
)
async def test_the_alert_for_an_invariant_fires_when_its_fact_is_broken_and_no_other_does(
    *,
    pool: Pool,
    organization: Organization,
    drainer: Drainer,
    alert: str,
    invariant: str,
    fault: str,
) -> None:
    alerts = ("PrepaidMoneyInvariant", "PrepaidDeadlineInvariant", "PrepaidMessagesLate")
    await add(pool, "https://app.example.com/hooks")
    await receive(pool, payment("1"))
    await drainer.drain()
    assert await pool.fetchval("SELECT count(*) FROM outbound_messages") > 0
    await check(pool, invariant)
    prometheus = await assert_silent(pool, *alerts)
    await pool.execute(fault)
    await check(pool, invariant)
    await scrape(prometheus, pool)
    assert [name for name in alerts if prometheus.fires(name)] == [alert]


async def test_the_alert_for_a_failing_loop_fires_until_the_loop_succeeds(pool: Pool) -> None:
    stop, fails, succeeded = asyncio.Event(), asyncio.Event(), asyncio.Event()
    heartbeat = Heartbeat(pool, uuid4())
    await heartbeat.beat()
    prometheus = await assert_silent(pool, "PrepaidLoopFails")

    async def work() -> None:
        if not fails.is_set():
            fails.set()
            raise ValueError("a bug")
        succeeded.set()

    loop = asyncio.create_task(clock.repeat("expirer", work, stop, interval_seconds=0.01))
    try:
        await fails.wait()
        await heartbeat.beat()
        await scrape(prometheus, pool)
        assert prometheus.fires("PrepaidLoopFails")
        await succeeded.wait()
        await asyncio.sleep(0)  # the loop notes its success once its work has returned
        await heartbeat.beat()
        await scrape(prometheus, pool)
        assert prometheus.fires("PrepaidLoopFails") == []
    finally:
        stop.set()
        await loop
