"""CSV that a spreadsheet opens: texts are never formulas, numbers stay numbers."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, strategies

from shared.spreadsheets import Cell, cell_text, csv_text, json_cell

SIGNS = "=+-@＝＋－＠"  # noqa: RUF001 - the full-width forms too
FORMULAS = SIGNS + "\t\r\n"
TEXTS = strategies.text(strategies.characters(blacklist_categories=["Cs"]))


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize(
    "text",
    [
        '=HYPERLINK("https://evil.example","x")', "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\nx",
        "\ufeff=1", " =1", "＝1", "\u200b\u00a0@x", "\v=1", "\f=1", "\x1f=1", "\x7f=1",  # noqa: RUF001
        "\u2003=1", "\u2028=1", "\u202e=1", "\u2060=1", "\u00ad=1", "\x00=1",
    ],
)  # fmt: skip
def test_a_text_that_a_spreadsheet_would_run_begins_with_an_apostrophe(text: str) -> None:
    assert cell_text(text) == f"'{text}"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("x;=1", "x;'=1"), ("a; -5; b", "a;' -5; b"), ("x\n=1\n+2", "x\n'=1\n'+2"),
        ("x\t@y", "x\t'@y"), ("\t=1", "'\t'=1"), (";\u200b=1", ";'\u200b=1"), ("=1;=2", "'=1;'=2"),
        ("a;b", "a;b"), ("a; b=c", "a; b=c"), (";", ";"),
    ],
)  # fmt: skip
def test_a_text_begins_a_cell_after_each_separator_of_some_countries(
    text: str, written: str
) -> None:
    assert cell_text(text) == written


def test_a_cell_of_json_separates_no_cells_and_is_read_as_it_was() -> None:
    value = {"a;b": [";=1", "x\n=1", "\t"]}
    cell = cell_text(json_cell(value))
    assert not set(cell) & set(";\t\r\n")
    assert json.loads(cell) == value


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
    assert [[cell.replace("'", "") for cell in row] for row in found] == [
        [cell.replace("'", "") for cell in row] for row in rows
    ]
    cells = [cell for row in found for cell in row]
    assert not any(cell[:1] in FORMULAS for cell in cells if cell)
    parts = [part for cell in cells for part in re.split("[;\t\r\n]", cell) if part]
    assert not any(part[0] in SIGNS for part in parts)
