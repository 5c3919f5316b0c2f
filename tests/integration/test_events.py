"""From a delivered event to the ledger: through the real endpoint, inbox and drainer."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from sandbox.signed_events import event
from shared.errors import PrepaidError
from shared.events.service import Applier
from shared.inbox import rules, store
from shared.inbox.model import Lane
from shared.payments.customers import bind_customers
from shared.payments.model import SaleTerms
from tests.fixtures.product import (
    LEASE,
    Endpoint,
    balance,
    balances,
    create_organization,
    event_row,
    event_states,
    fail_postings,
    mend_postings,
    payment,
    receive,
    transactions,
)
from tests.integration.events import open_purchase, session
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

CUSTOMER = "cus_1"


async def purchase_state(pool: Pool, purchase_id: UUID) -> str:
    state: str = await pool.fetchval("SELECT state FROM purchases WHERE id = $1", purchase_id)
    return state


async def apply(pool: Pool, drainer: Drainer, *bodies: bytes) -> None:
    await receive(pool, *bodies)
    await drainer.drain()


# Once, whatever the order


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    "bodies",
    [
        pytest.param([payment("1"), session("1")], id="intent first"),
        pytest.param([session("1"), payment("1")], id="session first"),
    ],
)
async def test_both_events_of_a_payment_credit_it_once_in_either_order(
    pool: Pool, organization: Organization, drainer: Drainer, bodies: list[bytes], *, together: bool
) -> None:
    if together:
        await apply(pool, drainer, *bodies)
    else:
        for body in bodies:
            await apply(pool, drainer, body)
    assert await balance(pool) == 10
    assert len(await transactions(pool)) == 1
    assert set((await event_states(pool)).values()) == {"applied"}


async def test_an_applied_event_names_its_organization_and_its_transaction_its_payment(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await apply(pool, drainer, payment("1"))
    row = await event_row(pool, "evt_1")
    assert (row["state"], row["organization_id"], row["attempts"]) == (
        "applied",
        organization.id,
        1,
    )
    (credit,) = await transactions(pool)
    assert (credit["type"], credit["amount"], credit["counterparty"], credit["seq"]) == (
        "purchase",
        10,
        "stripe",
        1,
    )
    assert (credit["payment_intent_id"], credit["idempotency_key"]) == ("pi_1", "stripe:pi_1")


async def test_100_deliveries_at_once_of_one_event_are_one_row_and_one_credit(
    endpoint: Endpoint, pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    body = payment("1")
    drains = [asyncio.create_task(drainer.drain()) for _ in range(3)]
    answers = await asyncio.gather(*(endpoint.deliver(body) for _ in range(100)))
    await asyncio.gather(*drains)
    await drainer.drain()
    assert {answer.status for answer in answers} == {200}
    assert [answer.json["duplicate"] for answer in answers].count(False) == 1
    assert await event_states(pool) == {"evt_1": "applied"}
    assert await balance(pool) == 10


async def test_two_workers_at_once_on_both_events_of_50_payments_credit_each_once(
    pool: Pool, organization: Organization, applier: Applier
) -> None:
    names = [str(n) for n in range(50)]
    await receive(pool, *(payment(name) for name in names), *(session(n) for n in reversed(names)))
    workers = [Drainer(pool, applier, make_token=uuid4) for _ in range(2)]
    await asyncio.gather(*(worker.drain() for worker in workers for _ in range(3)))
    await workers[0].drain()
    assert set((await event_states(pool)).values()) == {"applied"}
    assert await balance(pool) == 500
    rows = await transactions(pool)
    assert [row["seq"] for row in rows] == list(range(1, 51))
    assert len({row["payment_intent_id"] for row in rows}) == 50


async def test_workers_on_the_same_payments_in_opposite_orders_credit_each_once(
    pool: Pool, organization: Organization, applier: Applier
) -> None:
    names = [f"{n:02}" for n in range(30)]
    await receive(pool, *(payment(name) for name in names))
    tokens = [UUID(int=1), UUID(int=2)]
    claims = []
    async with pool.acquire() as connection:
        claims.append(await store.claim(connection, rows_max=200, token=tokens[0], lease=LEASE))
        await receive(pool, *(session(name) for name in names))
        claims.append(await store.claim(connection, rows_max=200, token=tokens[1], lease=LEASE))
    claims[0].sort(key=lambda claimed: claimed.id)
    claims[1].sort(key=lambda claimed: claimed.id, reverse=True)
    await asyncio.gather(*map(applier.apply, tokens, claims))
    assert await balance(pool) == 300
    assert set((await event_states(pool)).values()) == {"applied"}


async def test_both_async_payment_events_of_a_session_credit_it_once(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await apply(pool, drainer, session("1"), session("1", "async_payment_succeeded"))
    assert await balance(pool) == 10
    assert set((await event_states(pool)).values()) == {"applied"}


# Whose it is


@pytest.mark.parametrize("together", [True, False])
async def test_two_events_that_name_different_organizations_credit_the_first_once(
    pool: Pool, organization: Organization, drainer: Drainer, *, together: bool
) -> None:
    await create_organization(pool, "other")
    bodies = [payment("1"), session("1", metadata={"organization_id": "other"})]
    if together:
        await apply(pool, drainer, *bodies)
    else:
        for body in bodies:
            await apply(pool, drainer, body)
    rows = await transactions(pool)
    assert len(rows) == 1
    owners = {row["organization_id"] for row in rows}
    assert {
        row["organization_id"] for row in await pool.fetch("SELECT * FROM stripe_payments")
    } == (owners)
    assert await balance(pool) + await balance(pool, "other") == 10
    if not together:
        assert owners == {organization.id}


@pytest.mark.parametrize("form", ["slug", "uuid", "hex", "upper case uuid"])
async def test_metadata_names_the_organization_by_slug_or_id(
    pool: Pool, organization: Organization, drainer: Drainer, form: str
) -> None:
    name = {
        "slug": organization.slug,
        "uuid": str(organization.id),
        "hex": organization.id.hex,
        "upper case uuid": str(organization.id).upper(),
    }[form]
    await apply(pool, drainer, payment("1", organization=name))
    assert await balance(pool) == 10


async def test_a_session_names_the_organization_by_its_client_reference_id(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await apply(pool, drainer, session("1", metadata={}, client_reference_id="acme"))
    assert await balance(pool) == 10


async def test_metadata_counts_before_the_client_reference_id(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await create_organization(pool, "other")
    await apply(pool, drainer, session("1", client_reference_id="other"))
    assert await balance(pool) == 10


async def test_a_payment_that_its_customer_alone_is_known_by_is_ignored_and_says_why(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await apply(pool, drainer, payment("1", customer=CUSTOMER))
    await apply(pool, drainer, payment("2", customer=CUSTOMER, metadata={}))
    await apply(pool, drainer, payment("3", customer={"id": CUSTOMER}, metadata=None))
    assert await balance(pool) == 10
    row = await event_row(pool, "evt_2")
    assert row["state"] == "ignored"
    assert "PREPAID_CREDIT_CUSTOMER_PAYMENTS" in row["reason"]


async def test_an_installation_may_credit_payments_by_their_customer(
    pool: Pool, organization: Organization
) -> None:
    terms = SaleTerms(Decimal(1), credit_customer_payments=True)
    drainer = Drainer(pool, Applier(pool, terms), make_token=uuid4)
    await apply(pool, drainer, payment("1", customer=CUSTOMER))
    await apply(pool, drainer, payment("2", customer=CUSTOMER, metadata={}))
    assert await balance(pool) == 20


async def test_a_payment_of_a_customer_whom_nobody_has_is_credited_once_somebody_does(
    pool: Pool, organization: Organization
) -> None:
    terms = SaleTerms(Decimal(1), credit_customer_payments=True)
    drainer = Drainer(pool, Applier(pool, terms), make_token=uuid4)
    await apply(pool, drainer, payment("1", customer=CUSTOMER, metadata={}))
    assert (await event_row(pool, "evt_1"))["waits_for"] == CUSTOMER
    await apply(pool, drainer, payment("2", customer=CUSTOMER))
    await drainer.drain()
    assert await balance(pool) == 20
    assert set((await event_states(pool)).values()) == {"applied"}


async def test_a_payment_sees_an_owner_who_comes_at_the_same_moment(
    pool: Pool, organization: Organization
) -> None:
    """Its customer is being bound in a transaction that has looked for waiting events already."""
    terms = SaleTerms(Decimal(1), credit_customer_payments=True)
    drainer = Drainer(pool, Applier(pool, terms), make_token=uuid4)
    await receive(pool, payment("1", customer=CUSTOMER, metadata={}))
    async with pool.acquire() as binding:
        transaction = binding.transaction()
        await transaction.start()
        await bind_customers(binding, {organization.id: CUSTOMER})
        drain = asyncio.create_task(drainer.drain())
        async with asyncio.timeout(10):
            while not await pool.fetchval(  # noqa: ASYNC110 - a lock has no event
                "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"
                " OR EXISTS (SELECT FROM stripe_events WHERE state = 'ignored')"
            ):
                await asyncio.sleep(0.01)
        await transaction.commit()
    await drain
    assert await event_states(pool) == {"evt_1": "applied"}
    assert await balance(pool) == 10


async def test_a_client_reference_id_pays_for_its_organization_and_binds_no_customer(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    body = session("1", metadata={}, client_reference_id="acme", customer=CUSTOMER)
    await apply(pool, drainer, body)
    assert await balance(pool) == 10
    assert await pool.fetchval("SELECT stripe_customer_id FROM organizations") is None


async def test_a_client_reference_id_of_something_else_is_no_dead_letter(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await apply(pool, drainer, session("1", metadata={}, client_reference_id="order-7"))
    row = await event_row(pool, "evt_cs_1_completed")
    assert row["state"] == "ignored"
    assert "order-7" in row["reason"]


async def test_a_client_reference_id_that_becomes_an_organizations_name_is_credited_then(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await apply(pool, drainer, session("1", metadata={}, client_reference_id="globex"))
    assert await event_states(pool) == {"evt_cs_1_completed": "ignored"}
    await create_organization(pool, "globex")
    await drainer.drain()
    assert await balances(pool) == {"acme": 0, "globex": 10}


@pytest.mark.parametrize("reference", ["x" * 101, "x" * 100_000, "a\0b", "cus_1"])
async def test_a_client_reference_id_of_any_form_is_ignored(
    pool: Pool, organization: Organization, drainer: Drainer, reference: str
) -> None:
    await apply(pool, drainer, session("1", metadata={}, client_reference_id=reference))
    assert await event_states(pool) == {"evt_cs_1_completed": "ignored"}


async def test_a_payment_that_names_an_unknown_organization_is_not_its_customers(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await apply(pool, drainer, payment("1", customer=CUSTOMER))
    await apply(pool, drainer, payment("2", customer=CUSTOMER, organization="nobody"))
    assert await balance(pool) == 10
    assert (await event_row(pool, "evt_2"))["error_class"] == "UnknownOrganizationError"


async def test_a_purchase_made_here_counts_before_what_the_event_names(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await create_organization(pool, "other")
    await open_purchase(pool, organization, "1")
    await apply(pool, drainer, session("1", metadata={"organization_id": "other"}))
    assert await balances(pool) == {"acme": 10, "other": 0}


async def test_a_purchase_that_the_payment_names_by_its_id_counts_too(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await create_organization(pool, "other")
    purchase_id = await open_purchase(pool, organization, "1")
    named = {"organization_id": "other", "purchase_id": str(purchase_id)}
    await apply(pool, drainer, payment("1", metadata=named))
    assert await balances(pool) == {"acme": 10, "other": 0}
    assert await purchase_state(pool, purchase_id) == "paid"


async def test_one_customer_who_pays_for_two_organizations_at_once_credits_both(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await create_organization(pool, "other")
    await apply(
        pool,
        drainer,
        payment("1", customer=CUSTOMER),
        payment("2", customer=CUSTOMER, organization="other"),
    )
    assert await balances(pool) == {"acme": 10, "other": 10}
    assert set((await event_states(pool)).values()) == {"applied"}


async def test_the_first_customer_of_an_organization_is_kept(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await apply(pool, drainer, payment("1", customer=CUSTOMER))
    await apply(pool, drainer, payment("2", customer="cus_2"))
    kept = await pool.fetchval("SELECT stripe_customer_id FROM organizations")
    assert kept == CUSTOMER


@pytest.mark.parametrize("name", ["ac\0me", "acme\0", "\0acme"])
async def test_a_name_with_a_nul_is_nobodys(
    pool: Pool, organization: Organization, drainer: Drainer, name: str
) -> None:
    await apply(pool, drainer, payment("1", organization=name))
    assert await balance(pool) == 0
    assert await event_states(pool) == {"evt_1": "dead"}


@pytest.mark.parametrize("together", [True, False])
async def test_a_session_credits_a_payment_that_names_nobody_itself(
    pool: Pool, organization: Organization, drainer: Drainer, *, together: bool
) -> None:
    """A session's metadata is not on its PaymentIntent unless whoever opened it put it there."""
    await receive(pool, session("1"))
    if not together:
        await drainer.drain()
    await apply(pool, drainer, payment("1", metadata={}))
    assert await balance(pool) == 10
    assert (await event_states(pool))["evt_cs_1_completed"] == "applied"


