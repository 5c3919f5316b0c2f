"""Customers and cards of a connected account stay that account's."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from sandbox.signed_events import event
from shared.events.service import Applier
from shared.payments.model import SaleTerms
from tests.fixtures.product import balance, create_organization, event_states, payment
from tests.integration.events import session
from tests.integration.test_event_cards import (
    CUSTOMER,
    apply,
    card,
    cards,
    customer,
    detached,
    tell,
    the_default,
)
from tests.integration.test_event_owners import mandate, set_up, waits_for
from tests.integration.test_event_ties import method
from worker.drainer import Drainer
from worker.payment_method_fetcher import PaymentMethodFetcher

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from shared.payments.lookup import StripeLookup
    from tests.fixtures.stripe_answers import StripeAnswers

ACCOUNT = "acct_connected"
NAMED: dict[str, Any] = {"metadata": {"organization_id": "acme"}}


def connected(body: bytes) -> bytes:
    """Return an event as one of the connected account."""
    return json.dumps({**json.loads(body), "account": ACCOUNT}).encode()


async def known_there(pool: Pool) -> None:
    await pool.execute(
        "UPDATE organizations SET stripe_customer_id = $1, stripe_account = $2", CUSTOMER, ACCOUNT
    )


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(set_up(**NAMED), id="set up"),
        pytest.param(
            session("1", mode="setup", customer=CUSTOMER, payment_intent=None), id="session"
        ),
        pytest.param(payment("1", customer=CUSTOMER), id="payment"),
        pytest.param(card(**NAMED), id="attached"),
    ],
)
async def test_a_customer_is_bound_with_its_account(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    body: bytes,
) -> None:
    stripe_answers.on_file["pm_1"] = method()
    await apply(pool, asking, connected(body))
    row = await pool.fetchrow("SELECT stripe_customer_id, stripe_account FROM organizations")
    assert row is not None
    assert tuple(row) == (CUSTOMER, ACCOUNT)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(card(), id="attached"),
        pytest.param(detached(), id="detached"),
        pytest.param(set_up(), id="set up"),
        pytest.param(customer("pm_1"), id="default"),
    ],
)
async def test_a_payment_method_is_stored_with_its_account_and_asked_for_there(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    body: bytes,
) -> None:
    await known_there(pool)
    stripe_answers.on_file["pm_1"] = method()
    await apply(pool, asking, connected(body))
    assert [row["stripe_account"] for row in await cards(pool)] == [ACCOUNT]
    assert set(stripe_answers.accounts) <= {ACCOUNT}


async def test_what_a_payment_saved_is_described_by_asking_its_account(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    lookup: StripeLookup,
    stripe_answers: StripeAnswers,
) -> None:
    saving = {"customer": CUSTOMER, "payment_method": "pm_1", "setup_future_usage": "off_session"}
    await apply(pool, asking, connected(payment("1", **saving)))
    stripe_answers.on_file["pm_1"] = method()
    fetcher = PaymentMethodFetcher(pool, lookup, now=lambda: datetime(2026, 11, 27, tzinfo=UTC))
    await fetcher.fetch()
    (row,) = await cards(pool)
    assert (row["stripe_account"], row["last4"]) == (ACCOUNT, "4242")
    assert set(stripe_answers.accounts) == {ACCOUNT}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(card(), id="attached"),
        pytest.param(detached(), id="detached"),
        pytest.param(set_up(), id="set up"),
        pytest.param(customer("pm_1"), id="default"),
        pytest.param(tell("customer.deleted", {"id": CUSTOMER}), id="deleted"),
        pytest.param(
            event(
                "sub",
                "customer.subscription.updated",
                {"id": "sub_1", "customer": CUSTOMER, "status": "active"},
            ),
            id="subscription",
        ),
    ],
)
async def test_the_same_customer_id_in_another_account_is_nobodys(
    pool: Pool, organization: Organization, asking: Drainer, body: bytes
) -> None:
    await known_there(pool)
    await apply(pool, asking, body)
    assert await waits_for(pool) == [CUSTOMER]
    assert await cards(pool) == []
    assert await pool.fetchval("SELECT stripe_customer_id FROM organizations") == CUSTOMER


@pytest.mark.parametrize("connected_payment", [True, False])
async def test_a_payment_is_its_customers_in_the_customers_own_account_alone(
    pool: Pool,
    organization: Organization,
    lookup: StripeLookup,
    stripe_answers: StripeAnswers,
    connected_payment: bool,
) -> None:
    await known_there(pool)
    terms = SaleTerms(Decimal(1), credit_customer_payments=True)
    drainer = Drainer(pool, Applier(pool, terms, lookup=lookup), make_token=uuid4)
    stripe_answers.pay("1", customer=CUSTOMER, metadata={})
    paid = payment("1", customer=CUSTOMER, metadata={})
    await apply(pool, drainer, connected(paid) if connected_payment else paid)
    assert await balance(pool) == (10 if connected_payment else 0)
    assert await waits_for(pool) == [None if connected_payment else CUSTOMER]


async def test_a_mandate_of_another_account_changes_nothing(
    pool: Pool, organization: Organization, asking: Drainer
) -> None:
    await known_there(pool)
    await apply(pool, asking, connected(card()))
    await apply(pool, asking, mandate())
    assert [row["mandate_active"] for row in await cards(pool)] == [True]
    await apply(pool, asking, connected(mandate()))
    assert [row["mandate_active"] for row in await cards(pool)] == [False]


async def test_a_tie_is_settled_by_asking_the_account(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    await known_there(pool)
    await apply(pool, asking, connected(card()), connected(card(name="2")))
    stripe_answers.on_file[CUSTOMER] = {
        "id": CUSTOMER,
        "object": "customer",
        "invoice_settings": {"default_payment_method": "pm_2"},
    }
    await apply(pool, asking, connected(customer("pm_1")), connected(customer("pm_2")))
    assert await the_default(pool) == "pm_2"
    assert stripe_answers.accounts == [ACCOUNT]


async def test_a_customer_that_is_deleted_in_its_account_is_forgotten_with_it(
    pool: Pool, organization: Organization, asking: Drainer
) -> None:
    await known_there(pool)
    await create_organization(pool, "other")
    await apply(pool, asking, connected(card()))
    await apply(pool, asking, connected(tell("customer.deleted", {"id": CUSTOMER}, at=200)))
    row = await pool.fetchrow(
        "SELECT stripe_customer_id, stripe_account FROM organizations WHERE slug = 'acme'"
    )
    assert row is not None
    assert tuple(row) == (None, "")
    assert [row["detached_at"] is not None for row in await cards(pool)] == [True]
    assert set((await event_states(pool)).values()) == {"applied"}
