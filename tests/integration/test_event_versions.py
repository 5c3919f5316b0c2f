"""Every type of event, in every API version of its endpoint, by whoever claims it.

The table says what a delivery brings; what is not in it brings nothing. No type, version or claim
is left out.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from sandbox.stripe import objects
from shared.events import rules
from tests.fixtures.product import balance, receive
from tests.fixtures.stripe_answers import StripeAnswers
from tests.fixtures.stripe_versions import VERSIONS, in_version

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from worker.drainer import Drainer

Json = dict[str, Any]

CLAIMED, BY_CUSTOMER, UNKNOWN = "claimed", "by customer", "unknown"
CLAIMS = (CLAIMED, BY_CUSTOMER, UNKNOWN)
CUSTOMERS = {CLAIMED: "cus_named", BY_CUSTOMER: "cus_a", UNKNOWN: "cus_x"}

# The payment is of 10.00; 4.00 of it are refunded, or 3.00 disputed; the invoice says 250 credits.
SALE = {CLAIMED: Decimal(10)}
REFUND = {CLAIMED: Decimal(6)}
DISPUTE = {CLAIMED: Decimal(7)}
CREDITS: dict[str, dict[str, Decimal]] = {
    "checkout.session.completed": SALE,
    "checkout.session.async_payment_succeeded": SALE,
    "payment_intent.succeeded": SALE,
    "charge.refunded": REFUND,
    "charge.refund.updated": REFUND,
    "refund.created": REFUND,
    "refund.updated": REFUND,
    "refund.failed": REFUND,
    "charge.dispute.created": DISPUTE,
    "charge.dispute.updated": DISPUTE,
    "charge.dispute.closed": DISPUTE,
    "charge.dispute.funds_withdrawn": DISPUTE,
    "charge.dispute.funds_reinstated": DISPUTE,
    "invoice.paid": {CLAIMED: Decimal(250), BY_CUSTOMER: Decimal(250)},
}
TYPES = sorted(rules._READERS)  # noqa: SLF001 - all that are read
_numbers = itertools.count(1)


def _session(event_type: str, common: Json, name: str, answers: StripeAnswers) -> Json:
    answers.pay(name, customer=common["customer"], metadata={})
    paid = event_type.endswith(("completed", "succeeded"))
    totals = {"amount_tax": 0, "amount_discount": 0, "amount_shipping": 0}
    session = objects.new(
        "checkout.session",
        {
            **common,
            "id": f"cs_{name}",
            "amount_subtotal": 1000,
            "amount_total": 1000,
            "client_reference_id": None,
            "currency": "usd",
            "mode": "payment",
            "payment_intent": f"pi_{name}",
            "payment_status": "paid" if paid else "unpaid",
            "total_details": totals,
        },
    )
    answers.sessions.append(session)
    return session


def _payment_intent(_: str, common: Json, name: str, answers: StripeAnswers) -> Json:
    fields = {
        **common,
        "id": f"pi_{name}",
        "amount": 1000,
        "amount_received": 1000,
        "currency": "usd",
        "latest_charge": f"ch_{name}",
        "status": "succeeded",
    }
    answers.pay(name, customer=common["customer"], metadata=common["metadata"])
    return objects.new("payment_intent", fields)


def _reversal(event_type: str, common: Json, name: str, answers: StripeAnswers) -> Json:
    answers.pay(name, customer=common["customer"], metadata=common["metadata"])
    of_payment = {"payment_intent": f"pi_{name}", "charge": f"ch_{name}", "currency": "usd"}
    if event_type.startswith("charge.dispute"):
        return objects.new("dispute", {**answers.dispute(300, name), **of_payment})
    refund = answers.refund(400, name)
    if event_type == "charge.refunded":
        charge = {**common, "id": f"ch_{name}", "payment_intent": f"pi_{name}", "refunded": False}
        return objects.new("charge", charge)
    return objects.new("refund", {**refund, **of_payment})


def _invoice(_: str, common: Json, name: str, answers: StripeAnswers) -> Json:
    answers.pay(name, customer=common["customer"], metadata={})
    answers.invoice_payments.append(
        {
            "id": f"inpay_{name}",
            "object": "invoice_payment",
            "amount_paid": 1000,
            "amount_requested": 1000,
            "currency": "usd",
            "invoice": f"in_{name}",
            "payment": {"type": "payment_intent", "payment_intent": f"pi_{name}"},
            "status": "paid",
        }
    )
    fields = {
        **common,
        "id": f"in_{name}",
        "amount_due": 1000,
        "amount_paid": 1000,
        "currency": "usd",
        "lines": objects.listed([], f"/v1/invoices/in_{name}/lines"),
        "metadata": {**common["metadata"], "prepaid_credits": "250"},
        "status": "paid",
        "total": 1000,
    }
    return objects.new("invoice", fields)


def _plain(kind: str, prefix: str) -> Callable[[str, Json, str, StripeAnswers], Json]:
    def build(_: str, common: Json, name: str, answers: StripeAnswers) -> Json:
        built = objects.new(kind, {**common, "id": f"{prefix}_{name}"})
        if kind == "payment_method":
            built["type"] = "card"
        answers.on_file[built["id"]] = built
        return built

    return build


def _customer(_: str, common: Json, name: str, answers: StripeAnswers) -> Json:
    built = objects.new("customer", {"id": common["customer"], "metadata": common["metadata"]})
    answers.on_file[built["id"]] = built
    return built


def _fraud_warning(_: str, common: Json, name: str, answers: StripeAnswers) -> Json:
    answers.pay(name, customer=common["customer"], metadata=common["metadata"])
    of_payment = {"payment_intent": f"pi_{name}", "charge": f"ch_{name}"}
    return objects.new("radar.early_fraud_warning", {"id": f"issfr_{name}", **of_payment})


def _mandate(_: str, _common: Json, name: str, _answers: StripeAnswers) -> Json:
    return objects.new("mandate", {"id": f"mandate_{name}", "payment_method": f"pm_{name}"})


# The longest beginning that fits says of what kind a type's object is.
BUILDERS: dict[str, Callable[[str, Json, str, StripeAnswers], Json]] = {
    "charge.": _reversal,
    "checkout.session.": _session,
    "customer.": _customer,
    "customer.subscription.": _plain("subscription", "sub"),
    "invoice.": _invoice,
    "mandate.": _mandate,
    "payment_intent.": _payment_intent,
    "payment_method.": _plain("payment_method", "pm"),
    "radar.": _fraud_warning,
    "refund.": _reversal,
    "setup_intent.": _plain("setup_intent", "seti"),
}


def delivery(event_type: str, version: str, claim: str, answers: StripeAnswers) -> bytes:
    """Return an event as an endpoint of a version is sent it; Stripe answers what it is asked."""
    name = str(next(_numbers))
    metadata = {"organization_id": "acme"} if claim == CLAIMED else {}
    common: Json = {"customer": CUSTOMERS[claim], "metadata": metadata}
    prefix = max(filter(event_type.startswith, BUILDERS), key=len)
    subject = BUILDERS[prefix](event_type, common, name, answers)
    event = {
        "id": f"evt_{name}",
        "object": "event",
        "api_version": version,
        "created": int(time.time()),
        "data": {"object": subject},
        "livemode": False,
        "type": event_type,
    }
    return msgspec.json.encode(in_version(event, version))


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_event_of_every_claim_brings_what_the_table_says(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    version: str,
) -> None:
    wrong: dict[tuple[str, str], Decimal] = {}
    for event_type, claim in itertools.product(TYPES, CLAIMS):
        await pool.execute("UPDATE organizations SET stripe_customer_id = 'cus_a'")
        before = await balance(pool)
        await receive(pool, delivery(event_type, version, claim, stripe_answers))
        await asking.drain()
        brought = await balance(pool) - before
        if brought != CREDITS.get(event_type, {}).get(claim, 0):
            wrong[event_type, claim] = brought
    assert wrong == {}
    # Nothing was left waiting: each case came to its end.
    unsettled = await pool.fetch(
        "SELECT type, reason FROM stripe_events WHERE state IN ('received', 'retrying')"
    )
    assert unsettled == []


def test_the_table_names_types_that_are_read() -> None:
    assert set(CREDITS) <= set(TYPES)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_payment_of_an_invoice_brings_nothing_itself_in_any_version(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    version: str,
) -> None:
    """It names its invoice in old versions alone; today Stripe is asked."""
    await pool.execute("UPDATE organizations SET stripe_customer_id = 'cus_a'")
    common: Json = {"customer": "cus_a", "metadata": {"organization_id": "acme"}}
    _invoice("", common, "7", stripe_answers)
    subject = _payment_intent("", common, "7", stripe_answers)
    event = {
        "id": "evt_of_invoice",
        "object": "event",
        "api_version": version,
        "created": int(time.time()),
        "data": {"object": subject},
        "livemode": False,
        "type": "payment_intent.succeeded",
    }
    await receive(pool, msgspec.json.encode(in_version(event, version)))
    await asking.drain()
    assert await balance(pool) == 0


async def test_a_new_field_in_an_event_of_an_old_version_changes_nothing(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    body = msgspec.json.decode(
        delivery("payment_intent.succeeded", VERSIONS[0], CLAIMED, stripe_answers)
    )
    body["data"]["object"] |= {"born_in_2031": {"a": [1]}, "parent": None, "amount_details": {}}
    await receive(pool, msgspec.json.encode(body))
    await asking.drain()
    assert await balance(pool) == 10
