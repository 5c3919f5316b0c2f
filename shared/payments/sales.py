"""Decides which payments are sales, of which organization, and for how many credits. Pure.

A payment is a sale only if it names its organization: by a purchase or recharge attempt of Prepaid,
by the metadata of the PaymentIntent or its Checkout Session, or by the session's
`client_reference_id`. One that names only its Stripe customer is a sale if the installation is
configured so. One that pays an invoice never is: the invoice determines its credits.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from shared.errors import (
    CurrencyMismatchError,
    InvalidAmountError,
    MalformedEventError,
    PaymentMismatchError,
    TwoOrganizationsError,
    UnknownOrganizationError,
)
from shared.ids import parse_id
from shared.inbox.rules import waits_for_organization
from shared.money import credits_from_minor_units, format_money
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
from shared.payments.objects import (
    ATTEMPT_METADATA,
    ORGANIZATION_METADATA,
    PURCHASE_METADATA,
    CheckoutSession,
    PaymentIntent,
    reference_id,
)

# An event this old may arrive after a refund: the payment's reversals are read from Stripe.
LATE_AFTER = timedelta(minutes=10)
REFERENCE_LENGTH_MAX = 100  # no id or slug of an organization is longer

Verdict = Sale | NotSold | PaymentQuestion


def from_intent(intent: PaymentIntent) -> PaymentCaptured:
    """Read a PaymentIntent that has succeeded. Raises InvalidAmountError, MalformedEventError."""
    metadata = intent.metadata or {}
    return PaymentCaptured(
        payment_intent_id=intent.id,
        gross_minor=_positive(intent.amount_received),
        net_minor=_intent_net_minor(intent),
        currency=intent.currency,
        customer_id=reference_id(intent.customer),
        charge_id=reference_id(intent.latest_charge),
        purchase_id=_id(metadata, PURCHASE_METADATA),
        attempt_id=_id(metadata, ATTEMPT_METADATA),
        named_organization=organization_in(intent.metadata),
        invoice_id=reference_id(intent.invoice),
        saved_method=reference_id(intent.payment_method) if intent.setup_future_usage else None,
        saved_method_type=only_type(intent.payment_method_types),
    )


def from_session(session: CheckoutSession) -> PaymentCaptured:
    """Read a paid Checkout Session. Raises InvalidAmountError, MalformedEventError."""
    payment_intent_id = reference_id(session.payment_intent)
    if payment_intent_id is None or session.amount_total is None or session.currency is None:
        raise MalformedEventError("A paid session names no payment intent, amount or currency.")
    return PaymentCaptured(
        payment_intent_id=payment_intent_id,
        gross_minor=_positive(session.amount_total),
        net_minor=session_net_minor(session),
        currency=session.currency,
        customer_id=reference_id(session.customer),
        checkout_session_id=session.id,
        purchase_id=_id(session.metadata or {}, PURCHASE_METADATA),
        session_organization=organization_in(session.metadata),
        reference_organization=_reference(session.client_reference_id),
    )


def with_facts(payment: PaymentCaptured, facts: PaymentFacts) -> PaymentCaptured:
    """Return a payment, completed by Stripe's answer.

    The PaymentIntent has the captured amount. A session has the net price, of which a partial
    capture pays its share.
    """
    intent = from_intent(facts.payment_intent)
    complete = replace(intent, account=payment.account, created=payment.created)
    session = facts.session
    if session is not None and session.mode == "payment":
        sold = from_session(session)
        captured_minor = min(complete.gross_minor, sold.gross_minor)
        return replace(
            complete,
            net_minor=session_net_minor(session) * captured_minor // sold.gross_minor,
            checkout_session_id=sold.checkout_session_id,
            purchase_id=complete.purchase_id or sold.purchase_id,
            session_organization=sold.session_organization,
            reference_organization=sold.reference_organization,
            invoice_id=None,
        )
    return replace(complete, invoice_id=complete.invoice_id or facts.invoice_id)


def decide(
    payment: PaymentCaptured,
    claim: Claim,
    terms: SaleTerms,
    *,
    now: datetime,
    asked: bool,
) -> Verdict:
    """Decide whether a payment is a sale; return a question if its event is not enough.

    `asked`: Stripe has answered already, or cannot be asked. Raises UnknownOrganizationError,
    TwoOrganizationsError, CurrencyMismatchError, InvalidAmountError or PaymentMismatchError if it
    is meant as a sale and cannot be one.
    """
    late = payment.created is not None and now - payment.created > LATE_AFTER
    if not asked and (late or not _is_known(payment, claim)):
        return PaymentQuestion(
            payment.account, payment.payment_intent_id, origin=claim.bound is None
        )
    if claim.bound is not None:
        return _bound_sale(payment, claim.bound, claim.offer, terms, now)
    if claim.offer is not None:
        return _offered_sale(payment, claim.offer, terms, now)
    if payment.invoice_id is not None:
        return NotSold(
            f"{payment.payment_intent_id} pays {payment.invoice_id}; the invoice says what it "
            "brings."
        )
    return _claimed_sale(payment, claim, terms, now)


def _is_known(payment: PaymentCaptured, claim: Claim) -> bool:
    """Whether stored data decide. A session does not show that only a part was captured."""
    bound = claim.bound
    if bound is None:
        return claim.offer is not None
    return bound.invoice_id is not None or bound.amount_minor == payment.gross_minor


def _bound_sale(
    payment: PaymentCaptured,
    bound: BoundPayment,
    offer: Offer | None,
    terms: SaleTerms,
    now: datetime,
) -> Sale | NotSold:
    """Return the sale of a bound payment: its organization and credits are those of its binding."""
    if bound.invoice_id is not None:
        return credited_by_invoice(payment.payment_intent_id, bound.invoice_id)
    sale = _sale(
        payment,
        bound.organization_id,
        bound.credits,
        net_minor=None,
        binds_customer=payment.named_organization is not None,
    )
    if offer is not None:
        sale = replace(sale, type=offer.type, description=offer.description)
    return replace(sale, expires_at=expiry(terms, now))


def credited_by_invoice(payment_intent_id: str, invoice_id: str) -> NotSold:
    """Return the verdict on a payment that its invoice has bound: no sale of its own."""
    return NotSold(f"{payment_intent_id} pays {invoice_id}, which was credited as a whole.")


def _offered_sale(payment: PaymentCaptured, offer: Offer, terms: SaleTerms, now: datetime) -> Sale:
    """Return the sale of an offer, at its own rate; tax may be added to its price."""
    if payment.currency != offer.currency or payment.gross_minor < offer.net_minor:
        raise PaymentMismatchError(
            f"{payment.payment_intent_id} paid"
            f" {format_money(payment.gross_minor, payment.currency)} for an offer of"
            f" {format_money(offer.net_minor, offer.currency)}."
        )
    _net_minor(payment)  # raises if the tax leaves nothing of the price
    credits_ = offer.credits or _buy(offer.net_minor, offer.currency, terms)
    sale = _sale(
        payment, offer.organization_id, credits_, net_minor=offer.net_minor, binds_customer=True
    )
    return replace(
        sale, type=offer.type, description=offer.description, expires_at=expiry(terms, now)
    )


def _claimed_sale(
    payment: PaymentCaptured, claim: Claim, terms: SaleTerms, now: datetime
) -> Sale | NotSold:
    organization, binds_customer = _named_organization(payment, claim)
    if organization is None:
        result = _customer_organization(payment, claim, terms)
        if isinstance(result, NotSold):
            return result
        organization = result
    if organization.currency != payment.currency:
        raise CurrencyMismatchError(
            f"{payment.payment_intent_id} is in {payment.currency}, "
            f"organization {organization.id} takes {organization.currency}."
        )
    net_minor = _net_minor(payment)
    credits_ = _buy(net_minor, payment.currency, terms)
    sale = _sale(
        payment, organization.id, credits_, net_minor=net_minor, binds_customer=binds_customer
    )
    return replace(sale, expires_at=expiry(terms, now))


def _named_organization(
    payment: PaymentCaptured, claim: Claim
) -> tuple[PaymentOrganization | None, bool]:
    """Return the named organization, and whether the seller named it.

    Raises TwoOrganizationsError or UnknownOrganizationError.
    """
    names = [n for n in (payment.named_organization, payment.session_organization) if n is not None]
    organizations = {claim.organizations.get(name) or name for name in names}
    if len(organizations) > 1:
        raise TwoOrganizationsError(
            f"{payment.payment_intent_id} names the organization {names[0][:100]!r} in its own "
            f"metadata and {names[1][:100]!r} in that of its Checkout Session."
        )
    if names:
        organization = claim.organizations.get(names[0])
        if organization is None:
            raise unknown_organization(names[0])
        return organization, True
    reference = payment.reference_organization
    return (claim.organizations.get(reference) if reference else None), False


def _customer_organization(
    payment: PaymentCaptured, claim: Claim, terms: SaleTerms
) -> PaymentOrganization | NotSold:
    reference = payment.reference_organization
    unknown = f", and its client_reference_id {reference[:100]!r} is none here" if reference else ""
    unnamed = f"{payment.payment_intent_id} names no organization{unknown}"
    later = waits_for_organization(reference) if reference else None
    if payment.customer_id is None:
        return NotSold(f"{unnamed}; it has no customer either.", waits_for=later)
    if not terms.credit_customer_payments:
        return NotSold(
            f"{unnamed}. A payment that is known by its customer alone brings no credits "
            "(PREPAID_CREDIT_CUSTOMER_PAYMENTS).",
            waits_for=later,
        )
    if claim.customer_organization is None:
        return NotSold(
            f"{unnamed}, and none has the Stripe customer {payment.customer_id}.",
            waits_for=payment.customer_id,
        )
    return claim.customer_organization


def _sale(
    payment: PaymentCaptured,
    organization_id: UUID,
    credits_: Decimal,
    *,
    net_minor: int | None,
    binds_customer: bool,
) -> Sale:
    return Sale(
        payment_intent_id=payment.payment_intent_id,
        organization_id=organization_id,
        gross_minor=payment.gross_minor,
        net_minor=net_minor,
        currency=payment.currency,
        credits=credits_,
        account=payment.account,
        customer_id=payment.customer_id,
        charge_id=payment.charge_id,
        binds_customer=binds_customer,
    )


def _net_minor(payment: PaymentCaptured) -> int:
    """Return the net price that was paid; raise InvalidAmountError if none is left."""
    gross, net = payment.gross_minor, payment.net_minor
    if net is None:
        return gross
    if not 0 < net <= gross:
        raise InvalidAmountError(
            f"{payment.payment_intent_id} paid {format_money(gross, payment.currency)}, and "
            f"{format_money(net, payment.currency)} without tax and shipping: no price is left to "
            "credit."
        )
    return net


def _buy(net_minor: int, currency: str, terms: SaleTerms) -> Decimal:
    try:
        return credits_from_minor_units(net_minor, currency, terms.credits_per_unit)
    except ValueError as error:
        raise InvalidAmountError(str(error)) from None


def expiry(terms: SaleTerms, now: datetime) -> datetime | None:
    """Return when credits that are sold now expire."""
    return terms.purchase_expires.after(now) if terms.purchase_expires else None


def session_net_minor(session: CheckoutSession) -> int:
    """Return the net price that was paid on a session: after discounts, without tax and shipping.

    `amount_tax` covers exclusive tax, which the total adds, and inclusive tax, which its prices
    contain; tax that shipping contains is not subtracted twice. The result may be zero or less:
    only a sale must have a price, and a shared account has other payments.
    Source: https://docs.stripe.com/api/checkout/sessions/object#checkout_session_object-total_details
    """
    total = session.amount_total or 0
    details = session.total_details
    if details is None:
        return total
    shipping = session.shipping_cost
    inclusive = shipping is not None and shipping.amount_total == shipping.amount_subtotal
    shipping_tax = shipping.amount_tax if shipping is not None and inclusive else 0
    return total - details.amount_tax - (details.amount_shipping or 0) + shipping_tax


def _intent_net_minor(intent: PaymentIntent) -> int:
    details = intent.amount_details
    tax = (details.tax.total_tax_amount or 0) if details and details.tax else 0
    shipping = (details.shipping.amount or 0) if details and details.shipping else 0
    return intent.amount_received - tax - shipping


def organization_in(metadata: dict[str, Any] | None) -> str | None:
    """Return the organization that metadata names. Raises MalformedEventError."""
    value = (metadata or {}).get(ORGANIZATION_METADATA)
    return _printable(value) if isinstance(value, str) else None


def unknown_organization(name: str) -> UnknownOrganizationError:
    """Return the error for a named organization that does not exist."""
    return UnknownOrganizationError(
        f"No organization has the id or slug {name[:100]!r}. Create it, then replay this event."
    )


def only_type(types: list[str] | None) -> str:
    """Return the type of a payment method, if an event allows only one type."""
    return types[0] if types and len(types) == 1 else "unknown"


def _printable(name: str | None) -> str | None:
    if name and not name.isprintable():
        raise MalformedEventError(f"{name[:100]!r} cannot be an organization's id or slug.")
    return name or None


def _reference(value: str | None) -> str | None:
    """Return a `client_reference_id` if it can be a name: buyers can set any value."""
    is_name = value and len(value) <= REFERENCE_LENGTH_MAX and value.isprintable()
    return value if is_name else None


def _id(metadata: dict[str, Any], name: str) -> UUID | None:
    value = metadata.get(name)
    return parse_id(value) if isinstance(value, str) else None


def _positive(amount_minor: int) -> int:
    if amount_minor <= 0:
        raise InvalidAmountError(f"A payment of {amount_minor} cannot be credited.")
    return amount_minor
