"""The reason that an operator gives, for the audit log."""

from __future__ import annotations

from typing import Annotated

import typer

from shared.errors import ValidationError
from shared.reasons import check_reason


def reason(text: str) -> str:
    """Return a reason; raise BadParameter where it is empty or too long."""
    try:
        return check_reason(text) or ""
    except ValidationError as error:
        raise typer.BadParameter(error.detail.removeprefix("reason: ")) from None


_HELP = "The reason, for the audit log."
Reason = Annotated[str | None, typer.Option(parser=reason, metavar="TEXT", help=_HELP)]
RequiredReason = Annotated[str, typer.Option(parser=reason, metavar="TEXT", help=_HELP)]
