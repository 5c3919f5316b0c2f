"""prepaid prices: validate, diff, import, activate, withdraw, list, show."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec.structs import replace

from cli.actor import current_actor
from cli.database import transaction
from cli.output import EXIT_REFUSED, AsJson, emit, refuse, run, table, write
from cli.paging import moment
from cli.reasons import Reason
from shared.counts import counted
from shared.errors import InvalidRequestError, NotFoundError, ValidationError
from shared.pricing import books, files, store
from shared.pricing.changes import changes, rate_text
from shared.pricing.forms import book_form
from shared.pricing.model import PriceBook, Subject, version_at
from shared.pricing.validation import Reader

if TYPE_CHECKING:
    from shared.db.pool import Connection
    from shared.pricing.genai_prices import Import

app = typer.Typer(no_args_is_help=True, help="Price books: versions of prices for usage.")
GENAI_PRICES = "genai-prices"
LISTED_MAX = 1_000
VERSION_COLUMNS = ("name", "version", "prices", "createdAt", "createdBy", "activeFrom")
File = Annotated[Path, typer.Argument(dir_okay=False, help="A .toml or .json file.")]
MOMENT_HELP = "From when, in ISO 8601; from the earliest moment by default."
From = Annotated[
    datetime | None, typer.Option("--from", parser=moment, metavar="MOMENT", help=MOMENT_HELP)
]


@app.command()
def validate(file: File, as_json: AsJson = False) -> None:
    """Check a file, without a database; exit code 1 if it has problems."""
    document: dict[str, Any] = {"ok": True, "name": None, "prices": 0, "problems": []}
    try:
        book = _read(file)
        document |= {"name": book.name, "prices": len(book.prices)}
    except ValidationError as error:
        problems = error.errors or [{"loc": [], "msg": error.detail, "type": error.type}]
        document |= {"ok": False, "problems": problems}
    emit(document, as_json=as_json, human=_validate_human)
    if not document["ok"]:
        raise typer.Exit(EXIT_REFUSED)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help="A file, NAME (what is active) or NAME:VERSION.")],
    after: Annotated[str, typer.Argument(help="Likewise.")],
    as_json: AsJson = False,
) -> None:
    """List what differs between two books."""

    async def work() -> dict[str, Any]:
        old, new = await _resolve(before), await _resolve(after)
        return {"before": before, "after": after, "changes": changes(old, new)}

    emit(
        run(work()),
        as_json=as_json,
        human=lambda document: table(
            ("name", "measure", "before", "after"),
            [[c.name, c.measure, c.before, c.after] for c in document["changes"]],
            empty="no differences",
        ),
    )


@app.command("import")
def import_(
    source: Annotated[str, typer.Argument(help=f"A .toml or .json file, or {GENAI_PRICES}.")],
    name: Annotated[
        str | None, typer.Option(help="The name of the book; by default the file's, or default.")
    ] = None,
    markup: Annotated[
        str | None, typer.Option(help="A percentage on every price, such as 20%.")
    ] = None,
    provider: Annotated[
        list[str] | None,
        typer.Option(help=f"Of {GENAI_PRICES}, only these providers, in order of precedence."),
    ] = None,
    credits_per_dollar: Annotated[
        str, typer.Option(help=f"How many credits a dollar of {GENAI_PRICES} is.")
    ] = "1",
    output: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write the current prices to a .toml file, and stop."),
    ] = None,
    activate_all: Annotated[
        bool,
        typer.Option(
            "--activate",
            help="Activate each version from its date on, in place of what was to come.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Store the next version of a book; it is not active yet."""
    if source == GENAI_PRICES:
        found = _from_genai_prices(name, markup, provider or [], credits_per_dollar)
        dated = [(entry.active_from, entry.book) for entry in found.books]
        skipped = [{"name": entry.name, "reason": entry.reason} for entry in found.skipped]
    else:
        dated, skipped = [(None, _with(_read_file(source), name, markup))], []
    if output is not None:
        output.write_text(files.write_toml(dated[0][1]), encoding="utf-8")
        document: dict[str, Any] = {"file": str(output), "versions": [], "skipped": skipped}
        emit(document, as_json=as_json, human=_import_human)
        return

    async def work() -> list[dict[str, Any]]:
        async with transaction() as connection:
            if activate_all:
                await _withdraw(connection, dated[0][1].name)
            return [
                await _store(connection, book, active_from, activate=activate_all)
                for active_from, book in dated
            ]

    document = {"file": None, "versions": run(work()), "skipped": skipped}
    emit(document, as_json=as_json, human=_import_human)


