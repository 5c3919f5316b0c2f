"""What is refused of a hold, what a capture takes over, and how a hold that has ended says so."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from shared.ledger import rules as ledger_rules
from shared.ledger.holds import rules
from shared.ledger.holds.model import Hold, NewHold
from shared.ledger.model import Posting, SystemAccount, TransactionType
from shared.ledger.origin import KEY_ID, PRICING, TAGS

ONE = UUID(int=1)
NOON = datetime(2026, 11, 28, 12, 0, 0, 5, tzinfo=UTC)


def new_hold(**fields: Any) -> NewHold:
    asked: dict[str, Any] = {
        "organization_id": ONE,
        "id": ONE,
        "amount": Decimal(5),
        "seconds": 60,
        "key": "k",
    }
    return NewHold(**asked | fields)


def stored(**fields: Any) -> Hold:
    row: dict[str, Any] = dict.fromkeys(Hold.__struct_fields__)
    return Hold(**row | {"id": ONE, "amount": Decimal(5), "captured_amount": Decimal(0)} | fields)


def capture(**fields: Any) -> Posting:
    asked: dict[str, Any] = {
        "organization_id": ONE,
        "id": ONE,
        "type": TransactionType.HOLD_CAPTURE,
        "counterparty": SystemAccount.REVENUE,
        "key": "k",
        "amount": Decimal(-1),
        "hold_id": ONE,
    }
    return Posting(**asked | fields)


@pytest.mark.parametrize(
    ("amount", "key", "seconds", "problem"),
    [
        ("0.000000001", "k", 1, None),
        ("1e18", "k" * 255, rules.SECONDS_MAX, None),
        ("0", "k", 1, "amount: must be positive"),
        ("-1", "k", 1, "amount: must be positive"),
        ("nan", "k", 1, "amount: must be a finite number"),
        ("-inf", "k", 1, "amount: must be a finite number"),
        ("1e19", "k", 1, "amount: must be at most 1000000000000000000"),
        ("1e-10", "k", 1, "amount: at most 9 decimals"),
        ("1", "k", 0, "expires_in_seconds: 1 to 2592000"),
        ("1", "k", rules.SECONDS_MAX + 1, "expires_in_seconds: 1 to 2592000"),
        ("1", "", 1, "key: 1 to 255 characters"),
        ("1", "k" * 256, 1, "key: 1 to 255 characters"),
        ("1", "\0", 1, "key: must not hold NUL or half of a surrogate pair"),
    ],
)
def test_a_hold_is_refused_by_name(
    amount: str, key: str, seconds: int, problem: str | None
) -> None:
    assert rules.refusal(new_hold(amount=Decimal(amount), key=key, seconds=seconds)) == problem


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"category": "c" * 100, "user_id": "u" * 255, "description": "d" * 2_000}, None),
        ({"category": "c" * 101}, "category: at most 100 characters"),
        ({"user_id": "u" * 256}, "user_id: at most 255 characters"),
        ({"description": "d" * 2_001}, "note: at most 2000 characters"),
        ({"user_id": "a\0"}, "user_id: must not hold NUL or half of a surrogate pair"),
        ({"metadata": {"a": "x" * 20_000}}, "metadata: at most 16384 bytes of JSON"),
    ],
)
def test_the_fields_of_a_hold_have_the_limits_of_a_debit(
    fields: dict[str, Any], problem: str | None
) -> None:
    assert rules.refusal(new_hold(**fields)) == problem


def test_a_hold_without_new_fields_has_the_digest_of_earlier_releases() -> None:
    assert rules.digest(new_hold()) == ledger_rules.request_digest(Decimal(5), 60, None)
    assert rules.digest(new_hold(user_id="jo")) != rules.digest(new_hold())
    assert rules.digest(new_hold(amount=Decimal("5.00"))) == rules.digest(new_hold())


def test_the_digest_of_a_hold_has_each_field_that_is_set_under_its_name() -> None:
    asked = {"user_id": "jo", "category": "chat", "metadata": {"a": 1}}
    expected = ledger_rules.request_digest(Decimal(5), 60, "a call", asked)
    assert rules.digest(new_hold(description="a call", **asked)) == expected


def test_the_digest_of_an_estimate_has_its_measures_in_place_of_their_price() -> None:
    measures = {"model": "m", "input_tokens": 5}
    expected = ledger_rules.request_digest(measures, 60, None)
    for price in (5, 6):
        assert rules.digest(new_hold(usage=measures, amount=Decimal(price))) == expected


def test_a_hold_has_its_key_and_price_in_its_metadata() -> None:
    made = rules.with_origin(new_hold(key_id=ONE, pricing={"book": "b"}, metadata={"a": 1}))
    assert made.metadata == {"a": 1, KEY_ID: str(ONE), PRICING: {"book": "b"}}
    assert rules.with_origin(new_hold()).metadata is None
    assert rules.with_origin(new_hold(pricing={"book": "b"})).metadata == {PRICING: {"book": "b"}}


def test_a_capture_has_the_fields_of_its_hold_where_it_has_none() -> None:
    hold = stored(
        user_id="jo",
        category="chat",
        description="a call",
        metadata={"a": 1, "b": 1, TAGS: ["x"], KEY_ID: "of the hold"},
    )
    made = rules.capture_of(hold, capture(category="image", metadata={"b": 2}))
    assert (made.user_id, made.category, made.description) == ("jo", "image", "a call")
    assert made.metadata == {"a": 1, "b": 2, TAGS: ["x"]}
    assert rules.capture_of(hold, capture()).category == "chat"
    own = {"user_id": "al", "category": "image", "description": "mine", "digest": "d"}
    kept = rules.capture_of(hold, capture(**own))
    assert {name: getattr(kept, name) for name in own} == own
    assert rules.capture_of(stored(), capture()).metadata is None


def test_the_digest_of_a_capture_is_that_of_its_request() -> None:
    asked = capture()
    made = rules.capture_of(stored(user_id="jo"), asked)
    assert made.digest == ledger_rules.digest(asked)
    parts = [capture(partial=True), capture(past_limit=True), capture()]
    assert len({ledger_rules.digest(part) for part in parts}) == len(parts)


@pytest.mark.parametrize(
    ("status", "captured_by", "expected"),
    [
        (
            "captured",
            ONE,
            (
                "The hold was captured at 2026-11-28T12:00:00Z by"
                " ct_00000000000000000000000000000001. Post more usage as a debit."
            ),
        ),
        (
            "captured",
            None,
            (
                "The hold was captured at 2026-11-28T12:00:00Z, without a debit."
                " Post more usage as a debit."
            ),
        ),
        (
            "released",
            None,
            "The hold was released at 2026-11-28T12:00:00Z. Post its usage as a debit.",
        ),
    ],
)
def test_a_hold_that_has_ended_says_how_and_what_to_do(
    status: str, captured_by: UUID | None, expected: str
) -> None:
    hold = stored(status=status, closed_at=NOON)
    assert rules.closed_detail(hold, captured_by) == expected


@pytest.mark.parametrize("status", ["active", "expired"])
def test_a_hold_that_has_expired_says_so_before_it_is_closed(status: str) -> None:
    hold = stored(status=status, expires_at=NOON)
    assert rules.closed_detail(hold, None) == (
        "The hold expired at 2026-11-28T12:00:00Z, and its credits are available again. Post its"
        ' usage as a debit, with onInsufficient "overdraft" if it has happened already.'
    )


def test_the_moment_of_an_end_is_in_utc_wherever_the_process_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paris = NOON.astimezone(timezone(timedelta(hours=1)))
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        detail = rules.closed_detail(stored(status="released", closed_at=paris), None)
    time.tzset()
    assert "at 2026-11-28T12:00:00Z" in detail


def test_a_closed_hold_reserves_nothing() -> None:
    parts = {"amount": Decimal(5), "captured_amount": Decimal(2)}
    assert stored(status="active", **parts).remaining == Decimal(3)
    assert stored(status="expired", **parts).remaining == 0
    assert replace(stored(status="active"), captured_amount=Decimal(7)).remaining == 0
