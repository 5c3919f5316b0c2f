"""What a child process does until it is killed: one pass of a loop, or one command."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import aiohttp

from api import app as api_app
from api.endpoints import OPERATIONS
from cli.app import app
from shared.config import Settings
from shared.db.pool import create_pool
from shared.events.service import Applier
from shared.inbox import rules
from shared.inbox.model import Delivery
from shared.inbox.service import Inbox
from shared.ledger.batches import Ledger
from shared.outbound.sender import Sender
from shared.payments.gateway import StripeGateway, stripe_gateway
from shared.payments.lookup import StripeLookup
from shared.payments.model import SaleTerms
from shared.payments.payment_intents import PaymentIntentGateway
from shared.queue.connection import connect
from shared.queue.wakeup import Wakeup
from shared.recharge import service
from shared.recharge.flow import Charger
from shared.replay.service import Replayer
from tests.fixtures.ledger import keyed_posting
from tests.fixtures.product import listening
from worker.drainer import Drainer
from worker.expirer import Expirer
from worker.messenger import Messenger

if TYPE_CHECKING:
    from shared.db.pool import Pool

Arguments = Mapping[str, Any]


@asynccontextmanager
async def pool_of(settings: Settings) -> AsyncIterator[Pool]:
    async with create_pool(settings.database_url, size=4, application_name="crash-points") as pool:
        yield pool


@asynccontextmanager
async def stripe_of(settings: Settings) -> AsyncIterator[StripeGateway]:
    async with stripe_gateway(settings.stripe_api_key, settings.stripe_api_base) as gateway:
        yield gateway


async def receive(settings: Settings, arguments: Arguments) -> None:
    """Store a delivery and send the wakeup, as a web process does."""
    redis = connect(settings.redis_url)
    header, payload = rules.read_header(arguments["body"].encode())
    async with pool_of(settings) as pool:
        inbox = Inbox(pool, Wakeup(redis).send)
        await inbox.receive(Delivery(header, payload, "req_test", None))


async def debit(settings: Settings, arguments: Arguments) -> None:
    """Post a debit in the batch that concurrent requests share."""
    posting = keyed_posting(
        UUID(arguments["organization"]), arguments["key"], Decimal(arguments["amount"])
    )
    async with pool_of(settings) as pool:
        await Ledger(pool).post(posting)


async def request(settings: Settings, arguments: Arguments) -> None:
    """Serve the API, and send it one request, as an app does."""
    redis = connect(settings.redis_url)
    async with (
        pool_of(settings) as pool,
        api_app.open_api(settings, pool, redis) as api,
        listening(api_app.routes(api, OPERATIONS)) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
        session.post(
            arguments["path"], data=arguments["body"], headers=arguments["headers"]
        ) as answer,
    ):
        sys.stderr.write(f"{answer.status} {await answer.text()}\n")  # nothing has killed it


async def drain(settings: Settings, _arguments: Arguments) -> None:
    """Apply all due events, those that need Stripe too."""
    async with pool_of(settings) as pool, stripe_of(settings) as stripe:
        applier = Applier(pool, SaleTerms.of(settings), lookup=StripeLookup(stripe.questions))
        await Drainer(pool, applier, uuid4).drain()


async def charge(settings: Settings, _arguments: Arguments) -> None:
    """Carry all due recharge attempts as far as they go."""
    async with pool_of(settings) as pool, stripe_of(settings) as stripe:
        charger = Charger(
            pool,
            PaymentIntentGateway(stripe.charges),
            SaleTerms.of(settings),
            settings.purchase_max,
            settings.public_url,
        )
        await charger.work()


async def tick(settings: Settings, arguments: Arguments) -> None:
    """Arm what is due by the clock."""
    async with (
        pool_of(settings) as pool,
        pool.acquire() as connection,
        connection.transaction(),
    ):
        await service.tick(connection, now=datetime.fromisoformat(arguments["now"]))


async def send(settings: Settings, _arguments: Arguments) -> None:
    """Send all due messages."""
    async with pool_of(settings) as pool, Sender(allow_private=True) as sender:
        await Messenger(pool, sender, uuid4).deliver()


async def expire(settings: Settings, _arguments: Arguments) -> None:
    """Post what has expired, and announce what expires soon."""
    async with pool_of(settings) as pool:
        await Expirer(pool).run_once()


async def replay(settings: Settings, arguments: Arguments) -> None:
    """Replay events, one of them a chunk."""
    async with pool_of(settings) as pool:
        replayer = Replayer(pool, Applier(pool, SaleTerms.of(settings)), uuid4)
        await replayer.replay(arguments["events"], actor="cli:test", reason=None)


def run_command(arguments: list[str]) -> None:
    """Run a command of `prepaid`; it ends the process."""
    sys.argv = ["prepaid", *arguments]
    app()
