"""What each type of Stripe event means, and how a captured payment becomes a posting. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from shared.errors import (
    CurrencyMismatchError,
    EventError,
    InvalidAmountError,
    MalformedEventError,
    PaymentMismatchError,
    UnclaimedCustomerError,
    UnclaimedPaymentError,
    UnknownOrganizationError,
)
from shared.events.model import (
    AttemptMoved,
    BoundPayment,
    CardDetached,
    CardTold,
    CheckoutClosed,
    CustomerDeleted,
    CustomerNamed,
    DefaultTold,
    FraudWarned,
    InvoicePaid,
    MandateTold,
    Meaning,
    Nothing,
    Owner,
    PaymentCaptured,
    PaymentLevel,
    ReversalChanged,
    SubscriptionTold,
)
from shared.ids import parse_id
from shared.inbox.model import ClaimedEvent
from shared.ledger import keys
from shared.ledger.model import Posting, SystemAccount, TransactionType
from shared.ledger.rules import request_digest
from shared.money import credits_from_minor_units
from shared.notifications.model import Message, MessageType
from shared.payments.model import PaymentKey
from shared.payments.objects import (
    ATTEMPT_METADATA,
    CREDITS_METADATA,
    ORGANIZATION_METADATA,
    PURCHASE_METADATA,
    TOP_UP,
    TRIGGER_METADATA,
    CheckoutSession,
    Customer,
    Dispute,
    EarlyFraudWarning,
    Invoice,
    Mandate,
    OfPayment,
    PaymentIntent,
    PaymentMethod,
    PaymentReference,
    PreviousOwner,
    SetupIntent,
    Subscription,
    read,
    read_previous,
    reference_id,
    told_at,
)

_DECIMAL = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


def interpret(event_type: str, payload: str) -> Meaning:
    """Say what an event means; raise an EventError where it must not be applied."""
    reader = _READERS.get(event_type)
    return reader(payload) if reader else Nothing("Prepaid does not act on this type")


def is_alone(event_type: str) -> bool:
    """Whether events of this type touch several tables, and so have a transaction each."""
    return event_type in _ALONE


def asks_stripe(event_type: str) -> bool:
    """Whether Stripe is asked before events of this type are applied."""
    return event_type in _ASKING


def question(event: ClaimedEvent) -> PaymentKey | None:
    """Return the payment that Stripe is to be asked about; None where the event names none."""
    try:
        meaning = interpret(event.type, event.payload)
    except EventError:
        return None
    if isinstance(meaning, ReversalChanged):
        return PaymentKey(event.key.account, meaning.payment_intent_id)
    return None


def _checkout_paid(payload: str) -> Meaning:
    session = read(payload, CheckoutSession)
    customer_id, name = reference_id(session.customer), _session_name(session)
    if session.mode == "setup" and customer_id is not None and name is not None:
        return CustomerNamed(customer_id, name)
    if session.mode != "payment":
        return Nothing(f"a session in mode {session.mode} buys no credits")
    if session.payment_status != "paid":
        # An asynchronous payment method: checkout.session.async_payment_succeeded will tell.
        return Nothing(f"the session's payment status is {session.payment_status}")
    payment_intent_id = reference_id(session.payment_intent)
    if payment_intent_id is None or session.amount_total is None or session.currency is None:
        raise MalformedEventError("A paid session names no payment intent, amount or currency.")
    return PaymentCaptured(
        payment_intent_id=payment_intent_id,
        amount_minor=_positive(session.amount_total),
        currency=session.currency,
        customer_id=customer_id,
        checkout_session_id=session.id,
        purchase_id=_purchase(session.metadata),
        named_organization=name,
    )


def _session_name(session: CheckoutSession) -> str | None:
    return _named(session.metadata) or _name(session.client_reference_id)


def _payment_succeeded(payload: str) -> Meaning:
    intent = read(payload, PaymentIntent)
    if intent.invoice is not None:
        return Nothing("it pays an invoice, and invoice.paid says what that buys")
    return captured(intent)


def captured(intent: PaymentIntent) -> PaymentCaptured:
    """Read a PaymentIntent that has succeeded, of an event or an answer, as money to credit."""
    return PaymentCaptured(
        payment_intent_id=intent.id,
        amount_minor=_positive(intent.amount_received),
        currency=intent.currency,
        customer_id=reference_id(intent.customer),
        charge_id=reference_id(intent.latest_charge),
        purchase_id=_purchase(intent.metadata),
        named_organization=_named(intent.metadata),
        recharge=bool((intent.metadata or {}).get(ATTEMPT_METADATA)),
        top_up=(intent.metadata or {}).get(TRIGGER_METADATA) == TOP_UP,
        kept_method=reference_id(intent.payment_method) if intent.setup_future_usage else None,
        kept_method_type=_type(intent.payment_method_types),
    )


def _type(types: Sequence[str] | None) -> str:
    """Return the type of a payment method where an event names the types that it may have."""
    return types[0] if types and len(types) == 1 else "unknown"


def _attempt_moved(payload: str) -> Meaning:
    intent = read(payload, PaymentReference)
    value = (intent.metadata or {}).get(ATTEMPT_METADATA)
    return AttemptMoved(intent.id, parse_id(value) if isinstance(value, str) else None)


def _card_told(payload: str) -> Meaning:
    method = read(payload, PaymentMethod)
    return CardTold(
        payment_method_id=method.id,
        type=method.type,
        customer_id=reference_id(method.customer),
        named_organization=_named(method.metadata),
        as_of=told_at(payload),
        details=method.details,
    )


def _card_detached(payload: str) -> Meaning:
    method = read(payload, PaymentMethod)
    before = read_previous(payload, PreviousOwner)
    return CardDetached(
        payment_method_id=method.id,
        type=method.type,
        customer_id=reference_id(method.customer or (before.customer if before else None)),
        named_organization=_named(method.metadata),
        as_of=told_at(payload),
    )


def _set_up(payload: str) -> Meaning:
    intent = read(payload, SetupIntent)
    payment_method_id = reference_id(intent.payment_method)
    if payment_method_id is None:
        return Nothing(f"{intent.id} has set up nothing that can be charged")
    return CardTold(
        payment_method_id=payment_method_id,
        type=_type(intent.payment_method_types),
        customer_id=reference_id(intent.customer),
        named_organization=_named(intent.metadata),
        as_of=told_at(payload),
        mandate_id=reference_id(intent.mandate),
    )


def _customer_updated(payload: str) -> Meaning:
    customer = read(payload, Customer)
    settings = customer.invoice_settings
    default = reference_id(settings.default_payment_method) if settings else None
    return DefaultTold(customer.id, default, told_at(payload))


def _customer_deleted(payload: str) -> Meaning:
    return CustomerDeleted(read(payload, Customer).id, told_at(payload))


def _mandate_updated(payload: str) -> Meaning:
    mandate = read(payload, Mandate)
    payment_method_id = reference_id(mandate.payment_method)
    if payment_method_id is None:
        return Nothing(f"{mandate.id} is of no payment method")
    return MandateTold(mandate.id, payment_method_id, active=mandate.status != "inactive")


def _subscription(payload: str) -> Meaning:
    told = read(payload, Subscription)
    item = told.first_item
    return SubscriptionTold(
        subscription_id=told.id,
        customer_id=reference_id(told.customer),
        named_organization=_named(told.metadata),
        status=told.status,
        plan=item.price.id if item.price else None,
        started_at=_moment(told.start_date),
        ends_at=_moment(told.ended_at or told.cancel_at),
        current_period_end=_moment(item.current_period_end or told.current_period_end),
        as_of=told_at(payload),
    )


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _invoice_paid(payload: str) -> Meaning:
    invoice = read(payload, Invoice)
    if reference_id(invoice.details.subscription) is None:
        return Nothing(f"{invoice.id} is of no subscription")
    if invoice.amount_paid <= 0:
        return Nothing(f"no money was paid for {invoice.id}")
    credited = _invoice_credits(invoice)
    if credited is None:
        return Nothing(f"neither {invoice.id} nor its prices have {CREDITS_METADATA}")
    return InvoicePaid(
        invoice.id,
        reference_id(invoice.customer),
        _named(invoice.metadata) or _named(invoice.details.metadata),
        credited,
    )


def _invoice_credits(invoice: Invoice) -> Decimal | None:
    """Return what the invoice says; else what the prices of its lines say, times the quantity."""
    said = _credits(invoice.metadata)
    if said is not None:
        return said
    lines = invoice.lines.data if invoice.lines else []
    found = [
        each * (1 if line.quantity is None else line.quantity)
        for line in lines
        if line.amount > 0 and line.price and (each := _credits(line.price.metadata)) is not None
    ]
    return sum(found, Decimal(0)) or None


def _credits(metadata: dict[str, Any] | None) -> Decimal | None:
    value = (metadata or {}).get(CREDITS_METADATA)
    if value is None:
        return None
    found = _DECIMAL.fullmatch(value) if isinstance(value, str) else None
    if found is None or Decimal(value) == 0:
        raise InvalidAmountError(
            f"{CREDITS_METADATA}: write credits like 250 or 12.5, not {str(value)[:100]!r}."
        )
    return Decimal(value)


def credit_invoice(paid: InvoicePaid, organization_id: UUID, transaction_id: UUID) -> Posting:
    """Return the posting of a paid invoice, the same whichever of its events tells."""
    return Posting(
        organization_id=organization_id,
        id=transaction_id,
        type=TransactionType.PURCHASE,
        amount=paid.credits,
        counterparty=SystemAccount.STRIPE,
        key=f"{keys.INVOICE}{paid.invoice_id}",
        description="Subscription",
    )


def _nothing(reason: str) -> Callable[[str], Meaning]:
    return lambda _: Nothing(reason)


def _reversal(*, of_dispute: bool) -> Callable[[str], Meaning]:
    def reader(payload: str) -> Meaning:
        of = read(payload, OfPayment)
        payment_intent_id = reference_id(of.payment_intent)
        if payment_intent_id is None:
            return Nothing(f"{of.id} is of no payment intent")
        return ReversalChanged(payment_intent_id, of_dispute)

    return reader


def _fraud_warned(payload: str) -> Meaning:
    warning = read(payload, EarlyFraudWarning)
    return FraudWarned(
        warning.id,
        reference_id(warning.payment_intent),
        reference_id(warning.charge),
        warning.fraud_type,
    )


def _checkout_closed(state: str) -> Callable[[str], Meaning]:
    return lambda payload: CheckoutClosed(read(payload, CheckoutSession).id, state)


_ASKING: dict[str, Callable[[str], Meaning]] = {
    "charge.refunded": _reversal(of_dispute=False),
    "charge.refund.updated": _reversal(of_dispute=False),
    "refund.created": _reversal(of_dispute=False),
    "refund.updated": _reversal(of_dispute=False),
    "refund.failed": _reversal(of_dispute=False),
    "charge.dispute.created": _reversal(of_dispute=True),
    "charge.dispute.updated": _reversal(of_dispute=True),
    "charge.dispute.closed": _reversal(of_dispute=True),
    "charge.dispute.funds_withdrawn": _reversal(of_dispute=True),
    "charge.dispute.funds_reinstated": _reversal(of_dispute=True),
}
_ALONE: dict[str, Callable[[str], Meaning]] = {
    **_ASKING,
    "radar.early_fraud_warning.created": _fraud_warned,
    "payment_intent.payment_failed": _attempt_moved,
    "payment_intent.requires_action": _attempt_moved,
    "payment_intent.processing": _attempt_moved,
    "payment_intent.canceled": _attempt_moved,
    "payment_method.attached": _card_told,
    "payment_method.updated": _card_told,
    "payment_method.automatically_updated": _card_told,
    "payment_method.detached": _card_detached,
    "setup_intent.succeeded": _set_up,
    "mandate.updated": _mandate_updated,
    "customer.updated": _customer_updated,
    "customer.deleted": _customer_deleted,
    "customer.subscription.created": _subscription,
    "customer.subscription.updated": _subscription,
    "customer.subscription.deleted": _subscription,
    "invoice.paid": _invoice_paid,
}
_READERS: dict[str, Callable[[str], Meaning]] = {
    "checkout.session.completed": _checkout_paid,
    "checkout.session.async_payment_succeeded": _checkout_paid,
    "checkout.session.async_payment_failed": _checkout_closed("failed"),
    "checkout.session.expired": _checkout_closed("expired"),
    "payment_intent.succeeded": _payment_succeeded,
    "setup_intent.setup_failed": _nothing("no card was set up; the customer was told why"),
    "invoice.payment_failed": _nothing("Stripe goes on trying; only invoice.paid brings credits"),
    "invoice.payment_action_required": _nothing("the customer must act; only invoice.paid counts"),
    "invoice.voided": _nothing("nothing was paid, so nothing was credited"),
    **_ALONE,
}


def bind(payment: PaymentCaptured, owner: Owner | None, credits_per_unit: Decimal) -> BoundPayment:
    """Decide who a payment is credited to and with what, as if it were heard of for the first time.

    Raises UnknownOrganizationError, UnclaimedPaymentError, CurrencyMismatchError or
    InvalidAmountError.
    """
    if owner is None:
        raise _no_owner(payment)
    if owner.currency != payment.currency:
        raise CurrencyMismatchError(
            f"{payment.payment_intent_id} is in {payment.currency}, "
            f"organization {owner.id} takes {owner.currency}."
        )
    try:
        credited = credits_from_minor_units(
            payment.amount_minor, payment.currency, credits_per_unit
        )
    except ValueError as error:
        raise InvalidAmountError(str(error)) from None
    return BoundPayment(owner.id, payment.amount_minor, payment.currency, credited)


def credit(payment: PaymentCaptured, bound: BoundPayment, transaction_id: UUID) -> Posting:
    """Return the posting that credits a payment, the same whichever of its events comes first.

    Raises PaymentMismatchError when this event tells another amount than the first one did.
    """
    if (bound.amount_minor, bound.currency) != (payment.amount_minor, payment.currency):
        raise PaymentMismatchError(
            f"{payment.payment_intent_id} was {bound.amount_minor} {bound.currency}, "
            f"this event says {payment.amount_minor} {payment.currency}."
        )
    key = f"{keys.PAYMENT}{payment.payment_intent_id}"
    automatic = payment.recharge and not payment.top_up
    return Posting(
        organization_id=bound.organization_id,
        id=transaction_id,
        type=TransactionType.RECHARGE if automatic else TransactionType.PURCHASE,
        amount=bound.credits,
        counterparty=SystemAccount.STRIPE,
        key=key,
        digest=request_digest(key, bound.amount_minor, bound.currency),
        description=_DESCRIPTIONS[payment.recharge, payment.top_up],
        payment_intent_id=payment.payment_intent_id,
    )


_DESCRIPTIONS = {
    (False, False): "Credit purchase",
    (False, True): "Credit purchase",
    (True, False): "Auto-recharge",
    (True, True): "Top-up",
}


def paid_with(payment: PaymentCaptured) -> dict[str, Any]:
    """Return what the message of a purchase says of the payment behind it."""
    return {
        "paymentIntentId": payment.payment_intent_id,
        "amountMinor": payment.amount_minor,
        "currency": payment.currency,
    }


def dispute_message(
    dispute: Dispute,
    payment_intent_id: str,
    payment: PaymentLevel,
    message_type: MessageType,
    now: datetime,
) -> Message:
    """Return the message of a dispute that opened or closed; its id is made from the dispute's."""
    return Message(
        organization_id=payment.organization_id,
        type=message_type,
        data={
            "disputeId": dispute.id,
            "paymentIntentId": payment_intent_id,
            "status": dispute.status,
            "reason": dispute.reason,
            "amountMinor": dispute.amount,
            "currency": dispute.currency or payment.currency,
        },
        id=uuid5(payment.organization_id, f"{message_type}:{dispute.id}"),
        at=now,
    )


