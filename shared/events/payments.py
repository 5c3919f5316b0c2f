"""Effects of captured payments and ended checkouts: credits, customers and messages."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared.errors import EventError, StripeMissingError
from shared.events import payment_methods, rules
from shared.events.levels import apply_level
from shared.events.model import ApplyContext, CheckoutClosed, Ignored, Unanswered
from shared.inbox import store as inbox
from shared.ledger.model import PostedTransaction, PostingStatus, TransactionType
from shared.organizations import store as organizations
from shared.payments import crediting, sales
from shared.payments import store as payments_store
from shared.payments.customers import bind_customers
from shared.payments.model import (
    BoundPayment,
    Claim,
    NotSold,
    PaymentCaptured,
    PaymentFacts,
    PaymentQuestion,
    Sale,
)
from shared.recharge import service as recharge
from shared.recharge.attempts import store as attempt_store
from shared.recharge.model import SuspensionReason

if TYPE_CHECKING:
    from shared.db.pool import Connection

# Bank debits and transfers may take up to 14 days: https://docs.stripe.com/payments/bank-debits
BANK_DAYS_MAX = timedelta(days=14)

PaymentResult = PostedTransaction | Ignored | Unanswered | EventError
Decision = tuple[Claim, sales.Verdict | EventError]


@dataclass(frozen=True, slots=True)
class _Known:
    """What was stored before some payments were credited.

    `bound` are bindings by PaymentIntent. `customers`, with their Stripe accounts, belong to an
    organization already: storing them again would change nothing.
    """

    bound: Mapping[str, BoundPayment]
    customers: Collection[tuple[str, str | None]]

    @classmethod
    def of(cls, decisions: Mapping[PaymentCaptured, Decision]) -> _Known:
        claims = [(payment, claim) for payment, (claim, _) in decisions.items()]
        return cls(
            {p.payment_intent_id: claim.bound for p, claim in claims if claim.bound is not None},
            {(p.account, p.customer_id) for p, claim in claims if claim.customer_organization},
        )

    def is_new_customer(self, sale: Sale) -> bool:
        """Whether a sale binds a Stripe customer that no organization had."""
        customer = (sale.account, sale.customer_id)
        return sale.binds_customer and bool(sale.customer_id) and customer not in self.customers


async def credit(
    connection: Connection, payments: Sequence[PaymentCaptured], context: ApplyContext
) -> Mapping[PaymentCaptured, PaymentResult]:
    """Credit the payments that are sales, each once; return the result of each.

    A sale also closes its purchase, binds the Stripe customer and the saved card, and announces a
    message; if Stripe was asked, what refunds and disputes took back so far is posted as well.
    """
    if not payments:
        return {}
    results: dict[PaymentCaptured, PaymentResult] = {}
    sales_by_payment: dict[PaymentCaptured, tuple[PaymentCaptured, Sale]] = {}
    complete = {payment: _with_answer(payment, context) for payment in payments}
    known = {p: c for p, c in complete.items() if isinstance(c, PaymentCaptured)}
    decisions = await _decide_under_locks(connection, list(known.values()), context)
    for payment, whole in complete.items():
        if isinstance(whole, EventError):
            results[payment] = whole
            continue
        _, verdict = decisions[whole]
        match verdict:
            case Sale():
                sales_by_payment[payment] = (whole, verdict)
            case NotSold(reason, waits_for):
                results[payment] = Ignored(reason, waits_for)
            case PaymentQuestion():
                results[payment] = Unanswered(verdict)
            case EventError():
                results[payment] = verdict
    results |= await _post(connection, sales_by_payment, _Known.of(decisions), context)
    for payment in known:
        facts = _answer(payment, context)
        if isinstance(facts, PaymentFacts):
            await apply_level(connection, facts, context, of_dispute=False)
    return results


def _with_answer(payment: PaymentCaptured, context: ApplyContext) -> PaymentCaptured | EventError:
    """Complete a payment with Stripe's answer; one that Stripe does not have is unchanged."""
    facts = _answer(payment, context)
    if isinstance(facts, PaymentFacts):
        try:
            return sales.with_facts(payment, facts)
        except EventError as error:
            return error
    if facts is None or isinstance(facts, StripeMissingError):
        return payment
    if isinstance(facts, EventError):
        return facts
    raise facts


def _answer(payment: PaymentCaptured, context: ApplyContext) -> PaymentFacts | Exception | None:
    """Return Stripe's answer about a payment; None if it was not asked."""
    answers = context.answers
    if not answers:
        return None
    question = PaymentQuestion(payment.account, payment.payment_intent_id)
    others = (question._replace(reversals=True), question._replace(origin=False))
    facts = next((answers[each] for each in (question, *others) if each in answers), None)
    return facts if isinstance(facts, PaymentFacts | Exception) else None


