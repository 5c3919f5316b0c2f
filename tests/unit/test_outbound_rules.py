"""What outbound messages decide: signatures, backoff, death, what an endpoint may be."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ValidationError
from shared.outbound import rules
from shared.outbound.model import (
    ClaimedMessage,
    DeliveryOutcome,
    DeliveryResponse,
    MessageKey,
    MessageState,
    MessageType,
)

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
RANDOM = st.floats(0, 1)
SECRET = rules.new_secret(b"n" * 32)
OLD_SECRET = rules.new_secret(b"o" * 32)
ID = UUID("01a2069d-5ade-7000-8000-000000000001")


def claimed(
    attempts: int = 1,
    *,
    since: datetime = NOW,
    previous_secret: str | None = None,
    previous_secret_until: datetime | None = None,
) -> ClaimedMessage:
    return ClaimedMessage(
        MessageKey(ID, UUID(int=2)),
        MessageType.CREDITS_LOW,
        '{"type": "credits.low"}',
        attempts,
        since,
        "https://example.com",
        SECRET,
        previous_secret,
        previous_secret_until,
        endpoint_disabled=False,
    )


def signature_by_hand(secret: bytes, signed: str) -> str:
    digest = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def test_the_signature_is_the_one_that_standard_webhooks_publishes() -> None:
    assert (
        rules.sign(
            ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1614265330,
            '{"test": 2432232314}',
        )
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


@given(secret=st.binary(min_size=24, max_size=64), body=st.text())
def test_a_signature_covers_id_time_and_body_with_the_secrets_own_bytes(
    secret: bytes, body: str
) -> None:
    assert rules.sign([rules.new_secret(secret)], "msg_1", 7, body) == signature_by_hand(
        secret, f"msg_1.7.{body}"
    )


def test_the_headers_are_those_of_standard_webhooks() -> None:
    assert rules.headers(claimed(), now=NOW + timedelta(milliseconds=999)) == {
        "webhook-id": "msg_01a2069d5ade70008000000000000001",
        "webhook-timestamp": str(int(NOW.timestamp())),
        "webhook-signature": signature_by_hand(
            b"n" * 32, f'msg_{ID.hex}.{int(NOW.timestamp())}.{{"type": "credits.low"}}'
        ),
    }


@pytest.mark.parametrize(("left", "count"), [(1, 2), (0, 1), (-1, 1)])
def test_the_secret_before_a_rotation_signs_too_until_its_time_is_over(
    left: int, count: int
) -> None:
    until = NOW + timedelta(seconds=left)
    message = claimed(previous_secret=OLD_SECRET, previous_secret_until=until)
    found = rules.headers(message, now=NOW)["webhook-signature"].split(" ")
    signed = f'msg_{ID.hex}.{int(NOW.timestamp())}.{{"type": "credits.low"}}'
    both = [signature_by_hand(key * 32, signed) for key in (b"n", b"o")]
    assert found == both[:count]


def test_no_secret_shows_in_a_traceback() -> None:
    shown = repr(claimed(previous_secret=OLD_SECRET, previous_secret_until=NOW))
    assert SECRET not in shown
    assert OLD_SECRET not in shown


def test_a_messages_id_is_read_in_both_forms() -> None:
    assert rules.read_message_id(rules.public_id(ID)) == ID
    assert rules.read_message_id(str(ID)) == ID
    assert rules.read_message_id("msg_nonsense") is None


def test_a_message_to_one_endpoint_is_named_by_both() -> None:
    key = MessageKey(ID, UUID(int=2))
    name = f"msg_{ID.hex}/{UUID(int=2)}"
    assert rules.delivery_id(key) == name
    assert rules.read_delivery_id(name) == key


@pytest.mark.parametrize(
    ("attempts", "seconds"),
    [(1, 5), (2, 300), (3, 1800), (4, 7200), (5, 18_000), (9, 86_400), (10, 86_400), (99, 86_400)],
)
def test_a_backoff_follows_the_schedule_and_ends_at_a_day(attempts: int, seconds: int) -> None:
    assert rules.backoff(attempts, random=0.5) == timedelta(seconds=seconds)


@given(attempts=st.integers(1, 50), random=RANDOM)
def test_a_backoff_spreads_by_a_tenth(attempts: int, random: float) -> None:
    middle = rules.backoff(attempts, random=0.5)
    assert abs(rules.backoff(attempts, random=random) - middle) <= middle * 0.1


@pytest.mark.parametrize(
    ("response", "state", "reason"),
    [
        (DeliveryResponse(200), "delivered", None),
        (DeliveryResponse(299), "delivered", None),
        (DeliveryResponse(300), "pending", "the receiver answered 300"),
        (DeliveryResponse(410), "dead", "the receiver answered 410"),
        (DeliveryResponse(None, "TimeoutError"), "pending", "TimeoutError"),
    ],
)
def test_an_outcome_has_its_message_the_answer_and_the_reason(
    response: DeliveryResponse, state: str, reason: str | None
) -> None:
    found = rules.after_attempt(claimed(2), response, now=NOW, random=0.5)
    again = NOW + timedelta(seconds=300) if state == "pending" else None
    assert found == DeliveryOutcome(
        claimed().key, MessageState(state), response.status, reason, again
    )


@pytest.mark.parametrize(("random", "seconds"), [(0.0, 270.0), (0.25, 285.0), (1.0, 330.0)])
def test_messages_that_failed_together_are_tried_again_at_different_times(
    random: float, seconds: float
) -> None:
    assert rules.backoff(2, random=random) == timedelta(seconds=seconds)


def test_the_first_wait_is_kept_where_clocks_disagree_about_the_deadline() -> None:
    now = NOW + rules.RETRY_FOR - timedelta(seconds=1)
    found = rules.after_attempt(claimed(9), DeliveryResponse(500), now=now, random=0.5)
    assert found.available_at == now + timedelta(seconds=5)


def test_a_message_to_a_disabled_endpoint_is_dead_and_says_what_to_do() -> None:
    assert rules.for_disabled_endpoint(claimed()) == DeliveryOutcome(
        claimed().key,
        MessageState.DEAD,
        None,
        "the endpoint is disabled; add it again, then replay",
    )


@given(status=st.integers(200, 299))
def test_any_2xx_is_delivered_even_after_three_days(status: int) -> None:
    late = NOW + timedelta(days=9)
    found = rules.after_attempt(claimed(), DeliveryResponse(status), now=late, random=0.5)
    assert (found.state, found.last_status, found.reason) == ("delivered", status, None)


@given(status=st.one_of(st.none(), st.integers(100, 199), st.integers(300, 599)))
def test_anything_else_is_tried_again_before_three_days_are_over_and_dead_after_them(
    status: int | None,
) -> None:
    response = DeliveryResponse(status, None if status else "TimeoutError")
    soon = rules.after_attempt(claimed(), response, now=NOW, random=0.5)
    late = rules.after_attempt(claimed(), response, now=NOW + rules.RETRY_FOR, random=0.5)
    assert soon.state is (MessageState.DEAD if status == 410 else MessageState.PENDING)
    assert late.state is MessageState.DEAD
    assert soon.reason
    assert late.reason


@given(
    attempts=st.integers(1, 20),
    random=RANDOM,
    seconds=st.integers(0, int(rules.RETRY_FOR.total_seconds()) - 1),
)
def test_another_attempt_is_never_planned_after_the_deadline_nor_at_once(
    attempts: int, random: float, seconds: int
) -> None:
    now = NOW + timedelta(seconds=seconds)
    found = rules.after_attempt(claimed(attempts), DeliveryResponse(500), now=now, random=random)
    assert found.available_at is not None
    assert found.available_at >= now + timedelta(seconds=5 * 0.9)
    assert found.available_at <= max(NOW + rules.RETRY_FOR, now + timedelta(seconds=5))


def test_the_schedule_makes_its_last_attempt_at_three_days() -> None:
    now, moments = NOW, []
    for attempts in range(1, 100):
        moments.append(now - NOW)
        found = rules.after_attempt(claimed(attempts), DeliveryResponse(503), now=now, random=0.5)
        if found.available_at is None:
            break
        now = found.available_at
    assert found.state is MessageState.DEAD
    assert len(moments) == 10
    assert moments[-1] == timedelta(days=3)


def test_a_long_reason_is_cut() -> None:
    found = rules.after_attempt(claimed(), DeliveryResponse(None, "x" * 9999), now=NOW, random=0.5)
    assert found.reason == "x" * rules.REASON_LENGTH_MAX


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("4.250000000"), "4.25"),
        (Decimal("1E+2"), "100"),
        (Decimal("0.000000001"), "0.000000001"),
        (Decimal("12345678901234567890123456789.123456789"), None),
        ([Decimal("1.0"), {"a": Decimal("-0.50")}], '[1,{"a":-0.5}]'),
        ("a\0b", '"a\\\\x00b"'),
        ("\ud800", '"\\\\ud800"'),
        (datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), '"2026-01-01T00:00:00Z"'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (None, "null"),
    ],
)
def test_data_is_written_exactly(value: object, text: str | None) -> None:
    assert msgspec.json.encode(rules.exact(value)).decode() == (text or str(value))


def test_a_moment_is_written_in_utc_wherever_the_process_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        written = rules.exact(NOW)
    time.tzset()
    assert written == "2026-01-31T12:00:00Z"


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"url": "http://example.com"}, "url", None),
        ({"url": "https://127.0.0.1/x"}, "url", None),
        (
            {"types": ["credits.low", "credits.nonsense", "a"]},
            "types",
            "'a', 'credits.nonsense': no such type",
        ),
        ({"description": "x" * 201}, "description", "at most 200 printable characters"),
        ({"description": "a\nb"}, "description", "at most 200 printable characters"),
    ],
)
def test_an_endpoint_that_is_wrong_says_which_field_and_why(
    changes: dict[str, object], field: str, message: str | None
) -> None:
    fields: dict[str, object] = {"url": "https://example.com", "types": [], "description": None}
    rules.check_endpoint(**fields, allow_private=False)  # type: ignore[arg-type] # as a client sends
    with pytest.raises(ValidationError) as raised:
        rules.check_endpoint(**fields | changes, allow_private=False)  # type: ignore[arg-type] # same
    (error,) = raised.value.errors or []
    assert (error["loc"], error["type"]) == (["body", field], "value_error")
    assert message in (None, error["msg"])
    assert isinstance(error["msg"], str)
    assert raised.value.detail == f"{field}: {error['msg']}"
    assert json.dumps(raised.value.errors)


def test_all_that_is_wrong_with_an_endpoint_is_said_at_once() -> None:
    with pytest.raises(ValidationError) as raised:
        rules.check_endpoint(url="x", types=["x"], description="\n", allow_private=False)
    assert [error["loc"][1] for error in raised.value.errors or []] == [
        "url",
        "types",
        "description",
    ]
    assert raised.value.detail.endswith(
        "; types: 'x': no such type; description: at most 200 printable characters"
    )


def test_a_private_address_is_accepted_where_the_operator_allows_it() -> None:
    for url in ("https://127.0.0.1/x", "http://localhost:8000/hook"):
        rules.check_endpoint(url=url, types=[], description="d" * 200, allow_private=True)
