"""The comparison of Stripe's objects with what is recorded here."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from shared.events.model import Ignored
from shared.events.rules import interpret, types_with_effects
from shared.payments.objects import BalanceTransaction, Charge
from shared.reconcile_settings import ReconcileRepair, ReconcileSettings
from shared.reconciliation import rules
from shared.reconciliation.model import (
    FindingKind,
    ListedDispute,
    ListedPayment,
    ListedRefund,
    RecordedPayment,
    RunMode,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ORGANIZATION, ATTEMPT = UUID(int=1), UUID(int=2)
UNKNOWN = RecordedPayment(payment_intent_id="pi_1")
CREDITED = RecordedPayment(
    payment_intent_id="pi_1",
    organization_id=ORGANIZATION,
    amount_minor=2000,
    currency="usd",
    credits=Decimal(20),
    posted=True,
)


def payment(**changes: Any) -> ListedPayment:
    values: dict[str, Any] = {
        "status": "succeeded",
        "amount": 2000,
        "amount_received": 2000,
        "currency": "usd",
    }
    return ListedPayment(id="pi_1", **(values | changes))


@pytest.mark.parametrize(
    ("listed", "recorded", "kind"),
    [
        (payment(), CREDITED, None),
        (payment(), UNKNOWN, FindingKind.CHARGED_NOT_CREDITED),
        (payment(), replace(CREDITED, posted=False), FindingKind.CHARGED_NOT_CREDITED),
        (payment(), replace(CREDITED, posted=False, invoice_id="in_1"), None),
        (payment(amount_received=3000), CREDITED, FindingKind.CHARGED_NOT_CREDITED),
        (payment(amount_received=1000), CREDITED, FindingKind.CREDITED_NOT_CHARGED),
        (payment(currency="eur"), CREDITED, FindingKind.CREDITED_NOT_CHARGED),
        (payment(status="canceled"), CREDITED, FindingKind.CREDITED_NOT_CHARGED),
        (payment(status="canceled"), UNKNOWN, None),
        (payment(status="requires_action"), UNKNOWN, None),
    ],
)
def test_a_payment_is_compared_with_its_credit(
    listed: ListedPayment, recorded: RecordedPayment, kind: FindingKind | None
) -> None:
    found = rules.compare_payment(listed, recorded)
    assert (found and found.kind) == kind


@pytest.mark.parametrize(
    ("state", "other", "orphaned"),
    [
        (None, None, True),
        ("succeeded", "pi_2", True),
        ("failed", None, True),
        ("canceled", "pi_1", True),
        ("charging", None, False),
        ("unknown", "pi_1", False),
        ("charging", "pi_2", True),
    ],
)
def test_the_payment_of_an_attempt_is_orphaned_once_the_attempt_is_over_or_has_another(
    state: str | None, other: str | None, orphaned: bool
) -> None:
    metadata = {"organization_id": str(ORGANIZATION), "recharge_attempt_id": str(ATTEMPT)}
    listed = payment(status="requires_confirmation", metadata=metadata)
    recorded = replace(
        UNKNOWN,
        attempt_organization_id=ORGANIZATION,
        attempt_state=state,
        attempt_payment_intent_id=other,
    )
    assert (rules.compare_payment(listed, recorded) is not None) is orphaned
    elsewhere = replace(recorded, attempt_organization_id=None)
    assert rules.compare_payment(listed, elsewhere) is None


@pytest.mark.parametrize(
    ("refunded", "disputed", "reversed_", "differs"),
    [(500, False, 5, False), (500, False, 0, True), (500, True, 5, True), (2000, False, 20, False)],
)
def test_a_refund_is_compared_by_the_level_of_its_charge(
    refunded: int, disputed: bool, reversed_: int, differs: bool
) -> None:
    refund = ListedRefund(
        id="re_1",
        payment_intent="pi_1",
        charge=Charge("ch_1", amount_refunded=refunded, disputed=disputed),
    )
    recorded = replace(CREDITED, reversed=Decimal(reversed_))
    assert (rules.compare_refund(refund, recorded) is not None) is differs
    assert rules.compare_refund(refund, UNKNOWN) is None


def test_a_dispute_is_compared_by_its_status_and_by_the_money_that_it_took() -> None:
    dispute = ListedDispute(
        id="dp_1",
        payment_intent="pi_1",
        status="needs_response",
        charge=Charge("ch_1", amount_refunded=0, disputed=True),
        balance_transactions=[BalanceTransaction(-2000, "usd")],
        currency="usd",
        amount=2000,
    )
    reversed_ = replace(CREDITED, reversed=Decimal(20))
    assert rules.compare_dispute(dispute, "needs_response", reversed_) is None
    assert rules.compare_dispute(dispute, "needs_response", CREDITED) is not None
    assert rules.compare_dispute(dispute, None, reversed_) is not None
    assert rules.compare_dispute(dispute, None, UNKNOWN) is None


def test_every_type_with_an_effect_is_in_a_list_that_stripe_accepts() -> None:
    lists = rules.type_lists(types_with_effects())
    assert sorted(name for names in lists for name in names) == types_with_effects()
    assert max(map(len, lists)) <= 20
    assert "invoice.voided" not in types_with_effects()
    assert isinstance(interpret("invoice.voided", "{}"), Ignored)


def test_events_are_compared_as_long_as_stripe_has_them() -> None:
    assert rules.events_since(NOW - timedelta(days=2), NOW) == NOW - timedelta(days=2)
    assert rules.events_since(NOW - timedelta(days=90), NOW) == NOW - timedelta(days=30)


def test_a_scheduled_run_goes_back_to_what_was_compared_before() -> None:
    settings = ReconcileSettings(window=timedelta(hours=6), repair=ReconcileRepair.ALL)

    def request(compared_until: datetime | None) -> Any:
        return rules.scheduled_request(
            settings, NOW, compared_until=compared_until, whole_at=NOW - timedelta(hours=1)
        )

    first = request(None)
    assert first.mode is RunMode.REPAIR
    assert first.until - first.since == timedelta(hours=6)
    assert first.until < NOW
    assert not first.whole
    outage = request(NOW - timedelta(days=3))
    assert outage.since == NOW - timedelta(days=3, hours=1)
    assert request(NOW - timedelta(days=90)).since == NOW - timedelta(days=30)
    assert request(NOW - timedelta(minutes=30)).since == first.since


def test_what_is_on_file_is_compared_in_the_first_run_of_a_day() -> None:
    settings = ReconcileSettings()
    for whole_at, whole in ((None, True), (NOW - timedelta(days=1), True), (NOW, False)):
        request = rules.scheduled_request(settings, NOW, compared_until=None, whole_at=whole_at)
        assert request.whole is whole
