"""CSV that spreadsheets open without running anything (RFC 4180, UTF-8).

A spreadsheet takes a cell as a formula if it begins with one of a few characters. Such a text is
written with an apostrophe before it, and a spreadsheet then shows it as text. Numbers stay numbers.
Source: https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from shared.money import plain

CONTENT_TYPE = "text/csv"
Cell = str | Decimal | int | datetime | UUID | None

# The full-width forms are formulas in East Asian editions.
_FORMULAS = frozenset("=+-@\t\r\n＝＋－＠")  # noqa: RUF001 - they are meant
# What a spreadsheet may skip before it looks for a formula: spaces and byte order marks.
_SKIPPED = " \u00a0\u3000\ufeff\ufffe\u200b"


def csv_text(rows: Iterable[Sequence[Cell]]) -> str:
    """Return rows as CSV, each line ended by CR LF. Times are in UTC, to the microsecond."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([cell_text(cell) for cell in row] for row in rows)
    return buffer.getvalue()


def cell_text(cell: Cell) -> str:
    """Return the text of a cell: empty for None, a formula with an apostrophe before it."""
    match cell:
        case None:
            return ""
        case Decimal():
            return plain(cell)
        case datetime():
            return cell.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case str():
            return f"'{cell}" if _is_formula(cell) else cell
        case _:
            return str(cell)


def json_cell(value: object) -> str:
    """Return a value as JSON for a cell."""
    return msgspec.json.encode(value, order="sorted").decode()


def _is_formula(text: str) -> bool:
    return text[:1] in _FORMULAS or text.lstrip(_SKIPPED)[:1] in _FORMULAS if text else False
