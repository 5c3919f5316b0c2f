"""When a payment method must be read from Stripe, and which one ends a suspension. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from shared.errors import UnclaimedError
from shared.events.model import (
    DefaultPaymentMethodChanged,
    PaymentMethodDetached,
    PaymentMethodUpdated,
    StoredPaymentMethod,
    SubscriptionUpdated,
)
from shared.payments.objects import MethodDetails, PaymentMethod, reference_id

UNKNOWN = "unknown"


def needs_description(stored: StoredPaymentMethod | None, update: PaymentMethodUpdated) -> bool:
    """Whether the details of a payment method must be read from Stripe.

    They must if the event has only an id and no details are stored, and if two events of one second
    differ: events have whole seconds, so that only Stripe knows which of the two is newer.
    """
    if stored is not None and stored.detached:
        return False
    if update.details is None:
        return stored is None or not stored.described
    return (
        stored is not None
        and stored.as_of == update.as_of
        and (stored.customer_id, stored.type, _stored_details(stored.details))
        != (update.customer_id, update.type, _stored_details(update.details))
    )


def with_answer(
    update: PaymentMethodUpdated, method: PaymentMethod
) -> PaymentMethodUpdated | PaymentMethodDetached:
    """Return an event's update with the payment method as Stripe has it now."""
    customer_id = reference_id(method.customer)
    if customer_id is None:
        return detached(update)
    return replace(update, type=method.type, customer_id=customer_id, details=method.details)


def detached(update: PaymentMethodUpdated) -> PaymentMethodDetached:
    """Return the detachment of a payment method that Stripe reports and its event does not."""
    return PaymentMethodDetached(
        payment_method_id=update.payment_method_id,
        type=update.type,
        customer_id=update.customer_id,
        named_organization=update.named_organization,
        as_of=update.as_of,
    )


def is_new_card(update: PaymentMethodUpdated, known: Sequence[StoredPaymentMethod]) -> bool:
    """Whether a described card is new or renewed, so that it ends a suspension for declines.

    `known` are the organization's cards before this update: those with the same fingerprint,
    detached ones too, and the one with the same id. A card is new if its fingerprint is, and
    renewed if the same number expires later than before. A method without a fingerprint (Link,
    Cash App, a wallet) is new if its id is. The same card again, another billing address or an
    earlier expiry is not new.
    """
    assert update.details is not None  # noqa: S101 - only described cards are passed in
    described = [card for card in known if card.described]
    fingerprint = update.details.fingerprint
    if fingerprint is None:
        return all(card.id != update.payment_method_id for card in described)
    same = [card.details for card in described if card.details.fingerprint == fingerprint]
    return not same or _expiry(update.details) > max(map(_expiry, same))


def is_new_default(chosen: str | None, *, before: str | None, after: str | None) -> bool:
    """Whether a chosen default counts as a new card: it replaces the one charged before."""
    return chosen is not None and chosen == after != before


def default_is_tied(
    stored: tuple[datetime | None, str | None], update: DefaultPaymentMethodChanged
) -> bool:
    """Whether two events of one second name different defaults."""
    as_of, payment_method_id = stored
    return as_of == update.as_of and payment_method_id != update.payment_method_id


def subscription_is_tied(stored: SubscriptionUpdated | None, update: SubscriptionUpdated) -> bool:
    """Whether two events of one second say different things of a subscription."""
    if stored is None or stored.as_of != update.as_of:
        return False
    return stored != replace(
        update, customer_id=stored.customer_id, named_organization=stored.named_organization
    )


def unknown_detached(card: PaymentMethodDetached) -> UnclaimedError:
    """Return the error for an unknown detached payment method that names no customer."""
    name = card.payment_method_id
    return UnclaimedError(
        f"No organization has {name} on file, and it names no customer.", waits_for=name
    )


def _stored_details(details: MethodDetails | None) -> tuple[object, ...]:
    """Return the details of a payment method that are stored and compared."""
    known = details or MethodDetails()
    return (
        known.brand or known.bank_name,
        known.last4,
        known.exp_month,
        known.exp_year,
        known.fingerprint,
    )


def _expiry(details: MethodDetails) -> tuple[int, int]:
    return details.exp_year or 0, details.exp_month or 0
