"""A process killed at a named step between a delivery and the ledger: everything counts once."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import uuid4

from sandbox.signed_events import event
from shared.events.service import Applier
from shared.payments.lookup import StripeLookup
from shared.payments.model import SaleTerms
from tests.crash_points import steps
from tests.fixtures.crash_points import Killer, shops
from tests.fixtures.ledger import balances as balances_of
from tests.fixtures.ledger import grant, keyed_posting, post, problems
from tests.fixtures.outbound_messages import add
from tests.fixtures.product import (
    Endpoint,
    balances,
    create_organization,
    payment,
    receive,
    transactions,
    until,
)
from tests.fixtures.recharging import Shop
from tests.fixtures.storefront import Storefront
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization


async def settle(pool: Pool, drainer: Drainer) -> None:
    """Let leases end, and apply what is due, until nothing is open."""

    async def settled() -> bool:
        await pool.execute("UPDATE stripe_events SET available_at = now() WHERE settled_at IS NULL")
        await drainer.drain()
        left: int = await pool.fetchval(
            "SELECT count(*) FROM stripe_events WHERE settled_at IS NULL"
        )
        return left == 0

    await until(settled)


async def test_a_delivery_of_a_killed_web_process_is_sent_again_and_credited_once(
    killer: Killer, endpoint: Endpoint, pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    for number, step in killer.cases(steps.DELIVERY):
        body = payment(str(number))
        await killer.kill(step, "receive", body=body.decode())
        again = await endpoint.deliver(body)
        assert (again.status, again.json["duplicate"]) == (200, step is not steps.DELIVERY[0])
    await settle(pool, drainer)
    assert len(await transactions(pool)) == len(steps.DELIVERY) * killer.rounds


async def test_the_events_of_a_killed_worker_are_applied_once(
    killer: Killer, pool: Pool, drainer: Drainer
) -> None:
    for number, step in killer.cases(steps.EVENTS):
        slug = f"acme-{number}"
        await create_organization(pool, slug)
        names = [f"{number}-{each}" for each in range(3)]
        moved = {"id": f"pi_{number}", "object": "payment_intent", "status": "processing"}
        await receive(
            pool,
            *(payment(name, organization=slug) for name in names),
            event(f"{number}-moved", "payment_intent.processing", moved),
        )
        await killer.kill(step, "drain")
        await settle(pool, drainer)
    assert set((await balances(pool)).values()) == {30}
    states = await pool.fetch("SELECT DISTINCT state, lease_token FROM stripe_events")
    assert sorted(map(tuple, states)) == [("applied", None), ("ignored", None)]
    assert await problems(pool) == []


async def test_a_refund_whose_worker_is_killed_is_taken_back_once(
    killer: Killer, shop: Shop
) -> None:
    lookup = StripeLookup(shop.client)
    drainer = Drainer(shop.pool, Applier(shop.pool, SaleTerms(Decimal(1)), lookup=lookup), uuid4)
    for number, step in killer.cases(steps.REFUND):
        owner = await create_organization(shop.pool, f"acme-{number}")
        here = replace(shop, owner=owner)
        await here.open()
        await here.work_until_settled()
        charged = (await here.attempt())["payment_intent_id"]
        refund = await shop.client.v1.refunds.create_async({"payment_intent": charged})
        listed = await shop.client.v1.events.list_async({"types": ["charge.refunded"]})
        await receive(shop.pool, json.dumps(listed.data[0].to_dict()).encode())
        await killer.kill(step, "drain")
        await settle(shop.pool, drainer)
        rows = await shop.pool.fetch(
            "SELECT amount FROM credit_transactions WHERE organization_id = $1 AND type = 'refund'",
            owner.id,
        )
        assert (refund.amount, [row["amount"] for row in rows]) == (2000, [-20]), step.name
    assert {slug: b for slug, b in (await balances(shop.pool)).items() if b != 7} == {"acme": 0}


async def test_a_dispute_whose_worker_is_killed_is_taken_back_and_announced_once(
    killer: Killer, shop: Shop
) -> None:
    await shop.add_endpoint()
    lookup = StripeLookup(shop.client)
    drainer = Drainer(shop.pool, Applier(shop.pool, SaleTerms(Decimal(1)), lookup=lookup), uuid4)
    async for step, here in shops(killer, shop, steps.DISPUTE):
        await here.open()
        await here.work_until_settled()
        charged = (await here.attempt())["payment_intent_id"]
        intent = await shop.client.v1.payment_intents.retrieve_async(charged)
        await shop.sim(f"charges/{intent.latest_charge}/dispute")
        listed = await shop.client.v1.events.list_async({"types": ["charge.dispute.created"]})
        await receive(shop.pool, json.dumps(listed.data[0].to_dict()).encode())
        await killer.kill(step, "drain")
        await settle(shop.pool, drainer)
        rows = await shop.pool.fetch(
            "SELECT type, amount FROM credit_transactions WHERE organization_id = $1 AND amount < 0"
            " AND payment_intent_id IS NOT NULL",
            here.owner.id,
        )
        assert [tuple(row) for row in rows] == [("dispute", -20)], step.name
        messages = await shop.pool.fetch(
            "SELECT type FROM outbound_messages WHERE organization_id = $1"
            " AND type IN ('recharge.suspended', 'dispute.opened')",
            here.owner.id,
        )
        assert sorted(row["type"] for row in messages) == [
            "dispute.opened", "recharge.suspended",
        ], step.name  # fmt: skip


async def test_an_invoice_whose_worker_is_killed_is_credited_and_announced_once(
    killer: Killer, storefront: Storefront
) -> None:
    await add(storefront.pool, "https://app.example.com/hooks", "purchase.completed")
    drainer = Drainer(storefront.pool, storefront.applier, uuid4)
    for number, step in killer.cases(steps.INVOICE):
        owner = await create_organization(storefront.pool, f"acme-{number}")
        says = {"organization_id": owner.slug, "prepaid_credits": "250"}
        await storefront.pay_invoice(2000, metadata=says)
        bodies = await storefront.events()
        paid = [body for body in bodies if json.loads(body)["type"] == "invoice.paid"]
        await receive(storefront.pool, *paid)
        await killer.kill(step, "drain")
        await receive(storefront.pool, *bodies)
        await settle(storefront.pool, drainer)
        assert await balances_of(storefront.pool, owner) == (250, 0), step.name
        told = await storefront.pool.fetchval(
            "SELECT count(*) FROM outbound_messages WHERE organization_id = $1", owner.id
        )
        assert told == 1, step.name


async def test_a_debit_whose_process_is_killed_is_posted_once_by_its_key(
    killer: Killer, pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 1000))
    for number, step in killer.cases(steps.DEBIT):
        key = f"debit-{number}"
        await killer.kill(step, "debit", organization=str(organization.id), key=key, amount="-2")
        (again,) = await post(pool, keyed_posting(organization, key, Decimal(-2)))
        assert again.status == ("posted" if step is steps.DEBIT[0] else "replayed")
    kills = len(steps.DEBIT) * killer.rounds
    assert (await balances(pool))[organization.slug] == 1000 - 2 * kills
    assert await problems(pool) == []
