"""The worker process: starts every loop and stops them in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import structlog
from arq.connections import ArqRedis

from shared import outages
from shared.config import Settings
from shared.db.pool import create_pool
from shared.errors import UnavailableError
from shared.events.nodes import NodeBatches
from shared.events.service import Applier
from shared.heartbeats import store as heartbeats
from shared.http import server
from shared.http.health import Health
from shared.measurements import measurements
from shared.organizations.startup import check_settings
from shared.outbound.sender import Sender
from shared.payments.gateway import stripe_gateway
from shared.payments.lookup import StripeLookup
from shared.payments.model import SaleTerms
from shared.payments.payment_intents import PaymentIntentGateway
from shared.queue.connection import connect
from shared.recharge.flow import Charger
from shared.schema import store as schema
from worker.cleaners import (
    BudgetCleaner,
    IdempotencyKeyCleaner,
    PayloadCleaner,
    ReplayCleaner,
    SampleCleaner,
    SessionCleaner,
)
from worker.drainer import Drainer
from worker.expirer import Expirer
from worker.heartbeat import Heartbeat
from worker.invariant_checker import InvariantChecker
from worker.listener import Listener
from worker.messenger import Messenger
from worker.payment_method_fetcher import PaymentMethodFetcher
from worker.purchase_expirer import PurchaseExpirer
from worker.recharger import Recharger
from worker.reconciler import Reconciler
from worker.retention import RetentionCleaner
from worker.sampler import Sampler
from worker.sweeper import Sweeper
from worker.verifier import Verifier
from worker.wakeup_reader import WakeupReader

if TYPE_CHECKING:
    from shared.db.pool import Pool

log = structlog.get_logger()


class StoppingError(UnavailableError):
    """The process is stopping."""


Loop = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


async def run(settings: Settings, *, schema_needed: str, on_ready: Callable[[], None]) -> None:
    """Work until SIGTERM or SIGINT; then finish the running batches and return."""
    stop = server.stop_signal()
    redis = connect(settings.redis_url)
    async with (
        create_pool(
            settings.database_url,
            size=settings.database_pool_size,
            application_name="prepaid-worker",
            pooled=settings.pooled,
        ) as pool,
        Sender(allow_private=settings.webhooks_allow_private) as sender,
        stripe_gateway(settings.stripe_api_key, settings.stripe_api_base) as stripe,
    ):
        await check_settings(pool, settings.credits_per_unit)
        await schema.check_at_start(pool, schema_needed)
        probes: outages.Probes = {
            outages.POSTGRES: lambda: pool.fetchval("SELECT 1"),
            outages.REDIS: redis.ping,
        }
        lookup = StripeLookup(stripe.questions)
        drainer = Drainer(
            pool,
            Applier(pool, SaleTerms.of(settings), lookup=lookup, nodes=NodeBatches(pool)),
            make_token=uuid4,
            lease=timedelta(seconds=settings.lease_seconds),
        )
        charger = Charger(
            pool,
            PaymentIntentGateway(stripe.charges),
            SaleTerms.of(settings),
            settings.purchase_max,
            settings.public_url,
        )
        messenger = Messenger(pool, sender, make_token=uuid4)
        operations = await _serve_operations(settings, pool, redis, stop, schema_needed)
        log.info("worker.ready")
        on_ready()
        await schema.wait(pool, schema_needed, stop)
        async with outages.watching(probes), asyncio.TaskGroup() as loops:
            for run_loop in (
                WakeupReader(settings.redis_url, drainer).run,
                Listener(settings.redis_url, drainer).run,
                Heartbeat(pool, uuid4()).run,
                Sweeper(drainer).run,
                PaymentMethodFetcher(pool, lookup).run,
                messenger.run,
                Recharger(pool, charger, settings.direct_database_url).run,
                Reconciler(pool, settings).run,
                *upkeep(settings, pool),
            ):
                loops.create_task(run_loop(stop))
            await stop.wait()
            drainer.stop()
            messenger.stop()
        await drainer.close()
        if operations is not None:
            await operations.cleanup()
    await redis.aclose(close_connection_pool=True)
    log.info("worker.stopped")


def upkeep(settings: Settings, pool: Pool) -> tuple[Loop, ...]:
    """Return the loops that expire, clean, measure and verify what is stored."""
    return (
        Expirer(pool).run,
        PurchaseExpirer(pool).run,
        IdempotencyKeyCleaner(pool).run,
        SessionCleaner(pool).run,
        SampleCleaner(pool).run,
        BudgetCleaner(pool).run,
        ReplayCleaner(pool).run,
        PayloadCleaner(pool, retention=settings.event_retention).run,
        RetentionCleaner(
            pool,
            messages=settings.message_retention,
            attempt_details=settings.attempt_detail_retention,
        ).run,
        Sampler(pool).run,
        InvariantChecker(pool).run,
        Verifier(settings.direct_database_url).run,
    )


async def _serve_operations(
    settings: Settings, pool: Pool, redis: ArqRedis, stop: asyncio.Event, schema_needed: str
) -> server.Runner | None:
    """Serve health and metrics on PREPAID_WORKER_PORT; None: it is not set."""
    if settings.worker_port is None:
        return None
    health = Health(
        required={
            "process": partial(_refuse_once_stopping, stop),
            "postgres": lambda: pool.fetchval("SELECT 1"),
            "schema": lambda: schema.check(pool, schema_needed),
        },
        optional={"redis": redis.ping},
        operations={"workers": partial(heartbeats.check, pool)},
        measurements=measurements(pool),
        token=settings.operations_token,
    )
    app = server.create_app(health.operations_routes())
    variable = "PREPAID_WORKER_PORT"
    sockets = await server.bind(settings.host, settings.worker_port, port_variable=variable)
    runner, _ = await server.start(app, sockets, port_variable=variable)
    return runner


async def _refuse_once_stopping(stop: asyncio.Event) -> None:
    if stop.is_set():
        raise StoppingError
