"""Pages of what is recorded here, each compared with the object that Stripe has."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from shared.errors import StripeMissingError
from shared.payments.objects import (
    CheckoutSession,
    Customer,
    Dispute,
    PaymentMethod,
    reference_id,
)
from shared.reconciliation import objects, recorded, rules
from shared.reconciliation.context import Comparing
from shared.reconciliation.model import (
    Difference,
    Finding,
    FindingKind,
    ListedPayment,
    Outcome,
    RecordedPayment,
    StoredCustomer,
    StoredMethod,
)
from shared.reconciliation.recorded import CreditedPayment, OpenDispute, OpenPurchase

PAGE_ROWS = 100
NO_ID = UUID(int=0)
EPOCH = datetime.fromtimestamp(0, UTC)
FOREVER = datetime(9999, 12, 31, tzinfo=UTC)

Part = tuple[list[Finding], str | None, int]
"""The findings of a page, the place after it (None: it was the last), and how many it had."""


async def credited(comparing: Comparing, after: str | None) -> Part:
    """Compare the payments that were credited in the period and not seen at Stripe."""
    run, (moment, _, name) = comparing.run, (after or "").partition(" ")
    place = (datetime.fromisoformat(moment), name) if after else (EPOCH, "")
    async with comparing.tools.pool.acquire() as connection:
        page = await recorded.credited(
            connection, run.id, (run.since, run.until or FOREVER), place, PAGE_ROWS
        )
    unseen = [row.payment for row in page if not row.seen]
    found = await comparing.each((p.payment_intent_id, _credited(comparing, p)) for p in unseen)
    return comparing.reported(found), _after(page), len(unseen)


async def open_purchases(comparing: Comparing, after: str | None) -> Part:
    """Compare purchases from before the period: a bank may take days to pay one."""
    moment, _, name = (after or "").partition(" ")
    place = (datetime.fromisoformat(moment), UUID(name)) if after else (EPOCH, NO_ID)
    async with comparing.tools.pool.acquire() as connection:
        page = await recorded.open_purchases(connection, comparing.run.since, place, PAGE_ROWS)
    found = await comparing.each(
        (each.checkout_session_id, _purchase(comparing, each)) for each in page
    )
    full = len(page) == PAGE_ROWS
    return found, f"{page[-1].closes_at.isoformat()} {page[-1].id}" if full else None, len(page)


async def open_disputes(comparing: Comparing, after: str | None) -> Part:
    """Compare the disputes that are recorded as open: they may have closed since."""
    async with comparing.tools.pool.acquire() as connection:
        page = await recorded.open_disputes(connection, after or "", PAGE_ROWS)
    found = await comparing.each((dispute.id, _dispute(comparing, dispute)) for dispute in page)
    return found, page[-1].id if len(page) == PAGE_ROWS else None, len(page)


async def customers(comparing: Comparing, after: str | None) -> Part:
    """Compare the Stripe customers of organizations: deleted ones have no cards any more."""
    async with comparing.tools.pool.acquire() as connection:
        page = await recorded.customers(connection, UUID(after) if after else NO_ID, PAGE_ROWS)
    found = await comparing.each((each.customer_id, _customer(comparing, each)) for each in page)
    last = str(page[-1].organization_id) if len(page) == PAGE_ROWS else None
    return found, last, len(page)


async def methods(comparing: Comparing, after: str | None) -> Part:
    """Compare the payment methods on file: detached ones cannot be charged."""
    async with comparing.tools.pool.acquire() as connection:
        page = await recorded.methods(connection, after or "", PAGE_ROWS)
    attached = [method for method in page if method.attached]
    found = await comparing.each(
        (each.payment_method_id, _method(comparing, each)) for each in attached
    )
    return found, page[-1].payment_method_id if len(page) == PAGE_ROWS else None, len(attached)


async def _credited(comparing: Comparing, payment: RecordedPayment) -> Finding | None:
    text = await _retrieve(comparing, "payment_intents", payment.payment_intent_id, payment.account)
    difference = (
        rules.missing_payment(payment)
        if text is None
        else rules.compare_payment(objects.read(text, ListedPayment), payment)
    )
    if difference is None:
        return None
    return Finding(
        kind=difference.kind,
        object_id=payment.payment_intent_id,
        outcome=Outcome.FOUND,
        detail=difference.detail,
        account=payment.account,
        organization_id=payment.organization_id,
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        credits=payment.credits,
    )


async def _purchase(comparing: Comparing, purchase: OpenPurchase) -> Finding | None:
    name = purchase.checkout_session_id
    text = await _retrieve(comparing, "checkout/sessions", name, purchase.account)
    session = None if text is None else objects.read(text, CheckoutSession)
    if text is None or session is None or session.payment_status != "paid":
        return None
    event = comparing.tools.application.event(
        "checkout.session.completed", text, subject_id=name, account=purchase.account
    )
    finding = Finding(
        kind=FindingKind.CHARGED_NOT_CREDITED,
        object_id=reference_id(session.payment_intent) or name,
        outcome=Outcome.FOUND,
        detail=f"{name} was paid, and no credits are on the ledger",
        account=purchase.account,
        organization_id=purchase.organization_id,
        amount_minor=session.amount_total,
        currency=session.currency,
    )
    return await comparing.apply(finding, event)


async def _dispute(comparing: Comparing, dispute: OpenDispute) -> Finding | None:
    text = await _retrieve(comparing, "disputes", dispute.id, dispute.account)
    if text is None:
        return None
    found = objects.read(text, Dispute)
    if found.status == dispute.status:
        return None
    difference = Difference(
        FindingKind.REVERSED_NOT_RECORDED,
        f"the dispute {dispute.id} is {found.status} at Stripe and recorded as {dispute.status}",
    )
    payment = RecordedPayment(
        payment_intent_id=dispute.payment_intent_id,
        organization_id=dispute.organization_id,
        account=dispute.account,
    )
    return await objects.reverse(
        comparing,
        "dispute",
        dispute.id,
        dispute.payment_intent_id,
        difference,
        payment,
        always=True,
    )


async def _customer(comparing: Comparing, stored: StoredCustomer) -> Finding | None:
    text = await _retrieve(comparing, "customers", stored.customer_id, stored.account)
    if text is not None and not objects.read(text, Customer).deleted:
        return None
    event = comparing.tools.application.event(
        "customer.deleted",
        {"id": stored.customer_id, "object": "customer"},
        subject_id=stored.customer_id,
        account=stored.account,
    )
    finding = Finding(
        kind=FindingKind.CUSTOMER_DELETED,
        object_id=stored.customer_id,
        outcome=Outcome.FOUND,
        detail="the customer was deleted at Stripe, with its cards",
        account=stored.account,
        organization_id=stored.organization_id,
    )
    return await comparing.apply(finding, event, always=True)


async def _method(comparing: Comparing, stored: StoredMethod) -> Finding | None:
    name = stored.payment_method_id
    text = await _retrieve(comparing, "payment_methods", name, stored.account)
    if text is not None and reference_id(objects.read(text, PaymentMethod).customer) is not None:
        return None
    event = comparing.tools.application.event(
        "payment_method.detached",
        {"id": name, "object": "payment_method", "type": stored.type, "customer": None},
        subject_id=name,
        account=stored.account,
        previous={"customer": stored.customer_id},
    )
    finding = Finding(
        kind=FindingKind.PAYMENT_METHOD_GONE,
        object_id=name,
        outcome=Outcome.FOUND,
        detail=f"the {stored.type} of {stored.customer_id} is detached at Stripe",
        account=stored.account,
        organization_id=stored.organization_id,
    )
    return await comparing.apply(finding, event, always=True)


async def _retrieve(comparing: Comparing, path: str, object_id: str, account: str) -> bytes | None:
    try:
        return await comparing.tools.pages.retrieve(path, object_id, account=account)
    except StripeMissingError:
        return None


def _after(page: Sequence[CreditedPayment]) -> str | None:
    if len(page) < PAGE_ROWS:
        return None
    return f"{page[-1].created_at.isoformat()} {page[-1].payment.payment_intent_id}"
