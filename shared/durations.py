"""ISO 8601 durations, added to a moment by the calendar."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

MONTHS_PER_YEAR = 12
YEARS_MAX = 100
MONTHS_MAX = YEARS_MAX * MONTHS_PER_YEAR
TIME_MAX = timedelta(days=YEARS_MAX * 365)
_NUMBER = r"(?:(\d{1,6})%s)?"
_PATTERN = re.compile(
    "P"
    + "".join(_NUMBER % unit for unit in "YMWD")
    + f"(?:T(?=\\d){''.join(_NUMBER % unit for unit in 'HMS')})?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Duration:
    """A positive duration of at most a hundred years: calendar months, and an exact time."""

    months: int = 0
    time: timedelta = timedelta()

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read a duration such as `P1Y`, `P3M`, `P2W`, `P30D`, `PT12H` or `P1Y6M`.

        Raises ValueError for any other text, for fractions and signs, for a duration of zero and
        for one of more than a hundred years. Source: ISO 8601-1:2019, 5.5.2
        """
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise ValueError(f"{text[:50]!r} is not an ISO 8601 duration such as P1Y or P30D")
        years, months, weeks, days, hours, minutes, seconds = (int(n or 0) for n in match.groups())
        duration = cls(
            months=years * MONTHS_PER_YEAR + months,
            time=timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds),
        )
        if not (duration.months or duration.time):
            raise ValueError(f"{text!r} is a duration of zero")
        if duration.months > MONTHS_MAX or duration.time > TIME_MAX:
            raise ValueError(f"{text!r} is longer than {YEARS_MAX} years")
        return duration

    def after(self, moment: datetime) -> datetime:
        """Return the moment, in UTC, at which this duration after `moment` has passed.

        Months are added first, in UTC. Where the month has no such day, its last day is taken:
        a month after 31 January is 28 or 29 February. `moment` must have a time zone.
        """
        start = moment.astimezone(UTC)
        months = start.year * MONTHS_PER_YEAR + start.month - 1 + self.months
        year, month = months // MONTHS_PER_YEAR, months % MONTHS_PER_YEAR + 1
        day = min(start.day, calendar.monthrange(year, month)[1])
        return start.replace(year=year, month=month, day=day) + self.time


def parse_expiry(text: str, now: datetime) -> datetime:
    """Parse a future time: an ISO 8601 duration from now, a date (its UTC start), or a timestamp.

    Raises ValueError for any other text, for a time without a time zone and for one in the past.
    """
    if text.startswith("P"):
        return Duration.parse(text).after(now)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        problem = f"{text[:50]!r} is not a duration such as P90D, a date or a timestamp"
        raise ValueError(problem) from None
    if "T" not in text and " " not in text:
        moment = moment.replace(tzinfo=UTC)
    if moment.tzinfo is None:
        raise ValueError(f"{text[:50]!r} has no time zone")
    if moment <= now:
        raise ValueError(f"{text[:50]!r} is in the past")
    return moment.astimezone(UTC)
