"""The subscription that an organization has beside its credits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import StripeMissingError
from shared.events import payment_method_rules, rules, store
from shared.events.model import Applied, ApplyContext, Ignored, SubscriptionUpdated
from shared.events.questions import answer
from shared.payments.model import SubscriptionQuestion

if TYPE_CHECKING:
    from shared.db.pool import Connection


async def apply(
    connection: Connection, account: str, update: SubscriptionUpdated, context: ApplyContext
) -> Applied | Ignored:
    """Store a subscription as the newest event of a Stripe account has it.

    Of two events of one second that differ, Stripe says which is right. Raises UnclaimedError where
    no organization owns it, yet, and QuestionError where Stripe must be asked first.
    """
    organization_id = await store.lock_customer_organization(
        connection, update.customer_id, account=account, named=update.named_organization
    )
    if organization_id is None:
        raise rules.unclaimed(update.customer_id, update.named_organization)
    stored = await store.stored_subscription(connection, update.subscription_id)
    tied = payment_method_rules.subscription_is_tied(stored, update)
    if tied and context.answers is not None:
        try:
            found = answer(SubscriptionQuestion(account, update.subscription_id), context)
        except StripeMissingError:
            return Ignored(f"Stripe has no subscription {update.subscription_id} any more")
        update = rules.subscription(found, update.as_of)
    await store.save_subscription(
        connection, organization_id, update, answered=tied and context.answers is not None
    )
    return Applied(organization_id)
