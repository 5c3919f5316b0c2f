"""The effects of a batch of events, inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from uuid import UUID

from shared.errors import EventError, PrepaidError, UnclaimedPaymentError
from shared.events import cards, disputes, rules, store
from shared.events.model import (
    Alone,
    AttemptMoved,
    BoundPayment,
    CheckoutClosed,
    CustomerNamed,
    Done,
    FraudWarned,
    InvoicePaid,
    Nothing,
    PaymentCaptured,
    ReversalChanged,
    SubscriptionTold,
    Terms,
)
from shared.inbox.model import ClaimedEvent
from shared.ledger import service as ledger
from shared.ledger.model import Posting, PostingResult, PostingStatus
from shared.notifications import service as notifications
from shared.organizations import store as organizations
from shared.payments.messages import purchase_completed
from shared.payments.model import Facts, PaymentKey
from shared.payments.rules import share
from shared.recharge import service as recharge
from shared.recharge import store as recharge_store
from shared.recharge.model import SuspensionReason

if TYPE_CHECKING:
    from shared.db.pool import Connection

P = ParamSpec("P")
T = TypeVar("T")

CameTo = Nothing | CheckoutClosed | Done | PostingResult | EventError

CLAIM_ATTEMPTS_MAX = 8

_ON_THE_LEDGER = frozenset({PostingStatus.POSTED, PostingStatus.REPLAYED})


class PostingRefusedError(EventError):
    """The ledger refused the posting."""


class NobodyToAskError(PrepaidError):
    """This event needs Stripe's answer, and the Applier was made without `reversals` to ask."""


async def carry_out(
    connection: Connection, events: Sequence[ClaimedEvent], terms: Terms
) -> list[CameTo]:
    """Do what the events mean, set by set; return what each came to, in order.

    An event that must not be applied comes to its EventError and leaves the others unharmed;
    anything else that goes wrong is raised, and the transaction is the caller's to roll back.
    """
    meanings = [_attempt(rules.interpret, event.type, event.payload) for event in events]
    # These take the organization, and so come before the payments, which take its account.
    named = {
        meaning: await _name(connection, meaning)
        for meaning in meanings
        if isinstance(meaning, CustomerNamed)
    }
    credited = await credit(
        connection,
        [meaning for meaning in meanings if isinstance(meaning, PaymentCaptured)],
        [meaning for meaning in meanings if isinstance(meaning, CheckoutClosed)],
        terms,
    )
    came_to: list[CameTo] = []
    for event, meaning in zip(events, meanings, strict=True):
        if isinstance(meaning, PaymentCaptured):
            came_to.append(credited[meaning])
        elif isinstance(meaning, CustomerNamed):
            came_to.append(named[meaning])
        elif isinstance(meaning, Nothing | CheckoutClosed | EventError):
            came_to.append(meaning)
        else:
            came_to.append(await _alone(connection, event, meaning, terms))
    return came_to


async def _name(connection: Connection, named: CustomerNamed) -> CameTo:
    name = named.named_organization
    owner = await store.lock_customer_owner(connection, named.customer_id, named=name)
    if owner is None:
        return rules.unclaimed(named.customer_id, name)
    await organizations.keep_customers(connection, {owner: named.customer_id})
    return Done(owner)


async def _alone(
    connection: Connection, event: ClaimedEvent, meaning: Alone, terms: Terms
) -> CameTo:
    try:
        async with connection.transaction():
            return await _effect(connection, event, meaning, terms)
    except EventError as error:
        # Another event may still say whose it is. When none did for two minutes, it is not ours.
        if error.may_resolve_itself and event.attempts >= CLAIM_ATTEMPTS_MAX:
            return Nothing(error.detail)
        return error


async def _effect(
    connection: Connection, event: ClaimedEvent, meaning: Alone, terms: Terms
) -> CameTo:
    match meaning:
        case ReversalChanged():
            return await _reverse(connection, event, meaning, terms)
        case FraudWarned():
            return await _warn(connection, meaning, terms)
        case AttemptMoved():
            return await _ring(connection, meaning)
        case SubscriptionTold() | InvoicePaid():
            return await _subscribed(connection, meaning, terms)
        case _:
            return await cards.keep(connection, meaning, terms)


async def _ring(connection: Connection, moved: AttemptMoved) -> CameTo:
    await recharge_store.ring(connection, [moved.payment_intent_id])
    owner = await store.attempt_owner(connection, moved)
    if owner is None:
        return Nothing(
            f"{moved.payment_intent_id} is of no auto-recharge; its success is what counts"
        )
    return Done(owner)


