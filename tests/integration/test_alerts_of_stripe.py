"""The alerts about Stripe's refusals and about foreign jobs fire when their fault is injected."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shared import metrics
from shared.measurements import measurements
from shared.queue.connection import QUEUE_NAME, connect
from tests.fixtures.alert_rules import Prometheus
from tests.fixtures.product import until
from tests.fixtures.recharging import Shop
from worker.listener import Listener

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from worker.drainer import Drainer

JOBS = 11


async def scrape(prometheus: Prometheus, pool: Pool) -> None:
    for measure in measurements(pool):
        await measure()
    prometheus.scrape()


async def test_the_alerts_for_a_refused_key_fire_at_the_first_refusal_and_end_with_the_cause(
    shop: Shop,
) -> None:
    metrics.STRIPE_REQUESTS.clear()  # earlier tests of this process were refused, too
    prometheus = Prometheus()
    await scrape(prometheus, shop.pool)
    assert prometheus.fires("PrepaidStripeRefusesUs") == []
    assert prometheus.fires("PrepaidStripeKey") == []
    await shop.sim(
        "faults", method="POST", path="/v1/payment_intents", fault="unauthorized_401", times=1
    )
    await shop.open()
    await shop.work()
    await scrape(prometheus, shop.pool)
    assert prometheus.fires("PrepaidStripeRefusesUs")
    assert prometheus.fires("PrepaidStripeKey")
    await shop.work()
    await scrape(prometheus, shop.pool)
    assert prometheus.fires("PrepaidStripeRefusesUs") == []


async def test_a_first_refusal_of_a_key_is_no_increase_and_fires_for_as_long_as_it_is_new() -> None:
    prometheus = Prometheus()
    for text in ("", *['prepaid_stripe_requests_total{status="401"} 1'] * 62):
        prometheus.scrape(f"# TYPE prepaid_stripe_requests_total counter\n{text}\n")
        if len(prometheus.scrapes) == 2:
            assert prometheus.query("sum(increase(prepaid_stripe_requests_total[15m])) > 0") == []
            assert prometheus.fires("PrepaidStripeKey")
    assert prometheus.fires("PrepaidStripeKey") == []


async def test_the_alert_for_foreign_jobs_fires_for_jobs_that_come_all_at_once(
    redis_url: str, drainer: Drainer
) -> None:
    prometheus = Prometheus()
    prometheus.scrape()
    assert prometheus.fires("PrepaidForeignJobs") == []
    redis, stop = connect(redis_url), asyncio.Event()
    for number in range(JOBS):
        await redis.set(f"arq:job:{number}", b"\x80")
        await redis.zadd(QUEUE_NAME, {str(number): 1})

    async def all_refused() -> bool:
        return bool(await redis.zcard(QUEUE_NAME) == 0)

    listening = asyncio.create_task(Listener(redis_url, drainer).run(stop))
    await until(all_refused)
    stop.set()
    await listening
    await redis.aclose(close_connection_pool=True)
    prometheus.scrape()
    assert prometheus.fires("PrepaidForeignJobs")
