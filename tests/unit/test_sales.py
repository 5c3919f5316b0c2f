"""Which payments are sales, whose they are, and what they bring."""

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
    CurrencyMismatchError,
    InvalidAmountError,
    PaymentMismatchError,
    TwoOrganizationsError,
    UnknownOrganizationError,
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
    PaymentQuestion,
    Sale,
    SaleTerms,
)
from shared.payments.objects import CheckoutSession, PaymentIntent

NOW = datetime(2026, 11, 27, tzinfo=UTC)
ACME, GLOBEX = PaymentOrganization(UUID(int=1), "usd"), PaymentOrganization(UUID(int=2), "usd")
TERMS = SaleTerms(Decimal(1))
OFFER = Offer(
    organization_id=ACME.id,
    currency="usd",
    net_minor=1000,
    credits=Decimal(25),
    type=TransactionType.PURCHASE,
    description="Credit purchase",
)


def captured(**changes: Any) -> PaymentCaptured:
    fields: dict[str, Any] = {
        "payment_intent_id": "pi_1",
        "gross_minor": 1000,
        "net_minor": 1000,
        "currency": "usd",
        "customer_id": None,
        "created": NOW,
    }
    return PaymentCaptured(**fields | changes)


def decide(
    payment: PaymentCaptured,
    claim: Claim | None = None,
    terms: SaleTerms = TERMS,
    *,
    asked: bool = True,
) -> sales.Verdict:
    return sales.decide(payment, claim or Claim(), terms, now=NOW, asked=asked)


def sold(payment: PaymentCaptured, claim: Claim, terms: SaleTerms = TERMS) -> Sale:
    verdict = decide(payment, claim, terms)
    assert isinstance(verdict, Sale)
    return verdict


def session(**changes: Any) -> CheckoutSession:
    fields: dict[str, Any] = {
        "id": "cs_1",
        "mode": "payment",
        "payment_status": "paid",
        "amount_total": 3000,
        "currency": "usd",
        "payment_intent": "pi_1",
        "total_details": {"amount_tax": 0, "amount_discount": 0, "amount_shipping": 0},
    }
    return msgspec.convert(fields | changes, CheckoutSession)


def intent(**changes: Any) -> PaymentIntent:
    fields: dict[str, Any] = {
        "id": "pi_1",
        "currency": "usd",
        "status": "succeeded",
        "amount_received": 3000,
    }
    return msgspec.convert(fields | changes, PaymentIntent)


# Who


def test_whoever_opened_the_payment_names_its_organization() -> None:
    claim = Claim(organizations={"acme": ACME})
    for name in ("named_organization", "session_organization"):
        sale = sold(captured(**{name: "acme"}), claim)
        assert (sale.organization_id, sale.credits, sale.binds_customer) == (
            ACME.id,
            Decimal(10),
            True,
        )


def test_a_reference_that_a_buyer_may_choose_pays_and_binds_no_customer() -> None:
    sale = sold(captured(reference_organization="acme"), Claim(organizations={"acme": ACME}))
    assert (sale.organization_id, sale.binds_customer) == (ACME.id, False)


def test_metadata_comes_before_a_reference() -> None:
    claim = Claim(organizations={"acme": ACME, "globex": GLOBEX})
    payment = captured(named_organization="acme", reference_organization="globex")
    assert sold(payment, claim).organization_id == ACME.id


def test_a_strange_reference_is_no_error() -> None:
    verdict = decide(captured(reference_organization="order-7"))
    assert isinstance(verdict, NotSold)
    assert "order-7" in verdict.reason


@pytest.mark.parametrize("known", [{}, {"acme": ACME}, {"acme": ACME, "globex": GLOBEX}])
def test_two_organizations_in_metadata_credit_nobody_and_both_are_named(
    known: dict[str, PaymentOrganization],
) -> None:
    payment = captured(named_organization="acme", session_organization="globex")
    with pytest.raises(TwoOrganizationsError, match=r"'acme'.*'globex'"):
        decide(payment, Claim(organizations=known))


def test_an_id_and_a_slug_of_one_organization_are_no_contradiction() -> None:
    payment = captured(named_organization=str(ACME.id), session_organization="acme")
    claim = Claim(organizations={str(ACME.id): ACME, "acme": ACME})
    assert sold(payment, claim).organization_id == ACME.id


