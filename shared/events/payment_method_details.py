"""Payment methods that are on file and that nothing has described: Stripe is asked what they are.

None of them is charged before that. Most are noted by a payment that saves its card, which waits
for no answer; their `payment_method.attached` describes them if it comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import structlog

from shared.errors import StripeMissingError
from shared.events import payment_method_rules, payment_methods, store
from shared.events.model import (
    PaymentMethodDetached,
    PaymentMethodUpdated,
    UndescribedPaymentMethod,
)
from shared.ids import new_id
from shared.payments.lookup import Answers, Facts
from shared.payments.model import MethodQuestion
from shared.payments.objects import PaymentMethod
from shared.recharge import service as recharge

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from shared.db.pool import Connections
    from shared.payments.lookup import Question

log = structlog.get_logger()

METHODS_AT_ONCE_MAX = 20
# So long, at least, until Stripe is asked again for what it did not say.
AGAIN_AFTER = timedelta(minutes=1)


class Lookup(Protocol):
    """Says what Stripe has of an object; `StripeLookup` does."""

    async def answers(self, questions: Collection[Question]) -> Answers:
        """Return an answer to each question, or the error that stands in its place."""
        ...


async def fetch_missing(
    pool: Connections,
    lookup: Lookup,
    *,
    now: Callable[[], datetime],
    make_id: Callable[[], UUID] = new_id,
) -> int:
    """Describe payment methods that nothing has described; return how many were tried.

    Stripe is asked outside of any transaction. Safe on several workers at once: each takes others.
    """
    async with pool.acquire() as connection:
        due = await store.claim_undescribed_payment_methods(
            connection, rows_max=METHODS_AT_ONCE_MAX, lease=AGAIN_AFTER
        )
    await _describe(pool, lookup, due, now=now, make_id=make_id)
    return len(due)


async def fetch_on_file(
    pool: Connections,
    lookup: Lookup,
    organization_id: UUID,
    *,
    now: Callable[[], datetime],
    make_id: Callable[[], UUID] = new_id,
) -> bool:
    """Describe what an organization has on file and nothing has described; return whether it had.

    For a customer who is here and waits. Raises StripeFailedError where Stripe did not answer.
    """
    async with pool.acquire() as connection:
        found = await store.undescribed_payment_methods(
            connection, organization_id, rows_max=METHODS_AT_ONCE_MAX
        )
    for error in await _describe(pool, lookup, found, now=now, make_id=make_id):
        raise error
    return bool(found)


async def _describe(
    pool: Connections,
    lookup: Lookup,
    cards_: Sequence[UndescribedPaymentMethod],
    *,
    now: Callable[[], datetime],
    make_id: Callable[[], UUID],
) -> list[Exception]:
    """Describe payment methods as Stripe does; return why it did not, for those that are left."""
    questions = {card: MethodQuestion(card.account, card.payment_method_id) for card in cards_}
    answers = await lookup.answers(list(questions.values())) if questions else {}
    failures: list[Exception] = []
    for card, question in questions.items():
        answer = answers[question]
        described = _described(card, answer)
        if described is None:
            failures += [answer] if isinstance(answer, Exception) else []
            continue
        async with pool.acquire() as connection, connection.transaction():
            organization_id = card.organization_id
            await store.lock_organization(connection, organization_id)
            await recharge.lock_account(connection, organization_id)
            if isinstance(described, PaymentMethodUpdated):
                await payment_methods.describe(connection, card.account, organization_id, described)
            else:
                await payment_methods.detach(
                    connection, card.account, organization_id, described, now=now(), make_id=make_id
                )
    return failures


def _described(
    card: UndescribedPaymentMethod, found: Facts | Exception
) -> PaymentMethodUpdated | PaymentMethodDetached | None:
    """Return what Stripe says of a payment method; None: nothing, so that it is asked again."""
    seen = PaymentMethodUpdated(
        payment_method_id=card.payment_method_id,
        type=payment_method_rules.UNKNOWN,
        customer_id=None,
        named_organization=None,
        # Events have whole seconds: one that comes later than this is newer, whatever it says.
        as_of=card.seen_at.replace(microsecond=0),
    )
    if isinstance(found, PaymentMethod):
        return payment_method_rules.with_answer(seen, found)
    if isinstance(found, StripeMissingError):
        return payment_method_rules.detached(seen)
    log.warning(
        "payment_methods.not_fetched", payment_method_id=card.payment_method_id, error=repr(found)
    )
    return None
