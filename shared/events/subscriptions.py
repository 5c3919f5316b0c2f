"""The effect of subscription events: the stored subscription of an organization."""

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
    """Store the state of a subscription in an event, unless a newer one is stored.

    If two events of one second differ, the state is read from Stripe. Raises UnclaimedError if its
    organization is not known yet, and QuestionError if Stripe must be asked first.
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
            current = answer(SubscriptionQuestion(account, update.subscription_id), context)
        except StripeMissingError:
            return Ignored(f"Stripe has no subscription {update.subscription_id} any more")
        update = rules.subscription(current, update.as_of)
    await store.save_subscription(
        connection, organization_id, update, answered=tied and context.answers is not None
    )
    return Applied(organization_id)
