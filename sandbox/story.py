"""The story that `make up` tells: what the product is for, on real parts, in a few lines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aiohttp

from shared.config import Settings
from shared.db.pool import create_pool
from shared.errors import AlreadyExistsError, PrepaidError
from shared.events.replay import Mode, Replayer
from shared.events.service import Applier
from shared.ids import new_id, transaction_public_id
from shared.inbox import store as inbox
from shared.inbox.model import EventState
from shared.ledger import store as ledger
from shared.ledger.model import Posting, SystemAccount, TransactionType
from shared.ledger.service import explain, post
from shared.money import plain
from shared.organizations import service as organizations
from shared.organizations.model import Organization
from shared.payments.checkout import open_checkout
from shared.payments.client import stripe_client

if TYPE_CHECKING:
    from shared.db.pool import Pool

STEP_SECONDS_MAX = 20
LOOK_SECONDS = 0.02
CARD = "4242424242424242"


class StoryError(PrepaidError):
    """The story did not go as it should; something is broken."""


@dataclass(frozen=True, slots=True)
class _Stage:
    settings: Settings
    pool: Pool
    http: aiohttp.ClientSession
    say: Callable[[str], None]


async def tell(settings: Settings, say: Callable[[str], None]) -> None:
    """Buy credits, use some, see both in the ledger; put the payment of a stranger right."""
    pool = create_pool(settings.database_url, size=2, application_name="prepaid-story")
    async with pool, aiohttp.ClientSession() as http:
        stage = _Stage(settings, pool, http, say)
        say("")
        say("— A customer buys credits —")
        acme = await _organization(stage, "acme", "Acme Inc")
        await _purchase(stage, acme)
        await _use(stage, acme)
        say("")
        say("— A payment arrives for a customer that nobody has set up yet —")
        await _dead_letter(stage)
        say("")


async def _purchase(stage: _Stage, acme: Organization) -> None:
    before = await _balance(stage, acme)
    settings = stage.settings
    async with stripe_client(settings.stripe_api_key, settings.stripe_api_base) as client:
        checkout = await open_checkout(
            stage.pool,
            client,
            acme,
            purchase_id=new_id(),
            amount_minor=2500,
            success_url="http://127.0.0.1/thanks",
            cancel_url="http://127.0.0.1/",
        )
    stage.say(f"1. Checkout for 25.00 {acme.currency}: {checkout.url}")
    started = time.monotonic()
    await _simulate(stage, f"checkout/{checkout.id}/pay", {"card": CARD})
    stage.say(f"2. paid with {CARD[:4]} … {CARD[-4:]}; Stripe sends its events")
    row = await _until(lambda: _transaction_after(stage, acme, before[1]), "the ledger row")
    milliseconds = (time.monotonic() - started) * 1000
    stage.say(
        f"3. ledger row {transaction_public_id(row['id'])}: {row['type']} {plain(row['amount'])} "
        f"({row['payment_intent_id']}), {milliseconds:.0f} ms after the payment"
    )
    stage.say(f"4. balance of {acme.slug}: {plain(before[0])} → {plain(row['balance_after'])}")


async def _use(stage: _Stage, acme: Organization) -> None:
    posting = Posting(
        organization_id=acme.id,
        id=new_id(),
        type=TransactionType.USAGE,
        counterparty=SystemAccount.REVENUE,
        key=f"story-{new_id()}",
        amount=Decimal("-4.25"),
        category="tokens",
        quantity=Decimal(17_000),
    )
    async with stage.pool.acquire() as connection:
        async with connection.transaction():
            (result,) = await post(connection, [posting])
        row = await ledger.find(connection, posting.id)
        if row is None or result.balance_after is None:
            raise StoryError(f"the usage was not posted: {result.status}")
        sources = await explain(connection, row)
    stage.say(f"5. 4.25 credits are used: balance {plain(result.balance_after)}")
    stage.say(f"6. prepaid ledger explain {transaction_public_id(posting.id)}")
    for source in sources:
        stage.say(f"   {plain(source.amount)} came from {source.payment_intent_id}")


async def _dead_letter(stage: _Stage) -> None:
    slug = f"globex-{new_id().hex[-6:]}"
    event = await _simulate(
        stage,
        "events",
        {
            "type": "payment_intent.succeeded",
            "object": {
                "id": f"pi_{slug.replace('-', '_')}",
                "amount": 1000,
                "amount_received": 1000,
                "currency": "usd",
                "customer": None,
                "metadata": {"organization_id": slug},
                "status": "succeeded",
            },
        },
    )
    dead = await _until(lambda: _dead(stage, event["id"]), "the dead letter")
    stage.say(f"7. {event['id']} is dead: {dead['reason']}")
    globex = await _organization(stage, slug, "Globex")
    applier = Applier(stage.pool, stage.settings.credits_per_unit)
    report = await Replayer(stage.pool, applier, uuid4, Mode.of(stage.settings)).replay(
        [event["id"]], actor="story", reason="the organization exists now"
    )
    stage.say(f"8. organization {slug} created, event replayed: {report['applied']} applied")
    balance, _ = await _balance(stage, globex)
    stage.say(f"9. balance of {slug}: {plain(balance)}")


async def _organization(stage: _Stage, slug: str, name: str) -> Organization:
    async with stage.pool.acquire() as connection, connection.transaction():
        try:
            return await organizations.create(connection, slug=slug, name=name)
        except AlreadyExistsError:
            return await organizations.find(connection, slug)


async def _balance(stage: _Stage, organization: Organization) -> tuple[Any, int]:
    async with stage.pool.acquire() as connection:
        row = await ledger.balance(connection, organization.id)
    if row is None:
        raise StoryError(f"{organization.slug} has no account")
    return row.balance, row.last_seq


async def _transaction_after(stage: _Stage, organization: Organization, seq: int) -> Any:
    async with stage.pool.acquire() as connection:
        return await ledger.transaction_after(connection, organization.id, seq)


async def _dead(stage: _Stage, event_id: str) -> Any:
    async with stage.pool.acquire() as connection:
        rows = await inbox.show_event(connection, event_id)
    return next((row for row in rows if row["state"] == EventState.DEAD), None)


async def _simulate(stage: _Stage, action: str, body: dict[str, Any]) -> dict[str, Any]:
    url = f"{stage.settings.stripe_api_base}/_sim/{action}"
    async with stage.http.post(url, json=body) as response:
        answer: dict[str, Any] = await response.json()
        if not response.ok:
            raise StoryError(f"the simulator refused {action}: {answer}")
    return answer


async def _until(look: Callable[[], Awaitable[Any]], what: str) -> Any:
    """Look until something is there; the processes that make it are others than this one."""
    try:
        async with asyncio.timeout(STEP_SECONDS_MAX):
            while not (found := await look()):  # noqa: ASYNC110 - other processes work
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        raise StoryError(f"{what} did not come in {STEP_SECONDS_MAX} s") from None
    return found
