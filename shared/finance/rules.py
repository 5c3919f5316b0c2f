"""How the ledgers of all organizations add up to the close of a month. Pure."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from shared.errors import ConflictError, PrepaidError
from shared.finance.model import (
    ZERO,
    Credits,
    CurrencyClose,
    DeferredRevenue,
    FinanceClose,
    Head,
    Movements,
    StoredClose,
)
from shared.money import minor_unit_exponent
from shared.months import Month
from shared.spreadsheets import Cell

# A month can be closed so long after its end: the clocks of processes and of PostgreSQL differ.
CLOSED_AFTER = timedelta(hours=1)
CSV_COLUMNS = ("month", "section", "currency", "line", "amount", "unit")
ORGANIZATIONS = "organizations"


class UnbalancedCloseError(PrepaidError):
    """The figures of a month do not add up: verify the ledger."""


def check_ended(month: Month, *, now: datetime) -> None:
    """Raise ConflictError unless a month ended an hour ago."""
    at = month.end + CLOSED_AFTER
    if now < at:
        raise ConflictError(f"{month} cannot be closed before {at:%Y-%m-%d %H:%M} UTC.")


@dataclass(slots=True)
class Sums:
    """Adds up ledgers, in the order of their organizations."""

    organizations: int = 0
    transactions: int = 0
    opening: Decimal = ZERO
    closing: Decimal = ZERO
    hash: hashlib._Hash = field(default_factory=hashlib.sha256)
    accounts: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    currencies: dict[str, CurrencyClose] = field(default_factory=dict)

    def add_head(self, head: Head) -> None:
        """Add the balances, the debt and the last row of a ledger that began by then."""
        if head.last_hash is None:
            return
        self.organizations += 1
        self.transactions += head.last_seq - head.before_seq
        self.opening += head.opening
        self.closing += head.closing
        text = f"{head.organization_id} {head.last_seq} {head.last_hash.hex()}\n"
        self.hash.update(text.encode())
        before = self._of(head.currency)
        self.currencies[head.currency] = msgspec.structs.replace(
            before,
            debt_opening=before.debt_opening + head.debt_opening,
            debt_closing=before.debt_closing + head.debt_closing,
        )

    def add_movements(self, moved: Movements) -> None:
        """Add movements of paid or promotional credits."""
        before = self._of(moved.currency)
        replace = msgspec.structs.replace
        if moved.money_minor is None:
            after = replace(before, promotional=_credits(before.promotional, moved.credits))
        else:
            after = replace(
                before,
                paid=_credits(before.paid, moved.credits),
                deferred_revenue=_money(before.deferred_revenue, moved),
            )
        self.currencies[moved.currency] = after

    def add_accounts(self, accounts: Mapping[str, Decimal]) -> None:
        """Add what rows added to the system accounts."""
        for name, amount in accounts.items():
            self.accounts[name] += amount

    def _of(self, currency: str) -> CurrencyClose:
        return self.currencies.get(currency) or CurrencyClose(currency=currency)


def _credits(before: Credits, moved: Mapping[str, Decimal]) -> Credits:
    lines = {line: getattr(before, line) + amount for line, amount in moved.items()}
    taken = sum((lines[line] for line in _TAKEN), ZERO)
    closing = lines["opening"] + lines["added"] + lines["returned"] - taken
    return Credits(**lines, closing=closing)


_TAKEN = ("used", "refunded", "expired", "adjusted", "voided")


def _money(before: DeferredRevenue, moved: Movements) -> DeferredRevenue:
    exponent = minor_unit_exponent(moved.currency)
    return DeferredRevenue(
        **{
            line: getattr(before, line) + Decimal(minor).scaleb(-exponent)
            for line, minor in (moved.money_minor or {}).items()
        }
    )


def compose(
    month: Month, sums: Sums, previous: StoredClose | None, *, now: datetime
) -> FinanceClose:
    """Return the close of a month; raise UnbalancedCloseError where a sum does not tie."""
    accounts = {ORGANIZATIONS: sums.closing - sums.opening, **sums.accounts}
    close = FinanceClose(
        month=str(month),
        closed_at=now,
        organizations=sums.organizations,
        transactions=sums.transactions,
        ledger_hash=sums.hash.hexdigest(),
        previous_month=previous.close.month if previous else None,
        previous_hash=previous.sha256.hex() if previous else None,
        currencies=[sums.currencies[name] for name in sorted(sums.currencies)],
        accounts={name: accounts[name] for name in sorted(accounts)},
        organizations_opening=sums.opening,
        organizations_closing=sums.closing,
    )
    if problem := _problem(month, close, previous):
        raise UnbalancedCloseError(f"{month}: {problem}. Run prepaid ledger verify.")
    return close


def _problem(month: Month, close: FinanceClose, previous: StoredClose | None) -> str | None:
    if total := sum(close.accounts.values(), ZERO):
        return f"the accounts add up to {total:f} and not to 0"
    for part in close.currencies:
        if not (
            part.deferred_revenue.is_balanced
            and part.paid.is_balanced
            and part.promotional.is_balanced
        ):
            return f"the lines in {part.currency} do not lead from opening to closing"
    if _left(close.currencies, "opening") != close.organizations_opening:
        return "the opening credits are not the balances"
    if _left(close.currencies, "closing") != close.organizations_closing:
        return "the closing credits are not the balances"
    if previous is not None and Month.parse(previous.close.month).next == month:
        return _difference(previous.close, close)
    return None


def _left(currencies: Sequence[CurrencyClose], moment: str) -> Decimal:
    """Return the credits of all grants, less debt, at `opening` or `closing`."""
    return sum(
        (
            getattr(part.paid, moment)
            + getattr(part.promotional, moment)
            - getattr(part, f"debt_{moment}")
            for part in currencies
        ),
        ZERO,
    )


def _difference(before: FinanceClose, after: FinanceClose) -> str | None:
    """Say which figure does not open as it closed in the month before."""
    earlier = {part.currency: part for part in before.currencies}
    for part in after.currencies:
        closed = earlier.get(part.currency) or CurrencyClose(currency=part.currency)
        if closed.deferred_revenue.closing != part.deferred_revenue.opening:
            return (
                f"deferred revenue in {part.currency} was {closed.deferred_revenue.closing:f} at"
                f" the end of {before.month} and is {part.deferred_revenue.opening:f} now"
            )
    if before.organizations_closing != after.organizations_opening:
        return f"the balances are not those at the end of {before.month}"
    return None


def csv_rows(close: FinanceClose, sha256: bytes) -> Iterable[Sequence[Cell]]:
    """Yield the rows of a close as CSV: money, credits, accounts, and the hashes."""
    yield CSV_COLUMNS
    for part in close.currencies:
        sections = (
            ("deferred revenue", part.deferred_revenue, part.currency.upper()),
            ("paid credits", part.paid, "credits"),
            ("promotional credits", part.promotional, "credits"),
        )
        for section, lines, unit in sections:
            for line in lines.__struct_fields__:
                yield (close.month, section, part.currency, line, getattr(lines, line), unit)
        yield (close.month, "debt", part.currency, "opening", part.debt_opening, "credits")
        yield (close.month, "debt", part.currency, "closing", part.debt_closing, "credits")
    for name, amount in close.accounts.items():
        yield (close.month, "trial balance", None, name, amount, "credits")
    yield (close.month, "hash", None, "ledger", close.ledger_hash, None)
    yield (close.month, "hash", None, "previous close", close.previous_hash, None)
    yield (close.month, "hash", None, "close", sha256.hex(), None)
