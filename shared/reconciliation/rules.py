"""The comparison of Stripe's objects with what is recorded here. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from shared.ids import parse_id
from shared.ledger.rules import reversal_target
from shared.money import format_money
from shared.payments.objects import (
    ATTEMPT_METADATA,
    ORGANIZATION_METADATA,
    Charge,
    Dispute,
    reference_id,
)
from shared.payments.rules import share, withdrawn_minor
from shared.recharge.model import AttemptState
from shared.reconcile_settings import ReconcileRepair, ReconcileSettings
from shared.reconciliation.model import (
    Difference,
    FindingKind,
    ListedDispute,
    ListedPayment,
    ListedRefund,
    RecordedPayment,
    RunMode,
    RunRequest,
)

# Source: https://docs.stripe.com/api/events/list
EVENTS_LAST = timedelta(days=30)
TYPES_MAX = 20  # of one list

SCHEDULE = "schedule"
SCHEDULE_DELAY = timedelta(minutes=10)
SCHEDULE_OVERLAP = timedelta(hours=1)

# A PaymentIntent in one of these can still charge.
# Source: https://docs.stripe.com/payments/paymentintents/lifecycle
_OPEN = frozenset({
    "requires_payment_method",
    "requires_confirmation",
    "requires_action",
    "requires_capture",
    "processing",
})  # fmt: skip
_ENDED = frozenset({AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.CANCELED})


def events_since(since: datetime, now: datetime) -> datetime:
    """Return since when Stripe still has events: it deletes them after 30 days."""
    return max(since, now - EVENTS_LAST)


def scheduled_request(
    settings: ReconcileSettings,
    now: datetime,
    *,
    compared_until: datetime | None,
    whole_at: datetime | None,
) -> RunRequest:
    """Return what a scheduled run compares: the window, and what earlier runs have not compared.

    Events of the last minutes may be under way. `compared_until`: the end of what was compared
    without a problem. What is on file is compared once a day (UTC); `whole_at`: when it was last.
    """
    until = now - SCHEDULE_DELAY
    since = until - settings.window
    if compared_until is not None:
        since = max(min(since, compared_until - SCHEDULE_OVERLAP), now - EVENTS_LAST)
    mode = {
        ReconcileRepair.NOTHING: RunMode.REPORT,
        ReconcileRepair.EVENTS: RunMode.EVENTS,
        ReconcileRepair.ALL: RunMode.REPAIR,
    }[settings.repair]
    return RunRequest(
        mode=mode,
        since=since,
        until=until,
        whole=whole_at is None or whole_at.date() < now.date(),
        requested_by=SCHEDULE,
    )


def type_lists(types: list[str]) -> list[list[str]]:
    """Divide types of events into lists that Stripe accepts as a filter."""
    return [types[start : start + TYPES_MAX] for start in range(0, len(types), TYPES_MAX)]


def named(payment: ListedPayment) -> tuple[str, UUID | None, UUID | None]:
    """Return a PaymentIntent, and the organization and attempt that its metadata name by id."""
    metadata = payment.metadata or {}
    organization, attempt = metadata.get(ORGANIZATION_METADATA), metadata.get(ATTEMPT_METADATA)
    return (
        payment.id,
        parse_id(organization) if isinstance(organization, str) else None,
        parse_id(attempt) if isinstance(attempt, str) else None,
    )


def compare_payment(payment: ListedPayment, recorded: RecordedPayment) -> Difference | None:
    """Compare a PaymentIntent with its credit; None: there is no difference.

    A payment that was not credited is a difference only where the rules of crediting make it a
    sale, which is decided by applying it.
    """
    if payment.status == "succeeded":
        if not recorded.credited:
            paid = format_money(payment.amount_received, payment.currency)
            return Difference(
                FindingKind.CHARGED_NOT_CREDITED,
                f"{paid} was paid, and no credits are on the ledger",
            )
        return _compare_amounts(payment, recorded)
    if recorded.credited:
        return Difference(
            FindingKind.CREDITED_NOT_CHARGED,
            f"{_credited(recorded)} was credited, and the payment is {payment.status} at Stripe",
            repairable=False,
        )
    if payment.status in _OPEN:
        return _compare_attempt(payment, recorded)
    return None


def missing_payment(recorded: RecordedPayment) -> Difference:
    """Return the difference of a credited payment that Stripe does not have."""
    return Difference(
        FindingKind.CREDITED_NOT_CHARGED,
        f"{_credited(recorded)} was credited, and Stripe has no such payment",
        repairable=False,
    )


def _compare_amounts(payment: ListedPayment, recorded: RecordedPayment) -> Difference | None:
    if recorded.invoice_id is not None:  # credited by the lines of its invoice
        return None
    if (recorded.amount_minor, recorded.currency) == (payment.amount_received, payment.currency):
        return None
    more = payment.amount_received > recorded.amount_minor
    return Difference(
        FindingKind.CHARGED_NOT_CREDITED if more else FindingKind.CREDITED_NOT_CHARGED,
        f"{_credited(recorded)} was credited, and Stripe has captured"
        f" {format_money(payment.amount_received, payment.currency)}",
        repairable=False,
    )


def _compare_attempt(payment: ListedPayment, recorded: RecordedPayment) -> Difference | None:
    _, organization_id, attempt_id = named(payment)
    if attempt_id is None or recorded.attempt_organization_id != organization_id:
        return None  # opened by something else, or for another installation
    if organization_id is None:
        return None
    why = _why_orphaned(payment, recorded, attempt_id)
    if why is None:
        return None
    return Difference(
        FindingKind.ORPHANED_PAYMENT_INTENT,
        f"{format_money(payment.amount, payment.currency)}, {payment.status}, can still be"
        f" charged, and {why}",
    )


def _why_orphaned(
    payment: ListedPayment, recorded: RecordedPayment, attempt_id: UUID
) -> str | None:
    state, other = recorded.attempt_state, recorded.attempt_payment_intent_id
    if state is None:
        return f"there is no recharge attempt {attempt_id}"
    if state in _ENDED:
        return f"its recharge attempt {attempt_id} has {state}"
    if other is not None and other != payment.id:
        return f"its recharge attempt {attempt_id} has {other}"
    return None  # the attempt is live: its PaymentIntent is known, or is being created


def compare_refund(refund: ListedRefund, recorded: RecordedPayment) -> Difference | None:
    """Compare what is refunded of a credited payment with the ledger."""
    if not recorded.credited:
        return None
    charge = refund.charge
    if isinstance(charge, Charge) and charge.disputed is False:
        target = reversal_target(
            recorded.credits,
            share(recorded.credits, charge.amount_refunded or 0, recorded.amount_minor),
            recorded.credits * 0,
        )
        if recorded.reversed == target:
            return None
    return Difference(
        FindingKind.REVERSED_NOT_RECORDED, f"the refund {refund.id} is not on the ledger"
    )


def compare_dispute(
    dispute: ListedDispute | Dispute, status: str | None, recorded: RecordedPayment
) -> Difference | None:
    """Compare a dispute of a credited payment with its recorded status and the ledger."""
    if not recorded.credited:
        return None
    if dispute.status != status:
        here = "not recorded" if status is None else f"recorded as {status}"
        return Difference(
            FindingKind.REVERSED_NOT_RECORDED,
            f"the dispute {dispute.id} is {dispute.status} at Stripe and {here}",
        )
    charge = dispute.charge
    if isinstance(charge, Charge):
        withdrawn = withdrawn_minor(dispute, recorded.amount_minor, recorded.currency)
        target = reversal_target(
            recorded.credits,
            share(recorded.credits, charge.amount_refunded or 0, recorded.amount_minor),
            share(recorded.credits, withdrawn, recorded.amount_minor),
        )
        if recorded.reversed == target:
            return None
    return Difference(
        FindingKind.REVERSED_NOT_RECORDED, f"the money of {dispute.id} is not on the ledger"
    )


def payment_of(reversal: ListedRefund | ListedDispute) -> str | None:
    """Return the PaymentIntent of a refund or dispute."""
    return reference_id(reversal.payment_intent)


def _credited(recorded: RecordedPayment) -> str:
    return format_money(recorded.amount_minor, recorded.currency)
