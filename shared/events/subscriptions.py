"""The subscription that an organization has beside its credits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import StripeMissingError
from shared.events import card_rules, rules, store
from shared.events.model import Applied, ApplyContext, Ignored, SubscriptionUpdated
from shared.events.questions import answer
from shared.payments.model import SubscriptionQuestion

if TYPE_CHECKING:
    from shared.db.pool import Connection


async def keep(
    connection: Connection, account: str, told: SubscriptionUpdated, context: ApplyContext
) -> Applied | Ignored:
    """Store a subscription as the newest event of a Stripe account has it.

    Of two events of one second that differ, Stripe says which is right. Raises UnclaimedError where
    no organization owns it, yet, and QuestionError where Stripe must be asked first.
    """
    owner = await store.lock_customer_owner(
        connection, told.customer_id, account=account, named=told.named_organization
    )
    if owner is None:
        raise rules.unclaimed(told.customer_id, told.named_organization)
    stored = await store.stored_subscription(connection, told.subscription_id)
    tied = card_rules.subscription_is_tied(stored, told)
    if tied and context.answers is not None:
        try:
            found = answer(SubscriptionQuestion(account, told.subscription_id), context)
        except StripeMissingError:
            return Ignored(f"Stripe has no subscription {told.subscription_id} any more")
        told = rules.subscription(found, told.as_of)
    await store.keep_subscription(
        connection, owner, told, answered=tied and context.answers is not None
    )
    return Applied(owner)
