"""How rows add up to a statement. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from uuid import UUID

from shared.errors import PrepaidError
from shared.ledger.model import TransactionType
from shared.months import Month
from shared.spreadsheets import Cell
from shared.statements.model import CategoryTotal, Line, Position, Statement, Total

LINES = {
    TransactionType.PURCHASE: Line.PURCHASED,
    TransactionType.RECHARGE: Line.RECHARGED,
    TransactionType.GRANT: Line.GRANTED,
    TransactionType.BONUS: Line.GRANTED,
    TransactionType.USAGE: Line.USED,
    TransactionType.HOLD_CAPTURE: Line.USED,
    TransactionType.EXPIRATION: Line.EXPIRED,
    TransactionType.REFUND: Line.REFUNDED,
    TransactionType.DISPUTE: Line.DISPUTED,
    TransactionType.DISPUTE_REVERSAL: Line.DISPUTED,
    TransactionType.ADJUSTMENT: Line.ADJUSTED,
    TransactionType.VOID: Line.VOIDED,
}
# A statement lists so many categories, those with the highest usage; the rest is one sum.
CATEGORIES_MAX = 1_000
CSV_COLUMNS = ("line", "category", "amount", "transactions", "sequence", "hash")
NO_CATEGORY, REST = "(none)", "(other)"


class UnbalancedStatementError(PrepaidError):
    """The rows of a month do not add up to its closing balance: verify the ledger."""


def compose(
    organization_id: UUID,
    month: Month,
    *,
    complete: bool,
    opening: Position,
    closing: Position,
    totals: Iterable[tuple[TransactionType, CategoryTotal]],
) -> Statement:
    """Return the statement of totals by type and, for usage, category.

    Raises UnbalancedStatementError unless opening + the lines = closing.
    """
    lines = dict.fromkeys(Line, Total())
    used: list[CategoryTotal] = []
    for kind, part in totals:
        line = LINES[kind]
        lines[line] += part.total
        if line is Line.USED:
            used.append(part)
    change = sum((total.amount for total in lines.values()), Decimal(0))
    if opening.balance + change != closing.balance:
        raise UnbalancedStatementError(
            f"The rows of {month} add {change:f} credits to {opening.balance:f}, and the ledger of "
            f"organization {organization_id} has {closing.balance:f}. Run prepaid ledger verify."
        )
    return Statement(
        organization_id=organization_id,
        month=month,
        complete=complete,
        opening=opening,
        closing=closing,
        lines=lines,
        used=tuple(sorted(used, key=_highest_first)),
    )


def _highest_first(part: CategoryTotal) -> tuple[bool, Decimal, str]:
    return part.is_rest, part.total.amount, part.category or ""


def csv_rows(statement: Statement) -> Iterable[Sequence[Cell]]:
    """Yield the rows of a statement as CSV: its lines, usage by category, opening and closing."""
    yield CSV_COLUMNS
    opening, closing = statement.opening, statement.closing
    yield ("opening", None, opening.balance, None, opening.seq, hash_text(opening))
    for line, total in statement.lines.items():
        if line is not Line.USED:
            yield (line, None, total.amount, total.transactions, None, None)
            continue
        for part in statement.used:
            name = REST if part.is_rest else part.category or NO_CATEGORY
            yield (line, name, part.total.amount, part.total.transactions, None, None)
    yield (
        "closing",
        None,
        closing.balance,
        statement.transactions,
        closing.seq,
        hash_text(closing),
    )


def hash_text(position: Position) -> str | None:
    """Return the hash of a row in hexadecimal digits; None before the first row."""
    return None if position.hash is None else position.hash.hex()
