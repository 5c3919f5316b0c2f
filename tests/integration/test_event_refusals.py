"""Events that must not be credited: ignored, dead or never drained, each with its reason."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from sandbox.signed_events import event
from shared.events.service import Applier
from shared.payments.model import SaleTerms
from tests.fixtures.product import (
    Endpoint,
    balance,
    create_organization,
    event_row,
    event_states,
    payment,
    transactions,
)
from tests.integration.events import apply, session
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization


@pytest.mark.parametrize(
    ("body", "error_class", "word"),
    [
        (payment("1", currency="eur"), "CurrencyMismatchError", "eur"),
        (payment("1", currency="USD"), "MalformedEventError", "currency"),
        (payment("1", currency=None), "MalformedEventError", "currency"),
        (payment("1", amount=0), "InvalidAmountError", "0"),
        (payment("1", amount=-1000), "InvalidAmountError", "-1000"),
        (payment("1", amount_received=10**30), "MalformedEventError", "amount_received"),
        (payment("1", amount_received=10.5), "MalformedEventError", "amount_received"),
        (payment("1", amount_received="1000"), "MalformedEventError", "amount_received"),
        (payment("1", id=None), "MalformedEventError", "id"),
        (payment("1", id="pi\n1"), "MalformedEventError", "id"),
        (payment("1", organization="nobody"), "UnknownOrganizationError", "nobody"),
        (payment("1", organization=str(UUID(int=7))), "UnknownOrganizationError", "0007"),
        (payment("1", metadata=[]), "MalformedEventError", "metadata"),
        (event("1", "payment_intent.succeeded", None), "MalformedEventError", "PaymentIntent"),
        (event("1", "payment_intent.succeeded", []), "MalformedEventError", "PaymentIntent"),
        (
            event("1", "payment_intent.succeeded", {}, data=None),
            "MalformedEventError",
            "PaymentIntent",
        ),
    ],
)
async def test_a_payment_that_cannot_be_credited_is_dead_at_once_and_says_why(
    pool: Pool,
    organization: Organization,
    drainer: Drainer,
    body: bytes,
    error_class: str,
    word: str,
) -> None:
    await apply(pool, drainer, body)
    row = await event_row(pool, "evt_1")
    assert (row["state"], row["attempts"], row["error_class"]) == ("dead", 1, error_class)
    assert word in row["reason"]
    assert error_class in row["error_trace"]
    assert await transactions(pool) == []


@pytest.mark.parametrize("customer", [None, "cus_9"])
async def test_a_payment_that_names_nobody_is_ignored_and_its_session_credits_it(
    pool: Pool, organization: Organization, drainer: Drainer, customer: str | None
) -> None:
    await apply(pool, drainer, payment("1", metadata={}, customer=customer))
    assert (await event_row(pool, "evt_1"))["state"] == "ignored"
    await apply(pool, drainer, session("1", payment_intent="pi_1", amount_total=1000))
    assert len(await transactions(pool)) == 1


@pytest.mark.parametrize(
    "changes",
    [{"payment_intent": None}, {"amount_total": None}, {"currency": None}],
)
async def test_a_paid_session_without_what_a_credit_needs_is_dead(
    pool: Pool, organization: Organization, drainer: Drainer, changes: dict[str, Any]
) -> None:
    await apply(pool, drainer, session("1", **changes))
    row = await event_row(pool, "evt_cs_1_completed")
    assert (row["state"], row["error_class"]) == ("dead", "MalformedEventError")


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"mode": "subscription"}, "subscription"), ({"payment_status": "unpaid"}, "not paid")],
)
async def test_a_session_that_paid_for_no_credits_is_ignored_and_says_why(
    pool: Pool, organization: Organization, drainer: Drainer, changes: dict[str, Any], word: str
) -> None:
    await apply(pool, drainer, session("1", **changes))
    row = await event_row(pool, "evt_cs_1_completed")
    assert row["state"] == "ignored"
    assert word in row["reason"]
    assert await balance(pool) == 0


@pytest.mark.parametrize("field", ["mode", "payment_status"])
async def test_a_nul_in_a_word_of_stripes_is_settled_like_any_other_word(
    pool: Pool, organization: Organization, drainer: Drainer, field: str
) -> None:
    await apply(pool, drainer, session("1", **{field: "a\0b"}))
    assert (await event_states(pool))["evt_cs_1_completed"] in {"ignored", "dead"}


async def test_a_type_that_prepaid_does_not_act_on_is_ignored_and_says_so(
    pool: Pool, drainer: Drainer
) -> None:
    await apply(pool, drainer, event("1", "customer.tax_id.created", {"id": "txi_1"}))
    row = await event_row(pool, "evt_1")
    assert (row["state"], row["attempts"]) == ("ignored", 1)
    assert row["reason"]


async def test_a_quarantined_event_is_never_drained(
    endpoint: Endpoint, pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await endpoint.deliver(event("1", "payment_intent.succeeded", {}, livemode=True))
    assert await drainer.drain() == 0
    assert await event_states(pool) == {"evt_1": "quarantined"}


@pytest.mark.parametrize("together", [True, False])
async def test_an_event_that_tells_another_amount_of_the_same_payment_is_dead(
    pool: Pool, organization: Organization, drainer: Drainer, *, together: bool
) -> None:
    bodies = [payment("1"), session("1", amount_total=2000)]
    if together:
        await apply(pool, drainer, *bodies)
    else:
        for body in bodies:
            await apply(pool, drainer, body)
    states = await event_states(pool)
    assert sorted(states.values()) == ["applied", "dead"]
    dead = next(event_id for event_id, state in states.items() if state == "dead")
    assert (await event_row(pool, dead))["error_class"] == "PaymentMismatchError"
    assert len(await transactions(pool)) == 1


@pytest.mark.parametrize(
    ("currency", "amount", "credited"),
    [("jpy", 1000, "1000"), ("kwd", 1234, "1.234"), ("usd", 1, "0.01"), ("isk", 1000, "10")],
)
async def test_an_amount_is_read_with_its_currencys_own_exponent(
    pool: Pool, drainer: Drainer, currency: str, amount: int, credited: str
) -> None:
    await create_organization(pool, "abroad", currency=currency)
    await apply(
        pool, drainer, payment("1", organization="abroad", currency=currency, amount=amount)
    )
    assert await balance(pool, "abroad") == Decimal(credited)


async def test_an_amount_that_is_no_whole_number_of_billionths_is_dead_not_rounded(
    pool: Pool, organization: Organization
) -> None:
    applier = Applier(pool, SaleTerms(Decimal("0.00000001")))
    await apply(pool, Drainer(pool, applier, make_token=uuid4), payment("1", amount=1))
    row = await event_row(pool, "evt_1")
    assert (row["state"], row["error_class"]) == ("dead", "InvalidAmountError")
    assert await balance(pool) == 0


async def test_a_closed_organization_is_credited_nothing(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await pool.execute("UPDATE accounts SET closed_at = now()")
    await apply(pool, drainer, payment("1"))
    row = await event_row(pool, "evt_1")
    assert (row["state"], row["error_class"]) == ("dead", "PostingRefusedError")
    assert await balance(pool) == 0


async def test_dead_events_leave_the_rest_of_their_batch_unharmed(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    good = [payment(f"good{n}") for n in range(5)]
    bad = [payment(f"bad{n}", organization="nobody") for n in range(5)]
    await apply(pool, drainer, *itertools.chain(*zip(good, bad, strict=True)))
    assert await balance(pool) == 50
    assert sorted((await event_states(pool)).values()) == ["applied"] * 5 + ["dead"] * 5
