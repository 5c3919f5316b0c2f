"""/v1/price-books: versions of prices for usage, and when each is valid."""

from __future__ import annotations

import asyncio
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from api.framework import cursors, fields
from api.framework.fields import PageQuery, Request, Response
from api.framework.operation import Call, Operation, Reply, Retry
from shared.access.model import Scope
from shared.errors import (
    AlreadyExistsError,
    NotFoundError,
    PermissionDeniedError,
    ValidationError,
)
from shared.pricing import books, files, store
from shared.pricing.forms import BookForm
from shared.pricing.model import PriceBook
from shared.times import in_utc

if TYPE_CHECKING:
    import asyncpg

PATH = "/v1/price-books"
CURSOR = "price-books"
VERSION_DIGITS_MAX = 9


class PriceBookRequest(BookForm, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price book, in the form of a file: prices are text, such as `2.50 / 1M`."""


class ActivationRequest(Request):
    """From when the version is valid; without it, from the earliest moment."""

    active_from: datetime | None = None


class PriceBookVersion(Response):
    """A version of a price book. `activeFrom`: each moment from which it is or was valid."""

    name: str
    version: int
    prices: int
    created_at: datetime
    created_by: str
    active_from: list[datetime]


class PriceBookPage(Response):
    """A page of versions, by name, and the newest of each first."""

    data: list[PriceBookVersion]
    next_cursor: str | None


class PriceBookResponse(Response):
    """A version of a price book with its content."""

    name: str
    version: int
    book: BookForm


class ActivationResponse(Response):
    """A version of a price book, and the moment from which it is valid."""

    name: str
    version: int
    active_from: datetime


async def list_(call: Call) -> Reply:
    """List the versions of the price books.

    In the order of their names, and of each book, the newest first.
    """
    _require_unbound_key(call)
    query: PageQuery = call.query
    async with call.api.pool.acquire() as connection:
        rows = await store.list_page(connection, after=_after(query.cursor), limit=query.limit + 1)
    page = rows[: query.limit]
    data = [_version(row) for row in page]
    following = None
    if len(rows) > len(page):
        following = cursors.encode(CURSOR, f"{data[-1].name}:{data[-1].version}")
    return Reply(PriceBookPage(data=data, next_cursor=following))


async def create(call: Call) -> Reply:
    """Store a price book as the next version of its name.

    It is not active yet. The same content as that of an earlier version is that version. 422 lists
    everything that is wrong with the book.
    """
    _require_unbound_key(call)
    # Thousands of prices take a part of a second.
    book = await asyncio.to_thread(_read, call.body)
    async with call.transaction() as connection:
        stored = await books.add(connection, book, actor=call.actor)
        found = await store.find_version(connection, book.name, stored.version)
    return Reply(_version(found))


async def retrieve(call: Call) -> Reply:
    """Return a version of a price book with its content."""
    _require_unbound_key(call)
    name, version = _named(call)
    async with call.api.pool.acquire() as connection:
        content = await store.content(connection, name, version)
    if content is None:
        raise NotFoundError(f"There is no version {version} of a price book {name[:64]!r}.")
    book = msgspec.convert(content, BookForm)
    return Reply(PriceBookResponse(name=name, version=version, book=book))


async def activate(call: Call) -> Reply:
    """Make a version of a price book valid from a moment on, until the next activation.

    The moment is never in the past, and 5 seconds away or later, so that every process changes its
    prices at the same moment. Only the first version of a name is valid at once. 409 if another
    version becomes valid at the same moment.
    """
    _require_unbound_key(call)
    body: ActivationRequest = call.body
    name, version = _named(call)
    moment = None if body.active_from is None else _in_utc(body.active_from)
    async with call.transaction() as connection:
        begins = await books.activate(
            connection, name, version, actor=call.actor, active_from=moment
        )
    return Reply(ActivationResponse(name=name, version=version, active_from=begins))


def _require_unbound_key(call: Call) -> None:
    if call.caller.organization_id is not None:
        raise PermissionDeniedError(
            "Price books are of all organizations: use a key that is bound to none."
        )


def _read(form: BookForm) -> PriceBook:
    try:
        return files.from_form(form)
    except ValidationError as error:
        problems = error.errors or []
        raise ValidationError(
            error.detail,
            errors=[{**problem, "loc": ["body", *problem["loc"]]} for problem in problems],
        ) from None


def _in_utc(moment: datetime) -> datetime:
    try:
        return in_utc(moment)
    except ValueError:
        raise fields.invalid(("body", "activeFrom"), "must be a time in UTC") from None


def _named(call: Call) -> tuple[str, int]:
    name, number = call.path["name"], call.path["version"]
    if not _is_version(number):
        raise NotFoundError(f"There is no version {number[:20]!r} of a price book.")
    if "\0" in name:
        raise NotFoundError("There is no such price book.")
    return name, int(number)


def _after(cursor: str | None) -> tuple[str, int] | None:
    if cursor is None:
        return None
    name, _, number = cursors.decode(CURSOR, cursor).rpartition(":")
    if not name or not _is_version(number) or "\0" in name:
        raise fields.invalid(("query", "cursor"), cursors.WRONG)
    return name, int(number)


def _is_version(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= VERSION_DIGITS_MAX


def _version(row: asyncpg.Record) -> PriceBookVersion:
    return PriceBookVersion(**{name: row[name] for name in PriceBookVersion.__struct_fields__})


_TAG = "Price books"
_EXAMPLE = {
    "name": "default",
    "markup": "20%",
    "within": {"cached_input_tokens": ["input_tokens"]},
    "prices": [
        {
            "models": ["gpt-4o", "gpt-4o-2024-*"],
            "measures": {
                "input_tokens": "2.50 / 1M",
                "cached_input_tokens": "1.25 / 1M",
                "output_tokens": "10 / 1M",
            },
        }
    ],
}
OPERATIONS = (
    Operation(
        name="listPriceBooks",
        tag=_TAG,
        method="GET",
        path=PATH,
        handle=list_,
        query=PageQuery,
        response=PriceBookPage,
        scope=Scope.READ,
    ),
    Operation(
        name="createPriceBook",
        tag=_TAG,
        method="POST",
        path=PATH,
        handle=create,
        body=PriceBookRequest,
        response=PriceBookVersion,
        scope=Scope.ADMIN,
        status=HTTPStatus.CREATED,
        retry=Retry.STORED,
        errors=(ValidationError,),
        example=_EXAMPLE,
    ),
    Operation(
        name="getPriceBook",
        tag=_TAG,
        method="GET",
        path=f"{PATH}/{{name}}/versions/{{version}}",
        handle=retrieve,
        response=PriceBookResponse,
        scope=Scope.READ,
        errors=(NotFoundError,),
    ),
    Operation(
        name="activatePriceBook",
        tag=_TAG,
        method="POST",
        path=f"{PATH}/{{name}}/versions/{{version}}/activate",
        handle=activate,
        body=ActivationRequest,
        response=ActivationResponse,
        scope=Scope.ADMIN,
        retry=Retry.STORED,
        errors=(NotFoundError, ValidationError, AlreadyExistsError),
        example={},
    ),
)
