"""The organization that a payment's events credit."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from shared.events.service import Applier
from shared.payments.customers import bind_customers
from shared.payments.model import SaleTerms
from tests.fixtures.product import (
    balance,
    balances,
    create_organization,
    event_row,
    event_states,
    payment,
    receive,
    transactions,
)
from tests.integration.events import CUSTOMER, apply, open_purchase, purchase_state, session
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization


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
