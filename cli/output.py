"""Command output: one JSON document or lines of text, errors on stderr, and exit codes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import threading
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
REMAINING_SECONDS_MAX = 0.5
# What a terminal obeys and does not show: control characters (ESC and CSI among them), marks that
# turn the direction of a text, and halves of characters. Lines end with a line feed alone.
_INVISIBLE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def run(command: Coroutine[Any, Any, T]) -> T:
    """Run a command; an error becomes one line on stderr and exit code 1."""
    try:
        return abandon_at_end(command)
    except PrepaidError as error:
        refuse(error.detail)
    except TimeoutError:
        refuse(
            "DATABASE_URL: PostgreSQL did not answer in time. Check whether it is frozen or"
            " overloaded, then retry."
        )
    except UNAVAILABLE as error:
        detail = str(error) or type(error).__name__
        refuse(f"DATABASE_URL: PostgreSQL did not answer ({detail}).")
    except (
        asyncpg.UndefinedTableError,
        asyncpg.UndefinedColumnError,
        asyncpg.UndefinedFunctionError,
    ):
        refuse("The database has no schema yet, or an old one: run prepaid migrate.")
    except (asyncpg.PostgresError, asyncpg.ClientConfigurationError) as error:
        refuse(f"DATABASE_URL: PostgreSQL refused ({error}).")


def abandon_at_end(command: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine, and wait only briefly for its remaining tasks.

    `asyncio.run` waits for every task that it cancels, and a frozen server can delay that for
    minutes. SIGINT cancels the coroutine, which may note on the CancelledError how to continue; a
    second SIGINT ends it at once.
    """
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(_interruptible(command))
    except asyncio.CancelledError as error:
        refuse(" ".join(("Interrupted.", *getattr(error, "__notes__", ()))))
    finally:
        remaining = asyncio.all_tasks(loop)
        for task in remaining:
            task.cancel()
        if remaining:
            # Errors of tasks that are cancelled here are not reported.
            loop.set_exception_handler(lambda *_about: None)
            loop.run_until_complete(asyncio.wait(remaining, timeout=REMAINING_SECONDS_MAX))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _interruptible(command: Coroutine[Any, Any, T]) -> T:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in one

    def interrupt() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        task.cancel()

    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        loop.add_signal_handler(signal.SIGINT, interrupt)
    return await command


def refuse(detail: str, *, code: int = EXIT_REFUSED) -> NoReturn:
    """Print an error in one line on stderr, and exit with a code."""
    print(f"prepaid: {printable(mask(detail, length_max=TRACE_LENGTH_MAX))}", file=sys.stderr)
    raise typer.Exit(code)


def emit(document: Any, *, as_json: bool, human: Callable[[Any], str]) -> None:
    """Print a command's result: the JSON document, or its lines of text."""
    if as_json:
        encoded = msgspec.json.encode(exact(document), enc_hook=str)
        text = msgspec.json.format(encoded, indent=2).decode()
    else:
        text = human(document)
    write(printable(text))


def emit_csv(text: str) -> None:
    """Print CSV: as it is, or on a terminal without what the terminal would obey."""
    write(printable(text.replace("\r\n", "\n")) if sys.stdout.isatty() else text, end="")


def write(text: str, end: str = "\n") -> None:
    """Print a text on stdout, whose reader may close it early, as `head` does.

    Exit with code 1 and one line on stderr where it cannot be written, as on a full disk.
    """
    try:
        print(text, end=end, flush=True)
    except OSError as error:
        # What is left goes nowhere, so that the interpreter does not fail at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            refuse(f"The output cannot be written: {error.strerror}.")


def printable(text: str) -> str:
    """Return text of others for a terminal: what it would obey is shown as an escape sequence."""
    return _INVISIBLE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    r"""Return a character as `\u001b`, which JSON has too."""
    return f"\\u{ord(found[0]):04x}"


def exact(value: Any) -> Any:
    """Return a document with every Decimal as a JSON number with all its digits."""
    if isinstance(value, Decimal):
        return json_number(value)
    if isinstance(value, Mapping):
        return {name: exact(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [exact(item) for item in value]
    return value


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, empty: str) -> str:
    """Return rows under their headings, in aligned columns."""
    if not rows:
        return empty
    cells = [list(columns), *([cell(value) for value in row] for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def cell(value: Any) -> str:
    """Format a value for a table."""
    if value is None:
        return "-"
    if isinstance(value, Decimal):
        return plain(value)
    # A line feed in a stored text would look like another row.
    return printable(str(value)).replace("\n", "\\u000a")
