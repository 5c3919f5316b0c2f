"""What each type of Stripe event means. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid5

from shared.errors import EventError, MalformedEventError, UnclaimedError
from shared.events.model import (
    CheckoutClosed,
    CheckoutPending,
    CustomerDeleted,
    CustomerLinked,
    DefaultPaymentMethodChanged,
    FraudWarningReceived,
    Ignored,
    InvoicePaid,
    MandateUpdated,
    Meaning,
    PaymentIntentUpdated,
    PaymentMethodDetached,
    PaymentMethodUpdated,
    ReversalChanged,
    SubscriptionUpdated,
)
from shared.ids import parse_id
from shared.outbound.model import MessageType, OutboundMessage
from shared.payments import sales
from shared.payments.invoice_objects import Invoice
from shared.payments.model import PaymentLevel, Sale
from shared.payments.objects import (
    ATTEMPT_METADATA,
    CheckoutSession,
    Customer,
    Dispute,
    EarlyFraudWarning,
    Mandate,
    OfPayment,
    PaymentIntent,
    PaymentMethod,
    PaymentReference,
    PreviousOwner,
    SetupIntent,
    Subscription,
    reference_id,
)
from shared.payments.rules import is_closed, is_inquiry
from shared.payments.translator import event_created_at, read, read_previous
from shared.recharge.model import SuspensionReason


def interpret(event_type: str, payload: str) -> Meaning:
    """Return the meaning of an event; raise an EventError if it must not be applied."""
    reader = _READERS.get(event_type)
    return reader(payload) if reader else Ignored("Prepaid does not act on this type")


def types_with_effects() -> list[str]:
    """Return the types of events that can change something here."""
    return sorted(_READERS.keys() - _IGNORED.keys())


def is_alone(event_type: str) -> bool:
    """Whether events of this type write to several tables, and so have a transaction each."""
    return event_type in _SEPARATE


def _checkout_paid(payload: str) -> Meaning:
    session = read(payload, CheckoutSession)
    if session.mode != "payment":
        return _customer_linked(session)
    if session.payment_status == "no_payment_required":
        return CheckoutClosed(session.id, "free")
    if session.payment_status != "paid":
        # An asynchronous payment method: checkout.session.async_payment_succeeded follows.
        return CheckoutPending(session.id)
    return replace(sales.from_session(session), created=event_created_at(payload))


def _customer_linked(session: CheckoutSession) -> Meaning:
    """Read a session that sets up a card or a subscription; its metadata names the organization.

    `client_reference_id` binds no customer: buyers can choose it in a link.
    """
    customer_id, name = reference_id(session.customer), sales.organization_in(session.metadata)
    if customer_id is not None and name is not None:
        return CustomerLinked(customer_id, name)
    why = f"the metadata of {session.id} names no organization for its customer"
    if session.mode == "setup":
        return Ignored(why)
    return Ignored(f"a session in mode {session.mode} buys no credits; its invoices may. And {why}")


def _payment_succeeded(payload: str) -> Meaning:
    return replace(
        sales.from_intent(read(payload, PaymentIntent)), created=event_created_at(payload)
    )


def _payment_intent_updated(payload: str) -> Meaning:
    intent = read(payload, PaymentReference)
    value = (intent.metadata or {}).get(ATTEMPT_METADATA)
    return PaymentIntentUpdated(intent.id, parse_id(value) if isinstance(value, str) else None)


def _payment_method_updated(payload: str) -> Meaning:
    method = read(payload, PaymentMethod)
    return PaymentMethodUpdated(
        payment_method_id=method.id,
        type=method.type,
        customer_id=reference_id(method.customer),
        named_organization=sales.organization_in(method.metadata),
        as_of=event_created_at(payload),
        details=method.details,
    )


def _payment_method_detached(payload: str) -> Meaning:
    method = read(payload, PaymentMethod)
    before = read_previous(payload, PreviousOwner)
    return PaymentMethodDetached(
        payment_method_id=method.id,
        type=method.type,
        customer_id=reference_id(method.customer or (before.customer if before else None)),
        named_organization=sales.organization_in(method.metadata),
        as_of=event_created_at(payload),
    )


def _setup_succeeded(payload: str) -> Meaning:
    intent = read(payload, SetupIntent)
    payment_method_id = reference_id(intent.payment_method)
    if payment_method_id is None:
        return Ignored(f"{intent.id} has set up nothing that can be charged")
    return PaymentMethodUpdated(
        payment_method_id=payment_method_id,
        type=sales.only_type(intent.payment_method_types),
        customer_id=reference_id(intent.customer),
        named_organization=sales.organization_in(intent.metadata),
        as_of=event_created_at(payload),
        mandate_id=reference_id(intent.mandate),
    )


def _customer_updated(payload: str) -> Meaning:
    customer = read(payload, Customer)
    return DefaultPaymentMethodChanged(
        customer.id, customer.default_payment_method, event_created_at(payload)
    )


def _customer_deleted(payload: str) -> Meaning:
    return CustomerDeleted(read(payload, Customer).id, event_created_at(payload))


def _mandate_updated(payload: str) -> Meaning:
    mandate = read(payload, Mandate)
    payment_method_id = reference_id(mandate.payment_method)
    if payment_method_id is None:
        return Ignored(f"{mandate.id} has no payment method")
    return MandateUpdated(mandate.id, payment_method_id, active=mandate.status != "inactive")


def _subscription(payload: str) -> Meaning:
    return subscription(read(payload, Subscription), event_created_at(payload))


def subscription(update: Subscription, as_of: datetime) -> SubscriptionUpdated:
    """Read a subscription; old API versions have the period on it, not on its item."""
    item = update.first_item
    return SubscriptionUpdated(
        subscription_id=update.id,
        customer_id=reference_id(update.customer),
        named_organization=sales.organization_in(update.metadata),
        status=update.status,
        plan=item.price.id if item.price else None,
        started_at=_timestamp(update.start_date),
        ends_at=_timestamp(update.ended_at or update.cancel_at),
        current_period_end=_timestamp(item.current_period_end or update.current_period_end),
        as_of=as_of,
    )


def _timestamp(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _invoice_paid(payload: str) -> Meaning:
    invoice = read(payload, Invoice)
    transitions = invoice.status_transitions
    paid_at = _timestamp(transitions.paid_at) if transitions else None
    return InvoicePaid(invoice, paid_at or event_created_at(payload))


def _ignored(reason: str) -> Callable[[str], Meaning]:
    return lambda _: Ignored(reason)


def _refund(payload: str) -> Meaning:
    return _reversal(payload, of_dispute=False)


def _dispute(payload: str) -> Meaning:
    return _reversal(payload, of_dispute=True)


def _reversal(payload: str, *, of_dispute: bool) -> Meaning:
    reversal = read(payload, OfPayment)
    payment_intent_id = reference_id(reversal.payment_intent)
    if payment_intent_id is None:
        return Ignored(f"{reversal.id} has no PaymentIntent")
    return ReversalChanged(payment_intent_id, of_dispute)


def _fraud_warning(payload: str) -> Meaning:
    warning = read(payload, EarlyFraudWarning)
    return FraudWarningReceived(
        warning.id,
        reference_id(warning.payment_intent),
        reference_id(warning.charge),
        warning.fraud_type,
    )


def _checkout_failed(payload: str) -> Meaning:
    return CheckoutClosed(read(payload, CheckoutSession).id, "failed")


def _checkout_expired(payload: str) -> Meaning:
    return CheckoutClosed(read(payload, CheckoutSession).id, "expired")


_REVERSALS: dict[str, Callable[[str], Meaning]] = {
    "charge.refunded": _refund,
    "charge.refund.updated": _refund,
    "refund.created": _refund,
    "refund.updated": _refund,
    "refund.failed": _refund,
    "charge.dispute.created": _dispute,
    "charge.dispute.updated": _dispute,
    "charge.dispute.closed": _dispute,
    "charge.dispute.funds_withdrawn": _dispute,
    "charge.dispute.funds_reinstated": _dispute,
}
_SEPARATE: dict[str, Callable[[str], Meaning]] = {
    **_REVERSALS,
    "radar.early_fraud_warning.created": _fraud_warning,
    "payment_intent.payment_failed": _payment_intent_updated,
    "payment_intent.requires_action": _payment_intent_updated,
    "payment_intent.processing": _payment_intent_updated,
    "payment_intent.canceled": _payment_intent_updated,
    "payment_method.attached": _payment_method_updated,
    "payment_method.updated": _payment_method_updated,
    "payment_method.automatically_updated": _payment_method_updated,
    "payment_method.detached": _payment_method_detached,
    "setup_intent.succeeded": _setup_succeeded,
    "mandate.updated": _mandate_updated,
    "customer.updated": _customer_updated,
    "customer.deleted": _customer_deleted,
    "customer.subscription.created": _subscription,
    "customer.subscription.updated": _subscription,
    "customer.subscription.deleted": _subscription,
    "invoice.paid": _invoice_paid,
}
_IGNORED: dict[str, Callable[[str], Meaning]] = {
    "setup_intent.setup_failed": _ignored("no card was set up; the customer saw the reason"),
    "invoice.payment_failed": _ignored("Stripe retries; only invoice.paid brings credits"),
    "invoice.payment_action_required": _ignored("the customer must act; only invoice.paid counts"),
    "invoice.voided": _ignored("nothing was paid, so nothing was credited"),
}
_READERS: dict[str, Callable[[str], Meaning]] = {
    "checkout.session.completed": _checkout_paid,
    "checkout.session.async_payment_succeeded": _checkout_paid,
    "checkout.session.async_payment_failed": _checkout_failed,
    "checkout.session.expired": _checkout_expired,
    "payment_intent.succeeded": _payment_succeeded,
    **_IGNORED,
    **_SEPARATE,
}

# The types to enable at Stripe: every other type is stored and ignored.
HANDLED_TYPES = frozenset(_READERS)


def paid_with(sale: Sale) -> dict[str, Any]:
    """Return the fields of a purchase message that describe its payment."""
    return {
        "paymentIntentId": sale.payment_intent_id,
        "amountMinor": sale.gross_minor,
        "currency": sale.currency,
    }


def suspension_of(dispute: Dispute, *, is_new: bool, was_inquiry: bool) -> SuspensionReason | None:
    """Return the reason if a dispute suspends auto-recharge now; None: not, or already."""
    if is_inquiry(dispute):
        return SuspensionReason.INQUIRY if is_new and not is_closed(dispute) else None
    lost_or_open = dispute.status == "lost" or not is_closed(dispute)
    return SuspensionReason.DISPUTE if lost_or_open and (is_new or was_inquiry) else None


def dispute_message(
    dispute: Dispute,
    payment_intent_id: str,
    payment: PaymentLevel,
    message_type: MessageType,
    now: datetime,
) -> OutboundMessage:
    """Return the message of an opened or closed dispute; its id is derived from the dispute's."""
    return OutboundMessage(
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


def unclaimed(customer_id: str | None, named_organization: str | None) -> EventError:
    """Return the error for an event whose customer belongs to no organization."""
    if named_organization is not None:
        return sales.unknown_organization(named_organization)
    if customer_id is None:
        return MalformedEventError("The event names no customer and no organization.")
    return UnclaimedError(
        f"No organization has the Stripe customer {customer_id}.", waits_for=customer_id
    )
