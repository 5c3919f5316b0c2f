"""The SQL of purchases and payments."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from shared.db.queries import beside
from shared.ids import parse_id
from shared.ledger import store as ledger
from shared.ledger.model import Posting
from shared.outbound.model import OutboundMessage
from shared.outbound.rules import exact
from shared.payments import offers
from shared.payments.model import (
    BoundPayment,
    Claim,
    Offer,
    PaymentCaptured,
    PaymentLevel,
    PaymentOrganization,
    PurchasePrice,
    Sale,
)
from shared.payments.objects import TOP_UP

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)
# A Checkout Session lasts 24 hours; its last webhook may be late.
OPEN_FOR = timedelta(hours=25)


async def open_purchase(
    connection: Connection, purchase_id: UUID, organization_id: UUID, price: PurchasePrice
) -> asyncpg.Record | None:
    """Record a purchase before its session is created; return its price as first opened.

    None: it is paid.
    """
    return await connection.fetchrow(
        QUERIES.open_purchase,
        purchase_id,
        organization_id,
        price.amount_minor,
        price.currency,
        price.credits,
        price.credits_per_unit,
        OPEN_FOR,
    )


async def refuse_purchase(connection: Connection, purchase_id: UUID) -> None:
    """Close a purchase whose Checkout Session Stripe refused."""
    await connection.execute(QUERIES.refuse_purchase, purchase_id)


async def expire_purchases(connection: Connection, *, rows_max: int) -> int:
    """Close purchases that were not paid in time; return how many."""
    count: int = await connection.fetchval(QUERIES.expire_purchases, rows_max)
    return count


async def forget_customer(connection: Connection, organization_id: UUID, customer_id: str) -> None:
    """Unbind a Stripe customer and detach its payment methods, in the caller's transaction."""
    await connection.execute(QUERIES.forget_customer, organization_id, customer_id)
    await connection.execute(QUERIES.lock_account, organization_id)
    await connection.execute(QUERIES.detach_cards, organization_id, customer_id)


async def keep_session(connection: Connection, purchase_id: UUID, session_id: str) -> None:
    """Store the Checkout Session of a purchase."""
    await connection.execute(QUERIES.keep_session, purchase_id, session_id)


async def open_purchase_of(
    connection: Connection, organization_id: UUID, session_id: str | None
) -> asyncpg.Record | None:
    """Return an organization's open purchase, by its Checkout Session or else the newest."""
    return await connection.fetchrow(QUERIES.open_purchase_of, organization_id, session_id)


async def receipt(
    connection: Connection, payment_intent_id: str, organization_id: UUID
) -> asyncpg.Record | None:
    """Return the stored URL of a payment's receipt, if any, and its Stripe account."""
    return await connection.fetchrow(QUERIES.receipt, payment_intent_id, organization_id)


async def account_of(connection: Connection, payment_intent_id: str) -> str | None:
    """Return the Stripe account of a bound payment; empty: the account of the API key."""
    account: str | None = await connection.fetchval(QUERIES.account_of, payment_intent_id)
    return account


async def keep_receipt(connection: Connection, payment_intent_id: str, url: str) -> None:
    """Store the URL of a payment's receipt."""
    await connection.execute(QUERIES.keep_receipt, payment_intent_id, url)


async def claims(connection: Connection, payments: Sequence[PaymentCaptured]) -> list[Claim]:
    """Return the stored claims of each payment, in order, in one round trip."""
    names = {name: parse_id(name) for payment in payments for name in payment.names}
    rows = await connection.fetch(
        QUERIES.claims,
        [payment.payment_intent_id for payment in payments],
        [payment.checkout_session_id for payment in payments],
        [payment.purchase_id for payment in payments],
        [payment.attempt_id for payment in payments],
        [parse_id(payment.named_organization or "") for payment in payments],
        [each for each in names.values() if each is not None],
        list(names),
        [payment.customer_id for payment in payments if payment.customer_id is not None],
    )
    by_ordinal = {row["ordinal"]: row for row in rows}
    by_name, by_customer = _organizations(names, by_ordinal[1]["organizations"] or ())
    return [
        Claim(
            bound=_bound(by_ordinal[place]),
            offer=_offer(by_ordinal[place]),
            organizations={name: by_name[name] for name in payment.names if name in by_name},
            customer_organization=by_customer.get((payment.account, payment.customer_id)),
        )
        for place, payment in enumerate(payments, start=1)
    ]


def _organizations(
    names: Mapping[str, UUID | None], rows: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, PaymentOrganization], dict[tuple[str, str | None], PaymentOrganization]]:
    """Return the organizations of payments by their names and by their customers.

    A customer is looked up in its own Stripe account.
    """
    organizations = {
        UUID(row["id"]): PaymentOrganization(UUID(row["id"]), row["currency"]) for row in rows
    }
    slugs = {row["slug"]: UUID(row["id"]) for row in rows}
    named = {name: id_ or slugs.get(name) for name, id_ in names.items()}
    return (
        {name: organizations[id_] for name, id_ in named.items() if id_ in organizations},
        {
            (row["account"], row["customer"]): organizations[UUID(row["id"])]
            for row in rows
            if row["customer"] is not None
        },
    )


def _bound(row: asyncpg.Record) -> BoundPayment | None:
    if row["bound_organization_id"] is None:
        return None
    return BoundPayment(
        row["bound_organization_id"],
        row["bound_minor"],
        row["bound_currency"],
        row["bound_credits"],
        row["bound_invoice_id"],
    )


