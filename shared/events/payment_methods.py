"""Effects of events about payment methods, mandates and customers: in any order, repeatable.

A customer and its payment methods belong to one Stripe account: the platform's or a connected one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from shared.errors import StripeMissingError, UnclaimedError
from shared.events import payment_method_rules, rules, store
from shared.events.model import (
    Applied,
    ApplyContext,
    CustomerDeleted,
    DefaultPaymentMethodChanged,
    Ignored,
    MandateUpdated,
    PaymentMethodDetached,
    PaymentMethodMeaning,
    PaymentMethodUpdated,
)
from shared.events.questions import answer
from shared.inbox import store as inbox
from shared.payments.customers import bind_customers
from shared.payments.model import CustomerQuestion, MethodQuestion
from shared.recharge import service as recharge
from shared.recharge.model import SuspensionReason

if TYPE_CHECKING:
    from shared.db.pool import Connection


async def apply(
    connection: Connection, account: str, update: PaymentMethodMeaning, context: ApplyContext
) -> Applied | Ignored:
    """Apply an event of a Stripe account about a payment method, a mandate or a customer.

    Raises UnclaimedError if its organization is not known yet, and QuestionError if Stripe must be
    asked first.
    """
    match update:
        case PaymentMethodUpdated():
            return await _updated(connection, account, update, context)
        case PaymentMethodDetached():
            organization_id = await _organization(connection, account, update)
            await detach(
                connection,
                account,
                organization_id,
                update,
                now=context.now,
                make_id=context.make_id,
            )
            return Applied(organization_id)
        case DefaultPaymentMethodChanged():
            return await _default(connection, account, update, context)
        case CustomerDeleted():
            return await _deleted(connection, account, update, context)
        case MandateUpdated():
            return await _mandate(connection, account, update)


async def save_seen(
    connection: Connection, seen: Sequence[tuple[str, UUID, str, str, str | None, str]]
) -> None:
    """Store ids of payment methods on file, as `store.save_seen_payment_methods` takes them.

    Events that were ignored because they were unknown are reopened.
    """
    await store.save_seen_payment_methods(connection, seen)
    await inbox.reopen_waiting(connection, [card[0] for card in seen])


async def describe(
    connection: Connection, account: str, organization_id: UUID, card: PaymentMethodUpdated
) -> None:
    """Store the details of a payment method of a locked organization, unless newer ones are stored.

    A new or renewed card ends a suspension for declines; any card ends one for `no_card`.
    """
    if card.details is None:
        return
    fingerprint = card.details.fingerprint
    known = await store.stored_payment_methods(
        connection, card.payment_method_id, organization_id, fingerprint
    )
    if not await store.save_payment_method(
        connection, organization_id, card, card.details, account
    ):
        return
    await inbox.reopen_waiting(connection, [card.payment_method_id])
    if payment_method_rules.is_new_card(card, known):
        await recharge.card_changed(connection, organization_id)
    else:
        await recharge.card_on_file(connection, organization_id)


async def detach(
    connection: Connection,
    account: str,
    organization_id: UUID,
    card: PaymentMethodDetached,
    *,
    now: datetime,
    make_id: Callable[[], UUID],
) -> None:
    """Detach a payment method of a locked organization; without another, suspend recharge."""
    await recharge.lock_account(connection, organization_id)
    if not await store.detach_payment_method(connection, organization_id, card, account):
        return
    await inbox.reopen_waiting(connection, [card.payment_method_id])
    await _suspend_without_card(connection, organization_id, now, make_id)


async def _suspend_without_card(
    connection: Connection, organization_id: UUID, now: datetime, make_id: Callable[[], UUID]
) -> None:
    if await store.has_payment_method(connection, organization_id):
        return
    await recharge.suspend(
        connection,
        organization_id,
        SuspensionReason.NO_CARD,
        "The last payment method was removed.",
        now=now,
        make_id=make_id,
    )


async def _updated(
    connection: Connection, account: str, card: PaymentMethodUpdated, context: ApplyContext
) -> Applied | Ignored:
    if card.customer_id is None:
        return Ignored(f"{card.payment_method_id} has no customer, and cannot be charged again")
    organization_id = await _organization(connection, account, card)
    described = await _with_answer(connection, account, organization_id, card, context)
    # Payments lock the account before they save a customer and a card: the same order here.
    await recharge.lock_account(connection, organization_id)
    if card.named_organization is not None:
        await bind_customers(connection, {organization_id: card.customer_id}, account=account)
    if card.details is None:
        name = card.payment_method_id
        seen = (name, organization_id, card.customer_id, card.type, card.mandate_id, account)
        await save_seen(connection, [seen])
    await _save_described(connection, account, organization_id, described, context)
    return Applied(organization_id)


async def _with_answer(
    connection: Connection,
    account: str,
    organization_id: UUID,
    card: PaymentMethodUpdated,
    context: ApplyContext,
) -> PaymentMethodUpdated | PaymentMethodDetached:
    """Return the update of an event, completed by Stripe's answer if one is needed."""
    rows = await store.stored_payment_methods(connection, card.payment_method_id, organization_id)
    stored = rows[0] if rows else None
    if context.answers is None or not payment_method_rules.needs_description(stored, card):
        return card
    try:
        method = answer(MethodQuestion(account, card.payment_method_id), context)
    except StripeMissingError:
        return payment_method_rules.detached(card)
    return payment_method_rules.with_answer(card, method)


