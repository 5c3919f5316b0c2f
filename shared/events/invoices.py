"""The effect of a paid invoice: its credits, posted once and linked to its payments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from shared.errors import (
    CurrencyMismatchError,
    EventError,
    MalformedEventError,
    PaymentMismatchError,
    StripeMissingError,
    TwoOrganizationsError,
    UnclaimedError,
)
from shared.events import payments
from shared.events.levels import apply_level
from shared.events.model import Applied, ApplyContext, Ignored, InvoicePaid
from shared.events.questions import answer
from shared.inbox import store as inbox
from shared.ledger import service as ledger
from shared.ledger import store as ledger_store
from shared.ledger.model import PostedTransaction, Posting, PostingResult, PostingStatus
from shared.outbound import service as outbound
from shared.payments import invoice_postings, invoices, sales
from shared.payments import store as payments_store
from shared.payments.crediting import on_the_ledger
from shared.payments.invoice_objects import Invoice
from shared.payments.invoices import Portion, Share
from shared.payments.messages import purchase_completed
from shared.payments.model import (
    InvoiceFacts,
    InvoiceQuestion,
    LinkedPayment,
    PaymentOrganization,
    PaymentQuestion,
    Sale,
)
from shared.payments.objects import CREDITS_METADATA, reference_id

if TYPE_CHECKING:
    from shared.db.pool import Connection


class UnknownCustomerError(UnclaimedError):
    """An invoice grants credits, and no organization has its Stripe customer.

    It is dead, so that a person learns of it, and reopened once an organization has the customer.
    """


async def credit(
    connection: Connection, account: str, paid: InvoicePaid, context: ApplyContext
) -> Applied | Ignored | PostedTransaction:
    """Post the credits of a paid invoice, once, in the caller's transaction.

    An invoice that was credited before changes nothing, whoever has its customer now. An invoice
    without credits is ignored, whatever its organization. Raises QuestionError if Stripe must be
    asked first, and an EventError if the credits cannot be posted to any organization.
    """
    invoice = paid.invoice
    organization = await _organization(connection, account, invoice)
    credited = await _credited_organization(connection, organization, invoice)
    if credited is not None:
        return Applied(credited)
    portions = invoices.portions(
        invoice,
        _facts(account, invoice, context),
        context.terms,
        paid_at=paid.paid_at,
        now=context.now,
    )
    if not portions:
        return Ignored(_reason_without_credits(invoice))
    if isinstance(organization, EventError):
        raise organization
    if invoice.currency is not None and invoice.currency != organization.currency:
        raise CurrencyMismatchError(
            f"{invoice.id} is in {invoice.currency}, organization {organization.id} takes "
            f"{organization.currency}."
        )
    if portions[0].credits < 0:
        taken = invoice_postings.taken_back(
            invoice, organization.id, portions[0], context.make_id()
        )
        return (await _post(connection, invoice, [taken]))[0]
    return await _sell(connection, account, invoice, organization, portions, context)


async def _organization(
    connection: Connection, account: str, invoice: Invoice
) -> PaymentOrganization | EventError:
    """Lock and return the organization of an invoice, or the error if there is none."""
    try:
        names = invoices.names(invoice)
    except EventError as error:
        return error
    customer_id = reference_id(invoice.customer)
    organizations = await payments_store.invoice_organizations(
        connection, names, customer_id, account
    )
    if len(set(organizations.values())) > 1 or (len(names) > 1 and len(organizations) == 1):
        return TwoOrganizationsError(
            f"{invoice.id} names the organization {names[0][:100]!r} in its own metadata and "
            f"{names[1][:100]!r} in that of its subscription."
        )
    for organization in organizations.values():
        return organization
    if names:
        return sales.unknown_organization(names[0])
    if customer_id is None:
        return MalformedEventError(
            f"{invoice.id} brings credits, and names no organization and no customer."
        )
    return UnknownCustomerError(
        f"{invoice.id} brings credits, and no organization has its Stripe customer {customer_id}. "
        "Bind the customer: this event is then applied. Or replay it.",
        waits_for=customer_id,
    )


async def _credited_organization(
    connection: Connection, organization: PaymentOrganization | EventError, invoice: Invoice
) -> UUID | None:
    """Return the organization that an invoice was credited to before.

    Older releases bound no invoice: those that they posted are found by their key, which is of the
    organization that the invoice names now.
    """
    bound = await payments_store.invoice_organization(connection, invoice.id)
    if bound is not None or isinstance(organization, EventError):
        return bound
    key = invoice_postings.key(invoice)
    (known,) = await ledger_store.are_known(connection, [(organization.id, key)])
    return organization.id if known else None


def _facts(account: str, invoice: Invoice, context: ApplyContext) -> InvoiceFacts:
    question = invoices.question(invoice, account)
    return InvoiceFacts() if question is None else answer(question, context)


def _reason_without_credits(invoice: Invoice) -> str:
    if invoice.total_minor <= 0:
        return f"{invoice.id} charges nothing, so it brings nothing"
    return f"{invoice.id}, its subscription and its prices bring nothing by {CREDITS_METADATA}"


async def _sell(
    connection: Connection,
    account: str,
    invoice: Invoice,
    organization: PaymentOrganization,
    portions: Sequence[Portion],
    context: ApplyContext,
) -> Ignored | PostedTransaction:
    live = [p for p in portions if p.expires_at is None or p.expires_at > context.now]
    if not live:
        return Ignored(f"the credits of {invoice.id} expired at {portions[-1].expires_at}")
    linked = _linked(account, invoice, context)
    names = [payment.payment_intent_id for payment in linked]
    bound = await payments_store.bound_payments(connection, names)
    for name, before in bound.items():
        if before.invoice_id in (None, invoice.id):
            return Ignored(
                f"{name}, which paid {invoice.id}, was credited to organization "
                f"{before.organization_id} already"
            )
    linked = [payment for payment in linked if payment.payment_intent_id not in bound]
    alone = await _credit_alone(connection, account, invoice, linked, context)
    if alone is not None:
        return Ignored(f"{alone}, which paid {invoice.id}, is a sale of its own")
    paid = [(payment.payment_intent_id, payment.amount_minor) for payment in linked]
    shares = invoices.shares(live, paid, invoice.total_minor)
    await _bind(connection, account, invoice, organization, linked, shares)
    postings = invoice_postings.granted(invoice, organization.id, shares, context.make_id)
    result = _total(await _post(connection, invoice, postings))
    await inbox.reopen_waiting(connection, [name for name, _ in paid])
    for payment in linked:
        facts = payment.facts
        if facts is not None and (facts.refunded_minor or facts.disputes):
            await apply_level(connection, facts, context, of_dispute=False)
    if result.status is PostingStatus.POSTED:
        data = {"invoiceId": invoice.id}
        await outbound.announce(connection, [purchase_completed(result, data, context.now)])
    return result


async def _credit_alone(
    connection: Connection,
    account: str,
    invoice: Invoice,
    linked: Sequence[LinkedPayment],
    context: ApplyContext,
) -> str | None:
    """Credit a payment of a Checkout Session that created the invoice; return its id.

    The order of their events does not matter: the session says what it sells, and the invoice is
    its receipt. A subscription's invoice is not a receipt.
    """
    if not _may_be_receipt(invoice):
        return None
    for payment in linked:
        if payment.facts is None or payment.facts.session is None:
            continue
        question = PaymentQuestion(account, payment.payment_intent_id)
        answers = {**(context.answers or {}), question: payment.facts}
        captured = replace(sales.from_intent(payment.facts.payment_intent), account=account)
        credited = await payments.credit(connection, [captured], replace(context, answers=answers))
        result = credited[captured]
        if isinstance(result, EventError):
            raise result
        if isinstance(result, PostedTransaction):
            return payment.payment_intent_id
    return None


def _may_be_receipt(invoice: Invoice) -> bool:
    return reference_id(invoice.details.subscription) is None


def _linked(account: str, invoice: Invoice, context: ApplyContext) -> Sequence[LinkedPayment]:
    """Return the PaymentIntents that paid an invoice; read from Stripe if the event names none."""
    name, minor = reference_id(invoice.payment_intent), invoice.amount_paid
    if minor is None:
        minor = invoice.total_minor
    if minor <= 0:
        return ()
    if name is None:
        if context.answers is None:
            return ()
        question = InvoiceQuestion(
            account, invoice.id, payments=True, origins=_may_be_receipt(invoice)
        )
        return answer(question, context).payments
    if context.answers is None:
        return [LinkedPayment(name, minor)]
    try:
        facts = answer(PaymentQuestion(account, name), context)
    except StripeMissingError:
        return [LinkedPayment(name, minor)]
    return [LinkedPayment(name, minor, facts)]


async def _bind(
    connection: Connection,
    account: str,
    invoice: Invoice,
    organization: PaymentOrganization,
    linked: Sequence[LinkedPayment],
    shares: Sequence[Share],
) -> None:
    """Bind the payments of an invoice, each with its share of the credits."""
    credited = _by_payment(shares)
    bound = [
        Sale(
            payment_intent_id=payment.payment_intent_id,
            organization_id=organization.id,
            gross_minor=payment.amount_minor,
            net_minor=invoices.net_minor(invoice, payment.amount_minor),
            currency=invoice.currency or organization.currency,
            credits=credited[payment.payment_intent_id],
            account=account,
            customer_id=reference_id(invoice.customer),
            charge_id=_charge_id(payment),
            invoice_id=invoice.id,
        )
        for payment in linked
        if payment.payment_intent_id in credited
    ]
    if not bound:
        return
    await payments_store.bind_payments(connection, bound)
    names = [sale.payment_intent_id for sale in bound]
    for name, payment in (await payments_store.bound_payments(connection, names)).items():
        if payment.invoice_id != invoice.id:
            raise PaymentMismatchError(
                f"{name}, which paid {invoice.id}, was credited by another event meanwhile. "
                "Replay this event."
            )


def _by_payment(shares: Sequence[Share]) -> Mapping[str, Decimal]:
    credits_by_payment: dict[str, Decimal] = {}
    for share in shares:
        if share.payment_intent_id is not None:
            before = credits_by_payment.get(share.payment_intent_id, Decimal(0))
            credits_by_payment[share.payment_intent_id] = before + share.credits
    return credits_by_payment


def _charge_id(payment: LinkedPayment) -> str | None:
    return reference_id(payment.facts.payment_intent.latest_charge) if payment.facts else None


async def _post(
    connection: Connection, invoice: Invoice, postings: Sequence[Posting]
) -> list[PostedTransaction]:
    """Bind an invoice; post the first posting, and the others if that one is new.

    Raises PostingRefusedError, and PaymentMismatchError if another event bound it meanwhile.
    """
    if not await payments_store.bind_invoice(connection, invoice.id, postings[0].organization_id):
        raise PaymentMismatchError(
            f"{invoice.id} was credited by another event meanwhile. Replay this event."
        )
    results = [_accepted(await ledger.post(connection, postings[:1]))[0]]
    if results[0].status is PostingStatus.POSTED and len(postings) > 1:
        results += _accepted(await ledger.post(connection, postings[1:]))
    return results


def _accepted(results: Sequence[PostingResult]) -> list[PostedTransaction]:
    posted: list[PostedTransaction] = []
    for result in map(on_the_ledger, results):
        if isinstance(result, EventError):
            raise result
        posted.append(result)
    return posted


def _total(results: Sequence[PostedTransaction]) -> PostedTransaction:
    """Return one result for all rows of an invoice: the first row, with the total amount."""
    amounts = [result.amount for result in results]
    return msgspec.structs.replace(
        results[0], amount=sum(amounts, Decimal(0)), balance_after=results[-1].balance_after
    )