# What must not be credited


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


# Purchases


@pytest.mark.parametrize(
    ("event_type", "state"), [("expired", "expired"), ("async_payment_failed", "failed")]
)
async def test_a_session_that_ended_without_money_closes_its_purchase(
    pool: Pool, organization: Organization, drainer: Drainer, event_type: str, state: str
) -> None:
    purchase_id = await open_purchase(pool, organization, "1")
    await apply(pool, drainer, session("1", event_type, payment_intent=None))
    assert await purchase_state(pool, purchase_id) == state
    assert await balance(pool) == 0


async def test_a_paid_session_closes_its_purchase_and_names_its_payment(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    purchase_id = await open_purchase(pool, organization, "1")
    await apply(pool, drainer, session("1"))
    row = await pool.fetchrow("SELECT * FROM purchases WHERE id = $1", purchase_id)
    assert row is not None
    assert (row["state"], row["payment_intent_id"]) == ("paid", "pi_1")


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("paid_first", [True, False])
async def test_a_paid_purchase_is_paid_whenever_it_is_said_to_have_expired(
    pool: Pool, organization: Organization, drainer: Drainer, *, together: bool, paid_first: bool
) -> None:
    purchase_id = await open_purchase(pool, organization, "1")
    bodies = [session("1"), session("1", "expired", payment_intent=None)]
    ordered = bodies if paid_first else bodies[::-1]
    if together:
        await apply(pool, drainer, *ordered)
    else:
        for body in ordered:
            await apply(pool, drainer, body)
    assert await purchase_state(pool, purchase_id) == "paid"
    assert await balance(pool) == 10


async def test_the_end_of_a_session_that_is_not_ours_changes_nothing(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await apply(pool, drainer, session("9", "expired"))
    assert await event_states(pool) == {"evt_cs_9_expired": "applied"}


# Failures that nobody expected


async def test_a_poisoned_event_does_not_take_its_batch_with_it(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await fail_postings(pool, "pi_poison")
    await apply(pool, drainer, *(payment(str(n)) for n in range(9)), payment("poison"))
    states = await event_states(pool)
    assert states.pop("evt_poison") == "retrying"
    assert set(states.values()) == {"applied"}
    assert await balance(pool) == 90


async def test_an_unexpected_failure_is_kept_with_its_class_and_trace_and_tried_again(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await fail_postings(pool)
    await apply(pool, drainer, payment("1"))
    row = await event_row(pool, "evt_1")
    assert (row["state"], row["attempts"], row["lease_token"]) == ("retrying", 1, None)
    assert "the handler is broken" in row["reason"]
    assert "Traceback" in row["error_trace"]
    assert row["error_class"] == "RaiseError"
    assert row["available_at"] > row["received_at"]


async def make_due(pool: Pool) -> None:
    """Let the backoff pass."""
    await pool.execute("UPDATE stripe_events SET available_at = now() WHERE state = 'retrying'")
    await pool.execute("UPDATE event_breakers SET paused_until = now()")


async def test_an_event_that_fails_every_attempt_is_dead_with_its_last_error(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await fail_postings(pool)
    await receive(pool, payment("1"))
    for attempt in range(1, rules.ATTEMPTS_MAX):
        await drainer.drain()
        row = await event_row(pool, "evt_1")
        assert (row["state"], row["attempts"]) == ("retrying", attempt)
        await make_due(pool)
    await drainer.drain()
    row = await event_row(pool, "evt_1")
    assert (row["state"], row["attempts"], row["error_class"]) == (
        "dead",
        rules.ATTEMPTS_MAX,
        "RaiseError",
    )
    assert "the handler is broken" in row["error_trace"]
    assert row["settled_at"] is not None


async def test_a_failure_that_passes_is_applied_at_the_next_attempt_and_its_error_is_forgotten(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await fail_postings(pool)
    await apply(pool, drainer, payment("1"))
    await mend_postings(pool)
    await make_due(pool)
    await drainer.drain()
    row = await event_row(pool, "evt_1")
    assert (row["state"], row["attempts"], row["error_class"]) == ("applied", 2, None)
    assert await balance(pool) == 10


async def test_a_failed_attempt_leaves_nothing_of_its_effects(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    purchase_id = await open_purchase(pool, organization, "1")
    await fail_postings(pool)
    await apply(pool, drainer, session("1", customer=CUSTOMER))
    assert await transactions(pool) == []
    assert await pool.fetchval("SELECT count(*) FROM stripe_payments") == 0
    assert await purchase_state(pool, purchase_id) == "open"
    assert await pool.fetchval("SELECT stripe_customer_id FROM organizations") is None


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x" * 100_000])
async def test_whatever_an_error_says_it_is_recorded_and_the_drain_goes_on(
    pool: Pool, organization: Organization, text: str
) -> None:
    def fail() -> UUID:
        raise RuntimeError(text)

    broken = Drainer(pool, Applier(pool, SaleTerms(Decimal(1)), make_id=fail), make_token=uuid4)
    await apply(pool, broken, payment("1"), event("2", "customer.created", {}))
    assert await event_states(pool) == {"evt_1": "retrying", "evt_2": "ignored"}


# The breaker


async def test_a_type_that_fails_ten_times_in_a_row_pauses_and_no_more_of_it_is_tried(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await fail_postings(pool)
    await apply(pool, drainer, *(payment(str(n)) for n in range(15)))
    states = list((await event_states(pool)).values())
    assert (states.count("retrying"), states.count("received")) == (10, 5)
    row = await pool.fetchrow("SELECT *, paused_until > now() AS paused FROM event_breakers")
    assert row is not None
    assert (row["event_type"], row["failures_in_row"], row["paused"]) == (
        "payment_intent.succeeded",
        10,
        True,
    )
    untried = await pool.fetchval(
        "SELECT max(attempts) FROM stripe_events WHERE state = 'received'"
    )
    assert untried == 0


async def test_a_paused_type_holds_back_no_other(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await fail_postings(pool, "pi_bad%")
    await apply(pool, drainer, *(payment(f"bad{n}") for n in range(10)))
    await apply(pool, drainer, payment("held"), session("1"))
    states = await event_states(pool)
    assert (states["evt_held"], states["evt_cs_1_completed"]) == ("received", "applied")


async def test_one_success_of_a_type_ends_its_pause(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await fail_postings(pool)
    await apply(pool, drainer, *(payment(str(n)) for n in range(12)))
    await mend_postings(pool)
    await make_due(pool)
    await pool.execute("UPDATE stripe_events SET available_at = now()")
    await drainer.drain()
    assert set((await event_states(pool)).values()) == {"applied"}
    assert await pool.fetchval("SELECT count(*) FROM event_breakers") == 0
    assert await balance(pool) == 120


async def test_after_a_pause_one_more_failure_pauses_the_type_again(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await fail_postings(pool)
    await apply(pool, drainer, *(payment(str(n)) for n in range(12)))
    await make_due(pool)
    await drainer.drain()
    row = await pool.fetchrow("SELECT *, paused_until > now() AS paused FROM event_breakers")
    assert row is not None
    assert (row["failures_in_row"], row["paused"]) == (11, True)


async def test_failures_between_successes_do_not_pause_a_type(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await fail_postings(pool, "pi_bad%")
    for n in range(12):
        await apply(pool, drainer, payment(f"bad{n}"))
        await apply(pool, drainer, payment(f"good{n}"))
    assert await balance(pool) == 120


async def test_dead_events_do_not_count_as_failures_of_their_type(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await apply(pool, drainer, *(payment(str(n), organization="nobody") for n in range(15)))
    assert set((await event_states(pool)).values()) == {"dead"}
    assert await pool.fetchval("SELECT count(*) FROM event_breakers") == 0


# The fence


async def test_a_zombies_effects_roll_back_when_its_lease_has_passed_to_another(
    pool: Pool, organization: Organization, applier: Applier
) -> None:
    await receive(pool, payment("1"))
    zombie, heir = UUID(int=1), UUID(int=2)
    async with pool.acquire() as connection:
        old = await store.claim(connection, rows_max=1, token=zombie, lease=timedelta(0))
        new = await store.claim(connection, rows_max=1, token=heir, lease=LEASE, lane=Lane.ALONE)
    with pytest.raises(PrepaidError, match="lease"):
        await applier.apply(zombie, old)
    assert await transactions(pool) == []
    await applier.apply(heir, new)
    assert await balance(pool) == 10


async def test_a_stopped_drainer_takes_nothing_more(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    drainer.stop()
    await receive(pool, payment("1"))
    assert await drainer.drain() == 0
    assert await event_states(pool) == {"evt_1": "received"}


async def test_more_events_than_a_batch_holds_are_all_taken_by_one_drain(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await receive(pool, *(payment(str(n)) for n in range(450)))
    assert await drainer.drain() == 450
    assert await balance(pool) == 4500
