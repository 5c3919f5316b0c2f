"""The effects of a batch of events, inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from shared.errors import EventError, UnclaimedError
from shared.events import (
    invoices,
    payment_methods,
    payments,
    reversals,
    rules,
    store,
    subscriptions,
)
from shared.events.model import (
    Applied,
    ApplyContext,
    CheckoutClosed,
    CheckoutPending,
    CustomerLinked,
    FraudWarningReceived,
    Ignored,
    InvoicePaid,
    Meaning,
    PaymentIntentUpdated,
    ReversalChanged,
    SeparateMeaning,
    SubscriptionUpdated,
    Unanswered,
)
from shared.events.questions import QuestionError
from shared.inbox import store as inbox
from shared.inbox.model import ClaimedEvent
from shared.ledger.model import PostedTransaction
from shared.payments.customers import bind_customers
from shared.payments.model import PaymentCaptured
from shared.recharge import service as recharge
from shared.recharge.attempts import store as attempt_store
from shared.recharge.model import SuspensionReason

if TYPE_CHECKING:
    from shared.db.pool import Connection

P = ParamSpec("P")
T = TypeVar("T")

EventResult = Ignored | CheckoutClosed | Applied | PostedTransaction | EventError | Unanswered


def interpret_batch(events: Sequence[ClaimedEvent]) -> list[Meaning | EventError]:
    """Return what each event means, or why it cannot be read. Pure."""
    return [_result_or_error(_meaning, event) for event in events]


async def apply_batch(
    connection: Connection,
    events: Sequence[ClaimedEvent],
    meanings: Sequence[Meaning | EventError],
    context: ApplyContext,
) -> list[EventResult]:
    """Apply the effects of a batch, set by set; return the results in order.

    The result is an EventError for an event that must not be applied, and Unanswered for one that
    needs an answer from Stripe; neither affects the other events. Any other error is raised, and
    the caller rolls back.
    """
    if any(isinstance(meaning, CustomerLinked) for meaning in meanings):
        await context.take_turn()
    # Organizations are locked here, before the payments lock their accounts.
    linked = {
        meaning: await _link_customer(connection, event, meaning)
        for event, meaning in zip(events, meanings, strict=True)
        if isinstance(meaning, CustomerLinked)
    }
    credited = await payments.credit(
        connection, [m for m in meanings if isinstance(m, PaymentCaptured)], context
    )
    await context.take_turn()
    await payments.close_checkouts(
        connection, [m for m in meanings if isinstance(m, CheckoutClosed)]
    )
    results: list[EventResult] = []
    for event, meaning in zip(events, meanings, strict=True):
        match meaning:
            case PaymentCaptured():
                results.append(credited[meaning])
            case CustomerLinked():
                results.append(linked[meaning])
            case CheckoutPending(session_id):
                results.append(await payments.await_bank(connection, session_id, context.now))
            case Ignored() | CheckoutClosed() | EventError():
                results.append(meaning)
            case _:
                results.append(await _apply_separately(connection, event, meaning, context))
    return results


def _meaning(event: ClaimedEvent) -> Meaning:
    meaning = rules.interpret(event.type, event.payload)
    if isinstance(meaning, PaymentCaptured):
        return replace(meaning, account=event.key.account)
    return meaning


async def _link_customer(
    connection: Connection, event: ClaimedEvent, linked: CustomerLinked
) -> EventResult:
    name = linked.named_organization
    account = event.key.account
    organization_id = await store.lock_customer_organization(
        connection, linked.customer_id, account=account, named=name
    )
    if organization_id is None:
        return rules.unclaimed(linked.customer_id, name)
    await bind_customers(connection, {organization_id: linked.customer_id}, account=account)
    return Applied(organization_id)


async def _apply_separately(
    connection: Connection, event: ClaimedEvent, meaning: SeparateMeaning, context: ApplyContext
) -> EventResult:
    """Apply one event in a savepoint of its own.

    An event without an organization waits for one. It is tried again under the advisory lock that
    the transaction which binds the organization takes too, so that neither misses the other.
    """
    try:
        return await _in_savepoint(connection, event, meaning, context)
    except UnclaimedError as error:
        await inbox.lock_waiting(connection, error.waits_for)
    try:
        return await _in_savepoint(connection, event, meaning, context)
    except invoices.UnknownCustomerError as error:
        return error
    except UnclaimedError as error:
        return Ignored(error.detail, waits_for=error.waits_for)


async def _in_savepoint(
    connection: Connection, event: ClaimedEvent, meaning: SeparateMeaning, context: ApplyContext
) -> EventResult:
    try:
        async with connection.transaction():
            return await _effect(connection, event, meaning, context)
    except QuestionError as error:
        return Unanswered(error.question)
    except UnclaimedError:
        raise
    except EventError as error:
        return error


async def _effect(
    connection: Connection, event: ClaimedEvent, meaning: SeparateMeaning, context: ApplyContext
) -> EventResult:
    match meaning:
        case ReversalChanged():
            return await reversals.reverse(connection, event.key.account, meaning, context)
        case FraudWarningReceived():
            return await _fraud_warning(connection, meaning, context)
        case PaymentIntentUpdated():
            return await _wake_recharger(connection, meaning)
        case SubscriptionUpdated():
            return await subscriptions.apply(connection, event.key.account, meaning, context)
        case InvoicePaid():
            return await invoices.credit(connection, event.key.account, meaning, context)
        case _:
            return await payment_methods.apply(connection, event.key.account, meaning, context)


async def _wake_recharger(connection: Connection, updated: PaymentIntentUpdated) -> EventResult:
    await attempt_store.wake(connection, [updated.payment_intent_id])
    organization_id = await store.attempt_organization(connection, updated)
    if organization_id is None:
        return Ignored(
            f"{updated.payment_intent_id} belongs to no auto-recharge; only its success matters"
        )
    return Applied(organization_id)


async def _fraud_warning(
    connection: Connection, warning: FraudWarningReceived, context: ApplyContext
) -> EventResult:
    organization_id = await store.save_fraud_warning(connection, warning, context.now)
    if organization_id is None:
        known = await store.warned_organization(connection, warning)
        if known is None:
            return _unknown_payment(warning)
        return Applied(known)
    await recharge.suspend(
        connection,
        organization_id,
        SuspensionReason.FRAUD_WARNING,
        f"The issuer of the card warns of fraud: {warning.fraud_type or 'no type given'}.",
        now=context.now,
        make_id=context.make_id,
    )
    return Applied(organization_id)


def _unknown_payment(warning: FraudWarningReceived) -> EventResult:
    detail = f"{warning.warning_id} is about no payment that was credited."
    if warning.payment_intent_id is None:
        return Ignored(detail)
    raise UnclaimedError(detail, waits_for=warning.payment_intent_id)


def _result_or_error(decide: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | EventError:
    """Return the result of a pure decision, or the EventError that it raises."""
    try:
        return decide(*args, **kwargs)
    except EventError as error:
        return error
