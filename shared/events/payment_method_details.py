"""Fetches descriptions of payment methods of which only the id is known.

They are not charged before that. Most come from a payment that saves its card, which is credited
without waiting for Stripe; a `payment_method.attached` that arrives first describes them as well.
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
# The least time between two requests for one payment method.
AGAIN_AFTER = timedelta(minutes=1)


class Lookup(Protocol):
    """Reads objects from Stripe; implemented by `StripeLookup`."""

    async def answers(self, questions: Collection[Question]) -> Answers:
        """Return the answer to each question, or the error in its place."""
        ...


async def fetch_missing(
    pool: Connections,
    lookup: Lookup,
    *,
    now: Callable[[], datetime],
    make_id: Callable[[], UUID] = new_id,
) -> int:
    """Describe payment methods of which only the id is known; return how many were tried.

    Stripe is asked outside of any transaction. Concurrent workers claim different ones.
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
    """Describe an organization's undescribed payment methods; return whether there were any.

    For an on-session customer. Raises StripeFailedError if Stripe did not answer.
    """
    async with pool.acquire() as connection:
        undescribed = await store.undescribed_payment_methods(
            connection, organization_id, rows_max=METHODS_AT_ONCE_MAX
        )
    for error in await _describe(pool, lookup, undescribed, now=now, make_id=make_id):
        raise error
    return bool(undescribed)


async def _describe(
    pool: Connections,
    lookup: Lookup,
    cards: Sequence[UndescribedPaymentMethod],
    *,
    now: Callable[[], datetime],
    make_id: Callable[[], UUID],
) -> list[Exception]:
    """Store Stripe's descriptions of payment methods; return the errors of the others."""
    questions = {card: MethodQuestion(card.account, card.payment_method_id) for card in cards}
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
    card: UndescribedPaymentMethod, answer: Facts | Exception
) -> PaymentMethodUpdated | PaymentMethodDetached | None:
    """Return Stripe's description of a payment method; None after an error: retried later."""
    seen = PaymentMethodUpdated(
        payment_method_id=card.payment_method_id,
        type=payment_method_rules.UNKNOWN,
        customer_id=None,
        named_organization=None,
        # Events have whole seconds: this makes any later event newer.
        as_of=card.seen_at.replace(microsecond=0),
    )
    if isinstance(answer, PaymentMethod):
        return payment_method_rules.with_answer(seen, answer)
    if isinstance(answer, StripeMissingError):
        return payment_method_rules.detached(seen)
    log.warning(
        "payment_methods.not_fetched", payment_method_id=card.payment_method_id, error=repr(answer)
    )
    return None
