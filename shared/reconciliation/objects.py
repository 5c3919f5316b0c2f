"""Pages of Stripe's payments, invoices, refunds and disputes, compared with the ledger."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import TypeVar

import msgspec

from shared.errors import StripeFailedError
from shared.payments.payment_intents import Intent
from shared.reconciliation import recorded, rules
from shared.reconciliation.context import Comparing
from shared.reconciliation.model import (
    Difference,
    Finding,
    FindingKind,
    ListedDispute,
    ListedInvoice,
    ListedPayment,
    ListedRefund,
    Outcome,
    RecordedPayment,
)

S = TypeVar("S", bound=msgspec.Struct)


async def payments(comparing: Comparing, objects: Sequence[bytes]) -> list[Finding]:
    """Compare PaymentIntents: credited, not charged, and orphaned ones."""
    listed = [(read(each, ListedPayment), each) for each in objects]
    async with comparing.tools.pool.acquire() as connection:
        found = await recorded.payments(connection, [rules.named(p) for p, _ in listed])
        bound = [name for name, payment in found.items() if payment.organization_id is not None]
        await recorded.save_seen(connection, comparing.run.id, bound)
    candidates: list[tuple[str, Awaitable[Finding | None]]] = []
    reported = []
    for payment, text in listed:
        difference = rules.compare_payment(payment, found[payment.id])
        if difference is None:
            continue
        finding = _payment_finding(comparing, payment, difference, found[payment.id])
        if difference.kind is FindingKind.ORPHANED_PAYMENT_INTENT:
            candidates.append((payment.id, _cancel(comparing, finding)))
        elif difference.repairable:
            event = comparing.tools.application.event(
                "payment_intent.succeeded",
                text,
                subject_id=payment.id,
                account=comparing.account,
                created=payment.created,
            )
            candidates.append((payment.id, comparing.apply(finding, event)))
        else:
            reported.append(finding)
    return await comparing.each(candidates, comparing.reported(reported))


async def invoices(comparing: Comparing, objects: Sequence[bytes]) -> list[Finding]:
    """Compare paid invoices: one that was posted before changes nothing when it is applied."""
    candidates = []
    for text in objects:
        invoice = read(text, ListedInvoice)
        finding = Finding(
            kind=FindingKind.CHARGED_NOT_CREDITED,
            object_id=invoice.id,
            outcome=Outcome.FOUND,
            detail="the invoice is paid, and its credits are not on the ledger",
            account=comparing.account,
            amount_minor=invoice.amount_paid,
            currency=invoice.currency,
        )
        event = comparing.tools.application.event(
            "invoice.paid", text, subject_id=invoice.id, account=comparing.account
        )
        candidates.append((invoice.id, comparing.apply(finding, event)))
    return await comparing.each(candidates)


async def refunds(comparing: Comparing, objects: Sequence[bytes]) -> list[Finding]:
    """Compare what is refunded of credited payments: a finding for each payment."""
    listed = [read(each, ListedRefund) for each in objects]
    found = await _recorded(comparing, listed)
    differing: dict[str, tuple[ListedRefund, Difference]] = {}
    for refund in listed:
        name = rules.payment_of(refund)
        if name is not None and (difference := rules.compare_refund(refund, found[name])):
            differing.setdefault(name, (refund, difference))
    return await comparing.each(
        (refund.id, reverse(comparing, "refund", refund.id, name, difference, found[name]))
        for name, (refund, difference) in differing.items()
    )


async def disputes(comparing: Comparing, objects: Sequence[bytes]) -> list[Finding]:
    """Compare disputes of credited payments: their status, and the money that they took."""
    listed = [read(each, ListedDispute) for each in objects]
    found = await _recorded(comparing, listed)
    async with comparing.tools.pool.acquire() as connection:
        statuses = await recorded.dispute_statuses(connection, [d.id for d in listed])
    candidates = []
    for dispute in listed:
        name, status = rules.payment_of(dispute), statuses.get(dispute.id)
        if name is None:
            continue
        difference = rules.compare_dispute(dispute, status, found[name])
        if difference is not None:
            work = reverse(
                comparing,
                "dispute",
                dispute.id,
                name,
                difference,
                found[name],
                always=dispute.status != status,
            )
            candidates.append((dispute.id, work))
    return await comparing.each(candidates)


async def reverse(
    comparing: Comparing,
    kind: str,
    object_id: str,
    payment_intent_id: str,
    difference: Difference,
    payment: RecordedPayment,
    *,
    always: bool = False,
) -> Finding | None:
    """Apply, or preview, the event of a refund or dispute; None: the ledger has it."""
    event = comparing.tools.application.event(
        "charge.dispute.updated" if kind == "dispute" else "refund.updated",
        {"id": object_id, "object": kind, "payment_intent": payment_intent_id},
        subject_id=object_id,
        account=comparing.account or payment.account,
    )
    finding = Finding(
        kind=difference.kind,
        object_id=object_id,
        outcome=Outcome.FOUND,
        detail=f"{payment_intent_id}: {difference.detail}",
        account=comparing.account or payment.account,
        organization_id=payment.organization_id,
    )
    return await comparing.apply(finding, event, always=always)


async def _recorded(
    comparing: Comparing, listed: Sequence[ListedRefund] | Sequence[ListedDispute]
) -> dict[str, RecordedPayment]:
    names = {name for each in listed if (name := rules.payment_of(each)) is not None}
    async with comparing.tools.pool.acquire() as connection:
        return await recorded.payments(connection, [(name, None, None) for name in sorted(names)])


async def _cancel(comparing: Comparing, finding: Finding) -> Finding:
    """Cancel a PaymentIntent that no recharge attempt has; its finding is stored before."""
    if not comparing.repairs:
        return replace(finding, outcome=comparing.unrepaired)
    requested = f"{finding.detail}; its cancellation was requested"
    await comparing.save([replace(finding, detail=requested)])
    answer = await comparing.tools.intents.cancel(
        finding.object_id, stripe_account=comparing.account
    )
    if isinstance(answer, Intent) and answer.status == "canceled":
        return replace(finding, outcome=Outcome.REPAIRED)
    why = f"it is {answer.status}" if isinstance(answer, Intent) else answer.detail
    detail = f"{finding.detail}; Stripe did not cancel it: {why}"
    return replace(finding, outcome=Outcome.REFUSED, detail=detail)


def _payment_finding(
    comparing: Comparing,
    payment: ListedPayment,
    difference: Difference,
    recorded_payment: RecordedPayment,
) -> Finding:
    captured = payment.status == "succeeded"
    return Finding(
        kind=difference.kind,
        object_id=payment.id,
        outcome=Outcome.FOUND,
        detail=difference.detail,
        account=comparing.account,
        organization_id=recorded_payment.organization_id
        or recorded_payment.attempt_organization_id,
        amount_minor=payment.amount_received if captured else payment.amount,
        currency=payment.currency,
    )


def read(text: bytes, kind: type[S]) -> S:
    """Return an object of Stripe's answer; raise StripeFailedError where it cannot be read."""
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as error:
        raise StripeFailedError(f"A {kind.__name__} of Stripe cannot be read: {error}") from None
