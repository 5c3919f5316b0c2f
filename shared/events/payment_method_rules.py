"""What is asked about cards, and which card is a new chance to be charged. Pure."""

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
    """Whether Stripe must say what a payment method is.

    It must where the event names its id alone and nothing described it before, and where two events
    of one second say different things: events carry whole seconds, so that nobody else knows which
    of the two came last.
    """
    if stored is not None and stored.detached:
        return False
    if update.details is None:
        return stored is None or not stored.described
    return (
        stored is not None
        and stored.as_of == update.as_of
        and (stored.customer_id, stored.type, _named(stored.details))
        != (update.customer_id, update.type, _named(update.details))
    )


def with_answer(
    update: PaymentMethodUpdated, method: PaymentMethod
) -> PaymentMethodUpdated | PaymentMethodDetached:
    """Return what an event says, with what Stripe says of the payment method in its place."""
    customer_id = reference_id(method.customer)
    if customer_id is None:
        return detached(update)
    return replace(update, type=method.type, customer_id=customer_id, details=method.details)


def detached(update: PaymentMethodUpdated) -> PaymentMethodDetached:
    """Return that a payment method is off file, which Stripe says and the event does not."""
    return PaymentMethodDetached(
        payment_method_id=update.payment_method_id,
        type=update.type,
        customer_id=update.customer_id,
        named_organization=update.named_organization,
        as_of=update.as_of,
    )


def is_new_card(update: PaymentMethodUpdated, known: Sequence[StoredPaymentMethod]) -> bool:
    """Whether a described card ends what a new or renewed card ends.

    `known` are the organization's cards as they were before: those with the same fingerprint,
    detached ones too, and the one with the same id. A fingerprint is new, or the same number
    expires later than it ever did. What has no fingerprint (Link, Cash App, a wallet) is new
    where its id is. The same card described again, another billing address or an earlier expiry
    is nothing new.
    """
    assert update.details is not None  # noqa: S101 - only what is described is judged
    described = [card for card in known if card.described]
    fingerprint = update.details.fingerprint
    if fingerprint is None:
        return all(card.id != update.payment_method_id for card in described)
    same = [card.details for card in described if card.details.fingerprint == fingerprint]
    return not same or _expiry(update.details) > max(map(_expiry, same))


def is_new_default(chosen: str | None, *, before: str | None, after: str | None) -> bool:
    """Whether a default ends what a new card ends: it is charged now, and another was before."""
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


def detached_of_nobody(card: PaymentMethodDetached) -> UnclaimedError:
    """Say that a detached payment method names no customer, and is on nobody's file."""
    name = card.payment_method_id
    return UnclaimedError(f"Nobody has {name} on file, and it names no customer.", waits_for=name)


def _named(details: MethodDetails | None) -> tuple[object, ...]:
    """Return what is stored of a payment method's details."""
    found = details or MethodDetails()
    return (
        found.brand or found.bank_name,
        found.last4,
        found.exp_month,
        found.exp_year,
        found.fingerprint,
    )


def _expiry(details: MethodDetails) -> tuple[int, int]:
    return details.exp_year or 0, details.exp_month or 0