async def _save_described(
    connection: Connection,
    account: str,
    organization_id: UUID,
    card: PaymentMethodUpdated | PaymentMethodDetached,
    context: ApplyContext,
) -> None:
    if isinstance(card, PaymentMethodUpdated):
        await describe(connection, account, organization_id, card)
    else:
        await detach(
            connection, account, organization_id, card, now=context.now, make_id=context.make_id
        )


async def _organization(
    connection: Connection, account: str, card: PaymentMethodUpdated | PaymentMethodDetached
) -> UUID:
    organization_id = await store.lock_customer_organization(
        connection,
        card.customer_id,
        account=account,
        named=card.named_organization,
        payment_method_id=card.payment_method_id,
    )
    if organization_id is not None:
        return organization_id
    if (
        isinstance(card, PaymentMethodDetached)
        and card.customer_id is card.named_organization is None
    ):
        raise payment_method_rules.unknown_detached(card)
    raise rules.unclaimed(card.customer_id, card.named_organization)


async def _default(
    connection: Connection, account: str, update: DefaultPaymentMethodChanged, context: ApplyContext
) -> Applied | Ignored:
    customer_id = update.customer_id
    organization_id = await store.lock_customer_organization(
        connection, customer_id, account=account
    )
    if organization_id is None:
        raise rules.unclaimed(customer_id, None)
    stored = await store.default_method(connection, organization_id)
    if stored[0] is not None and stored[0] > update.as_of:
        return Applied(organization_id)
    if context.answers is not None and payment_method_rules.default_is_tied(stored, update):
        try:
            customer = answer(CustomerQuestion(account, customer_id), context)
        except StripeMissingError:
            return Ignored(f"Stripe has no customer {customer_id} any more")
        if customer.deleted:
            deleted = CustomerDeleted(customer_id, update.as_of)
            return await _deleted(connection, account, deleted, context)
        update = replace(update, payment_method_id=customer.default_payment_method)
    await _set_default(connection, account, organization_id, update, context)
    return Applied(organization_id)


async def _set_default(
    connection: Connection,
    account: str,
    organization_id: UUID,
    update: DefaultPaymentMethodChanged,
    context: ApplyContext,
) -> None:
    """Make a payment method the default; its details are read from Stripe first."""
    chosen = update.payment_method_id
    described: PaymentMethodUpdated | PaymentMethodDetached | None = None
    if chosen is not None:
        seen = PaymentMethodUpdated(
            payment_method_id=chosen,
            type=payment_method_rules.UNKNOWN,
            customer_id=update.customer_id,
            named_organization=None,
            as_of=update.as_of,
        )
        described = await _with_answer(connection, account, organization_id, seen, context)
    await recharge.lock_account(connection, organization_id)
    before = await store.charged_method(connection, organization_id)
    if described is not None:
        await _save_described(connection, account, organization_id, described, context)
    await store.save_default_payment_method(connection, organization_id, update, account)
    if chosen is not None:
        await inbox.reopen_waiting(connection, [chosen])
    after = await store.charged_method(connection, organization_id)
    if payment_method_rules.is_new_default(chosen, before=before, after=after):
        await recharge.card_changed(connection, organization_id)


async def _deleted(
    connection: Connection, account: str, deleted: CustomerDeleted, context: ApplyContext
) -> Applied:
    organization_id = await store.lock_customer_organization(
        connection, deleted.customer_id, account=account
    )
    if organization_id is None:
        raise rules.unclaimed(deleted.customer_id, None)
    await recharge.lock_account(connection, organization_id)
    if not await store.delete_customer(connection, organization_id, deleted, account):
        await _suspend_without_card(connection, organization_id, context.now, context.make_id)
        return Applied(organization_id)
    await recharge.suspend(
        connection,
        organization_id,
        SuspensionReason.CUSTOMER_DELETED,
        f"The Stripe customer {deleted.customer_id} was deleted.",
        now=context.now,
        make_id=context.make_id,
    )
    return Applied(organization_id)


async def _mandate(connection: Connection, account: str, update: MandateUpdated) -> Applied:
    organization_id = await store.save_mandate(connection, update, account)
    if organization_id is None:
        raise UnclaimedError(
            f"No organization has {update.payment_method_id} on file.",
            waits_for=update.payment_method_id,
        )
    return Applied(organization_id)