def _positive(amount_minor: int) -> int:
    if amount_minor <= 0:
        raise InvalidAmountError(f"A payment of {amount_minor} cannot be credited.")
    return amount_minor


def _purchase(metadata: dict[str, Any] | None) -> UUID | None:
    value = (metadata or {}).get(PURCHASE_METADATA)
    return parse_id(value) if isinstance(value, str) else None


def _named(metadata: dict[str, Any] | None) -> str | None:
    value = (metadata or {}).get(ORGANIZATION_METADATA)
    return _name(value) if isinstance(value, str) else None


def _name(value: str | None) -> str | None:
    if value and not value.isprintable():
        raise MalformedEventError(f"{value[:100]!r} cannot be an organization's id or slug.")
    return value or None


def unclaimed(
    customer_id: str | None, named_organization: str | None
) -> UnknownOrganizationError | UnclaimedCustomerError:
    """Say that nobody owns what is on file with a customer."""
    if named_organization is not None:
        return UnknownOrganizationError(
            f"No organization has the id or slug {named_organization[:100]!r}. "
            "Create it, then replay this event."
        )
    return UnclaimedCustomerError(f"No organization has the Stripe customer {customer_id}.")


def _no_owner(payment: PaymentCaptured) -> UnknownOrganizationError | UnclaimedPaymentError:
    if payment.named_organization is not None:
        return UnknownOrganizationError(
            f"No organization has the id or slug {payment.named_organization[:100]!r}. "
            "Create it, then replay this event."
        )
    if payment.customer_id is not None:
        return UnclaimedPaymentError(
            f"{payment.payment_intent_id} names no organization, and none has the Stripe customer "
            f"{payment.customer_id}."
        )
    return UnclaimedPaymentError(
        f"{payment.payment_intent_id} names no organization and has no customer."
    )
