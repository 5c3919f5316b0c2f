"""Every field that is read of a payment, every field of its sale, and the words of each refusal."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from shared.durations import Duration
from shared.errors import (
    EventError,
    InvalidAmountError,
    MalformedEventError,
)
from shared.ledger.model import TransactionType
from shared.payments import sales
from shared.payments.model import (
    BoundPayment,
    Claim,
    NotSold,
    Offer,
    PaymentCaptured,
    PaymentFacts,
    PaymentOrganization,
    Sale,
    SaleTerms,
)
from shared.payments.objects import CheckoutSession, PaymentIntent

NOW = datetime(2026, 11, 27, tzinfo=UTC)
ACME = PaymentOrganization(UUID(int=1), "eur")
PURCHASE, ATTEMPT = UUID(int=7), UUID(int=8)
TERMS = SaleTerms(Decimal(1))
EXPIRING = SaleTerms(Decimal(1), purchase_expires=Duration.parse("P30D"))
UNNAMED = "pi_1 names no organization"
BY_CUSTOMER = SaleTerms(Decimal(1), credit_customer_payments=True)
LONG = "x" * 150
SHOWN = repr("x" * 100)
PAYMENT = PaymentCaptured(
    payment_intent_id="pi_1",
    gross_minor=1200,
    net_minor=1000,
    currency="eur",
    customer_id="cus_1",
    account="acct_1",
    charge_id="ch_1",
    created=NOW,
)
SALE = Sale(
    payment_intent_id="pi_1",
    organization_id=ACME.id,
    gross_minor=1200,
    net_minor=1000,
    currency="eur",
    credits=Decimal(10),
    account="acct_1",
    customer_id="cus_1",
    charge_id="ch_1",
)
OFFER = Offer(
    organization_id=ACME.id,
    currency="eur",
    net_minor=1000,
    credits=Decimal(25),
    type=TransactionType.RECHARGE,
    description="Auto-recharge",
)


def intent(**changes: Any) -> PaymentIntent:
    fields: dict[str, Any] = {
        "id": "pi_1",
        "currency": "eur",
        "status": "succeeded",
        "amount_received": 3000,
        "customer": "cus_1",
        "latest_charge": "ch_1",
        "metadata": {
            "organization_id": "acme",
            "purchase_id": str(PURCHASE),
            "recharge_attempt_id": str(ATTEMPT),
        },
        "payment_method": "pm_1",
        "payment_method_types": ["sepa_debit"],
        "setup_future_usage": "off_session",
        "invoice": "in_1",
    }
    return msgspec.convert(fields | changes, PaymentIntent)


def session(**changes: Any) -> CheckoutSession:
    fields: dict[str, Any] = {
        "id": "cs_1",
        "mode": "payment",
        "payment_status": "paid",
        "amount_total": 3000,
        "currency": "eur",
        "payment_intent": "pi_1",
        "customer": "cus_2",
        "client_reference_id": "globex",
        "metadata": {"organization_id": "acme", "purchase_id": str(PURCHASE)},
        "total_details": {"amount_tax": 500},
    }
    return msgspec.convert(fields | changes, CheckoutSession)


def decide(
    payment: PaymentCaptured, claim: Claim | None = None, terms: SaleTerms = TERMS
) -> sales.Verdict:
    return sales.decide(payment, claim or Claim(), terms, now=NOW, asked=True)


READ = PaymentCaptured(
    payment_intent_id="pi_1",
    gross_minor=3000,
    net_minor=3000,
    currency="eur",
    customer_id="cus_1",
    charge_id="ch_1",
    purchase_id=PURCHASE,
    attempt_id=ATTEMPT,
    named_organization="acme",
    invoice_id="in_1",
    saved_method="pm_1",
    saved_method_type="sepa_debit",
)


def test_each_field_of_a_payment_intent_is_read() -> None:
    assert sales.from_intent(intent()) == READ


def test_a_payment_method_is_saved_only_if_it_may_be_charged_again() -> None:
    assert sales.from_intent(intent(setup_future_usage=None)).saved_method is None


@pytest.mark.parametrize("types", [None, [], ["card", "sepa_debit"]])
def test_a_type_that_is_one_of_several_is_not_known(types: list[str] | None) -> None:
    assert sales.only_type(types) == "unknown"


def test_each_field_of_a_session_is_read() -> None:
    assert sales.from_session(session()) == PaymentCaptured(
        payment_intent_id="pi_1",
        gross_minor=3000,
        net_minor=2500,
        currency="eur",
        customer_id="cus_2",
        checkout_session_id="cs_1",
        purchase_id=PURCHASE,
        session_organization="acme",
        reference_organization="globex",
    )


@pytest.mark.parametrize("field", ["payment_intent", "amount_total", "currency"])
def test_a_paid_session_that_lacks_what_was_paid_is_malformed(field: str) -> None:
    with pytest.raises(MalformedEventError) as refused:
        sales.from_session(session(**{field: None}))
    words = "A paid session names no payment intent, amount or currency."
    assert str(refused.value) == words


@pytest.mark.parametrize(("length", "read"), [(100, True), (101, False)])
def test_a_reference_that_is_longer_than_any_name_is_none(length: int, *, read: bool) -> None:
    reference = "r" * length
    found = sales.from_session(session(client_reference_id=reference)).reference_organization
    assert found == (reference if read else None)


FACTS = PaymentFacts(intent(), 0, 0)
ASKED = replace(READ, account="acct_1", created=NOW)


def test_an_answer_keeps_the_account_and_the_time_of_the_event() -> None:
    assert sales.with_facts(PAYMENT, FACTS) == ASKED


def test_the_session_of_an_answer_completes_the_payment_and_says_that_no_invoice_does() -> None:
    completed = replace(
        ASKED,
        net_minor=2500,
        checkout_session_id="cs_1",
        session_organization="acme",
        reference_organization="globex",
        invoice_id=None,
    )
    assert sales.with_facts(PAYMENT, replace(FACTS, session=session())) == completed
    for facts in (
        replace(FACTS, payment_intent=intent(metadata={}), session=session()),
        replace(FACTS, session=session(metadata={})),
    ):
        assert sales.with_facts(PAYMENT, facts).purchase_id == PURCHASE


def test_the_session_of_a_subscription_says_nothing_about_a_payment() -> None:
    facts = replace(FACTS, session=session(mode="subscription"))
    assert sales.with_facts(PAYMENT, facts) == ASKED


@pytest.mark.parametrize(
    ("own", "asked", "invoice"),
    [("in_1", None, "in_1"), (None, "in_2", "in_2"), (None, None, None)],
)
def test_the_invoice_of_a_payment_is_its_own_or_the_one_that_stripe_finds(
    own: str | None, asked: str | None, invoice: str | None
) -> None:
    facts = PaymentFacts(intent(invoice=own), 0, 0, invoice_id=asked)
    assert sales.with_facts(PAYMENT, facts).invoice_id == invoice


def test_an_event_is_late_after_ten_minutes_and_not_at_them() -> None:
    then = replace(PAYMENT, created=NOW - timedelta(minutes=10))
    verdict = sales.decide(then, Claim(offer=OFFER), TERMS, now=NOW, asked=False)
    assert isinstance(verdict, Sale)


@pytest.mark.parametrize("named", [None, "acme"])
def test_the_sale_of_a_bound_payment_is_as_it_was_bound(named: str | None) -> None:
    bound = Claim(bound=BoundPayment(ACME.id, 1200, "eur", Decimal(7)))
    expected = replace(
        SALE,
        credits=Decimal(7),
        net_minor=None,
        binds_customer=named is not None,
        expires_at=NOW + timedelta(days=30),
    )
    assert decide(replace(PAYMENT, named_organization=named), bound, EXPIRING) == expected


def test_the_sale_of_an_offer_is_as_it_was_offered() -> None:
    assert decide(PAYMENT, Claim(offer=OFFER), EXPIRING) == replace(
        SALE,
        credits=Decimal(25),
        type=TransactionType.RECHARGE,
        description="Auto-recharge",
        expires_at=NOW + timedelta(days=30),
        binds_customer=True,
    )


def test_the_sale_of_a_payment_that_names_its_organization_is_at_the_rate_of_now() -> None:
    claim = Claim(organizations={"acme": ACME})
    expected = replace(SALE, expires_at=NOW + timedelta(days=30), binds_customer=True)
    assert decide(replace(PAYMENT, named_organization="acme"), claim, EXPIRING) == expected


def test_the_least_price_is_one_of_the_smallest_unit() -> None:
    least = replace(PAYMENT, net_minor=1, named_organization="acme")
    verdict = decide(least, Claim(organizations={"acme": ACME}))
    assert verdict == replace(SALE, net_minor=1, credits=Decimal("0.01"), binds_customer=True)


def test_a_session_of_nothing_has_no_price_and_details_without_amounts_take_nothing_off() -> None:
    assert sales.session_net_minor(session(amount_total=0, total_details=None)) == 0
    details = {"tax": {"total_tax_amount": None}, "shipping": {"amount": None}}
    assert sales.from_intent(intent(amount_details=details)).net_minor == 3000


REFERRED = f"{UNNAMED}, and its client_reference_id {SHOWN} is none here"
NO_SALE = (
    ". A payment that is known by its customer alone brings no credits "
    "(PREPAID_CREDIT_CUSTOMER_PAYMENTS)."
)
NOTHING_LEFT = (
    "pi_1 paid 12.00 EUR, and 0.00 EUR without tax and shipping: no price is left to credit."
)
TWO = (
    f"pi_1 names the organization {SHOWN} in its own metadata and {SHOWN} in that of its"
    " Checkout Session."
)


@pytest.mark.parametrize(
    ("changes", "claim", "terms", "reason", "waits_for"),
    [
        (
            {"invoice_id": "in_1"},
            Claim(),
            TERMS,
            "pi_1 pays in_1; the invoice says what it brings.",
            None,
        ),
        (
            {},
            Claim(bound=BoundPayment(ACME.id, 1200, "eur", Decimal(7), "in_1")),
            TERMS,
            "pi_1 pays in_1, which was credited as a whole.",
            None,
        ),
        ({"customer_id": None}, Claim(), TERMS, f"{UNNAMED}; it has no customer either.", None),
        (
            {"customer_id": None, "reference_organization": LONG},
            Claim(),
            TERMS,
            f"{REFERRED}; it has no customer either.",
            f"organization:{LONG}",
        ),
        (
            {},
            Claim(),
            TERMS,
            UNNAMED + NO_SALE,
            None,
        ),
        (
            {"reference_organization": LONG},
            Claim(),
            TERMS,
            REFERRED + NO_SALE,
            f"organization:{LONG}",
        ),
        (
            {},
            Claim(),
            BY_CUSTOMER,
            f"{UNNAMED}, and none has the Stripe customer cus_1.",
            "cus_1",
        ),
    ],
)
def test_what_is_no_sale_says_why_and_what_it_waits_for(
    changes: dict[str, Any], claim: Claim, terms: SaleTerms, reason: str, waits_for: str | None
) -> None:
    assert decide(replace(PAYMENT, **changes), claim, terms) == NotSold(reason, waits_for)


@pytest.mark.parametrize(
    ("changes", "terms", "words"),
    [
        (
            {"net_minor": 0, "named_organization": "acme"},
            TERMS,
            NOTHING_LEFT,
        ),
        (
            {"named_organization": LONG},
            TERMS,
            f"No organization has the id or slug {SHOWN}. Create it, then replay this event.",
        ),
        (
            {"named_organization": LONG, "session_organization": LONG + "y"},
            TERMS,
            TWO,
        ),
    ],
)
def test_a_refusal_says_what_is_wrong(
    changes: dict[str, Any], terms: SaleTerms, words: str
) -> None:
    with pytest.raises(EventError) as refused:
        decide(replace(PAYMENT, **changes), Claim(organizations={"acme": ACME}), terms)
    assert str(refused.value) == words


def test_metadata_that_is_no_text_names_nobody() -> None:
    assert sales.organization_in({"organization_id": 5}) is None


def test_a_name_that_cannot_be_printed_and_an_amount_of_nothing_are_named() -> None:
    with pytest.raises(MalformedEventError) as refused:
        sales.organization_in({"organization_id": LONG + "\x00"})
    assert str(refused.value) == f"{SHOWN} cannot be an organization's id or slug."
    with pytest.raises(InvalidAmountError) as nothing:
        sales.from_intent(intent(amount_received=0))
    assert str(nothing.value) == "A payment of 0 cannot be credited."


def test_an_amount_that_the_rate_cannot_credit_is_refused_in_its_words() -> None:
    payment = replace(PAYMENT, named_organization="acme", net_minor=1)
    claim = Claim(organizations={"acme": ACME})
    with pytest.raises(InvalidAmountError) as refused:
        decide(payment, claim, SaleTerms(Decimal("1E-8")))
    assert str(refused.value) == "1 eur is not a whole number of 1e-9 credits"