@app.command()
def activate(
    name: Annotated[str, typer.Argument()],
    version: Annotated[int, typer.Argument(min=1, max=books.VERSIONS_MAX)],
    active_from: From = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Make a version valid from a moment on: never in the past."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            begins = await books.activate(
                connection,
                name,
                version,
                actor=await current_actor(connection),
                active_from=active_from,
                reason=reason,
            )
        return {"name": name, "version": version, "activeFrom": begins}

    emit(
        run(work()),
        as_json=as_json,
        human=lambda d: f"{d['name']}:{d['version']} is active from {d['activeFrom'].isoformat()}",
    )


@app.command()
def withdraw(
    name: Annotated[str, typer.Argument()],
    since: From = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Withdraw the activations of a book that are to come, or those from a moment on."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            withdrawn = await books.withdraw(
                connection,
                name,
                actor=await current_actor(connection),
                since=since,
                reason=reason,
            )
        rows = [{"version": found.version, "activeFrom": found.active_from} for found in withdrawn]
        return {"name": name, "withdrawn": rows}

    emit(
        run(work()),
        as_json=as_json,
        human=lambda document: table(
            ("version", "activeFrom"),
            [[row["version"], row["activeFrom"].isoformat()] for row in document["withdrawn"]],
            empty="nothing was to come",
        ),
    )


