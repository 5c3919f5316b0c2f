"""What each type of event means, and how a payment becomes a posting."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import (
    CurrencyMismatchError,
    EventError,
    InvalidAmountError,
    MalformedEventError,
    PaymentMismatchError,
    UnclaimedPaymentError,
    UnknownOrganizationError,
)
from shared.events import rules
from shared.events.model import (
    BoundPayment,
    CheckoutClosed,
    Meaning,
    Nothing,
    Owner,
    PaymentCaptured,
)
from shared.ledger.model import SystemAccount, TransactionType

ACME = Owner(UUID(int=1), "usd")
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
        "amount_minor": 1000,
        "currency": "usd",
        "customer_id": None,
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
    ("metadata", "reference", "named"),
    [
        ({"organization_id": "acme"}, None, "acme"),
        ({"organization_id": "acme"}, "other", "acme"),
        ({"organization_id": ""}, "other", "other"),
        ({"organization_id": 7}, "other", "other"),
        ({}, "other", "other"),
        (None, "other", "other"),
        (None, "", None),
        (None, None, None),
    ],
)
def test_metadata_names_the_organization_before_the_client_reference_id(
    metadata: Any, reference: str | None, named: str | None
) -> None:
    payload = session(metadata=metadata, client_reference_id=reference)
    assert paid(PAID, payload).named_organization == named


@pytest.mark.parametrize(
    ("value", "purchase_id"),
    [(str(PURCHASE), PURCHASE), (PURCHASE.hex, PURCHASE), ("nonsense", None), (7, None)],
)
def test_metadata_names_the_purchase(value: Any, purchase_id: UUID | None) -> None:
    assert paid(SUCCEEDED, intent(metadata={"purchase_id": value})).purchase_id == purchase_id


@pytest.mark.parametrize("changes", [{"mode": "setup"}, {"mode": "subscription"}])
def test_a_session_in_another_mode_buys_nothing(changes: dict[str, Any]) -> None:
    assert isinstance(rules.interpret(PAID, session(**changes)), Nothing)


@pytest.mark.parametrize("status", ["unpaid", "no_payment_required", "new_in_2031"])
def test_a_session_that_is_not_paid_waits(status: str) -> None:
    assert isinstance(rules.interpret(PAID, session(payment_status=status)), Nothing)


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
    assert isinstance(rules.interpret(event_type, "not even JSON"), Nothing)


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


@pytest.mark.parametrize("event_type", sorted(rules._READERS))  # noqa: SLF001 - all that are read
def test_whatever_an_object_carries_is_understood_or_an_error_of_the_event(
    event_type: str,
) -> None:
    @given(fields=FIELDS)
    def check(fields: dict[str, Any]) -> None:
        try:
            meaning = rules.interpret(event_type, document(fields))
        except EventError as error:
            assert error.detail  # noqa: PT017 - either outcome is right
        else:
            assert isinstance(meaning, Meaning)

    check()


def test_a_payment_is_bound_to_its_owner_with_what_it_buys() -> None:
    bound = rules.bind(captured(), ACME, Decimal(100))
    assert bound == BoundPayment(ACME.id, 1000, "usd", Decimal(1000))


def test_a_payment_without_an_owner_says_whom_it_named() -> None:
    with pytest.raises(UnknownOrganizationError, match="acme"):
        rules.bind(captured(named_organization="acme"), None, Decimal(1))
    with pytest.raises(UnclaimedPaymentError, match="cus_1"):
        rules.bind(captured(customer_id="cus_1"), None, Decimal(1))
    with pytest.raises(UnclaimedPaymentError, match="pi_1"):
        rules.bind(captured(), None, Decimal(1))


def test_a_payment_in_another_currency_is_refused() -> None:
    with pytest.raises(CurrencyMismatchError, match="eur"):
        rules.bind(captured(currency="eur"), ACME, Decimal(1))


def test_a_payment_that_buys_no_whole_number_of_billionths_is_refused() -> None:
    with pytest.raises(InvalidAmountError):
        rules.bind(captured(amount_minor=1), ACME, Decimal("1E-8"))


def test_the_largest_payment_that_is_read_is_bound_or_refused_as_an_amount() -> None:
    yen = Owner(UUID(int=1), "jpy")
    payment = captured(amount_minor=10**17, currency="jpy")
    try:
        bound = rules.bind(payment, yen, Decimal(1000))
    except InvalidAmountError:
        return
    assert bound.credits == 10**20


BOUND = BoundPayment(ACME.id, 1000, "usd", Decimal(10))


def test_the_posting_of_a_payment_is_the_same_whichever_event_comes_first() -> None:
    first = rules.credit(captured(), BOUND, UUID(int=9))
    second = rules.credit(
        captured(checkout_session_id="cs_1", named_organization="other"), BOUND, UUID(int=9)
    )
    assert first == second
    assert (first.type, first.counterparty) == (TransactionType.PURCHASE, SystemAccount.STRIPE)
    assert (first.key, first.amount, first.may_overdraw) == ("stripe:pi_1", Decimal(10), False)


@pytest.mark.parametrize("changes", [{"amount_minor": 1001}, {"currency": "eur"}])
def test_an_event_that_disagrees_with_the_first_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(PaymentMismatchError, match="pi_1"):
        rules.credit(captured(**changes), BOUND, UUID(int=9))


@given(amount=st.integers(1, 10**12), other=st.integers(1, 10**12))
def test_two_requests_have_the_same_digest_only_if_they_are_the_same(
    amount: int, other: int
) -> None:
    def digest(minor: int) -> str | None:
        bound = BoundPayment(ACME.id, minor, "usd", Decimal(minor))
        return rules.credit(captured(amount_minor=minor), bound, UUID(int=9)).digest

    assert (digest(amount) == digest(other)) == (amount == other)
