"""Bugs that real systems of this kind had. Each name says what must not happen here."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from shared.events.effects import carry_out
from shared.events.model import Terms
from shared.events.replay import Replayer
from shared.ids import new_id
from shared.inbox import store
from shared.ledger import service as ledger
from shared.ledger.model import Posting, PostingStatus, SystemAccount, TransactionType
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
from tests.integration.events import session

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.events.service import Applier
    from shared.organizations.model import Organization
    from worker.drainer import Drainer


async def test_an_event_is_not_marked_processed_before_its_effect_commits(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    """A worker dies between its effects and its commit: nothing is left, and the event is due."""
    await receive(pool, payment("1"))
    async with pool.acquire() as dying:
        transaction = dying.transaction()
        await transaction.start()
        claimed = await store.claim(dying, rows_max=1, token=UUID(int=1), lease=timedelta(0))
        await carry_out(dying, claimed, Terms(Decimal(1), new_id, datetime.now(UTC)))
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
        heir = await store.claim(connection, rows_max=1, token=tokens[1], lease=LEASE)
    outcomes = await asyncio.gather(
        applier.apply(tokens[0], frozen), applier.apply(tokens[1], heir), return_exceptions=True
    )
    assert sum(isinstance(outcome, BaseException) for outcome in outcomes) == 1
    assert len(await transactions(pool)) == 1
    assert await event_states(pool) == {"evt_1": "applied"}
