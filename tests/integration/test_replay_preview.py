"""A dry run shows what a replay would do, by the same handlers, and changes nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from shared.errors import StripeRefusedError, ValidationError
from shared.events.service import Applier
from shared.inbox.admin.model import EventFilter
from shared.inbox.model import EventState
from shared.outbound import service as outbound
from shared.payments.client import stripe_client
from shared.payments.lookup import StripeLookup
from shared.payments.model import SaleTerms
from shared.replay import preview
from shared.replay.model import OrganizationDiff, ReplayReport
from shared.replay.service import Replayer
from tests.fixtures.product import (
    balance,
    create_organization,
    event_states,
    fail_postings,
    payment,
    receive,
)
from tests.fixtures.recharging import agree
from tests.integration.events import session
from worker.drainer import Drainer

if TYPE_CHECKING:
    from sandbox.stripe.process import SimulatorProcess
    from shared.db.pool import Pool
    from tests.fixtures.storefront import Storefront

WHO = "cli:test"
NAMED = {"metadata": {"organization_id": "acme"}}


async def every_row(pool: Pool) -> dict[str, list[str]]:
    """Return every row of every table, as text."""
    names = await pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {row[0]: sorted(repr(r) for r in await pool.fetch(f"TABLE {row[0]}")) for row in names}


def counts(report: ReplayReport) -> tuple[int, int, int, int]:
    return report["selected"], report["applied"], report["noop"], report["failed"]


def ledger_of(diff: OrganizationDiff) -> Any:
    rows = [(row["type"], row["amount"]) for row in diff["rows"]]
    return diff["organizationId"], diff["slug"], diff["before"], diff["after"], rows


async def receive_new(shop: Storefront) -> list[str]:
    """Put what happened at Stripe into the inbox, and let it die for want of an organization."""
    bodies = await shop.events()
    while more := await shop.events():
        bodies += more
    await receive(shop.pool, *bodies)
    await Drainer(shop.pool, shop.applier, make_token=uuid4).drain()
    states = await event_states(shop.pool)
    return [name for name, state in states.items() if state in {"dead", "ignored"}]


async def bought_and_partly_refunded(shop: Storefront) -> tuple[list[str], str]:
    """Let an unknown organization buy for 20 and get 5 back; return the events, and the payment."""
    paid = await shop.charge(2000, **NAMED)
    await shop.refund(paid, 500)
    return await receive_new(shop), paid


async def test_a_dry_run_shows_what_the_replay_then_does(storefront: Storefront) -> None:
    ids, _ = await bought_and_partly_refunded(storefront)
    acme = await create_organization(storefront.pool)
    replayer = Replayer(storefront.pool, storefront.applier, uuid4)
    shown = await replayer.preview(ids)
    done = await replayer.replay(ids, actor=WHO, reason=None)
    assert [ledger_of(diff) for diff in shown["diff"]] == [ledger_of(diff) for diff in done["diff"]]
    assert counts(shown) == counts(done)
    (diff,) = shown["diff"]
    assert (diff["organizationId"], diff["slug"]) == (str(acme.id), "acme")
    assert sum(row["amount"] for row in diff["rows"]) == diff["after"] == 15
    assert (shown["dryRun"], shown["batchId"], done["dryRun"]) == (True, None, False)


async def test_a_refund_that_credits_its_payment_first_counts_as_applied(
    storefront: Storefront,
) -> None:
    await bought_and_partly_refunded(storefront)
    await create_organization(storefront.pool)
    refund = await storefront.pool.fetchval(
        "SELECT id FROM stripe_events WHERE type = 'charge.refunded'"
    )
    replayer = Replayer(storefront.pool, storefront.applier, uuid4)
    done = await replayer.replay([refund], actor=WHO, reason=None)
    assert counts(done) == (1, 1, 0, 0)
    assert sum(row["amount"] for row in done["diff"][0]["rows"]) == 15


async def test_a_dry_run_changes_no_row_and_asks_stripe_with_get_alone(
    storefront: Storefront, stand_in: SimulatorProcess
) -> None:
    ids, _ = await bought_and_partly_refunded(storefront)
    await create_organization(storefront.pool)
    before = await every_row(storefront.pool)
    async with storefront.http.get("/_sim/requests") as answer:
        asked_before = {request["id"] for request in (await answer.json())["data"]}
    async with stripe_client("sk_test_123", stand_in.url, read_only=True) as client:
        applier = replace(storefront.applier, lookup=StripeLookup(client))
        shown = await Replayer(storefront.pool, applier, uuid4).preview(ids)
    assert shown["applied"] > 0
    async with storefront.http.get("/_sim/requests") as answer:
        asked = [r for r in (await answer.json())["data"] if r["id"] not in asked_before]
    assert {request["method"] for request in asked} == {"GET"}
    assert await every_row(storefront.pool) == before


async def test_a_read_only_client_refuses_what_is_no_get(stand_in: SimulatorProcess) -> None:
    async with stripe_client("sk_test_123", stand_in.url, read_only=True) as client:
        await client.v1.events.list_async({"limit": 1})
        with pytest.raises(StripeRefusedError, match="does not send POST"):
            await client.v1.customers.create_async({})


async def test_each_event_of_a_dry_run_sees_what_the_ones_before_it_did(
    pool: Pool, replayer: Replayer
) -> None:
    await create_organization(pool)
    await receive(pool, payment("1"), session("1"), payment("2", amount=500))
    shown = await replayer.preview(["evt_1", "evt_cs_1_completed", "evt_2"])
    assert counts(shown) == (3, 2, 1, 0)
    (diff,) = shown["diff"]
    assert (diff["before"], diff["after"]) == (Decimal(0), Decimal(15))
    assert await balance(pool) == 0


@pytest.mark.parametrize("size", [1, 2, 1000])
async def test_a_dry_run_in_windows_counts_a_payment_of_two_windows_once(
    pool: Pool, replayer: Replayer, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(preview, "WINDOW_EVENTS_MAX", size)
    await create_organization(pool)
    await receive(pool, payment("1"), payment("2"), session("1"), payment("3"))
    await pool.execute("UPDATE stripe_events SET state = 'dead', settled_at = now(), reason = 'x'")
    for selection in (list(await event_states(pool)), EventFilter()):
        shown = await replayer.preview(selection)
        assert counts(shown) == (4, 3, 1, 0)
        assert [(diff["before"], diff["after"]) for diff in shown["diff"]] == [
            (Decimal(0), Decimal(30))
        ]
        assert len(shown["diff"][0]["transactions"]) == 3


async def test_a_window_ends_when_its_time_is_over(pool: Pool, replayer: Replayer) -> None:
    await create_organization(pool)
    names = [str(n) for n in range(250)]
    await receive(pool, *map(payment, names))
    moments = iter(range(0, 10_000, 10))  # 10 s pass between two looks at the clock
    slow = replace(replayer, clock=lambda: float(next(moments)))
    shown = await slow.preview([f"evt_{name}" for name in names])
    assert (shown["selected"], shown["applied"]) == (250, 250)
    assert shown["diff"][0]["after"] == 2500


async def test_a_dry_run_shows_the_messages_that_would_be_sent(
    pool: Pool, replayer: Replayer
) -> None:
    await create_organization(pool)
    async with pool.acquire() as connection:
        await outbound.add_endpoint(connection, url="https://example.com/h", allow_private=False)
    await receive(pool, payment("1"), payment("2"))
    shown = await replayer.preview(["evt_1", "evt_2"])
    assert {"type": "purchase.completed", "messages": 2} in shown["diff"][0]["messages"]
    assert await pool.fetchval("SELECT count(*) FROM outbound_messages") == 0


async def test_a_dry_run_shows_what_becomes_of_auto_recharge(storefront: Storefront) -> None:
    pool = storefront.pool
    acme = await create_organization(pool)
    await agree(pool, acme)
    paid = await storefront.charge(2000, **NAMED)
    await storefront.deliver_new()
    await pool.execute("UPDATE auto_recharges SET state = 'active', reason = NULL, detail = NULL")
    await storefront.dispute(paid)
    await receive(pool, *await storefront.events())
    replayer = Replayer(pool, storefront.applier, uuid4)
    shown = await replayer.preview(EventFilter(state=EventState.RECEIVED))
    (diff,) = shown["diff"]
    assert diff["autoRecharge"] == {"before": "active", "after": "suspended: dispute"}
    assert ("dispute", Decimal(-20)) in [(row["type"], row["amount"]) for row in diff["rows"]]
    assert await pool.fetchval("SELECT state FROM auto_recharges") == "active"


async def test_an_event_that_would_fail_again_says_why_and_fails_no_other(
    pool: Pool, replayer: Replayer
) -> None:
    await create_organization(pool)
    await receive(pool, payment("1"), payment("poison"), payment("2"), payment("3", currency="eur"))
    await fail_postings(pool, "pi_poison")
    before = await every_row(pool)
    shown = await replayer.preview(["evt_1", "evt_poison", "evt_2", "evt_3", "evt_nobody"])
    assert counts(shown) == (5, 2, 0, 3)
    errors = {failure["id"]: failure["error"] or "" for failure in shown["failures"]}
    assert "the handler is broken" in errors["evt_poison"]
    assert "eur" in errors["evt_3"].lower()
    assert "not tried" in errors["evt_nobody"]
    assert await every_row(pool) == before


async def test_a_dry_run_waits_for_no_stripe_with_an_open_transaction(
    pool: Pool, storefront: Storefront
) -> None:
    """While it is asked, no other session has a transaction open that could hold locks."""
    ids, _ = await bought_and_partly_refunded(storefront)
    await create_organization(pool)
    stripe = StripeLookup(storefront.client)

    class Watching:
        open = 0
        asked = 0

        async def answers(self, questions: Any) -> Any:
            self.asked += len(questions)
            self.open += await pool.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"
            )
            return await stripe.answers(questions)

    watching = Watching()
    applier = Applier(pool, SaleTerms(Decimal(1)), lookup=watching)
    shown = await Replayer(pool, applier, uuid4).preview(ids)
    assert shown["diff"][0]["after"] == 15
    assert (watching.asked > 0, watching.open) == (True, 0)


async def test_a_selection_since_the_future_is_refused(replayer: Replayer) -> None:
    since = datetime.now(UTC) + timedelta(hours=1)
    with pytest.raises(ValidationError, match="future"):
        await replayer.preview(EventFilter(since=since))