async def _decide_under_locks(
    connection: Connection, payments: Sequence[PaymentCaptured], context: ApplyContext
) -> dict[PaymentCaptured, Decision]:
    """Decide about each payment; one that would wait is decided again under its lock."""
    decisions = await _decide_all(connection, payments, context)
    waiting = sorted(
        {v.waits_for for _, v in decisions.values() if isinstance(v, NotSold) and v.waits_for}
    )
    if not waiting:
        return decisions
    await context.take_turn()
    for waits_for in waiting:
        await inbox.lock_waiting(connection, waits_for)
    return await _decide_all(connection, payments, context)


async def _decide_all(
    connection: Connection, payments: Sequence[PaymentCaptured], context: ApplyContext
) -> dict[PaymentCaptured, Decision]:
    claims = await payments_store.claims(connection, payments) if payments else []
    return {
        payment: (claim, _decide(payment, claim, context))
        for payment, claim in zip(payments, claims, strict=True)
    }


def _decide(
    payment: PaymentCaptured, claim: Claim, context: ApplyContext
) -> sales.Verdict | EventError:
    asked = context.answers is None or _answer(payment, context) is not None
    try:
        return sales.decide(payment, claim, context.terms, now=context.now, asked=asked)
    except EventError as error:
        return error


async def _post(
    connection: Connection,
    sales_by_payment: Mapping[PaymentCaptured, tuple[PaymentCaptured, Sale]],
    known: _Known,
    context: ApplyContext,
) -> dict[PaymentCaptured, PaymentResult]:
    whole_sales = [sale for _, sale in sales_by_payment.values()]
    if any(known.is_new_customer(sale) for sale in whole_sales):
        await context.take_turn()
        await organizations.lock_without_customer(
            connection, {sale.organization_id for sale in whole_sales}
        )
    answered = any(_answer(payment, context) is not None for payment in sales_by_payment)
    credited = await crediting.Crediting(
        connection=connection,
        make_id=context.make_id,
        lock_payments=answered,
        suspension=SuspensionReason.REFUNDED,
        before_write=context.take_turn,
    ).credit(
        whole_sales,
        [_completion(payment, sale, context) for payment, sale in sales_by_payment.values()],
        bound=known.bound,
    )
    results: dict[PaymentCaptured, PaymentResult] = {
        payment: Ignored(result.reason, result.waits_for) if isinstance(result, NotSold) else result
        for payment, result in zip(sales_by_payment, credited.results, strict=True)
    }
    posted = [
        (whole, sale, result)
        for (whole, sale), result in zip(sales_by_payment.values(), credited.results, strict=True)
        if isinstance(result, PostedTransaction)
    ]
    await _bind_customers(connection, posted, known)
    for organization_id in credited.suspended:
        await recharge.purchased(
            connection, organization_id, now=context.now, make_id=context.make_id
        )
    recharged = sorted(
        whole.payment_intent_id for whole, _, _ in posted if whole.attempt_id is not None
    )
    if recharged:
        await attempt_store.wake(connection, recharged)
    return results


Posted = Sequence[tuple[PaymentCaptured, Sale, PostedTransaction]]


def _completion(
    payment: PaymentCaptured, sale: Sale, context: ApplyContext
) -> crediting.Completion:
    is_purchase = sale.type is TransactionType.PURCHASE
    announcement = crediting.Announcement(rules.paid_with(sale), context.now)
    return crediting.Completion(
        payment.checkout_session_id, payment.purchase_id, announcement if is_purchase else None
    )


async def _bind_customers(connection: Connection, posted: Posted, known: _Known) -> None:
    """Bind the Stripe customers and saved cards of payments that name their organization."""
    binding = [
        (payment, sale, result)
        for payment, sale, result in posted
        if sale.binds_customer and sale.customer_id is not None
    ]
    for account in sorted({sale.account for _, sale, _ in binding}):
        customers = {
            result.organization_id: sale.customer_id
            for _, sale, result in binding
            if sale.account == account
            and sale.customer_id is not None
            and known.is_new_customer(sale)
            and result.status is PostingStatus.POSTED
        }
        if customers:
            await bind_customers(connection, customers, account=account)
    saved = {
        payment.saved_method: (
            payment.saved_method,
            result.organization_id,
            sale.customer_id,
            payment.saved_method_type,
            None,
            sale.account,
        )
        for payment, sale, result in binding
        if payment.saved_method is not None and sale.customer_id is not None
    }
    if saved:
        await payment_methods.save_seen(connection, list(saved.values()))


async def close_checkouts(connection: Connection, closed: Sequence[CheckoutClosed]) -> None:
    """Close the purchases of sessions that ended without a payment; paid ones stay paid."""
    if closed:
        await payments_store.close_purchases(
            connection, [(each.checkout_session_id, None, None, each.state) for each in closed]
        )


async def await_bank(connection: Connection, session_id: str, now: datetime) -> Ignored:
    """Extend the purchase of a completed session while its bank payment is pending."""
    await payments_store.extend_purchase(connection, session_id, now + BANK_DAYS_MAX)
    return Ignored(f"{session_id} is completed and not paid yet; another event says when it is")
