"""The effects of a batch of events, inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from uuid import UUID

from shared.errors import EventError
from shared.events import rules, store
from shared.events.model import BoundPayment, CheckoutClosed, Nothing, PaymentCaptured
from shared.inbox.model import ClaimedEvent
from shared.ledger import service as ledger
from shared.ledger.model import Posting, PostingResult, PostingStatus
from shared.organizations import store as organizations

if TYPE_CHECKING:
    from shared.db.pool import Connection

P = ParamSpec("P")
T = TypeVar("T")

CameTo = Nothing | CheckoutClosed | PostingResult | EventError

_ON_THE_LEDGER = frozenset({PostingStatus.POSTED, PostingStatus.REPLAYED})


class PostingRefusedError(EventError):
    """The ledger refused the posting."""


async def carry_out(
    connection: Connection,
    events: Sequence[ClaimedEvent],
    *,
    credits_per_unit: Decimal,
    make_id: Callable[[], UUID],
) -> list[CameTo]:
    """Do what the events mean, set by set; return what each came to, in order.

    An event that must not be applied comes to its EventError and leaves the others unharmed;
    anything else that goes wrong is raised, and the transaction is the caller's to roll back.
    """
    meanings = [_attempt(rules.interpret, event.type, event.payload) for event in events]
    credited = await _credit(
        connection,
        [meaning for meaning in meanings if isinstance(meaning, PaymentCaptured)],
        credits_per_unit,
        make_id,
    )
    await _close_purchases(
        connection,
        [
            *(meaning for meaning in meanings if isinstance(meaning, CheckoutClosed)),
            *(payment for payment, to in credited.items() if isinstance(to, PostingResult)),
        ],
    )
    return [
        credited[meaning] if isinstance(meaning, PaymentCaptured) else meaning
        for meaning in meanings
    ]


async def _credit(
    connection: Connection,
    payments: Sequence[PaymentCaptured],
    credits_per_unit: Decimal,
    make_id: Callable[[], UUID],
) -> Mapping[PaymentCaptured, PostingResult | EventError]:
    """Bind each payment to its organization and post it once."""
    if not payments:
        return {}
    owners = await store.owners(connection, payments)
    bound = {
        payment: _attempt(rules.bind, payment, owner, credits_per_unit)
        for payment, owner in zip(payments, owners, strict=True)
    }
    await store.bind_payments(
        connection,
        [(payment, to) for payment, to in bound.items() if isinstance(to, BoundPayment)],
    )
    # Read back for all: one that names nobody may have been bound by another event of this batch.
    bindings = await store.bound_payments(connection, list(bound))
    postings = {
        payment: _attempt(rules.credit, payment, binding, make_id())
        for payment in bound
        if (binding := bindings.get(payment.payment_intent_id)) is not None
    }
    accepted = {p: posting for p, posting in postings.items() if isinstance(posting, Posting)}
    results = await ledger.post(connection, list(accepted.values()))
    posted = dict(zip(accepted, map(_on_the_ledger, results), strict=True))
    await _keep_customers(connection, posted)
    refused = {
        payment: to
        for payment, to in (*bound.items(), *postings.items())
        if isinstance(to, EventError) and payment not in posted
    }
    return {**refused, **posted}


def _attempt(decide: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | EventError:
    """Return what a pure decision returns, or the EventError that it raises."""
    try:
        return decide(*args, **kwargs)
    except EventError as error:
        return error


def _on_the_ledger(result: PostingResult) -> PostingResult | EventError:
    if result.status in _ON_THE_LEDGER:
        return result
    return PostingRefusedError(
        f"The ledger of organization {result.organization_id} refused: {result.status}."
    )


async def _close_purchases(
    connection: Connection, ended: Sequence[CheckoutClosed | PaymentCaptured]
) -> None:
    # Payments come last, in a statement of their own: whatever else a batch says of a session, paid
    # is what it stays. Those that no session or purchase stands behind have nothing to close.
    closed = [event for event in ended if isinstance(event, CheckoutClosed)]
    paid = [
        event
        for event in ended
        if isinstance(event, PaymentCaptured) and (event.checkout_session_id or event.purchase_id)
    ]
    for events in (closed, paid):
        if events:
            await store.close_purchases(connection, events)


async def _keep_customers(
    connection: Connection, posted: Mapping[PaymentCaptured, PostingResult | EventError]
) -> None:
    customers = {
        result.organization_id: payment.customer_id
        for payment, result in posted.items()
        if isinstance(result, PostingResult)
        and result.status is PostingStatus.POSTED
        and payment.customer_id is not None
    }
    if customers:
        await organizations.keep_customers(connection, customers)
