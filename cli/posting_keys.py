"""The key of a manual posting by command."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from shared.ledger import keys


def _key(text: str) -> str:
    if text.startswith(keys.RESERVED):
        raise typer.BadParameter("begins with a reserved prefix")
    return text


_HELP = "A key of your choice: with the same key, it is posted once, however often it is run."
Key = Annotated[str | None, typer.Option(parser=_key, metavar="TEXT", help=_HELP)]


def ledger_key(key: str | None, posting_id: UUID) -> str:
    """Return the operator's key, else one that is this posting's alone."""
    return key if key is not None else f"{keys.REQUEST}cli:{posting_id}"
