"""The story that `make up` tells: what the product is for, on real parts, in a few lines."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import aiohttp

from shared.config import Settings
from shared.db.pool import create_pool
from shared.errors import AlreadyExistsError, PrepaidError
from shared.events.service import Applier
from shared.http.envelope import encode
from shared.ids import new_id, transaction_public_id
from shared.inbox.admin import store as inbox_admin
from shared.inbox.model import EventState
from shared.ledger import store as ledger
from shared.ledger.service import explain
from shared.money import format_money, json_number, plain
from shared.organizations import service as organizations
from shared.organizations.model import Organization
from shared.payments.model import SaleTerms
from shared.recharge import service as recharge
from shared.recharge.attempts import store as attempt_store
from shared.recharge.recovery import new_link
from shared.replay.model import Mode
from shared.replay.service import Replayer

if TYPE_CHECKING:
    from shared.db.pool import Pool

STEP_SECONDS_MAX = 20
LOOK_SECONDS = 0.02
CARD = "4242424242424242"
CARD_3DS = "4000002760003184"
THRESHOLD = "autoRechargeThresholdDecimillicents"
AMOUNT = "autoRechargeAmountDecimillicents"
TARGET = "autoRechargeTargetDecimillicents"


class StoryError(PrepaidError):
    """The story did not go as it should; something is broken."""


@dataclass(frozen=True, slots=True)
class _Stage:
    settings: Settings
    pool: Pool
    http: aiohttp.ClientSession
    say: Callable[[str], None]
    headers: dict[str, str]
    steps: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def url(self) -> str:
        return f"http://{self.settings.host}:{self.settings.port}"

    def title(self, text: str) -> None:
        self.say("")
        self.say(f"— {text} —")

    def tell(self, text: str) -> None:
        """Say the next numbered step."""
        self.say(f"{next(self.steps)}. {text}")


async def tell(settings: Settings, api_key: str, say: Callable[[str], None]) -> None:
    """Buy, use, recharge, authenticate; put the payment of a stranger right. All on the ledger."""
    pool = create_pool(settings.database_url, size=2, application_name="prepaid-story")
    headers = {"Authorization": f"Bearer {api_key}"}
    async with pool, aiohttp.ClientSession() as http:
        stage = _Stage(settings, pool, http, say, headers)
        stage.title("A customer buys credits")
        acme = await _organization(stage, "acme", "Acme Inc")
        await _purchase(stage, acme, card=CARD, amount_minor=2500)
        await _use(stage, acme)
        stage.title("The balance runs low, and refills by itself")
        await _recharge(stage, acme)
        stage.title("A recharge needs 3-D Secure authentication")
        umbrella = await _organization(stage, "umbrella", "Umbrella GmbH")
        await _authenticate(stage, umbrella)
        stage.title("A payment arrives for a customer that nobody has set up yet")
        await _dead_letter(stage)


async def _purchase(
    stage: _Stage, organization: Organization, *, card: str, amount_minor: int
) -> None:
    before = await _balance(stage, organization)
    asked = {
        "organizationId": organization.slug,
        "amount": json_number(Decimal(amount_minor) / 100),
        "successUrl": f"{stage.url}/docs",
        "cancelUrl": f"{stage.url}/docs",
    }
    checkout = await _call(stage, "POST", "/v1/billing/checkout", asked)
    price = format_money(amount_minor, organization.currency)
    stage.tell(f"POST /v1/billing/checkout for {price}: {checkout['url']}")
    started = time.monotonic()
    paid = {"card": card} | ({"authenticate": True} if card == CARD_3DS else {})
    await _simulate(stage, f"checkout/{checkout['id']}/pay", paid)
    stage.tell(f"paid with {card[:4]} … {card[-4:]}; Stripe sends its events")
    row = await _until(lambda: _transaction_after(stage, organization, before[1]), "the ledger row")
    milliseconds = (time.monotonic() - started) * 1000
    stage.tell(
        f"ledger row {transaction_public_id(row['id'])}: {row['type']} {plain(row['amount'])} "
        f"({row['payment_intent_id']}), {milliseconds:.0f} ms after the payment"
    )
    stage.tell(
        f"balance of {organization.slug}: {plain(before[0])} → {plain(row['balance_after'])}"
    )


async def _use(stage: _Stage, acme: Organization) -> None:
    used = await _spend(stage, acme, Decimal("4.25"))
    stage.tell(f"4.25 credits are used over HTTP: balance {used['balanceAfter']}")
    async with stage.pool.acquire() as connection:
        row = await ledger.find(connection, UUID(used["uuid"]))
        if row is None:
            raise StoryError("the usage was not posted")
        sources = await explain(connection, row)
    stage.tell(f"prepaid ledger explain {used['id']}")
    for source in sources:
        stage.say(f"   {plain(source.amount)} came from {source.payment_intent_id}")


async def _recharge(stage: _Stage, acme: Organization) -> None:
    await _agree(stage, acme, {THRESHOLD: 10, TARGET: 30})
    stage.tell("acme agrees: below 10 credits, refill up to 30 with the card on file")
    balance, _ = await _balance(stage, acme)
    used = await _spend(stage, acme, balance - Decimal("9.5"))
    started = time.monotonic()
    stage.tell(f"{plain(balance - Decimal('9.5'))} credits are used: balance 9.5 arms a recharge")
    row = await _until(
        lambda: _transaction_after(stage, acme, used["changeSequence"]), "the recharge"
    )
    milliseconds = (time.monotonic() - started) * 1000
    stage.tell(
        f"{row['type']} {plain(row['amount'])} ({row['payment_intent_id']}), "
        f"{milliseconds:.0f} ms later: balance {plain(row['balance_after'])}"
    )


async def _authenticate(stage: _Stage, umbrella: Organization) -> None:
    await _purchase(stage, umbrella, card=CARD_3DS, amount_minor=1000)
    await _agree(stage, umbrella, {THRESHOLD: 5, AMOUNT: 10})
    balance, _ = await _balance(stage, umbrella)
    used = await _spend(stage, umbrella, balance - 4)
    attempt = await _until(lambda: _waiting(stage, umbrella), "the bank's wish")
    link = new_link()
    async with stage.pool.acquire() as connection, connection.transaction():
        await recharge.fresh_link(connection, umbrella.id, link, actor="story")
    page = f"{stage.url}/pay/{link}"
    stage.tell(f"the balance is 4, the bank requires authentication: {page}")
    async with stage.http.post(page, allow_redirects=False) as sent:
        bank = sent.headers.get("Location", "")
    if not bank.startswith(stage.settings.stripe_api_base):
        raise StoryError(f"the page did not lead to the bank: {sent.status} {bank}")
    await _simulate(stage, f"payment_intents/{attempt}/authenticate", {"passed": True})
    async with stage.http.get(f"{page}/done") as done:
        stage.tell(f"the customer confirms at {bank} and comes back: {done.status}")
    row = await _until(
        lambda: _transaction_after(stage, umbrella, used["changeSequence"]), "the recharge"
    )
    stage.tell(f"{row['type']} {plain(row['amount'])}: balance {plain(row['balance_after'])}")


async def _spend(stage: _Stage, organization: Organization, amount: Decimal) -> dict[str, Any]:
    used = {
        "organizationId": organization.slug,
        "amount": json_number(-amount),
        "transactionId": f"story-{new_id()}",
        "category": "inference",
    }
    return await _call(stage, "POST", "/api/credit-transactions", used)


async def _agree(stage: _Stage, organization: Organization, rule: dict[str, int]) -> None:
    asked = {name: credits_ * 10**7 for name, credits_ in rule.items()}
    agreed = {
        "autoRechargeEnabled": True,
        "autoRechargePauseSeconds": 0,  # the story does not wait, nor does its second telling
        "consentedBy": "the story",
    }
    path = f"/v1/organizations/{organization.slug}/billing"
    await _call(stage, "PATCH", path, asked | agreed)


async def _call(stage: _Stage, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Call the billing API, as the customer's app would."""
    async with stage.http.request(
        method,
        stage.url + path,
        data=encode(body),
        headers=stage.headers | {"Content-Type": "application/json"},
    ) as response:
        answer: dict[str, Any] = await response.json()
        if not response.ok:
            raise StoryError(f"{method} {path} was refused: {answer}")
    return answer


async def _waiting(stage: _Stage, organization: Organization) -> str | None:
    """Return the PaymentIntent that waits for its customer."""
    async with stage.pool.acquire() as connection:
        rows = await attempt_store.attempts(connection, organization.id, rows_max=1)
    return next((r["payment_intent_id"] for r in rows if r["state"] == "requires_action"), None)


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
    stage.tell(f"{event['id']} is dead: {dead['reason']}")
    globex = await _organization(stage, slug, "Globex")
    applier = Applier(stage.pool, SaleTerms.of(stage.settings))
    report = await Replayer(stage.pool, applier, uuid4, Mode.of(stage.settings)).replay(
        [event["id"]], actor="story", reason="the organization exists now"
    )
    stage.tell(f"organization {slug} created, event replayed: {report['applied']} applied")
    balance, _ = await _balance(stage, globex)
    stage.tell(f"balance of {slug}: {plain(balance)}")


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
        rows = await inbox_admin.show_event(connection, event_id)
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
