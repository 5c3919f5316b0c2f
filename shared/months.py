"""Calendar months in UTC."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

_MONTH = re.compile(r"(\d{4})-(\d{2})", re.ASCII)
YEAR_MIN, YEAR_MAX = 1970, 8999
MONTHS = 12


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A month of the Gregorian calendar, from its first moment in UTC until that of the next."""

    year: int
    number: int

    @classmethod
    def parse(cls, text: str) -> Month:
        """Return the month of a text such as 2026-11; raise ValueError if it is none."""
        match = _MONTH.fullmatch(text)
        month = cls(int(match[1]), int(match[2])) if match else None
        if month is None or not 1 <= month.number <= MONTHS:
            raise ValueError("must be a month such as 2026-11")
        if not YEAR_MIN <= month.year <= YEAR_MAX:
            raise ValueError(f"must be a month from {YEAR_MIN} to {YEAR_MAX}")
        return month

    @classmethod
    def of(cls, moment: datetime) -> Month:
        """Return the month of a moment."""
        in_utc = moment.astimezone(UTC)
        return cls(in_utc.year, in_utc.month)

    @property
    def start(self) -> datetime:
        """The first moment of the month."""
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first moment of the next month, which is not part of this one."""
        return self.next.start

    @property
    def next(self) -> Month:
        """The month after it."""
        last = self.number == MONTHS
        return Month(self.year + 1, 1) if last else Month(self.year, self.number + 1)

    def __str__(self) -> str:
        return f"{self.year:04}-{self.number:02}"
