"""What a posting may ask for, what makes two requests the same, what a payment gives back."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.ledger import rules
from shared.ledger.model import Posting, SystemAccount
from shared.ledger.model import TransactionType as Kind

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
OWNER, ID, LOT, HOLD = (UUID(int=n) for n in range(1, 5))
CREDITS = [Kind.PURCHASE, Kind.RECHARGE, Kind.GRANT, Kind.BONUS, Kind.DISPUTE_REVERSAL]
DEBITS = [Kind.USAGE, Kind.HOLD_CAPTURE, Kind.REFUND, Kind.DISPUTE]
# Every amount that Stripe and the column know, to the last decimal.
AMOUNTS = st.decimals(min_value=0, max_value=10**18, places=9)


def posting(kind: Kind = Kind.GRANT, amount: Any = 1, **fields: Any) -> Posting:
    asked: dict[str, Any] = {
        "organization_id": OWNER,
        "id": ID,
        "type": kind,
        "counterparty": SystemAccount.REVENUE,
        "key": "k",
        "amount": None if amount is None else Decimal(amount),
    }
    return Posting(**asked | fields)


def named(kind: Kind, amount: Any = None, **fields: Any) -> Posting:
    """Return a posting that names all that its type must name."""
    needed: dict[Kind, dict[str, Any]] = {
        Kind.HOLD_CAPTURE: {"hold_id": HOLD},
        Kind.REFUND: {"payment_intent_id": "pi_1"},
        Kind.DISPUTE: {"payment_intent_id": "pi_1"},
        Kind.VOID: {"grant_id": LOT},
    }
    return posting(kind, amount, **needed.get(kind, {}) | fields)


def refusal(asked: Posting) -> str | None:
    return rules.refusal(asked, now=NOW)


@pytest.mark.parametrize(
    "asked",
    [
        *(named(kind, 1) for kind in (*CREDITS, Kind.ADJUSTMENT)),
        *(named(kind, -1) for kind in (*DEBITS, Kind.ADJUSTMENT)),
        named(Kind.VOID),
        posting(amount="0.000000001"),
        posting(amount="1.0000000000000"),
        posting(amount="1e18"),
        posting(amount="123456789012345678.123456789"),
        posting(key="k" * 255),
        posting(key="ä\U0001f600 \t'"),
        posting(description="x" * 2000, category="c" * 100, user_id="u" * 255),
        posting(payment_intent_id="p" * 255),
        posting(metadata={}),
        posting(metadata={"a": [1, None, {"ä": "\U0001f600"}]}),
        posting(metadata={"x": "y" * (rules.METADATA_BYTES_MAX - len('{"x":""}'))}),
        posting(priority=0),
        posting(priority=100),
        posting(expires_at=NOW + timedelta(microseconds=1)),
        posting(effective_at=NOW + HOUR),
        posting(effective_at=NOW - 1000 * HOUR),
        posting(Kind.USAGE, -1, quantity=Decimal("0.000000001")),
        posting(Kind.USAGE, -1, quantity=Decimal(0)),
    ],
)
def test_what_the_ledger_can_take_is_not_refused(asked: Posting) -> None:
    assert refusal(asked) is None


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (posting(Kind.EXPIRATION, -1), "type: <TransactionType.EXPIRATION"),
        (msgspec.structs.replace(posting(), type="gift"), "type: 'gift' cannot be posted"),
        (posting(amount=None), "amount: is missing"),
        (named(Kind.REFUND, None), "amount: is missing"),
        (posting(amount=0), "amount: must not be zero"),
        (posting(Kind.ADJUSTMENT, "-0.0"), "amount: must not be zero"),
        *((posting(amount=n), "amount: must be a finite number") for n in ("nan", "inf", "-inf")),
        (posting(amount="snan"), "amount: must be a finite number"),
        (posting(amount="1000000000000000000.000000001"), "amount: must be at most 1000000"),
        (posting(Kind.ADJUSTMENT, "-1e19"), "amount: must be at most 1000000000000000000"),
        (posting(amount="1e999999"), "amount: must be at most"),
        (posting(amount="0.0000000001"), "amount: at most 9 decimals"),
        (posting(amount="1e-999999999"), "amount: at most 9 decimals"),
        (posting(Kind.ADJUSTMENT, "-1e999999999"), "amount: must be at most"),
        (posting(Kind.ADJUSTMENT, "0e-999999999"), "amount: must not be zero"),
        *((named(kind, -1), f"amount: a {kind} must be positive") for kind in CREDITS),
        *((named(kind, 1), f"amount: a {kind} must be negative") for kind in DEBITS),
        (named(Kind.VOID, -1), "amount: a void names a grant and no amount"),
        (named(Kind.VOID, grant_id=None), "amount: a void names a grant and no amount"),
        (posting(quantity=Decimal("nan")), "quantity: must be a finite number"),
        (posting(quantity=Decimal("1e-10")), "quantity: at most 9 decimals"),
        (posting(quantity=Decimal("-1e19")), "quantity: must be at most"),
        (posting(key=""), "key: 1 to 255 characters"),
        (posting(key="k" * 256), "key: 1 to 255 characters"),
        (posting(description="x" * 2001), "description: at most 2000 characters"),
        (posting(category="x" * 101), "category: at most 100 characters"),
        (posting(user_id="x" * 256), "user_id: at most 255 characters"),
        (posting(payment_intent_id="x" * 256), "payment_intent_id: at most 255 characters"),
        *(
            (
                msgspec.structs.replace(posting(), **{name: bad}),
                f"{name}: must not hold NUL or half of a surrogate pair",
            )
            for name in ("key", "description", "category", "user_id", "payment_intent_id")
            for bad in ("a\0", "\ud800", "ä\udfff")
        ),
        (posting(metadata={"x": object()}), "metadata: must be JSON"),
        (posting(metadata={"x": "\ud800"}), "metadata: must be JSON"),
        (posting(metadata={"\ud800": 1}), "metadata: must be JSON"),
        (posting(metadata={"x": "\0"}), "metadata: must not hold NUL"),
        (posting(metadata={"a\0": 1}), "metadata: must not hold NUL"),
        (
            posting(metadata={"x": "y" * rules.METADATA_BYTES_MAX}),
            "metadata: at most 16384 bytes of JSON",
        ),
        (posting(priority=-1), "priority: 0 to 100"),
        (posting(priority=101), "priority: 0 to 100"),
        (named(Kind.HOLD_CAPTURE, -1, hold_id=None), "hold_id: a capture names its hold"),
        *(
            (
                named(kind, -1, payment_intent_id=None),
                "payment_intent_id: a reversal names its payment",
            )
            for kind in (Kind.REFUND, Kind.DISPUTE)
        ),
        (
            posting(effective_at=NOW + HOUR + timedelta(microseconds=1)),
            "effective_at: lies in the future",
        ),
    ],
)
def test_what_it_cannot_take_is_refused_by_name(asked: Posting, problem: str) -> None:
    assert (refusal(asked) or "").startswith(problem)


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}])
def test_metadata_is_nested_to_a_limit(wrap: Callable[[Any], Any]) -> None:
    nested: Any = {}
    for _ in range(rules.METADATA_LEVELS_MAX - 2):  # inside of metadata itself, around one more
        nested = wrap(nested)
    assert refusal(posting(metadata={"x": nested, "y": [1] * 100})) is None
    deeper = refusal(posting(metadata={"x": wrap(nested)}))
    assert deeper == "metadata: at most 32 levels of lists and objects"


def test_a_grant_expires_in_the_future() -> None:
    for moment, refused in ((NOW - HOUR, True), (NOW, True), (NOW + HOUR, False), (None, False)):
        error = "expires_at: lies in the past" if refused else None
        assert rules.expiry_refusal(posting(expires_at=moment), now=NOW) == error


def test_metadata_that_holds_itself_is_refused() -> None:
    endless: dict[str, Any] = {}
    endless["x"] = endless
    assert (refusal(posting(metadata=endless)) or "").startswith("metadata: must be JSON")


def test_a_backslash_before_u0000_is_no_nul() -> None:
    assert refusal(posting(metadata={"path": "\\u0000"})) is None


@pytest.mark.parametrize("name", ["expires_at", "effective_at"])
def test_a_moment_without_a_zone_is_refused_and_not_raised(name: str) -> None:
    naive = NOW.replace(tzinfo=None) + HOUR
    assert (refusal(msgspec.structs.replace(posting(), **{name: naive})) or "").startswith(
        f"{name}: "
    )


def test_decimals_beyond_the_precision_of_python_are_seen_too() -> None:
    assert refusal(posting(amount="1." + "0" * 90 + "1")) == "amount: at most 9 decimals"


@given(AMOUNTS.filter(bool), st.booleans())
def test_every_amount_of_the_column_is_taken_in_either_direction(
    amount: Decimal, negative: bool
) -> None:
    assert refusal(posting(Kind.ADJUSTMENT, -amount if negative else amount)) is None


@given(
    st.decimals(allow_nan=True, allow_infinity=True),
    st.sampled_from([kind for kind in Kind if kind is not Kind.EXPIRATION]),
)
def test_no_number_makes_the_rules_raise(amount: Decimal, kind: Kind) -> None:
    found = refusal(named(kind, amount))
    if found is None:
        assert amount == amount.quantize(Decimal("1e-9"))
        assert (amount > 0) == (kind in CREDITS) or kind is Kind.ADJUSTMENT


@given(st.text(max_size=300))
def test_no_text_makes_the_rules_raise_and_what_is_taken_is_utf_8(text: str) -> None:
    if refusal(posting(key=text)) is None:
        assert 1 <= len(text) <= 255
        assert "\0" not in text
        text.encode()


# What makes two requests the same


def test_a_digest_is_bytes_in_the_form_of_postgresql() -> None:
    found = rules.digest(posting())
    assert found.startswith("\\x")
    assert len(bytes.fromhex(found[2:])) == 32


def test_an_id_of_its_own_does_not_make_another_request() -> None:
    other = posting(id=UUID(int=99), organization_id=UUID(int=98), key="another")
    assert rules.digest(posting()) == rules.digest(other)


@pytest.mark.parametrize("same", ["1", "1.0", "1.000000000", "1e0", "100e-2"])
def test_one_amount_has_one_digest_however_it_is_written(same: str) -> None:
    assert rules.digest(posting(amount=same)) == rules.digest(posting(amount=1))


@pytest.mark.parametrize("same", ["1000", "1e3", "1.000E+3", "1000.000"])
def test_an_amount_with_an_exponent_is_the_same_amount(same: str) -> None:
    assert rules.digest(posting(amount=same)) == rules.digest(posting(amount="1000.0"))


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()), st.randoms())
def test_the_order_of_metadata_keys_does_not_matter(metadata: dict[str, Any], random: Any) -> None:
    keys = list(metadata)
    random.shuffle(keys)
    nested = {"b": {key: metadata[key] for key in keys}, "a": [1]}
    first = rules.digest(posting(metadata={"a": [1], "b": metadata}))
    assert first == rules.digest(posting(metadata=nested))


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ({"quantity": Decimal(1)}, {"quantity": Decimal("1.0")}),
        ({"effective_at": NOW}, {"effective_at": NOW.astimezone(timezone(HOUR))}),
        ({"expires_at": NOW}, {"expires_at": NOW.astimezone(timezone(-HOUR))}),
    ],
    ids=["quantity", "effective_at", "expires_at"],
)
def test_one_quantity_and_one_moment_have_one_digest_however_they_are_written(
    one: dict[str, Any], same: dict[str, Any]
) -> None:
    assert rules.digest(posting(**one)) == rules.digest(posting(**same))


def test_every_field_that_is_asked_for_makes_another_request() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"amount": Decimal(2)},
        {"amount": None},
        {"type": Kind.BONUS},
        {"counterparty": SystemAccount.STRIPE},
        {"effective_at": NOW},
        {"description": "x"},
        {"description": ""},
        {"category": "x"},
        {"quantity": Decimal(1)},
        {"user_id": "x"},
        {"grant_id": LOT},
        {"hold_id": LOT},
        {"payment_intent_id": "x"},
        {"metadata": {}},
        {"metadata": {"x": "1"}},
        {"metadata": {"x": 1}},
        {"priority": 0},
        {"promotional": False},
        {"promotional": True},
        {"expires_at": NOW},
        {"may_overdraw": True},
        {"partial": True},
        {"past_limit": True},
    ]
    digests = [rules.digest(msgspec.structs.replace(posting(), **change)) for change in changes]
    assert len(set(digests)) == len(changes)
    asked = set(itertools.chain.from_iterable(changes))
    names = {"organization_id", "id", "key", "digest", "repeated"}
    names |= {"key_id", "request_id"}  # who asked: a retry with another key is the same request
    names |= {"pricing"}  # a retry after a change of prices is the same request
    assert asked | names == set(Posting.__struct_fields__), "a new field: is it asked for?"


# How much a payment gives back


def target(granted: Any, refunded: Any, withdrawn: Any) -> Decimal:
    return rules.reversal_target(Decimal(granted), Decimal(refunded), Decimal(withdrawn))


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ((10, 0, 0), 0),
        ((10, 4, 0), 4),
        ((10, 0, 10), 10),
        ((10, 4, 10), 10),
        ((10, 4, 5), 9),
        ((10, 11, 0), 10),
        ((10, 0, -1), 0),
        ((10, 4, -1), 3),
    ],
)
def test_what_is_taken_back_lies_between_nothing_and_what_was_granted(
    levels: tuple[int, int, int], expected: int
) -> None:
    assert target(*levels) == expected


@given(AMOUNTS, AMOUNTS, AMOUNTS)
def test_a_target_is_in_bounds_and_grows_with_each_level(
    granted: Decimal, refunded: Decimal, withdrawn: Decimal
) -> None:
    found = target(granted, refunded, withdrawn)
    assert 0 <= found <= granted
    assert found == target(granted, withdrawn, refunded)
    assert found <= target(granted, refunded + 1, withdrawn)
    assert found <= target(granted, refunded, withdrawn + 1)
    assert found in (granted, refunded + withdrawn)


@given(AMOUNTS, st.lists(st.tuples(AMOUNTS, AMOUNTS), min_size=1), st.randoms())
def test_steps_towards_the_levels_told_add_up_to_the_last_one_in_any_order(
    granted: Decimal, levels: list[tuple[Decimal, Decimal]], random: Any
) -> None:
    *late, last = levels
    random.shuffle(late)
    reached = Decimal(0)
    steps = []
    for refunded, withdrawn in (*late, *late, last, last):
        steps.append(target(granted, refunded, withdrawn) - reached)
        reached += steps[-1]
    assert steps[-1] == 0, "told twice"
    assert sum(steps) == reached == target(granted, *last)


@pytest.mark.parametrize(
    ("difference", "disputed", "kind"),
    [
        (3, False, Kind.REFUND),
        (3, True, Kind.DISPUTE),
        (-3, False, Kind.DISPUTE_REVERSAL),
        (-3, True, Kind.DISPUTE_REVERSAL),
    ],
)
def test_a_reversal_is_a_posting_that_the_rules_take(
    difference: int, disputed: bool, kind: Kind
) -> None:
    made = rules.reversal(
        OWNER, ID, "pi_1", difference=Decimal(difference), number=7, disputed=disputed
    )
    assert (made.type, made.amount) == (kind, Decimal(-difference))
    assert (made.organization_id, made.id, made.payment_intent_id) == (OWNER, ID, "pi_1")
    assert (made.key, made.counterparty) == ("stripe:pi_1:reversal:7", SystemAccount.STRIPE)
    assert refusal(made) is None


# Holds
