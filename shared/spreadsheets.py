"""CSV that spreadsheets open without running anything (RFC 4180, UTF-8).

A spreadsheet takes a cell as a formula if it begins with one of a few characters. Such a text is
written with an apostrophe before it, and a spreadsheet then shows it as text. Numbers stay numbers.

Where the semicolon or the tab separates cells, as in many countries, a quotation mark within a line
protects nothing: there, a text begins a cell after each of its semicolons, tabs and line ends, and
has an apostrophe in those places too.
Source: https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from shared.money import plain

CONTENT_TYPE = "text/csv"
Cell = str | Decimal | int | datetime | UUID | None

# The full-width forms are formulas in East Asian editions.
_SIGNS = "=+@＝＋－＠-"  # noqa: RUF001 - they are meant
_SEPARATORS = ";\t\r\n"
# What a spreadsheet may skip before it looks for a formula: spaces, controls, marks of no width.
_SKIPPED = (
    r"\x00-\x08\x0b\x0c\x0e-\x20\x7f-\xa0\xad\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000"
    r"\ufeff\ufffe"
)
_FORMULA = re.compile(f"[\t\r\n]|[{_SKIPPED}]*[{_SIGNS}]")
_FORMULA_INSIDE = re.compile(f"(?<=[{_SEPARATORS}])(?=[{_SKIPPED}]*[{_SIGNS}])")


def csv_text(rows: Iterable[Sequence[Cell]]) -> str:
    """Return rows as CSV, each line ended by CR LF. Times are in UTC, to the microsecond."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([cell_text(cell) for cell in row] for row in rows)
    return buffer.getvalue()


def cell_text(cell: Cell) -> str:
    """Return the text of a cell: empty for None, formulas with an apostrophe before them."""
    match cell:
        case None:
            return ""
        case Decimal():
            return plain(cell)
        case datetime():
            return cell.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case str():
            return _without_formulas(cell)
        case _:
            return str(cell)


def json_cell(value: object) -> str:
    """Return a value as JSON for a cell. It separates no cells: its semicolons are escaped."""
    return msgspec.json.encode(value, order="sorted").decode().replace(";", "\\u003b")


def _without_formulas(text: str) -> str:
    inside = _FORMULA_INSIDE.sub("'", text)
    return f"'{inside}" if _FORMULA.match(text) else inside
