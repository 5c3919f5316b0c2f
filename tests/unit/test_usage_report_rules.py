"""What a report of usage is added up from: totals where they are complete, else a few rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.errors import ValidationError
from shared.usage_reports import rules
from shared.usage_reports.model import Dimension, GroupBy, ReportRequest, ReportSource, Setting

NOW = datetime(2026, 1, 31, 12, 30, 15, 7, tzinfo=UTC)
MODEL, USER = Dimension.MODEL, Dimension.USER
SINCE = datetime(2026, 1, 1, 9, 59, 59, 999_999, tzinfo=UTC)
# Usage may be dated an hour ahead: what was posted at 9:59 may be of 10:59.
COMPLETE = datetime(2026, 1, 1, 11, tzinfo=UTC)
MODELS = Setting(frozenset({MODEL}), SINCE)


def report(**fields: Any) -> ReportRequest:
    asked: dict[str, Any] = {
        "start": COMPLETE,
        "end": NOW,
        "group_by": frozenset({GroupBy.MODEL, GroupBy.DAY}),
        "groups_max": 10,
    }
    return ReportRequest(**asked | fields)


@pytest.mark.parametrize(
    ("before", "dimensions", "after"),
    [
        (MODELS, {MODEL}, MODELS),
        (Setting(), {MODEL}, Setting(frozenset({MODEL}), NOW)),
        (MODELS, {MODEL, USER}, Setting(frozenset({MODEL, USER}), NOW)),
        (MODELS, {USER}, Setting(frozenset({USER}), NOW)),
        (Setting(frozenset({MODEL, USER}), SINCE), {MODEL}, MODELS),
        (MODELS, set(), Setting()),
    ],
)
def test_totals_begin_anew_unless_dimensions_are_only_turned_off(
    before: Setting, dimensions: set[Dimension], after: Setting
) -> None:
    assert rules.changed(before, frozenset(dimensions), now=NOW) == after


def test_totals_are_complete_from_the_whole_hour_after_what_may_be_dated_ahead() -> None:
    assert rules.totals_from(Setting()) is None
    assert rules.totals_from(MODELS) == COMPLETE
    on_the_hour = Setting(MODELS.dimensions, COMPLETE)
    assert rules.totals_from(on_the_hour) == COMPLETE + timedelta(hours=2)


@pytest.mark.parametrize(
    ("request_", "setting", "has"),
    [
        (report(), MODELS, True),
        (report(start=COMPLETE - timedelta(microseconds=1)), MODELS, False),
        (report(group_by=frozenset({GroupBy.DAY})), MODELS, True),
        (report(group_by=frozenset({GroupBy.USER})), MODELS, False),
        (report(values={USER: "jo"}), MODELS, False),
        (report(values={MODEL: "gpt"}), MODELS, True),
        (report(), Setting(), False),
    ],
)
def test_totals_serve_a_report_of_their_dimensions_and_of_their_time(
    request_: ReportRequest, setting: Setting, has: bool
) -> None:
    assert rules.has_totals(request_, setting) is has
    source = ReportSource.TOTALS if has else ReportSource.ROWS
    assert rules.source_of(request_, setting, rows=50_000) is source


def test_a_report_with_totals_may_be_of_any_number_of_rows() -> None:
    assert rules.source_of(report(), MODELS, rows=10**9) is ReportSource.TOTALS


@pytest.mark.parametrize(
    ("setting", "on"),
    [
        (Setting(frozenset({USER, MODEL}), NOW), "model, user from 2026-01-31T14:00Z"),
        (Setting(), "none"),
        (Setting(frozenset(), SINCE), "none"),
    ],
)
def test_a_report_of_too_many_rows_says_what_is_on_and_what_to_do(
    setting: Setting, on: str
) -> None:
    with pytest.raises(ValidationError) as raised:
        rules.source_of(report(), setting, rows=50_001)
    message = (
        f"needs totals that there are not (dimensions that are on: {on}), and 50,001 rows are too"
        " many to add up (at most 50,000). Turn the dimensions on with PUT"
        " /v1/billing/{organizationId}/usage/dimensions, or ask for a period that begins later."
    )
    assert raised.value.detail == f"groupBy: {message}"
    assert raised.value.errors == [
        {"loc": ["query", "groupBy"], "msg": message, "type": "value_error"}
    ]


def test_a_period_is_rounded_outward_to_whole_hours() -> None:
    hour = timedelta(hours=1)
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert rules.whole_hours(NOW, NOW) == (noon, noon + hour)
    assert rules.whole_hours(noon, noon + hour) == (noon, noon + hour)
    microsecond = timedelta(microseconds=1)
    for late in (microsecond, timedelta(seconds=1), timedelta(minutes=1)):
        assert rules.whole_hours(noon + late, noon + late) == (noon, noon + hour)
