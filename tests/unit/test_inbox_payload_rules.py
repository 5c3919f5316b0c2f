"""What the inbox reads of a payload, what it removes from it, and when it must not be applied."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.errors import (
    InvalidRequestError,
    LeasesLostError,
    MalformedEventError,
    PayloadDeletedError,
    StripeFailedError,
    StripeMissingError,
)
from shared.inbox import rules
from shared.inbox.model import ClaimedEvent, EventKey, EventState, Lane

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
KEY = EventKey("acct_1", livemode=True, id="evt_1")
CLAIMED = ClaimedEvent(KEY, "payment_intent.succeeded", None, "{}", 1, NOW, None)
EVENT: dict[str, Any] = {"id": "evt_1", "type": "x", "object": "event", "created": 1}


def read(**changes: Any) -> str:
    """Return the id of an event with changed fields."""
    header, text = rules.read_header(json.dumps(EVENT | changes).encode())
    assert json.loads(text) == EVENT | changes
    return header.id


def test_an_event_is_read_with_and_without_an_account_and_a_version() -> None:
    assert read() == "evt_1"
    assert read(account="acct_1", api_version="2026-01-28") == "evt_1"
    assert read(account="", api_version=None) == "evt_1"
    assert read(id="e" * 255, type="t" * 255) == "e" * 255


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"id": "\xff"}', "The body is not UTF-8."),
        (b"[]", "The body is not a Stripe event: Expected `object`, got `array`"),
        (json.dumps(EVENT | {"object": "charge"}).encode(), "The body is not a Stripe event."),
        *(
            (json.dumps(EVENT | {name: bad}).encode(), "The body is not a Stripe event.")
            for name in ("id", "type", "account", "api_version")
            for bad in ("a\n", "ä", "x" * 256)
        ),
        *(
            (json.dumps(EVENT | {name: ""}).encode(), "The body is not a Stripe event.")
            for name in ("id", "type")
        ),
    ],
)
def test_what_is_no_event_is_refused_with_the_reason(body: bytes, detail: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        rules.read_header(body)
    assert refused.value.detail == detail


def test_client_secrets_are_removed_at_any_depth_and_nothing_else_is() -> None:
    text = '{"a": [{"client_secret" : "pi_1_secret\\"x"}], "client_secret": "y", "b": "secret"}'
    assert json.loads(rules.without_client_secrets(text)) == {
        "a": [{"client_secret": "[removed]"}], "client_secret": "[removed]", "b": "secret"
    }  # fmt: skip
    untouched = '{"client_secret": null, "a": "client_secret"}'
    assert rules.without_client_secrets(untouched) == untouched


def test_a_deleted_payload_is_left_with_its_header_and_the_name_of_its_object() -> None:
    payload = '{"id":"evt_1","data":{"object":{"id":"pi_1","object":"payment_intent","amount":1}}}'
    assert json.loads(rules.without_data(payload, "evt_1", "x")) == {
        "id": "evt_1", "object": "event", "type": "x",
        "data": {"object": {"id": "pi_1", "object": "payment_intent"}},
    }  # fmt: skip


@pytest.mark.parametrize("payload", ["{}", '{"data":{"object":{}}}', "[", "[" * 100_000])
def test_a_payload_whose_object_has_no_name_is_left_with_its_header(payload: str) -> None:
    left = json.loads(rules.without_data(payload, "evt_1", "invoice.upcoming"))
    assert left == {"id": "evt_1", "object": "event", "type": "invoice.upcoming"}


def test_an_event_on_which_five_workers_died_is_poison() -> None:
    assert rules.poison(CLAIMED) is None
    assert rules.poison(replace(CLAIMED, leases_lost=4)) is None
    error = rules.poison(replace(CLAIMED, leases_lost=5))
    assert isinstance(error, LeasesLostError)
    assert str(error) == "5 workers in a row died or froze while they applied it."


def test_an_event_whose_payload_was_deleted_is_not_applied() -> None:
    error = rules.poison(replace(CLAIMED, payload_deleted_at=NOW))
    assert isinstance(error, PayloadDeletedError)
    assert str(error) == (
        "Its payload was deleted on 2026-01-31 (PREPAID_EVENT_RETENTION); replay with --refetch."
    )


def test_an_event_that_waits_for_stripe_is_tried_for_days_in_the_lane_of_such_events() -> None:
    for attempts, state in ((299, EventState.RETRYING), (300, EventState.DEAD)):
        event = replace(CLAIMED, attempts=attempts)
        outcome = rules.after_failure(event, StripeFailedError("x"), "t", random=0.25)
        assert (outcome.key, outcome.state, outcome.lane) == (KEY, state, Lane.STRIPE)
    waits = rules.after_failure(CLAIMED, StripeFailedError("x"), "t", random=0.25)
    assert waits.retry_in == rules.backoff(1, random=0.25)


def test_a_failure_that_is_not_stripes_goes_on_alone() -> None:
    for error in (OSError("x"), MalformedEventError("x"), StripeMissingError("x")):
        outcome = rules.after_failure(CLAIMED, error, "t", random=0.5)
        assert outcome.lane is Lane.ALONE
        assert rules.is_unanswered(error) is False
        assert rules.is_deterministic(error) is isinstance(error, MalformedEventError)


def test_a_reason_is_cut_after_1000_characters_and_a_trace_before_its_last_8000() -> None:
    outcome = rules.after_failure(CLAIMED, OSError("e" * 1001), "x" * 8001, random=0.5)
    assert (len(outcome.reason or ""), len(outcome.error_trace or "")) == (1000, 8000)


@pytest.mark.parametrize(
    ("failures", "seconds"), [(10, 5), (11, 10), (15, 160), (16, 300), (99, 300)]
)
def test_a_broken_type_pauses_twice_as_long_at_each_failure(failures: int, seconds: int) -> None:
    pause = rules.breaker_pause(failures)
    assert pause is not None
    assert pause.total_seconds() == seconds


def test_an_event_of_another_mode_or_account_says_what_to_change() -> None:
    header, _ = rules.read_header(json.dumps(EVENT | {"livemode": True}).encode())
    assert rules.quarantine_reason(header, livemode=False, accounts=set()) == (
        "a live event, and this installation's key is a test one"
    )
    sent, _ = rules.read_header(json.dumps(EVENT | {"account": "acct_2"}).encode())
    assert rules.quarantine_reason(sent, livemode=True, accounts=set()) == (
        "a test event, and this installation's key is a live one"
    )
    assert rules.quarantine_reason(sent, livemode=False, accounts={"acct_1"}) == (
        "the account acct_2 is not listed in PREPAID_STRIPE_ACCOUNTS"
    )


def test_what_an_event_waits_for_names_the_organization() -> None:
    assert rules.waits_for_organization("acme") == "organization:acme"