def test_an_organization_that_does_not_exist_is_named() -> None:
    with pytest.raises(UnknownOrganizationError, match="acme"):
        decide(captured(named_organization="acme"))


def test_a_customer_alone_is_no_sale_unless_the_installation_says_so() -> None:
    payment, claim = captured(customer_id="cus_1"), Claim(customer_organization=ACME)
    refused = decide(payment, claim)
    assert isinstance(refused, NotSold)
    assert "PREPAID_CREDIT_CUSTOMER_PAYMENTS" in refused.reason
    terms = SaleTerms(Decimal(1), credit_customer_payments=True)
    assert sold(payment, claim, terms).organization_id == ACME.id


def test_a_payment_of_a_customer_whom_nobody_has_waits_for_one_who_does() -> None:
    terms = SaleTerms(Decimal(1), credit_customer_payments=True)
    verdict = decide(captured(customer_id="cus_1"), terms=terms)
    assert isinstance(verdict, NotSold)
    assert verdict.waits_for == "cus_1"


@pytest.mark.parametrize("named", [None, "acme"])
def test_a_payment_of_an_invoice_is_no_sale_of_its_own(named: str | None) -> None:
    terms = SaleTerms(Decimal(1), credit_customer_payments=True)
    payment = captured(customer_id="cus_1", invoice_id="in_1", named_organization=named)
    claim = Claim(customer_organization=ACME, organizations={"acme": ACME})
    verdict = decide(payment, claim, terms)
    assert isinstance(verdict, NotSold)
    assert "in_1" in verdict.reason


# When Stripe is asked


def test_stripe_is_asked_about_a_payment_that_was_opened_elsewhere() -> None:
    claim = Claim(organizations={"acme": ACME})
    asked = decide(captured(named_organization="acme", account="acct_1"), claim, asked=False)
    assert asked == PaymentQuestion("acct_1", "pi_1")


def test_an_offer_of_ours_needs_no_answer_unless_its_event_is_late() -> None:
    claim = Claim(offer=OFFER)
    assert isinstance(decide(captured(), claim, asked=False), Sale)
    late = captured(created=NOW - sales.LATE_AFTER - timedelta(seconds=1))
    assert isinstance(decide(late, claim, asked=False), PaymentQuestion)


def test_what_is_bound_needs_no_answer_unless_its_event_is_late() -> None:
    bound = Claim(bound=BoundPayment(ACME.id, 1000, "usd", Decimal(7)))
    verdict = decide(captured(), bound, asked=False)
    assert isinstance(verdict, Sale)
    assert verdict.credits == 7
    late = captured(created=NOW - sales.LATE_AFTER - timedelta(seconds=1))
    asked = decide(late, bound, asked=False)
    assert asked == PaymentQuestion("", "pi_1", origin=False)


def test_what_an_invoice_sold_is_not_sold_again() -> None:
    bound = Claim(bound=BoundPayment(ACME.id, 1000, "usd", Decimal(7), "in_1"))
    assert isinstance(decide(captured(), bound), NotSold)


# How much


def test_an_offer_brings_what_it_sold_whatever_the_rate_is_when_it_is_paid() -> None:
    sale = sold(captured(gross_minor=1200), Claim(offer=OFFER), SaleTerms(Decimal(99)))
    assert (sale.credits, sale.net_minor, sale.gross_minor) == (Decimal(25), 1000, 1200)


@pytest.mark.parametrize("changes", [{"gross_minor": 999}, {"currency": "eur"}])
def test_less_than_an_offer_asks_for_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(PaymentMismatchError, match="pi_1"):
        decide(captured(**changes), Claim(offer=OFFER))


def test_an_offer_of_an_older_release_is_bought_at_its_net_price() -> None:
    sale = sold(captured(gross_minor=1200), Claim(offer=replace(OFFER, credits=None)))
    assert sale.credits == 10


