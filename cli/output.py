"""How a command speaks: one JSON document or a few lines for a person; 0 done, 1 refused."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, NoReturn, TypeVar

import asyncpg
import msgspec
import typer

from shared.db.pool import UNAVAILABLE
from shared.errors import PrepaidError
from shared.logging import TRACE_LENGTH_MAX, mask
from shared.money import json_number, plain

T = TypeVar("T")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
EXIT_REFUSED = 1
EXIT_USAGE = 2
LEFT_SECONDS_MAX = 0.5


def run(command: Coroutine[Any, Any, T]) -> T:
    """Run a command to its end; a refusal becomes one line on stderr and exit code 1."""
    try:
        return abandon_at_end(command)
    except PrepaidError as error:
        refuse(error.detail)
    except TimeoutError:
        refuse(
            "DATABASE_URL: PostgreSQL does not answer in time. See whether it is frozen or"
            " overloaded, then try again."
        )
    except UNAVAILABLE as error:
        detail = str(error) or type(error).__name__
        refuse(f"DATABASE_URL: PostgreSQL did not answer ({detail}).")
    except asyncpg.UndefinedTableError:
        refuse("The database has no schema yet, or an old one: run prepaid migrate.")
    except (asyncpg.PostgresError, asyncpg.ClientConfigurationError) as error:
        refuse(f"DATABASE_URL: PostgreSQL refused ({error}).")


def abandon_at_end(command: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine, and wait only a moment for what it leaves behind.

    `asyncio.run` waits for the end of every task that it cancels, and a server that is frozen holds
    up such an end for minutes.
    """
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(command)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            # Of what is still under way at the very end, nothing is worth a line.
            loop.set_exception_handler(lambda *_about: None)
            loop.run_until_complete(asyncio.wait(left, timeout=LEFT_SECONDS_MAX))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def refuse(detail: str, *, code: int = EXIT_REFUSED) -> NoReturn:
    """Say why not, in one line on stderr, and leave with an exit code."""
    print(f"prepaid: {mask(detail, length_max=TRACE_LENGTH_MAX)}", file=sys.stderr)
    raise typer.Exit(code)


def emit(document: Any, *, as_json: bool, human: Callable[[Any], str]) -> None:
    """Print a command's result: the document itself, or its lines for a person."""
    if as_json:
        encoded = msgspec.json.encode(exact(document), enc_hook=str)
        print(msgspec.json.format(encoded, indent=2).decode())
    else:
        print(human(document))


def exact(value: Any) -> Any:
    """Return a document in which every Decimal is a plain JSON number with all its digits."""
    if isinstance(value, Decimal):
        return json_number(value)
    if isinstance(value, Mapping):
        return {name: exact(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [exact(item) for item in value]
    return value


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, empty: str) -> str:
    """Return rows under their headings, each column as wide as it needs to be."""
    if not rows:
        return empty
    cells = [list(columns), *([cell(value) for value in row] for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def cell(value: Any) -> str:
    """Write one value for a person."""
    if value is None:
        return "-"
    return plain(value) if isinstance(value, Decimal) else str(value)