def _offer(row: asyncpg.Record) -> Offer | None:
    if row["purchase_organization_id"] is not None:
        return offers.offer_of_purchase(
            organization_id=row["purchase_organization_id"],
            currency=row["purchase_currency"],
            amount_minor=row["purchase_minor"],
            credits_=row["purchase_credits"],
        )
    if row["attempt_organization_id"] is not None:
        return offers.offer_of_attempt(
            organization_id=row["attempt_organization_id"],
            currency=row["attempt_currency"],
            amount_minor=row["attempt_minor"],
            credits_=row["attempt_credits"],
            top_up=row["attempt_trigger"] == TOP_UP,
        )
    return None


async def bind_payments(connection: Connection, sold: Sequence[Sale]) -> dict[str, BoundPayment]:
    """Bind those payments that are not bound yet to their organizations; return them."""
    return _bindings(await connection.fetch(QUERIES.bind_payments, _encode_bindings(sold)))


async def credit(
    connection: Connection,
    *,
    bindings: Sequence[Sale],
    postings: Sequence[Posting],
    payments: Sequence[str],
    locks: bool,
    purchases: Sequence[Mapping[str, Any]],
    messages: Mapping[int, OutboundMessage],
    suspension: str,
) -> list[asyncpg.Record]:
    """Bind payments, post their credits and complete their purchases; see `credit_payments`.

    Returns no row if one of the payments was bound meanwhile. `messages` are by the place of their
    posting, counted from 1.
    """
    return await connection.fetch(
        QUERIES.credit,
        _encode_bindings(bindings),
        ledger.encode(postings),
        payments,
        locks,
        msgspec.json.encode(purchases).decode(),
        msgspec.json.encode(
            [
                {
                    "place": place,
                    "organization_id": message.organization_id,
                    "id": message.id,
                    "type": message.type,
                    "data": exact(message.data),
                    "at": message.at,
                }
                for place, message in messages.items()
            ]
        ).decode(),
        suspension,
    )


def _encode_bindings(sold: Sequence[Sale]) -> str:
    """Return sales as `bind_payments` takes them, in the order in which their rows are locked."""
    bindings = [
        {
            "payment_intent_id": sale.payment_intent_id,
            "organization_id": sale.organization_id,
            "amount_minor": sale.gross_minor,
            "net_minor": sale.net_minor,
            "currency": sale.currency,
            "credits": sale.credits,
            "customer_id": sale.customer_id,
            "charge_id": sale.charge_id,
            "invoice_id": sale.invoice_id,
            "stripe_account": sale.account,
        }
        for sale in sorted(sold, key=lambda sale: sale.payment_intent_id)
    ]
    return msgspec.json.encode(bindings).decode()


async def bound_payments(
    connection: Connection, payment_intent_ids: Sequence[str]
) -> dict[str, BoundPayment]:
    """Return the bindings of payments by PaymentIntent; the first binding of each counts."""
    return _bindings(await connection.fetch(QUERIES.bound_payments, payment_intent_ids))


def _bindings(rows: Sequence[asyncpg.Record]) -> dict[str, BoundPayment]:
    return {
        row["payment_intent_id"]: BoundPayment(
            row["organization_id"],
            row["amount_minor"],
            row["currency"],
            row["credits"],
            row["invoice_id"],
        )
        for row in rows
    }


async def close_purchases(
    connection: Connection,
    closed: Collection[tuple[str | None, UUID | None, str | None, str]],
) -> None:
    """Close purchases: (session, purchase, PaymentIntent, state). Paid ones stay paid."""
    await connection.execute(QUERIES.close_purchases, *map(list, zip(*closed, strict=True)))


async def extend_purchase(connection: Connection, session_id: str, until: datetime) -> None:
    """Extend an open purchase until at least a time."""
    await connection.execute(QUERIES.extend_purchase, session_id, until)


async def lock_payment(connection: Connection, payment_intent_id: str) -> PaymentLevel | None:
    """Lock a bound payment; None: it is not bound."""
    row = await connection.fetchrow(QUERIES.lock_payment, payment_intent_id)
    return PaymentLevel(**row) if row else None


async def record_level(
    connection: Connection, payment_intent_id: str, as_of: datetime, charge_id: str | None
) -> None:
    """Store the time of Stripe's answer, and the charge if it was unknown."""
    await connection.execute(QUERIES.record_level, payment_intent_id, as_of, charge_id)


async def invoice_organizations(
    connection: Connection, names: Sequence[str], customer_id: str | None, account: str
) -> dict[str | None, PaymentOrganization]:
    """Lock and return the organizations that an invoice names, by name.

    If it names none, the organization of its Stripe customer in that account is under None.
    """
    ids = {name: parse_id(name) for name in names}
    rows = await connection.fetch(
        QUERIES.invoice_organizations,
        [each for each in ids.values() if each is not None],
        list(names),
        customer_id,
        account,
    )
    organizations = {row["id"]: PaymentOrganization(row["id"], row["currency"]) for row in rows}
    if not names:
        return dict.fromkeys([None], next(iter(organizations.values()))) if organizations else {}
    slugs = {row["slug"]: row["id"] for row in rows}
    named = {name: organizations.get(ids[name] or slugs.get(name)) for name in names}
    return {name: organization for name, organization in named.items() if organization is not None}


async def invoice_organization(connection: Connection, invoice_id: str) -> UUID | None:
    """Return the organization that an invoice was credited to, if any."""
    organization_id: UUID | None = await connection.fetchval(
        QUERIES.invoice_organization, invoice_id
    )
    return organization_id


async def bind_invoice(connection: Connection, invoice_id: str, organization_id: UUID) -> bool:
    """Bind an invoice to the organization that it is credited to; False: it was bound before."""
    return await connection.fetchval(QUERIES.bind_invoice, invoice_id, organization_id) is not None