async def _subscribed(
    connection: Connection, told: SubscriptionTold | InvoicePaid, terms: Terms
) -> CameTo:
    owner = await store.lock_customer_owner(
        connection, told.customer_id, named=told.named_organization
    )
    if owner is None:
        raise rules.unclaimed(told.customer_id, told.named_organization)
    if isinstance(told, SubscriptionTold):
        await store.keep_subscription(connection, owner, told)
        return Done(owner)
    (result,) = await ledger.post(connection, [rules.credit_invoice(told, owner, terms.make_id())])
    posted = _on_the_ledger(result)
    if isinstance(posted, EventError):
        raise posted
    if posted.status is PostingStatus.POSTED:
        data = {"invoiceId": told.invoice_id}
        await notifications.announce(connection, [purchase_completed(posted, data, terms.now)])
    return posted


async def _reverse(
    connection: Connection, event: ClaimedEvent, changed: ReversalChanged, terms: Terms
) -> CameTo:
    """Bring a payment to the level that Stripe has told, crediting it first if nobody has."""
    facts, as_of = _facts(event, changed, terms)
    name = changed.payment_intent_id
    if facts.payment_intent.status != "succeeded":
        return Nothing(f"{name} is {facts.payment_intent.status}: nothing of it was credited")
    payment = rules.captured(facts.payment_intent)
    bound = await store.lock_payment(connection, name)
    if bound is None and facts.payment_intent.invoice is not None:
        return Nothing(f"{name} pays an invoice: nothing of it was credited")
    if bound is not None:
        payment = replace(payment, amount_minor=bound.amount_minor, currency=bound.currency)
    # What was credited already is so again, by its key: nothing.
    credited = (await credit(connection, [payment], [], terms))[payment]
    if isinstance(credited, EventError):
        raise credited
    level = bound or await store.lock_payment(connection, name)
    assert level is not None  # noqa: S101 - credited payments are bound
    if level.reversal_as_of is not None and level.reversal_as_of > as_of:
        return Done(level.organization_id)  # another has asked later, and applied what it was told
    await store.record_level(connection, name, as_of, payment.charge_id)
    await disputes.tell(connection, level, facts, terms)
    result = await ledger.reverse_payment(
        connection,
        name,
        refunded=share(level.credits, facts.refunded_minor, level.amount_minor),
        withdrawn=share(level.credits, facts.withdrawn_minor, level.amount_minor),
        disputed=facts.withdrawn_minor > 0 and (changed.of_dispute or facts.refunded_minor == 0),
        make_id=terms.make_id,
    )
    if result is None:
        return Done(level.organization_id)
    reversed_ = _on_the_ledger(result)
    if isinstance(reversed_, EventError):
        raise reversed_
    return reversed_


def _facts(event: ClaimedEvent, changed: ReversalChanged, terms: Terms) -> tuple[Facts, datetime]:
    if terms.facts is None or terms.as_of is None:
        raise NobodyToAskError
    answer = terms.facts[PaymentKey(event.key.account, changed.payment_intent_id)]
    if isinstance(answer, Exception):
        raise answer
    return answer, terms.as_of


async def _warn(connection: Connection, warned: FraudWarned, terms: Terms) -> CameTo:
    kept = await store.keep_warning(connection, warned, terms.now)
    if kept is None:
        known = await store.warned_organization(connection, warned)
        if known is None:
            raise UnclaimedPaymentError(f"{warned.warning_id} is about no payment that is known.")
        return Done(known)
    await recharge.suspend(
        connection,
        kept,
        SuspensionReason.FRAUD_WARNING,
        f"The issuer of the card warns of fraud: {warned.fraud_type or 'no type given'}.",
        now=terms.now,
        make_id=terms.make_id,
    )
    return Done(kept)


async def credit(
    connection: Connection,
    payments: Sequence[PaymentCaptured],
    closed: Sequence[CheckoutClosed],
    terms: Terms,
) -> Mapping[PaymentCaptured, PostingResult | EventError]:
    """Credit payments once, settle the purchases behind them, and tell what is new."""
    credited = await _credit(connection, payments, terms.credits_per_unit, terms.make_id)
    posted = {payment: to for payment, to in credited.items() if isinstance(to, PostingResult)}
    await _close_purchases(connection, [*closed, *posted])
    new = {p: to for p, to in posted.items() if to.status is PostingStatus.POSTED}
    await notifications.announce(
        connection,
        [
            purchase_completed(to, rules.paid_with(p), terms.now)
            for p, to in new.items()
            if p.top_up or not p.recharge
        ],
    )
    seen = {
        p.kept_method: (p.kept_method, to.organization_id, p.customer_id, p.kept_method_type, None)
        for p, to in posted.items()
        if p.kept_method is not None and p.customer_id is not None
    }
    if seen:
        await store.keep_seen_cards(connection, list(seen.values()))
    if recharged := sorted(p.payment_intent_id for p in posted if p.recharge):
        await recharge_store.ring(connection, recharged)
    return credited


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
    if any(payment.customer_id is not None for payment in payments):
        await organizations.lock_nameless(connection, {owner.id for owner in owners if owner})
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
