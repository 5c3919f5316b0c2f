"""What each type of event means."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from shared.errors import EventError, InvalidAmountError, MalformedEventError
from shared.events import rules
from shared.events.model import CheckoutClosed, CheckoutPending, Ignored, Meaning
from shared.payments.model import PaymentCaptured

PAID = "checkout.session.completed"
SUCCEEDED = "payment_intent.succeeded"
PURCHASE = UUID(int=7)


def document(data_object: Any) -> str:
    return json.dumps({"data": {"object": data_object}})


def intent(**changes: Any) -> str:
    fields = {"id": "pi_1", "currency": "usd", "status": "succeeded", "amount_received": 1000}
    return document(fields | changes)


def session(**changes: Any) -> str:
    fields = {
        "id": "cs_1",
        "mode": "payment",
        "payment_status": "paid",
        "amount_total": 1000,
        "currency": "usd",
        "payment_intent": "pi_1",
    }
    return document(fields | changes)


def captured(**changes: Any) -> PaymentCaptured:
    fields: dict[str, Any] = {
        "payment_intent_id": "pi_1",
        "gross_minor": 1000,
        "net_minor": 1000,
        "currency": "usd",
        "customer_id": None,
        "created": datetime.fromtimestamp(0, UTC),
    }
    return PaymentCaptured(**fields | changes)


def paid(event_type: str, payload: str) -> PaymentCaptured:
    meaning = rules.interpret(event_type, payload)
    assert isinstance(meaning, PaymentCaptured)
    return meaning


def test_a_succeeded_payment_is_money_to_credit() -> None:
    assert rules.interpret(SUCCEEDED, intent()) == captured()


@pytest.mark.parametrize("event_type", [PAID, "checkout.session.async_payment_succeeded"])
def test_a_paid_session_is_money_to_credit(event_type: str) -> None:
    assert rules.interpret(event_type, session()) == captured(checkout_session_id="cs_1")


@pytest.mark.parametrize("reference", ["cus_1", {"id": "cus_1", "object": "customer", "x": [1]}])
def test_a_reference_is_read_whether_or_not_it_was_expanded(reference: Any) -> None:
    assert paid(SUCCEEDED, intent(customer=reference)).customer_id == "cus_1"
    assert paid(SUCCEEDED, intent(latest_charge=reference)).charge_id == "cus_1"
    assert paid(PAID, session(payment_intent=reference)).payment_intent_id == "cus_1"


@pytest.mark.parametrize(
    ("metadata", "named"),
    [({"organization_id": "acme"}, "acme"), ({"organization_id": ""}, None), (None, None)],
)
def test_the_metadata_of_a_session_is_told_apart_from_what_its_buyer_may_choose(
    metadata: Any, named: str | None
) -> None:
    found = paid(PAID, session(metadata=metadata, client_reference_id="other"))
    assert (found.session_organization, found.reference_organization) == (named, "other")
    assert found.named_organization is None


@pytest.mark.parametrize("reference", ["", "a\nb", "\x00", None])
def test_a_client_reference_id_that_can_be_no_name_is_left_out(reference: str | None) -> None:
    assert paid(PAID, session(client_reference_id=reference)).reference_organization is None


@pytest.mark.parametrize(
    ("value", "purchase_id"),
    [(str(PURCHASE), PURCHASE), (PURCHASE.hex, PURCHASE), ("nonsense", None), (7, None)],
)
def test_metadata_names_the_purchase(value: Any, purchase_id: UUID | None) -> None:
    assert paid(SUCCEEDED, intent(metadata={"purchase_id": value})).purchase_id == purchase_id


@pytest.mark.parametrize("changes", [{"mode": "setup"}, {"mode": "subscription"}])
def test_a_session_in_another_mode_buys_nothing(changes: dict[str, Any]) -> None:
    assert isinstance(rules.interpret(PAID, session(**changes)), Ignored)


@pytest.mark.parametrize("status", ["unpaid", "new_in_2031"])
def test_a_session_that_is_not_paid_waits(status: str) -> None:
    assert rules.interpret(PAID, session(payment_status=status)) == CheckoutPending("cs_1")


def test_a_session_with_nothing_to_pay_closes_its_purchase() -> None:
    found = rules.interpret(PAID, session(payment_status="no_payment_required", amount_total=0))
    assert found == CheckoutClosed("cs_1", "free")


@pytest.mark.parametrize(
    ("event_type", "other"),
    [
        (SUCCEEDED, "charge"),
        (PAID, "payment_intent"),
        ("charge.refunded", "payment_intent"),
        ("invoice.paid", "subscription"),
        ("customer.updated", "payment_method"),
    ],
)
def test_an_object_of_another_type_is_refused(event_type: str, other: str) -> None:
    payload = document({**json.loads(intent())["data"]["object"], "object": other})
    with pytest.raises(MalformedEventError, match=other):
        rules.interpret(event_type, payload)


@pytest.mark.parametrize(
    ("event_type", "state"),
    [
        ("checkout.session.async_payment_failed", "failed"),
        ("checkout.session.expired", "expired"),
    ],
)
def test_a_session_that_ended_without_money_closes_its_purchase(
    event_type: str, state: str
) -> None:
    assert rules.interpret(event_type, session()) == CheckoutClosed("cs_1", state)


@pytest.mark.parametrize("event_type", ["", "ping", "payment_intent", "payment_intent.succeeded2"])
def test_any_other_type_means_nothing_whatever_it_carries(event_type: str) -> None:
    assert isinstance(rules.interpret(event_type, "not even JSON"), Ignored)


@pytest.mark.parametrize("amount", [0, -1, -(10**17)])
def test_an_amount_that_is_no_gain_is_refused(amount: int) -> None:
    with pytest.raises(InvalidAmountError):
        rules.interpret(SUCCEEDED, intent(amount_received=amount))
    with pytest.raises(InvalidAmountError):
        rules.interpret(PAID, session(amount_total=amount))


@pytest.mark.parametrize("missing", ["id", "currency", "amount_received"])
def test_a_missing_field_is_named(missing: str) -> None:
    fields = json.loads(intent())["data"]["object"]
    del fields[missing]
    with pytest.raises(MalformedEventError, match=missing):
        rules.interpret(SUCCEEDED, document(fields))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        name: JSON | st.sampled_from(["payment", "paid", "usd", "pi_1", 1000])
        for name in (
            *("id", "currency", "status", "amount_received", "customer", "latest_charge"),
            *("metadata", "mode", "payment_status", "amount_total", "payment_intent"),
            "client_reference_id",
        )
    },
)


@given(fields=FIELDS)
def test_whatever_an_object_carries_is_understood_or_an_error_of_the_event(
    fields: dict[str, Any],
) -> None:
    """Each object goes to the readers of all types: making it costs more than reading it."""
    payload = document(fields)
    for event_type in sorted(rules._READERS):  # noqa: SLF001 - all that are read
        note(event_type)
        try:
            meaning = rules.interpret(event_type, payload)
        except EventError as error:
            assert error.detail  # noqa: PT017 - either outcome is right
        else:
            assert isinstance(meaning, Meaning)
