"""Months as command options."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from shared.months import Month

MonthOption = Annotated[str, typer.Option("--month", metavar="M", help="Such as 2026-11, in UTC.")]
MonthArgument = Annotated[str, typer.Argument(metavar="MONTH", help="Such as 2026-11, in UTC.")]


def begun(text: str, now: datetime) -> Month:
    """Parse a month; raise BadParameter for one that has not begun."""
    try:
        month = Month.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if month.start > now:
        raise typer.BadParameter(f"{month} has not begun")
    return month