@pytest.mark.parametrize(
    ("changes", "net"),
    [
        ({"total_details": None}, 3000),
        ({}, 3000),
        # 25.00 and 20 % of exclusive tax
        ({"total_details": {"amount_tax": 500}}, 2500),
        # 30.00 with 5.00 of inclusive tax in it: the total does not grow
        ({"total_details": {"amount_tax": 500, "amount_shipping": 0}}, 2500),
        ({"total_details": {"amount_tax": 0, "amount_shipping": 700}}, 2300),
        # shipping of 7.00, of which 1.00 is exclusive tax
        (
            {
                "total_details": {"amount_tax": 100, "amount_shipping": 600},
                "shipping_cost": {"amount_subtotal": 600, "amount_tax": 100, "amount_total": 700},
            },
            2300,
        ),
        # shipping of 7.00 with 1.00 of inclusive tax in it, which is not taken off twice
        (
            {
                "total_details": {"amount_tax": 100, "amount_shipping": 700},
                "shipping_cost": {"amount_subtotal": 700, "amount_tax": 100, "amount_total": 700},
            },
            2300,
        ),
    ],
)
def test_the_net_price_of_a_session_is_without_tax_and_shipping(
    changes: dict[str, Any], net: int
) -> None:
    assert sales.session_net_minor(session(**changes)) == net


@pytest.mark.parametrize("tax", [3000, 3001, 10**9, -1])
@pytest.mark.parametrize("claim", [Claim(organizations={"acme": ACME}), Claim(offer=OFFER)])
def test_a_tax_that_leaves_no_price_is_refused(tax: int, claim: Claim) -> None:
    paid = session(total_details={"amount_tax": tax}, metadata={"organization_id": "acme"})
    with pytest.raises(InvalidAmountError, match="tax"):
        decide(sales.from_session(paid), claim)


def test_a_price_that_is_not_left_is_no_error_where_nobody_claims_the_payment() -> None:
    paid = session(total_details={"amount_tax": 0, "amount_shipping": 3000}, customer="cus_1")
    assert isinstance(decide(sales.from_session(paid)), NotSold)


@pytest.mark.parametrize(
    ("received", "net"), [(3000, 2500), (1500, 1250), (1000, 833), (1, 0), (3300, 2500)]
)
def test_a_partial_capture_pays_its_share_of_the_net_price(received: int, net: int) -> None:
    paid = session(total_details={"amount_tax": 500})
    facts = PaymentFacts(intent(amount_received=received), 0, 0, session=paid)
    whole = sales.with_facts(captured(), facts)
    assert (whole.net_minor, whole.gross_minor) == (net, received)


def test_a_session_that_says_more_than_was_captured_is_asked_about() -> None:
    bound = Claim(bound=BoundPayment(ACME.id, 1000, "usd", Decimal(10)))
    assert isinstance(decide(captured(gross_minor=2500), bound, asked=False), PaymentQuestion)


def test_a_payment_without_a_session_is_without_the_tax_that_it_states_itself() -> None:
    details = {"tax": {"total_tax_amount": 500}, "shipping": {"amount": 300}}
    assert sales.from_intent(intent(amount_details=details)).net_minor == 2200


def test_the_session_says_the_net_price_of_a_payment_that_comes_first() -> None:
    facts = PaymentFacts(
        intent(metadata={"organization_id": "acme"}),
        0,
        0,
        session=session(total_details={"amount_tax": 500}, metadata={"organization_id": "globex"}),
    )
    whole = sales.with_facts(captured(named_organization="acme"), facts)
    assert (whole.net_minor, whole.gross_minor) == (2500, 3000)
    assert (whole.named_organization, whole.session_organization) == ("acme", "globex")


def test_another_currency_than_the_organizations_is_refused() -> None:
    claim = Claim(organizations={"acme": ACME})
    with pytest.raises(CurrencyMismatchError, match="eur"):
        decide(captured(named_organization="acme", currency="eur"), claim)


def test_an_amount_that_buys_no_whole_number_of_billionths_is_refused() -> None:
    claim = Claim(organizations={"acme": ACME})
    with pytest.raises(InvalidAmountError):
        decide(captured(named_organization="acme", net_minor=1), claim, SaleTerms(Decimal("1E-8")))


def test_credits_that_are_sold_expire_when_the_installation_says_so() -> None:
    terms = SaleTerms(Decimal(1), purchase_expires=Duration.parse("P1Y"))
    assert sold(captured(), Claim(offer=OFFER), terms).expires_at == NOW.replace(year=2027)
