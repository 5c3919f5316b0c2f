"""What a replay decides: how many events come next, when it waits, and what it counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from shared.errors import ValidationError
from shared.events.model import ProcessedEvent
from shared.inbox.model import EventKey, EventOutcome, EventState
from shared.ledger.model import PostedTransaction, PostingStatus
from shared.replay import rules
from shared.replay.model import (
    DEFAULT_OPTIONS,
    Effect,
    OrganizationChange,
    PostedRow,
    ReplayOptions,
)

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
ACME, GLOBEX, INITECH = UUID(int=1), UUID(int=2), UUID(int=3)


def posted(number: int, **fields: Any) -> PostedTransaction:
    row: dict[str, Any] = {
        "organization_id": ACME,
        "status": PostingStatus.POSTED,
        "id": UUID(int=number),
        "seq": number,
        "amount": Decimal(10),
        "balance_after": Decimal(10),
        "created_at": NOW,
    }
    return PostedTransaction(**row | fields)


def processed(
    name: str,
    state: EventState = EventState.APPLIED,
    result: PostedTransaction | None = None,
    **fields: Any,
) -> ProcessedEvent:
    return ProcessedEvent(EventOutcome(EventKey("acct", False, name), state, **fields), result)


def test_a_replay_begins_in_the_past() -> None:
    rules.check_since(None, NOW)
    rules.check_since(NOW, NOW)
    with pytest.raises(ValidationError) as raised:
        rules.check_since(NOW + timedelta(seconds=1), NOW)
    assert raised.value.detail == "since: 2026-01-31T12:00:01Z is in the future"


@pytest.mark.parametrize(
    ("options", "failures", "size"),
    [
        (DEFAULT_OPTIONS, 0, 200),
        (DEFAULT_OPTIONS, 1000, 200),
        (ReplayOptions(refetch=True), 0, 50),
        (ReplayOptions(stop_after=3), 0, 3),
        (ReplayOptions(stop_after=3), 2, 1),
        (ReplayOptions(stop_after=3), 3, 0),
        (ReplayOptions(stop_after=3), 9, 0),
        (ReplayOptions(rate=0.1), 0, 1),
        (ReplayOptions(rate=2.9), 0, 2),
        (ReplayOptions(rate=1000.0), 0, 200),
        (ReplayOptions(rate=5.0, stop_after=3, refetch=True), 0, 3),
    ],
)
def test_a_chunk_exceeds_neither_the_failures_that_are_left_nor_a_second_of_the_rate(
    options: ReplayOptions, failures: int, size: int
) -> None:
    assert rules.chunk_size(options, failures) == size


@pytest.mark.parametrize(
    ("rate", "events", "elapsed", "pause"),
    [(None, 200, 0.0, 0.0), (10.0, 5, 0.2, 0.3), (10.0, 5, 2.0, 0.0), (0.5, 1, 0.0, 2.0)],
)
def test_a_pause_fills_up_the_time_that_the_rate_gives_a_chunk(
    rate: float | None, events: int, elapsed: float, pause: float
) -> None:
    found = rules.pause_seconds(ReplayOptions(rate=rate), events, elapsed)
    assert found == pytest.approx(pause)


def test_an_event_is_applied_if_it_changed_the_ledger() -> None:
    replayed = posted(2, status=PostingStatus.REPLAYED)
    assert rules.effects(
        [
            processed("evt_1", result=posted(1)),
            processed("evt_2", result=replayed),
            processed("evt_3"),
            processed("evt_4", EventState.IGNORED),
            processed("evt_5", EventState.DEAD, posted(5)),
            processed("evt_6", EventState.RETRYING),
        ]
    ) == {
        "evt_1": Effect.APPLIED,
        "evt_2": Effect.NOOP,
        "evt_3": Effect.NOOP,
        "evt_4": Effect.NOOP,
        "evt_5": Effect.FAILED,
        "evt_6": Effect.FAILED,
    }


def test_two_events_with_one_posting_changed_the_ledger_once() -> None:
    found = rules.effects(
        [
            processed("evt_1", result=posted(1)),
            processed("evt_2", result=posted(1)),
            processed("evt_3", result=posted(2)),
        ]
    )
    assert [*found.values()] == [Effect.APPLIED, Effect.NOOP, Effect.APPLIED]


def test_events_that_failed_are_listed_with_their_errors() -> None:
    assert rules.failures(
        [
            processed("evt_1", EventState.DEAD, reason="no such organization"),
            processed("evt_2"),
            processed("evt_3", EventState.RETRYING, reason="a\0b"),
            processed("evt_4", EventState.IGNORED, reason="not ours"),
        ]
    ) == [
        {"id": "evt_1", "state": "dead", "error": "no such organization"},
        {"id": "evt_3", "state": "retrying", "error": "a\\x00b"},
    ]


def test_an_error_is_cut_to_its_length_or_missing() -> None:
    assert rules.failure("evt_1", None, "x" * 301) == {
        "id": "evt_1",
        "state": None,
        "error": "x" * 300,
    }
    assert rules.failure("evt_1", "dead", None)["error"] is None


def test_the_organizations_of_outcomes_and_of_postings_are_in_order_each_once() -> None:
    assert rules.touched(
        [
            processed("evt_1", organization_id=GLOBEX),
            processed("evt_2", result=posted(1)),
            processed("evt_3", organization_id=INITECH, result=posted(2, organization_id=INITECH)),
            processed("evt_4"),
        ]
    ) == [ACME, GLOBEX, INITECH]


def row(organization_id: UUID, seq: int, amount: int, balance_after: int) -> PostedRow:
    return PostedRow(
        organization_id,
        seq,
        UUID(int=100 + seq),
        "purchase",
        Decimal(amount),
        Decimal(balance_after),
        f"key {seq}",
    )


def test_rows_of_an_organization_lead_from_its_balance_before_to_that_after() -> None:
    rows = [row(ACME, 4, 10, 15), row(ACME, 5, -3, 12), row(GLOBEX, 1, 7, 7)]
    assert rules.changes(rows) == [
        OrganizationChange(ACME, Decimal(5), Decimal(12), (UUID(int=104), UUID(int=105))),
        OrganizationChange(GLOBEX, Decimal(0), Decimal(7), (UUID(int=101),)),
    ]
    assert rules.changes([]) == []


def test_an_event_that_was_not_tried_says_why_and_what_to_do() -> None:
    assert rules.not_tried(None) == rules.NOT_TRIED
    assert rules.not_tried(NOW) == (
        "not tried: its payload was deleted on 2026-01-31 (PREPAID_EVENT_RETENTION);"
        " replay with --refetch"
    )
