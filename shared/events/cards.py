"""What an organization has on file at Stripe: each event alone, in any order, more than once."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from shared.errors import UnclaimedError
from shared.events import rules, store
from shared.events.model import (
    Applied,
    ApplyContext,
    CardDetached,
    CardMeaning,
    CardTold,
    CustomerDeleted,
    DefaultTold,
    Ignored,
    MandateTold,
)
from shared.payments.customers import bind_customers
from shared.recharge import service as recharge
from shared.recharge.model import SuspensionReason

if TYPE_CHECKING:
    from shared.db.pool import Connection


async def keep(
    connection: Connection, told: CardMeaning, context: ApplyContext
) -> Applied | Ignored:
    """Do what an event says of a card, a mandate or a customer.

    Raises UnclaimedCustomerError where no organization is known to own it, yet.
    """
    match told:
        case CardTold():
            return await _told(connection, told)
        case CardDetached():
            return await _detached(connection, told, context)
        case DefaultTold():
            return await _default(connection, told)
        case CustomerDeleted():
            return await _deleted(connection, told, context)
        case MandateTold():
            return await _mandate(connection, told)


async def _told(connection: Connection, card: CardTold) -> Applied | Ignored:
    if card.customer_id is None:
        return Ignored(f"{card.payment_method_id} is of no customer, and cannot be charged again")
    owner = await _owner(connection, card)
    if card.named_organization is not None:
        await bind_customers(connection, {owner: card.customer_id})
    if card.details is None:
        seen = (card.payment_method_id, owner, card.customer_id, card.type, card.mandate_id, "")
        await store.keep_seen_cards(connection, [seen])
    else:
        # A payment that leaves its card has the account when it notes the card, so here too.
        await recharge.lock_account(connection, owner)
        if await store.keep_card(connection, owner, card, card.details):
            await recharge.card_kept(connection, owner)
    return Applied(owner)


async def _detached(connection: Connection, card: CardDetached, context: ApplyContext) -> Applied:
    owner = await _owner(connection, card)
    await recharge.lock_account(connection, owner)
    detached = await store.detach_card(connection, owner, card)
    if detached and not await store.has_card(connection, owner):
        await recharge.suspend(
            connection,
            owner,
            SuspensionReason.NO_CARD,
            "The last payment method was removed.",
            now=context.now,
            make_id=context.make_id,
        )
    return Applied(owner)


async def _owner(connection: Connection, card: CardTold | CardDetached) -> UUID:
    owner = await store.lock_customer_owner(
        connection,
        card.customer_id,
        named=card.named_organization,
        payment_method_id=card.payment_method_id,
    )
    if owner is None:
        raise rules.unclaimed(card.customer_id, card.named_organization)
    return owner


async def _default(connection: Connection, told: DefaultTold) -> Applied | Ignored:
    owner = await store.lock_customer_owner(connection, told.customer_id)
    if owner is None:
        if told.payment_method_id is None:
            return Ignored(f"No organization has the Stripe customer {told.customer_id}")
        raise rules.unclaimed(told.customer_id, None)
    await store.choose_default(connection, owner, told)
    return Applied(owner)


async def _deleted(
    connection: Connection, deleted: CustomerDeleted, context: ApplyContext
) -> Applied:
    owner = await store.lock_customer_owner(connection, deleted.customer_id)
    if owner is None:
        raise rules.unclaimed(deleted.customer_id, None)
    await recharge.lock_account(connection, owner)
    await store.delete_customer(connection, owner, deleted)
    await recharge.suspend(
        connection,
        owner,
        SuspensionReason.CUSTOMER_DELETED,
        f"The Stripe customer {deleted.customer_id} was deleted.",
        now=context.now,
        make_id=context.make_id,
    )
    return Applied(owner)


async def _mandate(connection: Connection, told: MandateTold) -> Applied:
    owner = await store.keep_mandate(connection, told)
    if owner is None:
        raise UnclaimedError(
            f"Nobody has {told.payment_method_id} on file.", waits_for=told.payment_method_id
        )
    return Applied(owner)
