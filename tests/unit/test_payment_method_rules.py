"""Which card is a new chance to be charged."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from shared.events import payment_method_rules
from shared.events.model import PaymentMethodUpdated, StoredPaymentMethod
from shared.payments.objects import MethodDetails, PaymentMethod
from shared.payments.translator import from_answer

AT = datetime(2026, 11, 27, tzinfo=UTC)
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def details(fingerprint: str | None, year: int | None = 2030, month: int = 6) -> MethodDetails:
    return MethodDetails(
        brand="visa", last4="4242", exp_month=month, exp_year=year, fingerprint=fingerprint
    )


def stored(
    of: MethodDetails,
    name: str = "pm_1",
    kind: str = "card",
    *,
    as_of: datetime = AT,
    detached: bool = False,
) -> StoredPaymentMethod:
    return StoredPaymentMethod(
        id=name, customer_id="cus_1", type=kind, details=of, as_of=as_of, detached=detached
    )


def told(of: MethodDetails, name: str = "pm_1", kind: str = "card") -> PaymentMethodUpdated:
    return PaymentMethodUpdated(
        payment_method_id=name,
        type=kind,
        customer_id="cus_1",
        named_organization=None,
        as_of=AT,
        details=of,
    )


LINK = MethodDetails()


@pytest.mark.parametrize(
    ("card", "known", "new"),
    [
        pytest.param(told(details("fp_1")), [], True, id="the first card"),
        pytest.param(
            told(details("fp_2"), "pm_2"), [stored(details("fp_1"))], True, id="a new fingerprint"
        ),
        pytest.param(
            told(details("fp_1", 2034)), [stored(details("fp_1"))], True, id="a later year"
        ),
        pytest.param(
            told(details("fp_1", 2030, 7)), [stored(details("fp_1"))], True, id="a later month"
        ),
        pytest.param(
            told(details("fp_1", 2034), "pm_2"),
            [stored(details("fp_1"), detached=True)],
            True,
            id="the same number added again, renewed",
        ),
        pytest.param(told(LINK, "pm_2", "link"), [stored(details("fp_1"))], True, id="Link"),
        pytest.param(
            told(LINK, "pm_2", "link"), [stored(LINK, kind="link")], True, id="another Link"
        ),
        pytest.param(
            told(details("fp_1")),
            [stored(MethodDetails(), as_of=NEVER)],
            True,
            id="seen before, and described for the first time",
        ),
        pytest.param(
            told(LINK, kind="link"),
            [stored(LINK, kind="link", as_of=NEVER)],
            True,
            id="Link, described for the first time",
        ),
        pytest.param(
            told(details("fp_1")), [stored(details("fp_1"))], False, id="the same described again"
        ),
        pytest.param(
            told(details("fp_1"), "pm_2"), [stored(details("fp_1"))], False, id="the same added"
        ),
        pytest.param(
            told(details("fp_1"), "pm_2"),
            [stored(details("fp_1"), detached=True)],
            False,
            id="the same removed and added",
        ),
        pytest.param(
            told(details("fp_1", 2029)), [stored(details("fp_1"))], False, id="an earlier year"
        ),
        pytest.param(
            told(details("fp_1", 2029, 12)),
            [stored(details("fp_1"))],
            False,
            id="a later month alone",
        ),
        pytest.param(
            told(details("fp_1", 2032), "pm_3"),
            [stored(details("fp_1")), stored(details("fp_1", 2034), "pm_2")],
            False,
            id="later than one, earlier than another",
        ),
        pytest.param(told(LINK, kind="link"), [stored(LINK, kind="link")], False, id="Link again"),
        pytest.param(
            told(details("fp_b", None), kind="us_bank_account"),
            [stored(details("fp_b", None), kind="us_bank_account")],
            False,
            id="a bank account again",
        ),
    ],
)
def test_a_new_or_renewed_card_is_told_from_the_same_one(
    card: PaymentMethodUpdated, known: list[StoredPaymentMethod], *, new: bool
) -> None:
    assert payment_method_rules.is_new_card(card, known) is new


@pytest.mark.parametrize(
    ("chosen", "before", "after", "new"),
    [
        ("pm_2", "pm_1", "pm_2", True),
        ("pm_1", None, "pm_1", True),
        ("pm_1", "pm_1", "pm_1", False),  # it was charged already, being the newest
        ("pm_2", "pm_1", "pm_1", False),  # it is detached, or has no mandate
        (None, "pm_1", "pm_2", False),
        (None, None, None, False),
    ],
)
def test_a_default_is_new_where_another_method_is_charged_than_before(
    chosen: str | None, before: str | None, after: str | None, *, new: bool
) -> None:
    assert payment_method_rules.is_new_default(chosen, before=before, after=after) is new


@pytest.mark.parametrize(
    ("kind", "given", "wanted"),
    [
        ("card", {"brand": "visa", "last4": "4242"}, ("visa", None, "4242", None)),
        ("us_bank_account", {"bank_name": "B", "last4": "6789"}, (None, "B", "6789", None)),
        ("sepa_debit", {"last4": "3000", "fingerprint": "fp"}, (None, None, "3000", "fp")),
        ("bacs_debit", {"last4": "2345", "fingerprint": "fp"}, (None, None, "2345", "fp")),
        ("au_becs_debit", {"last4": "3456", "fingerprint": "fp"}, (None, None, "3456", "fp")),
        ("acss_debit", {"bank_name": "B", "last4": "1"}, (None, "B", "1", None)),
        ("link", {"email": "buyer@example.com"}, (None, None, None, None)),
        ("paypal", {"payer_id": "P"}, (None, None, None, None)),
        ("cashapp", {"buyer_id": "B", "cashtag": "$b"}, (None, None, None, None)),
        ("amazon_pay", {}, (None, None, None, None)),
        ("a_type_of_tomorrow", {"last4": 7}, (None, None, None, None)),
    ],
)
def test_every_type_of_payment_method_is_described_by_what_it_has(
    kind: str, given: dict[str, object], wanted: tuple[str | None, ...]
) -> None:
    method = from_answer(
        {"id": "pm_1", "type": kind, "customer": "cus_1", kind: given}, PaymentMethod
    )
    found = method.details
    assert (found.brand, found.bank_name, found.last4, found.fingerprint) == wanted
    assert method.type == kind
