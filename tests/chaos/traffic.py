"""The traffic of a chaos run: a lane for each organization, until the faults are over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import aiohttp
import stripe

from tests.chaos.client import Client, Reply
from tests.chaos.customers import Customers, RefusedActError
from tests.chaos.journal import Debit, GrantRecord, HoldRecord, Outcome, TopUp
from tests.chaos.organizations import Organization, Role, checkout_body

PAUSE_SECONDS = (0.02, 0.25)
CENT = Decimal("0.01")
BATCH_ROWS = 5
HOLD_SECONDS = (5, 20)  # the shortest expire while the run lasts
GRANT_SECONDS = (5, 25)
EXPIRING_SHARE = 0.5
PAYMENTS_REMEMBERED = 20
# Declined softly, and reported lost: https://docs.stripe.com/testing#declined-payments
CARD_DECLINED, CARD_LOST = "4000000000000341", "4000000000009987"
# A caller that crashes repeats nothing: the share of requests that are sent once.
CRASH_SHARE = 0.05
REFUSED = (stripe.StripeError, RefusedActError, aiohttp.ClientError, TimeoutError)


@dataclass
class Lane:
    """One organization's traffic, in an order that follows from the seed."""

    organization: Organization
    client: Client
    customers: Customers
    random: Random
    stop: asyncio.Event
    number: int = 0
    paid: list[str] = field(default_factory=list)
    followed: set[str] = field(default_factory=set)

    async def run(self) -> None:
        """Act until `stop` is set; what has begun is finished."""
        acts = self._acts()
        weights = [weight for _, weight in acts]
        while not self.stop.is_set():
            (act, _) = self.random.choices(acts, weights)[0]
            self.number += 1
            with suppress(*REFUSED):  # Stripe's books say what came of it
                await act()
            await asyncio.sleep(self.random.uniform(*PAUSE_SECONDS))

    def _acts(self) -> list[tuple[Callable[[], Awaitable[None]], int]]:
        match self.organization.role:
            case Role.USER:
                return [(self._debit, 12), (self._batch, 2), (self._hold, 6), (self._grant, 1)]
            case Role.SHOPPER:
                return [
                    (self._debit, 2),
                    (self._buy, 3),
                    (self._buy_taxed, 3),
                    (self._refund, 2),
                    (self._dispute, 1),
                ]
            case Role.RECHARGER:
                return [
                    (self._debit, 16),
                    (self._hold, 2),
                    (self._top_up, 2),
                    (self._follow_attempts, 3),
                    (self._refund, 2),
                    (self._dispute, 1),
                    (self._lose_card, 1),
                    (self._recover, 3),
                ]
            case Role.SUBSCRIBER:
                return [
                    (self._invoice, 6),
                    (self._debit, 9),
                    (self._refund, 2),
                    (self._dispute, 1),
                ]

    def _key(self) -> str:
        return f"{self.organization.name}-{self.number}"

    @property
    def _tries_max(self) -> int:
        return 1 if self.random.random() < CRASH_SHARE else 0

    def _amount(self, most: int) -> Decimal:
        return self.random.randint(1, most * 100) * CENT

    async def _debit(self) -> None:
        most = 5 if self.organization.role is Role.RECHARGER else 1
        debit = await debit_once(
            self.client, self.organization.id, self._key(), self._amount(most), self._tries_max
        )
        self.client.journal.debits.append(debit)

    async def _batch(self) -> None:
        amounts = {f"{self._key()}-{n}": self._amount(1) for n in range(BATCH_ROWS)}
        rows = [{"amount": -amount, "transactionId": key} for key, amount in amounts.items()]
        path = f"/v1/billing/{self.organization.id}/transactions/batch"
        reply = await self.client.send("POST", path, {"transactions": rows})
        outcomes = batch_outcomes(reply, len(rows))
        for (key, amount), outcome in zip(amounts.items(), outcomes, strict=True):
            self.client.journal.debits.append(Debit(self.organization.id, key, amount, outcome))

    async def _grant(self) -> None:
        """Give credits, half of which expire while the run lasts."""
        key, amount = self._key(), self._amount(30)
        body: dict[str, Any] = {"amount": amount, "transactionId": key}
        if self.random.random() < EXPIRING_SHARE:
            wait = timedelta(seconds=self.random.randint(*GRANT_SECONDS))
            body["expiresAt"] = (datetime.now(UTC) + wait).isoformat()
        path = f"/v1/billing/{self.organization.id}/grants"
        reply = await self.client.send("POST", path, body, tries_max=self._tries_max)
        grant = GrantRecord(self.organization.id, key, amount, reply.outcome)
        self.client.journal.grants.append(grant)

    async def _hold(self) -> None:
        base = f"/v1/billing/{self.organization.id}/holds"
        key, amount = self._key(), self._amount(2)
        body = {
            "amount": amount,
            "expiresInSeconds": self.random.randint(*HOLD_SECONDS),
            "transactionId": key,
        }
        reply = await self.client.send("POST", base, body, tries_max=self._tries_max)
        hold = HoldRecord(self.organization.id, key, amount, reply.outcome)
        self.client.journal.holds.append(hold)
        end = self.random.choices(["capture", "release", "expire"], [5, 3, 1])[0]
        if reply.outcome is not Outcome.ACCEPTED or end == "expire":
            return
        path = f"{base}/{reply.body['id']}"
        if end == "capture":
            hold.captured = min(amount, self._amount(2))
            ended = await self.client.send("POST", f"{path}/capture", {"amount": hold.captured})
        else:
            ended = await self.client.send("POST", f"{path}/release", {})
        hold.end = ended.outcome

    async def _buy(self) -> None:
        amount = Decimal(self.random.randint(5, 60))
        body = checkout_body(self.organization.id, amount)
        path = "/v1/billing/checkout"
        opened = await self.client.send("POST", path, body, key=self._key())
        if opened.outcome is Outcome.ACCEPTED:
            self._remember(await self.customers.pay(opened.body["id"], card=self.organization.card))

    async def _buy_taxed(self) -> None:
        price = self.random.randint(500, 9_999)
        session = await self.customers.open_taxed(self.organization.id, price)
        self._remember(await self.customers.pay(session, card=self.organization.card))

    def _remember(self, payment_intent: str) -> None:
        self.paid = [*self.paid, payment_intent][-PAYMENTS_REMEMBERED:]

    async def _refund(self) -> None:
        if self.paid:
            payment = self.random.choice(self.paid)
            await self.customers.refund(payment, part=self.random.random() < 0.6)

    async def _dispute(self) -> None:
        if self.paid:
            await self.customers.dispute(self.paid.pop(self.random.randrange(len(self.paid))))

    async def _top_up(self) -> None:
        path = f"/v1/billing/{self.organization.id}/top-up"
        top_up = TopUp(self.organization.id, self._key())
        self.client.journal.top_ups.append(top_up)
        body = {"amount": self.random.randint(5, 30)}
        reply = await self.client.send("POST", path, body, key=top_up.key)
        if reply.outcome is not Outcome.ACCEPTED:
            return
        top_up.attempts.add(reply.body["id"])
        # The same key again, as an app does that asks how its charge ended: it charges nothing.
        again = await self.client.send("POST", path, body, key=top_up.key)
        if again.outcome is Outcome.ACCEPTED:
            top_up.attempts.add(again.body["id"])
            top_up.succeeded = again.body["state"] == "succeeded"

    async def _follow_attempts(self) -> None:
        """Authenticate what the bank wants authenticated, and remember what is paid."""
        path = f"/v1/billing/{self.organization.id}/auto-recharge/attempts"
        reply = await self.client.send("GET", path)
        for attempt in reply.body["data"] if reply.outcome is Outcome.ACCEPTED else []:
            payment = attempt["paymentIntentId"]
            if attempt["state"] == "succeeded" and payment not in self.followed:
                self.followed.add(payment)
                self._remember(payment)
            if attempt["state"] == "requires_action" and payment:
                await self.customers.authenticate(payment)

    async def _lose_card(self) -> None:
        """Let the card be declined from now on: softly, which is a back-off, or for good."""
        assert self.organization.payment_method is not None
        card = self.random.choice([CARD_DECLINED, CARD_LOST])
        await self.customers.change_card(self.organization.payment_method, card)

    async def _recover(self) -> None:
        """Let the card be good again, and end what its declines, refunds and disputes suspended."""
        assert self.organization.payment_method is not None
        await self.customers.change_card(self.organization.payment_method, self.organization.card)
        path = f"/v1/billing/{self.organization.id}/auto-recharge/resume"
        await self.client.send("POST", path, {"reason": "chaos"}, key=self._key())

    async def _invoice(self) -> None:
        assert self.organization.customer is not None
        price = self.random.randint(500, 5_000)
        customer, organization = self.organization.customer, self.organization.id
        self._remember(await self.customers.invoice(customer, organization, price))


def batch_outcomes(reply: Reply, rows: int) -> list[Outcome]:
    """Return what the caller of a batch knows of each of its rows.

    A refused row was not posted, unless an attempt without an answer still posts it.
    """
    if reply.outcome is not Outcome.ACCEPTED:
        return [reply.outcome] * rows
    refused = Outcome.REFUSED if reply.clear else Outcome.UNCLEAR
    return [
        Outcome.ACCEPTED if result["status"] in {"posted", "replayed"} else refused
        for result in reply.body["results"]
    ]


async def debit_once(
    client: Client, organization_id: str, key: str, amount: Decimal, tries_max: int = 0
) -> Debit:
    """Send a debit; return what its caller knows then."""
    body = {"organizationId": organization_id, "amount": -amount, "transactionId": key}
    reply = await client.send("POST", "/api/credit-transactions", body, tries_max=tries_max)
    return Debit(organization_id, key, amount, reply.outcome)