@app.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(help="Only this book.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the versions of the books, newest first, and when each is active."""

    async def work() -> list[dict[str, Any]]:
        async with transaction() as connection:
            if name is not None:
                rows = await store.versions(connection, name)
            else:
                rows = await store.list_page(connection, after=None, limit=LISTED_MAX)
        return [_version(dict(row)) for row in rows]

    emit(
        {"versions": run(work())},
        as_json=as_json,
        human=lambda document: table(
            VERSION_COLUMNS,
            [
                [*(row[c] for c in VERSION_COLUMNS[:-1]), ", ".join(map(str, row["activeFrom"]))]
                for row in document["versions"]
            ],
            empty="no price books",
        ),
    )


@app.command()
def show(
    book: Annotated[str, typer.Argument(help="NAME (what is active) or NAME:VERSION.")],
    toml: Annotated[bool, typer.Option("--toml", help="Print it as a file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a version of a book."""
    if toml and as_json:
        raise typer.BadParameter("--toml and --json exclude each other")
    found = run(_stored(book))
    if toml:
        write(files.write_toml(found), end="")
        return
    emit(
        {"version": found.version, "book": book_form(found)},
        as_json=as_json,
        human=lambda _document: _show_human(found),
    )


def _validate_human(document: dict[str, Any]) -> str:
    if document["ok"]:
        return f"ok: {document['name']}, {counted(document['prices'], 'price')}"
    return "\n".join(
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}".removeprefix(": ")
        for problem in document["problems"]
    )


def _import_human(document: dict[str, Any]) -> str:
    lines = [f"skipped {entry['name']}: {entry['reason']}" for entry in document["skipped"]]
    if document["file"]:
        lines.append(f"wrote {document['file']}")
    for row in document["versions"]:
        state = "new" if row["created"] else "unchanged"
        active = f", active from {row['activeFrom']}" if row["activated"] else ", not active"
        lines.append(
            f"{row['name']}:{row['version']} ({state}, {counted(row['prices'], 'price')}){active}"
        )
        if not row["activated"]:
            begins = f" --from {row['activeFrom'].isoformat()}" if row["activeFrom"] else ""
            lines.append(f"  prepaid prices activate {row['name']} {row['version']}{begins}")
    return "\n".join(lines)


def _show_human(book: PriceBook) -> str:
    rows = [
        (
            ("" if price.subject is Subject.MODEL else "meter ") + ", ".join(price.patterns),
            measure,
            rate_text(rate),
        )
        for price in book.prices
        for measure, rate in price.rates.items()
    ]
    head = f"{book.name}:{book.version}, markup {book.markup:f}%"
    return f"{head}\n{table(('name', 'measure', 'price'), rows, empty='')}"


async def _withdraw(connection: Connection, name: str) -> None:
    if await store.lock_book(connection, name) is not None:
        await books.withdraw(connection, name, actor=await current_actor(connection))


async def _store(
    connection: Connection, book: PriceBook, active_from: datetime | None, *, activate: bool
) -> dict[str, Any]:
    actor = await current_actor(connection)
    stored = await books.add(connection, book, actor=actor)
    last = (await store.activations(connection, book.name))[-1:]
    if activate and last and last[0].version == stored.version:
        active_from = last[0].active_from  # it is, or will be, valid already
    elif activate:
        active_from = await books.activate(
            connection, book.name, stored.version, actor=actor, active_from=active_from
        )
    return {
        "name": book.name,
        "version": stored.version,
        "created": stored.created,
        "prices": len(book.prices),
        "activated": activate,
        "activeFrom": active_from,
    }


def _from_genai_prices(
    name: str | None, markup: str | None, providers: list[str], credits_per_dollar: str
) -> Import:
    try:
        from shared.pricing.genai_prices import (  # noqa: PLC0415 - an extra, and slow to load
            Wish,
            import_books,
        )
    except ModuleNotFoundError:
        refuse("genai-prices is not installed: pip install 'prepaid[prices]'.")
    reader = Reader()
    rate, _unit = reader.price(credits_per_dollar, ("--credits-per-dollar",))
    percent = reader.percent(markup, ("--markup",)) if markup else Decimal(0)
    if reader.problems:
        problem = reader.problems[0]
        raise typer.BadParameter(f"{problem['loc'][0]}: {problem['msg']}")
    wish = Wish(
        name=name or "default",
        markup=percent,
        credits_per_dollar=rate,
        providers=providers,
    )
    try:
        return import_books(wish, now=datetime.now(UTC))
    except ValidationError as error:
        refuse(error.detail)


def _with(book: PriceBook, name: str | None, markup: str | None) -> PriceBook:
    form = book_form(book)
    try:
        return files.from_form(replace(form, name=name or form.name, markup=markup or form.markup))
    except ValidationError as error:
        refuse(error.detail)


def _read_file(source: str) -> PriceBook:
    try:
        return _read(Path(source))
    except ValidationError as error:
        refuse(error.detail)


def _read(file: Path) -> PriceBook:
    if file.suffix not in {".toml", ".json"}:
        raise typer.BadParameter(f"{file} is no .toml or .json file")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        refuse(f"{file} cannot be read ({error}).")
    return files.read(text, toml=file.suffix == ".toml")


async def _resolve(source: str) -> PriceBook:
    if source.endswith((".toml", ".json")):
        return _read(Path(source))
    return await _stored(source)


async def _stored(reference: str) -> PriceBook:
    """Return a version by NAME:VERSION, or the one that is active by NAME."""
    name, _, number = reference.partition(":")
    if number and not (number.isascii() and number.isdigit() and len(number) < 10):  # noqa: PLR2004
        raise InvalidRequestError(f"{reference!r} is no NAME or NAME:VERSION.")
    async with transaction() as connection:
        version = int(number) if number else await _active(connection, name)
        return await books.find(connection, name, version)


async def _active(connection: Connection, name: str) -> int:
    version = version_at(await store.activations(connection, name), await store.now(connection))
    if version is None:
        raise NotFoundError(f"The price book {name!r} has no active version.")
    return version


def _version(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": row["name"],
        "version": row["version"],
        "prices": row["prices"],
        "createdAt": row["created_at"],
        "createdBy": row["created_by"],
        "activeFrom": row["active_from"],
    }
