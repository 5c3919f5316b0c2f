"""What the inbox decides: backoff, breaker, dead letters, quarantine."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidRequestError, MalformedEventError
from shared.inbox import rules
from shared.inbox.model import ClaimedEvent, EventHeader, EventKey, EventState

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
RANDOM = st.floats(0, 1)


def claimed(attempts: int = 1) -> ClaimedEvent:
    key = EventKey("", livemode=False, id="evt_1")
    return ClaimedEvent(key, "payment_intent.succeeded", None, "{}", attempts, NOW, None)


def header(*, livemode: bool = False, account: str | None = None) -> EventHeader:
    return EventHeader("evt_1", "x", "event", 1, livemode, account)


@given(attempts=st.integers(1, 5000), random=RANDOM)
def test_a_backoff_is_never_shorter_than_its_first_step_nor_longer_than_15_minutes_and_a_fifth(
    attempts: int, random: float
) -> None:
    wait = rules.backoff(attempts, random=random)
    assert timedelta(seconds=0.8) <= wait <= timedelta(seconds=900 * 1.2)


@given(attempts=st.integers(1, 20), random=RANDOM)
def test_a_backoff_doubles_until_its_maximum(attempts: int, random: float) -> None:
    this, following = (rules.backoff(n, random=random) for n in (attempts, attempts + 1))
    assert this <= following <= this * 2 + timedelta(microseconds=2)


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(1, 1), (2, 2), (3, 4), (10, 512), (11, 900), (1000, 900)]
)
def test_a_backoff_in_the_middle_of_its_spread_is_a_power_of_two(
    attempts: int, seconds: int
) -> None:
    assert rules.backoff(attempts, random=0.5) == timedelta(seconds=seconds)


@given(attempts=st.integers(1, 30))
def test_the_spread_of_a_backoff_is_a_fifth_either_way(attempts: int) -> None:
    middle = rules.backoff(attempts, random=0.5)
    assert rules.backoff(attempts, random=0) == middle * 0.8
    assert rules.backoff(attempts, random=1) == middle * 1.2


@given(failures=st.integers(0, rules.BREAKER_FAILURES - 1))
def test_a_type_does_not_pause_for_fewer_failures_than_the_limit(failures: int) -> None:
    assert rules.breaker_pause(failures) is None


@given(failures=st.integers(rules.BREAKER_FAILURES, 10**9))
def test_a_pause_is_between_5_seconds_and_5_minutes_and_never_shrinks(failures: int) -> None:
    pause, following = rules.breaker_pause(failures), rules.breaker_pause(failures + 1)
    assert pause is not None
    assert following is not None
    assert timedelta(seconds=5) <= pause <= following <= timedelta(minutes=5)


def test_an_unexpected_failure_is_tried_again_until_the_last_attempt() -> None:
    for attempts in range(1, rules.ATTEMPTS_MAX):
        outcome = rules.after_failure(claimed(attempts), OSError("x"), "", random=0.5)
        assert outcome.state is EventState.RETRYING
        assert outcome.retry_in == rules.backoff(attempts, random=0.5)


@pytest.mark.parametrize("attempts", [rules.ATTEMPTS_MAX, rules.ATTEMPTS_MAX + 5])
def test_a_failure_at_the_last_attempt_is_dead(attempts: int) -> None:
    outcome = rules.after_failure(claimed(attempts), OSError("x"), "", random=0.5)
    assert (outcome.state, outcome.retry_in) == (EventState.DEAD, None)


def test_an_error_that_another_attempt_cannot_help_is_dead_at_once() -> None:
    error = MalformedEventError("no amount")
    outcome = rules.after_failure(claimed(), error, "the trace", random=0.5)
    assert outcome.state is EventState.DEAD
    assert outcome.reason == "no amount"
    assert outcome.error_class == "MalformedEventError"
    assert outcome.error_trace == "the trace"


def test_an_error_without_words_is_told_by_its_class() -> None:
    outcome = rules.after_failure(claimed(), KeyError(), "", random=0.5)
    assert outcome.reason == "KeyError"


def test_an_endless_error_is_cut_and_of_its_trace_the_end_is_kept() -> None:
    trace = "start" + "x" * 100_000 + "the cause"
    outcome = rules.after_failure(claimed(), OSError("e" * 100_000), trace, random=0.5)
    assert outcome.reason is not None
    assert outcome.error_trace is not None
    assert len(outcome.reason) <= 1000
    assert len(outcome.error_trace) <= rules.TRACE_LENGTH_MAX
    assert outcome.error_trace.endswith("the cause")


@pytest.mark.parametrize(
    ("sent", "livemode", "accounts", "word"),
    [
        (header(), False, set(), None),
        (header(livemode=True), True, set(), None),
        (header(livemode=True), False, set(), "live event"),
        (header(), True, set(), "test event"),
        (header(account="acct_1"), False, {"acct_1"}, None),
        (header(account="acct_1"), False, {"acct_2"}, "acct_1"),
        (header(account=""), False, set(), "account"),
    ],
)
def test_an_event_that_is_not_ours_is_kept_apart_with_its_reason(
    sent: EventHeader, *, livemode: bool, accounts: set[str], word: str | None
) -> None:
    reason = rules.quarantine_reason(sent, livemode=livemode, accounts=accounts)
    assert reason is None if word is None else reason is not None and word in reason


def test_a_thin_event_says_what_to_choose_in_stripe() -> None:
    thin = {
        "id": "evt_1",
        "object": "v2.core.event",
        "type": "v1.payment_intent.succeeded",
        "created": "2026-11-27T00:00:00.000Z",
        "related_object": {
            "id": "pi_1",
            "type": "payment_intent",
            "url": "/v1/payment_intents/pi_1",
        },
    }
    with pytest.raises(InvalidRequestError, match="snapshot"):
        rules.read_header(json.dumps(thin, separators=(",", ":")).encode())


@given(body=st.binary())
def test_no_bytes_whatever_are_more_than_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        rules.read_header(body)


@given(text=st.text(alphabet=st.characters(codec="utf-8")))
def test_an_id_that_is_read_is_plain_and_not_too_long(text: str) -> None:
    body = json.dumps({"id": text, "type": "x", "object": "event", "created": 1}).encode()
    plain = text.isascii() and text.isprintable() and 0 < len(text) <= 255
    try:
        found, _ = rules.read_header(body)
    except InvalidRequestError:
        assert not plain
    else:
        assert plain
        assert found.id == text
