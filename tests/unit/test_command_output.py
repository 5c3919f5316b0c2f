"""What commands print of stored text, and the times that they take."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
import typer

from cli import paging
from cli.output import emit, refuse, table
from shared.times import in_utc

HOSTILE = "\x1b[2J\x1b]0;title\x07\r\x9b31m\u202egnp.exe\u2028\x7f"
OBEYED = "\x1b\x07\r\x9b\u202e\u2028\x7f"
TOO_EARLY, TOO_LATE = "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"


def test_a_terminal_obeys_nothing_that_is_stored(capsys: pytest.CaptureFixture[str]) -> None:
    emit(HOSTILE, as_json=False, human=str)
    shown = capsys.readouterr().out
    assert not set(shown) & set(OBEYED)
    assert shown.startswith("\\u001b[2J")


def test_json_with_control_characters_is_read_back_exactly(
    capsys: pytest.CaptureFixture[str],
) -> None:
    emit({"name": f"Ä\n{HOSTILE}"}, as_json=True, human=str)
    shown = capsys.readouterr().out
    assert not set(shown) & set(OBEYED)
    assert json.loads(shown) == {"name": f"Ä\n{HOSTILE}"}


def test_a_line_feed_in_a_cell_begins_no_row() -> None:
    lines = table(["reason"], [["fine\n7f3a  admin  keys.revoke"]], empty="").splitlines()
    assert lines == ["reason", "fine\\u000a7f3a  admin  keys.revoke"]


def test_an_error_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        refuse(f"There is no organization {HOSTILE}.")
    assert not set(capsys.readouterr().err) & set(OBEYED)


@pytest.mark.parametrize("text", [TOO_EARLY, TOO_LATE, f"{'9' * 5_000}d", "99999999999d", "soon"])
def test_a_moment_without_a_place_in_time_is_incorrect_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        paging.moment(text)


def test_a_time_is_in_utc_or_refused() -> None:
    assert in_utc(datetime(2026, 1, 31)) == datetime(2026, 1, 31, tzinfo=UTC)  # noqa: DTZ001
    for text in (TOO_EARLY, TOO_LATE):
        with pytest.raises(ValueError, match="is no time in UTC"):
            in_utc(datetime.fromisoformat(text))
