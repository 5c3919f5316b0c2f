"""Bugs that real systems of this kind had. Each name says what must not happen here."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from shared.errors import ValidationError
from shared.events.effects import apply_batch, interpret_batch
from shared.events.model import ApplyContext
from shared.events.service import Applier
from shared.ids import new_id
from shared.inbox import store
from shared.inbox.model import Lane
from shared.ledger import service as ledger
from shared.ledger.model import Posting, PostingStatus, SystemAccount, TransactionType
from shared.outbound import service as outbound
from shared.payments.lookup import StripeLookup
from shared.payments.model import SaleTerms
from shared.recharge import service
from shared.recharge.model import RechargeState, Rule
from shared.replay.service import Replayer
from tests.fixtures.ledger import grant, post, usage
from tests.fixtures.product import (
    LEASE,
    Endpoint,
    balance,
    create_organization,
    event_row,
    event_states,
    fail_postings,
    mend_postings,
    payment,
    receive,
    transactions,
)
from tests.fixtures.recharging import Shop
from tests.integration.events import session
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization


async def test_an_event_is_not_marked_processed_before_its_effect_commits(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    """A worker dies between its effects and its commit: nothing is left, and the event is due."""
    await receive(pool, payment("1"))
    async with pool.acquire() as dying:
        transaction = dying.transaction()
        await transaction.start()
        claimed = await store.claim(dying, rows_max=1, token=UUID(int=1), lease=timedelta(0))
        context = ApplyContext(SaleTerms(Decimal(1)), new_id, datetime.now(UTC))
        await apply_batch(dying, claimed, interpret_batch(claimed), context)
        await transaction.rollback()
    assert await event_states(pool) == {"evt_1": "received"}
    assert await balance(pool) == 0
    await drainer.drain()
    assert await event_states(pool) == {"evt_1": "applied"}
    assert await balance(pool) == 10


async def test_an_event_and_its_credit_are_seen_by_others_at_the_same_moment(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await receive(pool, *(payment(str(n)) for n in range(30)))
    seen = set()

    async def watch() -> None:
        while True:
            seen.add(
                await pool.fetchval(
                    "SELECT (SELECT count(*) FROM stripe_events WHERE state = 'applied')"
                    " - (SELECT count(*) FROM credit_transactions)"
                )
            )
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    await drainer.drain()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert seen == {0}


async def test_no_200_is_answered_before_the_event_is_durable(
    endpoint: Endpoint, pool: Pool
) -> None:
    await pool.execute("ALTER TABLE stripe_events ADD CONSTRAINT full_disk CHECK (false) NOT VALID")
    answer = await endpoint.deliver(payment("1"))
    assert answer.status >= 500
    assert await event_states(pool) == {}
    await pool.execute("ALTER TABLE stripe_events DROP CONSTRAINT full_disk")
    again = await endpoint.deliver(payment("1"))
    assert (again.status, again.json["duplicate"]) == (200, False)


async def test_two_deliveries_between_a_select_and_an_insert_are_not_two_credits(
    endpoint: Endpoint, pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    """Dedupe is the insert itself: there is no moment between looking and writing."""
    answers = await asyncio.gather(*(endpoint.deliver(payment("1")) for _ in range(30)))
    await drainer.drain()
    assert [answer.json["duplicate"] for answer in answers].count(False) == 1
    assert len(await transactions(pool)) == 1


async def test_a_failed_event_is_not_deduplicated_for_ever(
    endpoint: Endpoint, pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await fail_postings(pool)
    await endpoint.deliver(payment("1"))
    await drainer.drain()
    assert (await endpoint.deliver(payment("1"))).json["duplicate"] is True
    await mend_postings(pool)
    await pool.execute("UPDATE stripe_events SET available_at = now()")
    await drainer.drain()
    assert await event_states(pool) == {"evt_1": "applied"}
    assert await balance(pool) == 10


async def test_a_replayed_event_does_not_die_again_at_once_for_its_old_attempts(
    pool: Pool, organization: Organization, replayer: Replayer
) -> None:
    await receive(pool, payment("1"))
    await pool.execute(
        "UPDATE stripe_events SET state = 'dead', attempts = 8, reason = 'x', settled_at = now()"
    )
    await fail_postings(pool)
    await replayer.replay(["evt_1"], actor="cli:test", reason=None)
    row = await event_row(pool, "evt_1")
    assert (row["state"], row["attempts"]) == ("retrying", 1)


async def test_an_event_that_waited_for_days_is_applied(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    """No worker ran meanwhile. A queue that keeps its jobs for 24 hours has forgotten it."""
    await receive(pool, payment("1"))
    await pool.execute(
        "UPDATE stripe_events SET received_at = received_at - interval '40 days',"
        " available_at = available_at - interval '40 days'"
    )
    await drainer.drain()
    assert await event_states(pool) == {"evt_1": "applied"}
    assert await balance(pool) == 10


async def test_an_event_that_takes_too_long_is_tried_again(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    """The server is slow, and nothing is wrong with the event."""
    await fail_postings(pool)
    await pool.execute(
        "CREATE OR REPLACE FUNCTION break_posting() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'canceling statement due to statement timeout'"
        " USING ERRCODE = 'query_canceled'; END $$"
    )
    await receive(pool, payment("1"))
    await drainer.drain()
    row = await event_row(pool, "evt_1")
    assert (row["state"], row["error_class"]) == ("retrying", "QueryCanceledError")
    await mend_postings(pool)
    await pool.execute("UPDATE stripe_events SET available_at = now()")
    await drainer.drain()
    assert await event_states(pool) == {"evt_1": "applied"}
    assert await balance(pool) == 10


async def test_a_success_delivered_again_days_later_does_not_credit_again(
    endpoint: Endpoint, pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    """Stripe may send the same payment under a new event id; its key is the payment."""
    await endpoint.deliver(payment("1"))
    await drainer.drain()
    await pool.execute("UPDATE stripe_events SET received_at = received_at - interval '40 days'")
    await endpoint.deliver(payment("1"))
    await endpoint.deliver(payment("1").replace(b'"evt_1"', b'"evt_again"'))
    await endpoint.deliver(session("1"))
    await drainer.drain()
    assert len(await transactions(pool)) == 1
    assert set((await event_states(pool)).values()) == {"applied"}


async def test_the_same_key_with_another_payload_is_not_a_success(
    pool: Pool, organization: Organization
) -> None:
    def asked(amount: int) -> Posting:
        return Posting(
            organization_id=organization.id,
            id=new_id(),
            type=TransactionType.GRANT,
            amount=Decimal(amount),
            counterparty=SystemAccount.PROMOTIONS,
            key="one-key",
            digest=hashlib.sha256(b"%d" % amount).hexdigest(),
        )

    async with pool.acquire() as connection:
        results = [(await ledger.post(connection, [asked(amount)]))[0] for amount in (1, 2)]
    assert [result.status for result in results] == [PostingStatus.POSTED, PostingStatus.CONFLICT]
    assert await balance(pool) == 1


@pytest.mark.parametrize("amount", [-1, -1000, 0])
async def test_a_negative_price_mints_no_credits(
    pool: Pool, organization: Organization, drainer: Drainer, amount: int
) -> None:
    await receive(pool, payment("1", amount=amount), session("2", amount_total=amount))
    await drainer.drain()
    assert await transactions(pool) == []
    assert set((await event_states(pool)).values()) == {"dead"}


async def test_an_event_that_comes_before_its_organization_is_not_lost(
    pool: Pool, drainer: Drainer, replayer: Replayer
) -> None:
    await receive(pool, payment("1"))
    await drainer.drain()
    await create_organization(pool)
    await replayer.replay(["evt_1"], actor="cli:test", reason=None)
    assert await balance(pool) == 10


async def test_a_lease_that_ran_out_while_its_worker_was_frozen_credits_once(
    pool: Pool, organization: Organization, applier: Applier
) -> None:
    await receive(pool, payment("1"))
    tokens = UUID(int=1), UUID(int=2)
    async with pool.acquire() as connection:
        frozen = await store.claim(connection, rows_max=1, token=tokens[0], lease=timedelta(0))
        heir = await store.claim(
            connection, rows_max=1, token=tokens[1], lease=LEASE, lane=Lane.ALONE
        )
    outcomes = await asyncio.gather(
        applier.apply(tokens[0], frozen), applier.apply(tokens[1], heir), return_exceptions=True
    )
    assert sum(isinstance(outcome, BaseException) for outcome in outcomes) == 1
    assert len(await transactions(pool)) == 1
    assert await event_states(pool) == {"evt_1": "applied"}


async def every_hour(shop: Shop, hours: int) -> None:
    """Spend a little every hour, and work: everything that may be tried again, is."""
    for _ in range(hours):
        shop.clock.now += timedelta(hours=1)
        await post(shop.pool, usage(shop.owner, Decimal("0.01"), may_overdraw=True))
        await shop.work()


async def asked_to_charge(shop: Shop) -> int:
    """Count how often the card was really asked for money."""
    async with shop.session.get("/_sim/requests") as answer:
        requests = (await answer.json())["data"]
    mine = {row["payment_intent_id"] for row in await shop.attempts()}
    return sum(
        request["path"].endswith("/confirm") and request["path"].split("/")[3] in mine
        for request in requests
    )


async def test_a_declined_card_is_not_tried_hundreds_of_times(shop: Shop) -> None:
    await shop.open("pm_card_chargeCustomerFail")
    await every_hour(shop, 72)
    assert await asked_to_charge(shop) == 3
    assert (await shop.settings()).state is RechargeState.SUSPENDED


async def test_a_card_that_was_reported_lost_is_tried_once(shop: Shop) -> None:
    await shop.open()
    method_id = await shop.pool.fetchval("SELECT id FROM payment_methods")
    await shop.sim(f"payment_methods/{method_id}/card", card="4000000000009987")
    await every_hour(shop, 30)
    assert await asked_to_charge(shop) == 1
    assert (await shop.attempt())["decline_code"] == "lost_card"


async def test_a_payment_that_asks_for_the_customer_is_no_success_and_not_tried_every_hour(
    shop: Shop,
) -> None:
    await shop.open("pm_card_authenticationRequired")
    await every_hour(shop, 20)
    assert await asked_to_charge(shop) == 1
    assert (await shop.attempt())["state"] == "requires_action"
    assert [row["type"] for row in await transactions(shop.pool)].count("recharge") == 0
    await every_hour(shop, 30)
    assert await asked_to_charge(shop) == 1
    assert (await shop.settings()).state is RechargeState.SUSPENDED


async def test_a_payment_that_takes_days_is_not_joined_by_a_second(shop: Shop) -> None:
    await shop.open("pm_usBankAccount_success")
    await every_hour(shop, 24)
    (attempt,) = await shop.attempts()
    assert attempt["state"] == "processing"
    assert [row["type"] for row in await transactions(shop.pool)].count("recharge") == 0
    await shop.sim(f"payment_intents/{attempt['payment_intent_id']}/settle")
    await shop.work()
    assert await shop.captures() == [2000]


async def test_a_bank_that_refuses_days_later_is_noticed(shop: Shop) -> None:
    await shop.open("pm_usBankAccount_noAccount")
    await shop.work()
    attempt = await shop.attempt()
    assert attempt["state"] == "processing"
    await shop.sim(f"payment_intents/{attempt['payment_intent_id']}/settle")
    await shop.work()
    assert [row["state"] for row in await shop.attempts()] == ["failed"]
    assert (await shop.settings()).declines_in_row == 1
    assert await balance(shop.pool) == 7


async def test_a_refill_never_fails_silently(shop: Shop) -> None:
    """What cannot be charged is refused when it is saved, or is told when it is tried."""
    async with shop.pool.acquire() as connection:
        url = "https://app.example.com/hooks"
        await outbound.add_endpoint(connection, url=url, allow_private=False)
    too_much = Rule(threshold=Decimal(10), amount=Decimal(1_000_000))
    with pytest.raises(ValidationError):
        await shop.agree(too_much)
    await shop.agree()
    await post(shop.pool, grant(shop.owner, 12))
    await post(shop.pool, usage(shop.owner, 5))
    await shop.work()
    told = await shop.pool.fetch("SELECT type, payload FROM outbound_messages")
    suspended = [row["payload"] for row in told if row["type"] == "recharge.suspended"]
    assert len(suspended) == 1
    assert "no_card" in suspended[0]


async def events_of(shop: Shop, *types: str) -> list[bytes]:
    listed = await shop.client.v1.events.list_async({"types": list(types), "limit": 100})
    intent_id = (await shop.attempt())["payment_intent_id"]
    bodies = [json.dumps(event.to_dict()).encode() for event in reversed(listed.data)]
    return [body for body in bodies if intent_id.encode() in body]


async def test_a_recharge_that_is_refunded_later_is_taken_back_and_not_credited_again(
    shop: Shop,
) -> None:
    """Its success, delivered again after the refund, is a success that was counted."""
    lookup = StripeLookup(shop.client)
    drainer = Drainer(shop.pool, Applier(shop.pool, SaleTerms(Decimal(1)), lookup=lookup), uuid4)
    await shop.open()
    await shop.work()
    assert await balance(shop.pool) == 27
    attempt = await shop.attempt()
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.turn_off(connection, shop.owner.id, actor="test", reason="asked for it")
    await shop.client.v1.refunds.create_async({"payment_intent": attempt["payment_intent_id"]})
    await receive(shop.pool, *await events_of(shop, "charge.refunded", "refund.created"))
    await drainer.drain()
    assert await balance(shop.pool) == 7
    (success,) = await events_of(shop, "payment_intent.succeeded")
    again = json.dumps(json.loads(success) | {"id": "evt_again"}).encode()
    await receive(shop.pool, success, again)
    await drainer.drain()
    await shop.work()
    assert await balance(shop.pool) == 7
    assert set((await event_states(shop.pool)).values()) == {"applied"}


async def test_nothing_is_charged_after_auto_recharge_was_turned_off(shop: Shop) -> None:
    """Not even what was armed before, and never charged."""
    await shop.open()
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.turn_off(connection, shop.owner.id, actor="test", reason=None)
    await every_hour(shop, 3)
    assert [row["state"] for row in await shop.attempts()] == ["canceled"]
    assert await shop.captures() == []


async def test_a_payment_is_not_made_anew_with_another_key_when_its_answer_is_lost(
    shop: Shop,
) -> None:
    """The creation is asked for again under the same key: Stripe has one PaymentIntent."""
    await shop.sim("faults", method="POST", path="/v1/payment_intents", fault="answer_lost")
    await shop.open()
    await shop.work_until_settled()
    assert await shop.captures() == [2000]
    made = await shop.client.v1.payment_intents.list_async(
        {"customer": (await shop.attempt())["customer_id"]}
    )
    assert [intent.status for intent in made.data] == ["succeeded"]
