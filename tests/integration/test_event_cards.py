"""What an organization has on file: attached, described, chosen, detached, in any order."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from sandbox.signed_events import event
from tests.fixtures.product import create_organization, event_row, event_states, payment, receive
from tests.integration.events import session

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from worker.drainer import Drainer

CUSTOMER = "cus_1"
_numbers = itertools.count()


def tell(event_type: str, told: dict[str, Any], *, at: int = 100, **changes: Any) -> bytes:
    return event(f"{next(_numbers)}", event_type, told, created=at, **changes)


def card(
    word: str = "attached", name: str = "1", *, at: int = 100, last4: str = "4242", **changes: Any
) -> bytes:
    """Return an event of the card `pm_<name>`."""
    method = {
        "id": f"pm_{name}",
        "type": "card",
        "customer": CUSTOMER,
        "card": {
            "brand": "visa",
            "last4": last4,
            "exp_month": 12,
            "exp_year": 2034,
            "fingerprint": f"fp_{name}",
        },
        **changes,
    }
    return tell(f"payment_method.{word}", method, at=at)


def detached(name: str = "1", *, at: int = 200) -> bytes:
    method = {"id": f"pm_{name}", "type": "card", "customer": None, "card": {"last4": "4242"}}
    before = {"object": method, "previous_attributes": {"customer": CUSTOMER}}
    return tell("payment_method.detached", method, at=at, data=before)


def customer(default: str | None, *, at: int = 100) -> bytes:
    settings = {"default_payment_method": default}
    return tell("customer.updated", {"id": CUSTOMER, "invoice_settings": settings}, at=at)


async def apply(pool: Pool, drainer: Drainer, *bodies: bytes) -> None:
    await receive(pool, *bodies)
    await drainer.drain()


async def known(pool: Pool) -> None:
    """Give the organization its Stripe customer."""
    await pool.execute("UPDATE organizations SET stripe_customer_id = $1", CUSTOMER)


async def recharging(pool: Pool, organization: Organization, reason: str | None = None) -> None:
    await pool.execute(
        "INSERT INTO auto_recharges (organization_id, state, reason, threshold, amount,"
        " consented_at) VALUES ($1, CASE WHEN $2::text IS NULL THEN 'active' ELSE 'suspended' END,"
        " $2, 5, 20, now())",
        organization.id,
        reason,
    )


async def state(pool: Pool) -> tuple[str, str | None]:
    row = await pool.fetchrow("SELECT state, reason FROM auto_recharges")
    assert row is not None
    return row["state"], row["reason"]


async def cards(pool: Pool) -> list[asyncpg.Record]:
    return await pool.fetch("SELECT * FROM payment_methods ORDER BY id")


async def the_default(pool: Pool) -> str | None:
    found: str | None = await pool.fetchval("SELECT id FROM payment_methods WHERE is_default")
    return found


async def test_an_attached_card_is_on_file(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await known(pool)
    await apply(pool, drainer, card())
    (row,) = await cards(pool)
    assert (row["id"], row["organization_id"], row["customer_id"], row["brand"], row["last4"]) == (
        "pm_1",
        organization.id,
        CUSTOMER,
        "visa",
        "4242",
    )
    assert (row["exp_month"], row["exp_year"], row["fingerprint"]) == (12, 2034, "fp_1")


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
async def test_cards_come_to_the_same_in_any_order_and_twice(
    pool: Pool, organization: Organization, drainer: Drainer, order: tuple[int, ...]
) -> None:
    await known(pool)
    bodies = [
        card(at=100, last4="1111"),
        card("automatically_updated", at=150, last4="2222"),
        card(name="2", at=160),
        detached(name="2", at=170),
    ]
    for index in order:
        await apply(pool, drainer, bodies[index])
    first, second = await cards(pool)
    assert (first["last4"], first["detached_at"]) == ("2222", None)
    assert second["detached_at"] is not None
    assert set((await event_states(pool)).values()) == {"applied"}


async def test_a_card_that_is_detached_stays_so_whatever_is_told_later(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await known(pool)
    for body in (detached(at=200), card(at=100), card("updated", at=300), customer("pm_1", at=300)):
        await apply(pool, drainer, body)
    (row,) = await cards(pool)
    assert row["detached_at"] is not None
    assert not row["is_default"]


async def test_removing_the_last_card_suspends_and_another_card_resumes(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await known(pool)
    await recharging(pool, organization)
    await apply(pool, drainer, card(), card(name="2"))
    await apply(pool, drainer, detached())
    assert await state(pool) == ("active", None)
    await apply(pool, drainer, detached("2"))
    assert await state(pool) == ("suspended", "no_card")
    await apply(pool, drainer, card(name="3"))
    assert await state(pool) == ("active", None)


async def test_the_same_card_again_does_not_end_a_suspension_for_declines(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await known(pool)
    await apply(pool, drainer, card())
    await recharging(pool, organization, "declines")
    same = {"brand": "visa", "last4": "4242", "fingerprint": "fp_1"}
    await apply(pool, drainer, card(name="2", card=same), card("updated", at=500))
    assert await state(pool) == ("suspended", "declines")
    await apply(pool, drainer, card(name="3"))
    assert await state(pool) == ("active", None)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_the_default_is_the_one_that_was_chosen_last(
    pool: Pool, organization: Organization, drainer: Drainer, order: tuple[int, ...]
) -> None:
    await known(pool)
    bodies = [customer("pm_1", at=100), customer("pm_2", at=200), card(name="1", at=300)]
    for index in order:
        await apply(pool, drainer, bodies[index])
    assert await the_default(pool) == "pm_2"


async def test_a_default_that_was_taken_back_is_none(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await known(pool)
    await apply(pool, drainer, card(), customer("pm_1", at=100))
    assert await the_default(pool) == "pm_1"
    await apply(pool, drainer, customer(None, at=200))
    await apply(pool, drainer, customer("pm_1", at=150))
    assert await the_default(pool) is None


async def test_a_deleted_customer_has_nothing_on_file(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await known(pool)
    await recharging(pool, organization)
    await apply(pool, drainer, card(), customer("pm_1"))
    await apply(pool, drainer, tell("customer.deleted", {"id": CUSTOMER}, at=200))
    (row,) = await cards(pool)
    assert (row["detached_at"] is not None, row["is_default"]) == (True, False)
    assert await pool.fetchval("SELECT stripe_customer_id FROM organizations") is None
    assert await state(pool) == ("suspended", "customer_deleted")


async def test_a_card_waits_for_the_event_that_says_whose_its_customer_is(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await apply(pool, drainer, card())
    assert list((await event_states(pool)).values()) == ["ignored"]
    await apply(pool, drainer, payment("1", customer=CUSTOMER))
    await drainer.drain()
    (row,) = await cards(pool)
    assert row["organization_id"] == organization.id


async def test_a_card_of_a_customer_that_is_not_ours_is_ignored_at_once_and_waits(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await apply(pool, drainer, card())
    ((event_id, settled),) = (await event_states(pool)).items()
    assert settled == "ignored"
    row = await event_row(pool, event_id)
    assert CUSTOMER in row["reason"]
    assert row["waits_for"] == CUSTOMER


@pytest.mark.parametrize("first", ["seen", "described"])
async def test_a_payment_that_keeps_its_card_puts_it_on_file_and_hides_no_description(
    pool: Pool, organization: Organization, drainer: Drainer, first: str
) -> None:
    await known(pool)
    bodies = [
        payment("1", customer=CUSTOMER, payment_method="pm_1", setup_future_usage="off_session"),
        card(at=1),
    ]
    for body in bodies if first == "seen" else bodies[::-1]:
        await apply(pool, drainer, body)
    (row,) = await cards(pool)
    assert (row["last4"], row["detached_at"]) == ("4242", None)


async def test_two_payments_of_one_batch_that_keep_the_same_card_note_it_once(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    kept = {"customer": CUSTOMER, "payment_method": "pm_1", "setup_future_usage": "off_session"}
    await apply(pool, drainer, payment("1", **kept), payment("2", **kept))
    assert len(await cards(pool)) == 1


async def test_a_set_up_card_belongs_to_the_organization_that_the_set_up_names(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await create_organization(pool, "other")
    set_up = {
        "id": "seti_1",
        "customer": CUSTOMER,
        "payment_method": "pm_1",
        "payment_method_types": ["us_bank_account"],
        "mandate": "mandate_1",
        "metadata": {"organization_id": "acme"},
    }
    await apply(pool, drainer, tell("setup_intent.succeeded", set_up))
    (row,) = await cards(pool)
    assert (row["organization_id"], row["type"], row["mandate_id"]) == (
        organization.id,
        "us_bank_account",
        "mandate_1",
    )
    kept = await pool.fetchval("SELECT stripe_customer_id FROM organizations WHERE slug = 'acme'")
    assert kept == CUSTOMER


@pytest.mark.parametrize("mode", ["setup", "subscription"])
async def test_a_session_that_sets_up_names_the_customer_of_its_organization(
    pool: Pool, organization: Organization, drainer: Drainer, mode: str
) -> None:
    await apply(pool, drainer, session("1", mode=mode, customer=CUSTOMER, payment_intent=None))
    kept = await pool.fetchval("SELECT stripe_customer_id FROM organizations")
    assert kept == CUSTOMER


async def test_a_client_reference_id_binds_no_customer(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    bought_by: dict[str, Any] = {
        "metadata": {},
        "client_reference_id": "acme",
        "customer": CUSTOMER,
    }
    set_up = session("1", mode="setup", payment_intent=None, **bought_by)
    subscribed = session("3", mode="subscription", payment_intent=None, **bought_by)
    await apply(pool, drainer, set_up, session("2", **bought_by), subscribed)
    assert await pool.fetchval("SELECT stripe_customer_id FROM organizations") is None


@pytest.mark.parametrize("words", [("inactive", "active"), ("active", "inactive")])
async def test_a_mandate_that_was_taken_back_does_not_come_back(
    pool: Pool, organization: Organization, drainer: Drainer, words: tuple[str, ...]
) -> None:
    await known(pool)
    await apply(pool, drainer, card())
    for status in words:
        mandate = {"id": "mandate_1", "payment_method": "pm_1", "status": status}
        await apply(pool, drainer, tell("mandate.updated", mandate))
    assert [row["mandate_active"] for row in await cards(pool)] == [False]


async def test_a_set_up_that_failed_changes_nothing_and_says_why(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await apply(pool, drainer, tell("setup_intent.setup_failed", {"id": "seti_1"}))
    assert list((await event_states(pool)).values()) == ["ignored"]


# Attempts


@pytest.mark.parametrize("word", ["payment_failed", "requires_action", "processing", "canceled"])
@pytest.mark.parametrize("ours", [True, False])
async def test_a_payment_of_an_attempt_that_moves_rings_it(
    pool: Pool, organization: Organization, drainer: Drainer, word: str, *, ours: bool
) -> None:
    await pool.execute(
        "INSERT INTO recharge_attempts (organization_id, id, state, created_at, amount,"
        " amount_minor, currency, customer_id, payment_method_id, payment_intent_id, charged_at,"
        " due_at) VALUES ($1, $2, 'processing', now(), 10, 1000, 'usd', 'cus_1', 'pm_1', 'pi_1',"
        " now(), now() + interval '1 hour')",
        organization.id,
        uuid4(),
    )
    intent: dict[str, Any] = {"id": "pi_1" if ours else "pi_2", "metadata": {}}
    await apply(pool, drainer, tell(f"payment_intent.{word}", intent))
    assert list((await event_states(pool)).values()) == ["applied" if ours else "ignored"]
    assert await pool.fetchval("SELECT due_at <= now() FROM recharge_attempts") is ours


async def test_the_success_of_an_attempts_payment_rings_it_too(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    attempt = uuid4()
    await pool.execute(
        "INSERT INTO recharge_attempts (organization_id, id, state, created_at, amount,"
        " amount_minor, currency, customer_id, payment_method_id, payment_intent_id, charged_at,"
        " due_at) VALUES ($1, $2, 'processing', now(), 10, 1000, 'usd', 'cus_1', 'pm_1', 'pi_1',"
        " now(), now() + interval '1 hour')",
        organization.id,
        attempt,
    )
    named = {"organization_id": "acme", "recharge_attempt_id": str(attempt)}
    await apply(pool, drainer, payment("1", metadata=named))
    assert await pool.fetchval("SELECT due_at <= now() FROM recharge_attempts")
