"""CSV that a spreadsheet opens: texts are never formulas, numbers stay numbers."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, strategies

from shared.spreadsheets import Cell, cell_text, csv_text

FORMULAS = "=+-@\t\r\n＝＋－＠"  # noqa: RUF001 - the full-width forms too
TEXTS = strategies.text(strategies.characters(blacklist_categories=["Cs"]))


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize(
    "text",
    [
        '=HYPERLINK("https://evil.example","x")', "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1",
        "\ufeff=1", " =1", "＝1", "\u200b\u00a0@x",  # noqa: RUF001
    ],
)  # fmt: skip
def test_a_text_that_a_spreadsheet_would_run_begins_with_an_apostrophe(text: str) -> None:
    assert cell_text(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "chat", "a=b", "3-4", "'=1", '"', "a,b", "\ufeffchat"])
def test_any_other_text_is_written_as_it_is(text: str) -> None:
    assert cell_text(text) == text


def test_numbers_stay_numbers_with_every_digit() -> None:
    cells: list[Cell] = [Decimal("-12.500000000"), Decimal("1e3"), -7, Decimal("0.000000001"), None]
    assert csv_text([cells]) == "-12.5,1000,-7,0.000000001,\r\n"


def test_a_time_is_in_utc() -> None:
    assert cell_text(datetime(2026, 11, 1, 9, 30, tzinfo=UTC)) == "2026-11-01T09:30:00Z"


def test_quotes_commas_and_line_ends_are_quoted() -> None:
    assert csv_text([('say "a,b"', "x\ny")]) == '"say ""a,b""","x\ny"\r\n'


@given(strategies.lists(strategies.lists(TEXTS, min_size=2, max_size=4), max_size=5))
def test_a_reader_of_csv_gets_every_text_and_no_formula(rows: list[list[str]]) -> None:
    found = read(csv_text(rows))
    assert [[cell.removeprefix("'") for cell in row] for row in found] == [
        [cell.removeprefix("'") for cell in row] for row in rows
    ]
    assert not any(cell[:1] in FORMULAS for row in found for cell in row if cell)
