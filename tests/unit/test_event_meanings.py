"""What events of cards, customers, subscriptions, invoices and reversals mean."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from shared.events import rules
from shared.events.model import (
    CustomerDeleted,
    CustomerLinked,
    DefaultPaymentMethodChanged,
    FraudWarningReceived,
    Ignored,
    InvoicePaid,
    MandateUpdated,
    PaymentIntentUpdated,
    PaymentMethodDetached,
    PaymentMethodUpdated,
    ReversalChanged,
    SubscriptionUpdated,
)
from shared.payments.objects import MethodDetails

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
LATER = datetime(2026, 2, 28, 12, tzinfo=UTC)
ACME = {"organization_id": "acme"}
ATTEMPT = UUID(int=7)


def event(data_object: dict[str, Any], previous: dict[str, Any] | None = None) -> str:
    data: dict[str, Any] = {"object": data_object}
    if previous is not None:
        data["previous_attributes"] = previous
    return json.dumps({"created": int(AT.timestamp()), "data": data})


def session(**changes: Any) -> str:
    fields = {"id": "cs_1", "mode": "setup", "payment_status": "no_payment_required"}
    return event(fields | changes)


@pytest.mark.parametrize("mode", ["setup", "subscription"])
def test_a_session_without_a_payment_links_its_customer_to_the_organization_of_its_metadata(
    mode: str,
) -> None:
    found = session(mode=mode, customer="cus_1", metadata=ACME)
    assert rules.interpret("checkout.session.completed", found) == CustomerLinked("cus_1", "acme")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"customer": "cus_1"},
            "the metadata of cs_1 names no organization for its customer",
        ),
        (
            {"metadata": ACME},
            "the metadata of cs_1 names no organization for its customer",
        ),
        (
            {"mode": "subscription", "customer": "cus_1", "client_reference_id": "acme"},
            (
                "a session in mode subscription buys no credits; its invoices may. And the"
                " metadata of cs_1 names no organization for its customer"
            ),
        ),
    ],
)
def test_a_session_without_a_payment_or_an_organization_is_ignored_with_the_reason(
    changes: dict[str, Any], reason: str
) -> None:
    assert rules.interpret("checkout.session.completed", session(**changes)) == Ignored(reason)


@pytest.mark.parametrize("name", ["payment_failed", "requires_action", "processing", "canceled"])
@pytest.mark.parametrize(
    ("value", "attempt_id"), [(str(ATTEMPT), ATTEMPT), ("x", None), (7, None), (None, None)]
)
def test_a_payment_intent_that_moved_names_its_attempt(
    name: str, value: Any, attempt_id: UUID | None
) -> None:
    found = event({"id": "pi_1", "metadata": {"recharge_attempt_id": value}})
    assert rules.interpret(f"payment_intent.{name}", found) == PaymentIntentUpdated(
        "pi_1", attempt_id
    )


def test_a_payment_intent_without_metadata_is_of_no_attempt() -> None:
    found = rules.interpret("payment_intent.canceled", event({"id": "pi_1"}))
    assert found == PaymentIntentUpdated("pi_1", None)


@pytest.mark.parametrize("name", ["attached", "updated", "automatically_updated"])
def test_a_payment_method_is_read_with_its_owner_and_details(name: str) -> None:
    method = event(
        {
            "id": "pm_1",
            "type": "card",
            "customer": {"id": "cus_1"},
            "metadata": ACME,
            "card": {"brand": "visa", "last4": "4242"},
        }
    )
    assert rules.interpret(f"payment_method.{name}", method) == PaymentMethodUpdated(
        payment_method_id="pm_1",
        type="card",
        customer_id="cus_1",
        named_organization="acme",
        as_of=AT,
        details=MethodDetails(brand="visa", last4="4242"),
    )


@pytest.mark.parametrize(
    ("customer", "previous", "customer_id"),
    [
        (None, {"customer": "cus_1"}, "cus_1"),
        (None, {"customer": {"id": "cus_1"}}, "cus_1"),
        ("cus_2", {"customer": "cus_1"}, "cus_2"),
        ({"id": "cus_2"}, None, "cus_2"),
        (None, None, None),
    ],
)
def test_a_detached_payment_method_was_its_previous_customers(
    customer: Any, previous: dict[str, Any] | None, customer_id: str | None
) -> None:
    method = {"id": "pm_1", "type": "card", "customer": customer, "metadata": ACME}
    found = rules.interpret("payment_method.detached", event(method, previous))
    assert found == PaymentMethodDetached(
        payment_method_id="pm_1",
        type="card",
        customer_id=customer_id,
        named_organization="acme",
        as_of=AT,
    )


@pytest.mark.parametrize(
    ("types", "type_"),
    [(["sepa_debit"], "sepa_debit"), (["card", "link"], "unknown"), (None, "unknown")],
)
def test_a_set_up_puts_a_payment_method_on_file(types: list[str] | None, type_: str) -> None:
    intent = {
        "id": "seti_1",
        "customer": {"id": "cus_1"},
        "payment_method": {"id": "pm_1"},
        "payment_method_types": types,
        "mandate": {"id": "mandate_1"},
        "metadata": ACME,
    }
    assert rules.interpret("setup_intent.succeeded", event(intent)) == PaymentMethodUpdated(
        payment_method_id="pm_1",
        type=type_,
        customer_id="cus_1",
        named_organization="acme",
        as_of=AT,
        mandate_id="mandate_1",
    )


def test_a_set_up_without_a_payment_method_is_ignored() -> None:
    assert rules.interpret("setup_intent.succeeded", event({"id": "seti_1"})) == Ignored(
        "seti_1 has set up nothing that can be charged"
    )


@pytest.mark.parametrize(
    ("settings", "default"),
    [({"default_payment_method": "pm_1"}, "pm_1"), ({"default_payment_method": None}, None)],
)
def test_a_customer_has_a_default_payment_method(settings: Any, default: str | None) -> None:
    customer = event({"id": "cus_1", "invoice_settings": settings})
    assert rules.interpret("customer.updated", customer) == DefaultPaymentMethodChanged(
        "cus_1", default, AT
    )


def test_a_customer_is_deleted_at_a_moment() -> None:
    found = rules.interpret("customer.deleted", event({"id": "cus_1", "deleted": True}))
    assert found == CustomerDeleted("cus_1", AT)


@pytest.mark.parametrize(
    ("status", "active"), [("active", True), ("pending", True), ("inactive", False)]
)
def test_a_mandate_is_active_unless_it_says_otherwise(status: str, *, active: bool) -> None:
    mandate = event({"id": "mandate_1", "status": status, "payment_method": {"id": "pm_1"}})
    assert rules.interpret("mandate.updated", mandate) == MandateUpdated(
        "mandate_1", "pm_1", active=active
    )


def test_a_mandate_without_a_payment_method_is_ignored() -> None:
    found = rules.interpret("mandate.updated", event({"id": "mandate_1", "status": "active"}))
    assert found == Ignored("mandate_1 has no payment method")


def subscription(**changes: Any) -> dict[str, Any]:
    fields = {
        "id": "sub_1",
        "status": "active",
        "customer": {"id": "cus_1"},
        "metadata": ACME,
        "items": {
            "data": [{"price": {"id": "price_1"}, "current_period_end": int(LATER.timestamp())}]
        },
        "start_date": int(AT.timestamp()),
    }
    return fields | changes


def updated(**changes: Any) -> SubscriptionUpdated:
    fields: dict[str, Any] = {
        "subscription_id": "sub_1",
        "customer_id": "cus_1",
        "named_organization": "acme",
        "status": "active",
        "plan": "price_1",
        "started_at": AT,
        "ends_at": None,
        "current_period_end": LATER,
        "as_of": AT,
    }
    return SubscriptionUpdated(**fields | changes)


@pytest.mark.parametrize("name", ["created", "updated", "deleted"])
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"items": None}, {"plan": None, "current_period_end": None}),
        (
            {"items": None, "current_period_end": 86_400},
            {"plan": None, "current_period_end": datetime(1970, 1, 2, tzinfo=UTC)},
        ),
        ({"items": {"data": [{}]}}, {"plan": None, "current_period_end": None}),
        ({"current_period_end": 86_400}, {}),
        ({"start_date": None}, {"started_at": None}),
        ({"cancel_at": int(LATER.timestamp())}, {"ends_at": LATER}),
        ({"ended_at": int(AT.timestamp())}, {"ends_at": AT}),
        (
            {"ended_at": int(AT.timestamp()), "cancel_at": int(LATER.timestamp())},
            {"ends_at": AT},
        ),
    ],
)
def test_a_subscription_is_read_in_the_forms_of_old_and_new_versions(
    name: str, changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = rules.interpret(f"customer.subscription.{name}", event(subscription(**changes)))
    assert found == updated(**expected)


@pytest.mark.parametrize(
    ("transitions", "paid_at"),
    [(None, AT), ({}, AT), ({"paid_at": int(LATER.timestamp())}, LATER)],
)
def test_an_invoice_is_paid_when_it_says_or_else_when_the_event_was_made(
    transitions: Any, paid_at: datetime
) -> None:
    found = rules.interpret(
        "invoice.paid", event({"id": "in_1", "total": 500, "status_transitions": transitions})
    )
    assert isinstance(found, InvoicePaid)
    assert (found.invoice.id, found.invoice.total, found.paid_at) == ("in_1", 500, paid_at)


REVERSALS = [
    *((f"refund.{name}", "refund", False) for name in ("created", "updated", "failed")),
    ("charge.refunded", "charge", False),
    ("charge.refund.updated", "refund", False),
    *(
        (f"charge.dispute.{name}", "dispute", True)
        for name in ("created", "updated", "closed", "funds_withdrawn", "funds_reinstated")
    ),
]


@pytest.mark.parametrize(("event_type", "kind", "of_dispute"), REVERSALS)
def test_a_refund_and_a_dispute_name_their_payment(
    event_type: str, kind: str, *, of_dispute: bool
) -> None:
    made = {"id": "x_1", "object": kind}
    assert rules.interpret(
        event_type, event(made | {"payment_intent": {"id": "pi_1"}})
    ) == ReversalChanged("pi_1", of_dispute)
    assert rules.interpret(event_type, event(made)) == Ignored("x_1 has no PaymentIntent")


def test_a_fraud_warning_names_payment_and_charge_as_far_as_it_can() -> None:
    warning = {
        "id": "issfr_1",
        "payment_intent": {"id": "pi_1"},
        "charge": {"id": "ch_1"},
        "fraud_type": "made_with_stolen_card",
    }
    kind = "radar.early_fraud_warning.created"
    assert rules.interpret(kind, event(warning)) == FraudWarningReceived(
        "issfr_1", "pi_1", "ch_1", "made_with_stolen_card"
    )
    assert rules.interpret(kind, event({"id": "issfr_1"})) == FraudWarningReceived(
        "issfr_1", None, None, None
    )


@pytest.mark.parametrize(
    ("event_type", "alone"),
    [
        ("charge.refunded", True),
        ("invoice.paid", True),
        ("checkout.session.completed", False),
        ("payment_intent.succeeded", False),
        ("invoice.voided", False),
        ("ping", False),
    ],
)
def test_what_writes_to_several_tables_is_applied_alone(event_type: str, *, alone: bool) -> None:
    assert rules.is_alone(event_type) is alone


def test_a_type_without_an_effect_is_ignored_with_the_reason() -> None:
    assert rules.interpret("ping", "") == Ignored("Prepaid does not act on this type")
    assert rules.interpret("invoice.voided", "") == Ignored(
        "nothing was paid, so nothing was credited"
    )
