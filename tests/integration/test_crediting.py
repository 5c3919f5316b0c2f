"""What one payment brings: as it was bound, from Stripe's account, with its expiry."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from shared.errors import PaymentMismatchError
from shared.ids import new_id
from shared.ledger.model import (
    PostedTransaction,
    PostingStatus,
    RefusedPosting,
    TransactionType,
)
from shared.organizations import service as organizations
from shared.organizations import store as organization_store
from shared.payments import crediting, store
from shared.payments.model import NotSold, Sale
from tests.fixtures.outbound_messages import add

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool
    from shared.organizations.model import Organization


def sale(organization: Organization, **changes: Any) -> Sale:
    fields: dict[str, Any] = {
        "payment_intent_id": "pi_1",
        "organization_id": organization.id,
        "gross_minor": 1000,
        "net_minor": 1000,
        "currency": "usd",
        "credits": Decimal(10),
    }
    return Sale(**fields | changes)


async def credit(connection: Connection, *sales: Sale) -> list[PostedTransaction]:
    async with connection.transaction():
        results = await crediting.credit(connection, sales, new_id)
    assert all(isinstance(result, PostedTransaction) for result in results)
    return [result for result in results if isinstance(result, PostedTransaction)]


async def test_a_payment_brings_the_credits_that_it_was_bound_with(
    connection: Connection, organization: Organization
) -> None:
    """A process died between the two, and the rate has changed since."""
    await store.bind_payments(connection, [sale(organization)])
    (posted,) = await credit(connection, sale(organization, credits=Decimal(12)))
    assert posted.amount == 10


async def test_no_binding_is_kept_where_the_posting_is_refused(
    connection: Connection, organization: Organization
) -> None:
    """By the ledger, or before; and where another payment of the batch was bound meanwhile."""
    past = datetime.now(UTC) - timedelta(days=1)
    closed = await organizations.create(connection, slug="closed", name="closed")
    assert await organization_store.set_closed(connection, closed.id, closed=True)
    await store.bind_payments(connection, [sale(organization)])
    async with connection.transaction():
        results = await crediting.credit(
            connection,
            [
                sale(organization),
                sale(organization, payment_intent_id="pi_2", expires_at=past),
                sale(closed, payment_intent_id="pi_3"),
            ],
            new_id,
        )
    credited, *refused = results
    assert isinstance(credited, PostedTransaction)
    assert [type(result) for result in refused] == [crediting.PostingRefusedError] * 2
    rows = await connection.fetch("SELECT payment_intent_id FROM stripe_payments")
    assert [row["payment_intent_id"] for row in rows] == ["pi_1"]


async def test_a_payment_that_its_invoice_binds_meanwhile_is_no_sale_of_its_own(
    connection: Connection, organization: Organization
) -> None:
    """Its credits are on the ledger under the invoice's key: another key would add them again."""
    of_invoice = sale(organization, credits=Decimal(250), net_minor=None, invoice_id="in_1")
    await store.bind_payments(connection, [of_invoice])
    async with connection.transaction():
        results = await crediting.credit(
            connection, [sale(organization), sale(organization, payment_intent_id="pi_2")], new_id
        )
    assert results[0] == NotSold("pi_1 pays in_1, which was credited as a whole.")
    assert [
        row["amount"] for row in await connection.fetch("SELECT amount FROM credit_transactions")
    ] == [10]


async def test_the_credits_of_a_payment_come_from_stripe_and_expire_as_they_were_sold(
    connection: Connection, organization: Organization
) -> None:
    expires_at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=365)
    await credit(connection, sale(organization, expires_at=expires_at))
    row = await connection.fetchrow(
        "SELECT t.counterparty, g.expires_at, g.payment_intent_id FROM credit_transactions AS t"
        " INNER JOIN credit_grants AS g ON g.transaction_id = t.id"
    )
    assert row is not None
    assert tuple(row) == ("stripe", expires_at, "pi_1")


@pytest.mark.parametrize("kind", [TransactionType.PURCHASE, TransactionType.RECHARGE])
async def test_a_payment_is_a_row_of_the_type_that_was_sold(
    connection: Connection, organization: Organization, kind: TransactionType
) -> None:
    await credit(connection, sale(organization, type=kind))
    assert await connection.fetchval("SELECT type FROM credit_transactions") == kind


async def test_a_payment_that_was_bound_before_is_credited_beside_one_that_is_bound_meanwhile(
    connection: Connection, organization: Organization
) -> None:
    both = [sale(organization), sale(organization, payment_intent_id="pi_2")]
    await store.bind_payments(connection, both)
    known = await store.bound_payments(connection, ["pi_1"])
    async with connection.transaction():
        credited = await crediting.Crediting(connection=connection, make_id=new_id).credit(
            [replace(each, credits=Decimal(12)) for each in both], bound=known
        )
    amounts = [r.amount for r in credited.results if isinstance(r, PostedTransaction)]
    assert amounts == [10, 10]


async def test_a_purchase_is_announced_with_the_time_of_its_credit(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    await add(pool, "https://app.example/hook")
    paid = crediting.Announcement({"paymentIntentId": "pi_1"}, datetime(2026, 1, 31, tzinfo=UTC))
    async with connection.transaction():
        await crediting.Crediting(connection=connection, make_id=new_id).credit(
            [sale(organization)], [crediting.Completion(announcement=paid)]
        )
    message = json.loads(await connection.fetchval("SELECT payload FROM outbound_messages"))
    assert message["timestamp"].startswith("2026-01-31T00:00:00.000000")
    assert message["data"]["paymentIntentId"] == "pi_1"


async def test_the_row_of_a_payment_is_the_same_in_each_release(
    connection: Connection, organization: Organization
) -> None:
    """With another key it would be credited again; with another digest, refused as a conflict."""
    await credit(connection, sale(organization, description="50 credits"))
    row = await connection.fetchrow(
        "SELECT idempotency_key, request_digest, description FROM credit_transactions"
    )
    assert row is not None
    digest = hashlib.sha256(b'["stripe:pi_1",1000,"usd"]').digest()
    assert tuple(row) == ("stripe:pi_1", digest, "50 credits")


async def test_an_event_with_another_amount_is_refused_with_both(
    connection: Connection, organization: Organization
) -> None:
    both = [sale(organization), sale(organization, gross_minor=999, currency="eur")]
    async with connection.transaction():
        posted, refused = await crediting.credit(connection, both, new_id)
    assert isinstance(posted, PostedTransaction)
    assert isinstance(refused, PaymentMismatchError)
    assert refused.detail == "pi_1 was 1000 usd, this event says 999 eur."


@pytest.mark.parametrize(
    ("status", "detail"),
    [
        (
            PostingStatus.CLOSED,
            (
                "Organization 00000000-0000-0000-0000-000000000001 is closed. Reopen it (prepaid"
                " orgs reopen) and replay this event, or refund the payment at Stripe and discard"
                " the event."
            ),
        ),
        (
            PostingStatus.CONFLICT,
            "The ledger of organization 00000000-0000-0000-0000-000000000001 refused: conflict.",
        ),
    ],
)
def test_a_refusal_of_the_ledger_says_why(status: PostingStatus, detail: str) -> None:
    error = crediting.on_the_ledger(RefusedPosting(organization_id=UUID(int=1), status=status))
    assert isinstance(error, crediting.PostingRefusedError)
    assert error.detail == detail
