"""The organizations of a chaos run: what each is for, and how it begins."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from tests.chaos.client import Client, Reply
from tests.chaos.customers import Customers
from tests.chaos.journal import GrantRecord, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

GRANTED, LOW_BELOW = Decimal(60), 20
THRESHOLD, AMOUNT = 10, 20
DECIMILLICENTS = 10**7
CARD = "4242424242424242"
CARD_3DS = "4000002760003184"
ON_FILE_SECONDS_MAX = 60
LOOK_SECONDS = 0.05


class Role(StrEnum):
    """What an organization's traffic is."""

    USER = "uses granted credits, some of which expire: debits, batches, holds"
    SHOPPER = "buys, with and without tax; refunds and disputes"
    RECHARGER = "has auto-recharge, and tops up; declines, refunds and disputes"
    SUBSCRIBER = "pays invoices; refunds and disputes"


COUNTS = {Role.USER: 3, Role.SHOPPER: 3, Role.RECHARGER: 4, Role.SUBSCRIBER: 1}


@dataclass(frozen=True, slots=True)
class Organization:
    """An organization of the run; what it has at Stripe is named where traffic needs it."""

    id: str
    name: str
    role: Role
    card: str = CARD
    customer: str | None = None
    payment_method: str | None = None


async def open_organizations(client: Client, customers: Customers) -> list[Organization]:
    """Create all organizations, before any fault; give each what its traffic starts with."""
    found = []
    for role, count in COUNTS.items():
        for number in range(count):
            name = f"{role.name.lower()}-{number}"
            body = {"slug": name, "name": name}
            created = _done(await client.send("POST", "/v1/organizations", body, key=name))
            card = CARD_3DS if role is Role.RECHARGER and number == 0 else CARD
            found.append(Organization(str(created["id"]), name, role, card))
    return [await _begin(client, customers, organization) for organization in found]


async def _begin(client: Client, customers: Customers, of: Organization) -> Organization:
    match of.role:
        case Role.USER:
            await _give(client, of)
        case Role.RECHARGER:
            return replace(of, payment_method=await _agree(client, customers, of))
        case Role.SUBSCRIBER:
            customer = await customers.create(of.id)
            return replace(of, customer=customer)
        case Role.SHOPPER:
            pass
    return of


async def _give(client: Client, of: Organization) -> None:
    """Grant credits, and announce when few are left."""
    key = f"{of.name}-begin"
    body = {"amount": GRANTED, "note": "to begin with", "transactionId": key}
    _done(await client.send("POST", f"/v1/billing/{of.id}/grants", body))
    client.journal.grants.append(GrantRecord(of.id, key, GRANTED, Outcome.ACCEPTED))
    settings = {"lowBalanceThresholdDecimillicents": LOW_BELOW * DECIMILLICENTS}
    _done(await client.send("PATCH", f"/v1/organizations/{of.id}/billing", settings))


async def _agree(client: Client, customers: Customers, of: Organization) -> str:
    """Buy once, which saves the card, and consent to recharges; return the payment method."""
    body = checkout_body(of.id, Decimal(AMOUNT))
    opened = _done(await client.send("POST", "/v1/billing/checkout", body, key=f"{of.name}-begin"))
    await customers.pay(opened["id"], card=of.card)
    path = f"/v1/organizations/{of.id}/billing"
    async with asyncio.timeout(ON_FILE_SECONDS_MAX):
        while True:  # a worker puts it on file
            saved = _done(await client.send("GET", path))["stripePaymentMethodId"]
            if saved is not None:
                break
            await asyncio.sleep(LOOK_SECONDS)
    rule = {
        "autoRechargeEnabled": True,
        "autoRechargeThresholdDecimillicents": THRESHOLD * DECIMILLICENTS,
        "autoRechargeAmountDecimillicents": AMOUNT * DECIMILLICENTS,
        "autoRechargePauseSeconds": 0,
        "consentedBy": "chaos",
    }
    _done(await client.send("PATCH", path, rule))
    return str(saved)


def checkout_body(organization_id: str, amount: Decimal) -> dict[str, Any]:
    """Return the body that opens a checkout of ours."""
    return {
        "organizationId": organization_id,
        "amount": amount,
        "successUrl": "https://app.example/thanks",
        "cancelUrl": "https://app.example/credits",
    }


def _done(reply: Reply) -> Any:
    assert 200 <= reply.status < 300, reply
    return reply.body


def of_role(organizations: Iterable[Organization], role: Role) -> list[Organization]:
    """Return the organizations of a role."""
    return [organization for organization in organizations if organization.role is role]
