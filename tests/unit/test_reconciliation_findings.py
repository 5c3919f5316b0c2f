"""What a finding says: its kind, a sentence for the operator, and whether it can be repaired."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from shared.payments.objects import BalanceTransaction, Charge, Expanded
from shared.reconcile_settings import ReconcileRepair, ReconcileSettings
from shared.reconciliation import rules
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

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ORGANIZATION, ATTEMPT = UUID(int=1), UUID(int=2)
CHARGED = FindingKind.CHARGED_NOT_CREDITED
CREDITED = FindingKind.CREDITED_NOT_CHARGED
REVERSED = FindingKind.REVERSED_NOT_RECORDED
BOUND = RecordedPayment(
    payment_intent_id="pi_1",
    organization_id=ORGANIZATION,
    amount_minor=2000,
    currency="usd",
    credits=Decimal(20),
    posted=True,
)
OPEN = RecordedPayment(
    payment_intent_id="pi_1", attempt_organization_id=ORGANIZATION, attempt_state="failed"
)
OURS = {"organization_id": str(ORGANIZATION), "recharge_attempt_id": str(ATTEMPT)}


def payment(**changes: Any) -> ListedPayment:
    values: dict[str, Any] = {
        "status": "succeeded",
        "amount": 2500,
        "amount_received": 2000,
        "currency": "usd",
    }
    return ListedPayment(id="pi_1", **(values | changes))


@pytest.mark.parametrize(
    ("listed", "recorded", "difference"),
    [
        (
            payment(),
            replace(BOUND, posted=False),
            Difference(CHARGED, "20.00 USD was paid, and no credits are on the ledger"),
        ),
        (
            payment(status="canceled"),
            BOUND,
            Difference(
                CREDITED,
                "20.00 USD was credited, and the payment is canceled at Stripe",
                repairable=False,
            ),
        ),
        (
            payment(amount_received=2001),
            BOUND,
            Difference(
                CHARGED,
                "20.00 USD was credited, and Stripe has captured 20.01 USD",
                repairable=False,
            ),
        ),
        (
            payment(currency="eur"),
            BOUND,
            Difference(
                CREDITED,
                "20.00 USD was credited, and Stripe has captured 20.00 EUR",
                repairable=False,
            ),
        ),
        (payment(amount_received=1), replace(BOUND, invoice_id="in_1"), None),
    ],
)
def test_a_payment_that_differs_says_what_was_paid_and_what_was_credited(
    listed: ListedPayment, recorded: RecordedPayment, difference: Difference | None
) -> None:
    assert rules.compare_payment(listed, recorded) == difference


def test_a_credited_payment_that_stripe_does_not_have_needs_a_person() -> None:
    assert rules.missing_payment(BOUND) == Difference(
        CREDITED, "20.00 USD was credited, and Stripe has no such payment", repairable=False
    )


@pytest.mark.parametrize(
    ("recorded", "why"),
    [
        (replace(OPEN, attempt_state=None), f"there is no recharge attempt {ATTEMPT}"),
        (OPEN, f"its recharge attempt {ATTEMPT} has failed"),
        (
            replace(OPEN, attempt_state="charging", attempt_payment_intent_id="pi_2"),
            f"its recharge attempt {ATTEMPT} has pi_2",
        ),
    ],
)
@pytest.mark.parametrize(
    "status",
    [
        "requires_payment_method",
        "requires_confirmation",
        "requires_action",
        "requires_capture",
        "processing",
    ],
)
def test_an_orphaned_payment_says_what_it_can_still_charge_and_why_nothing_waits_for_it(
    status: str, recorded: RecordedPayment, why: str
) -> None:
    listed = payment(status=status, metadata=OURS)
    assert rules.compare_payment(listed, recorded) == Difference(
        FindingKind.ORPHANED_PAYMENT_INTENT,
        f"25.00 USD, {status}, can still be charged, and {why}",
    )


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {},
        {"organization_id": str(ORGANIZATION)},
        {"recharge_attempt_id": str(ATTEMPT)},
        OURS | {"recharge_attempt_id": 7},
        OURS | {"organization_id": 7},
        OURS | {"organization_id": str(UUID(int=3))},
    ],
)
def test_a_payment_that_names_no_attempt_of_ours_is_no_orphan(
    metadata: dict[str, Any] | None,
) -> None:
    listed = payment(status="processing", metadata=metadata)
    assert rules.compare_payment(listed, OPEN) is None
    assert rules.compare_payment(listed, replace(OPEN, attempt_organization_id=None)) is None


def test_metadata_names_organization_and_attempt_by_id() -> None:
    assert rules.named(payment(metadata=OURS)) == ("pi_1", ORGANIZATION, ATTEMPT)
    by_slug = {"organization_id": "acme", "recharge_attempt_id": "x"}
    assert rules.named(payment(metadata=by_slug)) == ("pi_1", None, None)
    assert rules.named(payment()) == ("pi_1", None, None)


@pytest.mark.parametrize(
    ("charge", "reversed_", "differs"),
    [
        (Charge("ch_1", amount_refunded=500, disputed=False), "5", False),
        (Charge("ch_1", amount_refunded=500, disputed=False), "4", True),
        (Charge("ch_1", amount_refunded=None, disputed=False), "0", False),
        (Charge("ch_1", amount_refunded=None, disputed=False), "0.000000001", True),
        (Charge("ch_1", amount_refunded=500, disputed=None), "5", True),
        (Charge("ch_1", amount_refunded=9000, disputed=False), "20", False),
        ("ch_1", "5", True),
    ],
)
def test_a_refund_that_is_not_on_the_ledger_is_named(
    charge: Any, reversed_: str, *, differs: bool
) -> None:
    refund = ListedRefund(id="re_1", payment_intent="pi_1", charge=charge)
    found = rules.compare_refund(refund, replace(BOUND, reversed=Decimal(reversed_)))
    expected = Difference(REVERSED, "the refund re_1 is not on the ledger")
    assert found == (expected if differs else None)


def dispute(**changes: Any) -> ListedDispute:
    fields: dict[str, Any] = {
        "payment_intent": "pi_1",
        "status": "lost",
        "charge": Charge("ch_1", amount_refunded=500, disputed=True),
        "balance_transactions": [BalanceTransaction(-1000, "usd")],
        "currency": "usd",
        "amount": 1000,
    }
    return ListedDispute(id="dp_1", **fields | changes)


@pytest.mark.parametrize(
    ("status", "here"), [(None, "not recorded"), ("needs_response", "recorded as needs_response")]
)
def test_a_dispute_with_another_status_says_both(status: str | None, here: str) -> None:
    recorded = replace(BOUND, reversed=Decimal(15))
    assert rules.compare_dispute(dispute(), status, recorded) == Difference(
        REVERSED, f"the dispute dp_1 is lost at Stripe and {here}"
    )


@pytest.mark.parametrize(
    ("changes", "reversed_", "differs"),
    [
        ({}, "15", False),
        ({}, "10", True),
        ({}, "5", True),
        ({"charge": Charge("ch_1", amount_refunded=None, disputed=True)}, "10", False),
        ({"charge": Charge("ch_1", amount_refunded=None, disputed=True)}, "10.1", True),
        ({"balance_transactions": []}, "5", False),
        ({"charge": "ch_1"}, "15", True),
    ],
)
def test_a_dispute_is_compared_with_what_was_refunded_and_withdrawn(
    changes: dict[str, Any], reversed_: str, *, differs: bool
) -> None:
    found = rules.compare_dispute(
        dispute(**changes), "lost", replace(BOUND, reversed=Decimal(reversed_))
    )
    expected = Difference(REVERSED, "the money of dp_1 is not on the ledger")
    assert found == (expected if differs else None)


@pytest.mark.parametrize("reference", ["pi_1", Expanded("pi_1")])
def test_a_reversal_names_its_payment(reference: Any) -> None:
    refund = ListedRefund(id="re_1", payment_intent=reference, charge=None)
    assert rules.payment_of(refund) == "pi_1"
    assert rules.payment_of(ListedRefund(id="re_1", payment_intent=None, charge=None)) is None


@pytest.mark.parametrize(
    ("repair", "mode"),
    [
        (ReconcileRepair.NOTHING, RunMode.REPORT),
        (ReconcileRepair.EVENTS, RunMode.EVENTS),
        (ReconcileRepair.ALL, RunMode.REPAIR),
    ],
)
def test_a_scheduled_run_repairs_what_the_settings_say(
    repair: ReconcileRepair, mode: RunMode
) -> None:
    settings = ReconcileSettings(window=timedelta(hours=6), repair=repair)
    found = rules.scheduled_request(settings, NOW, compared_until=None, whole_at=NOW)
    until = datetime(2026, 3, 1, 11, 50, tzinfo=UTC)
    assert found == RunRequest(
        mode=mode,
        since=until - timedelta(hours=6),
        until=until,
        whole=False,
        requested_by="schedule",
    )


def test_types_are_divided_into_lists_of_twenty_in_their_order() -> None:
    types = [f"type.{number}" for number in range(41)]
    assert rules.type_lists(types) == [types[:20], types[20:40], types[40:]]
