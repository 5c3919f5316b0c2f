"""Changing prices: importing and activating books, and what an organization gets of them.

Each change is audited in the caller's transaction. Nothing that was ever valid is overwritten: a
version, an activation, an assignment and a discount are added, and the newest that is valid counts.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from shared.access import service as audit
from shared.access.model import Actor
from shared.errors import AlreadyExistsError, FieldError, NotFoundError, ValidationError
from shared.pricing import store
from shared.pricing.files import digest, from_content, to_content
from shared.pricing.model import Activation, Discount, PriceBook
from shared.pricing.rules import NOTICE_SECONDS, activation_moment
from shared.pricing.validation import PERCENT_MAX, Reader

if TYPE_CHECKING:
    from shared.db.pool import Connection

VERSIONS_MAX = 1_000
OWN_PRICES_MAX = 200


class StoredVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a book in the database; `created` is False where it had this content already."""

    name: str
    version: int
    created: bool


async def add(connection: Connection, book: PriceBook, *, actor: Actor | str) -> StoredVersion:
    """Store a book as the next version of its name, not active yet.

    The same content as that of an earlier version is that version.
    """
    content = to_content(book)
    locked = await store.lock_book(connection, book.name, create=True)
    assert locked is not None  # noqa: S101 - created above
    known = await store.version_of(connection, book.name, digest(content))
    if known is not None:
        return StoredVersion(name=book.name, version=known, created=False)
    if locked["last_version"] >= VERSIONS_MAX:
        raise ValidationError(f"{book.name} has {VERSIONS_MAX} versions; use another name.")
    version = await store.add_version(
        connection,
        book.name,
        content=content,
        digest=digest(content),
        prices=len(book.prices),
        created_by=_name(actor),
    )
    await audit.record(
        connection,
        actor=actor,
        action="prices.import",
        subject=f"{book.name}:{version}",
        details={"prices": len(book.prices)},
    )
    return StoredVersion(name=book.name, version=version, created=True)


async def activate(
    connection: Connection,
    name: str,
    version: int,
    *,
    actor: Actor | str,
    active_from: datetime | None = None,
    reason: str | None = None,
) -> datetime:
    """Make a version valid from a moment on, until the next activation; return the moment.

    Without `active_from`: at once for the first version that is activated, else in 5 seconds.
    Raises NotFoundError for an unknown version, ValidationError for a moment in the past, and
    AlreadyExistsError where another version becomes valid at that moment.
    """
    locked = await store.lock_book(connection, name)
    if locked is None or await store.content(connection, name, version) is None:
        raise NotFoundError(f"There is no version {version} of a price book {name!r}.")
    earlier = await store.activations(connection, name)
    moment = _moment(
        active_from,
        now=locked["at"],
        first=not any(a.active_from <= locked["at"] for a in earlier),
        field="activeFrom",
    )
    if not await store.activate(connection, name, version, moment, created_by=_name(actor)):
        other = next(a.version for a in earlier if a.active_from == moment)
        if other == version:
            return moment
        raise AlreadyExistsError(
            f"Version {other} of {name} becomes valid at that moment. Choose another moment, or"
            f" withdraw it: prepaid prices withdraw {name}."
        )
    await audit.record(
        connection,
        actor=actor,
        action="prices.activate",
        subject=f"{name}:{version}",
        reason=reason,
        details={"activeFrom": moment.isoformat()},
    )
    return moment


async def withdraw(
    connection: Connection,
    name: str,
    *,
    actor: Actor | str,
    since: datetime | None = None,
    reason: str | None = None,
) -> list[Activation]:
    """Withdraw the activations of a book that are to come, in 5 seconds or later; return them."""
    locked = await store.lock_book(connection, name)
    if locked is None:
        raise NotFoundError(f"There is no price book {name!r}.")
    earliest = locked["at"] + timedelta(seconds=NOTICE_SECONDS)
    withdrawn = await store.withdraw(connection, name, max(since or earliest, earliest))
    for activation in withdrawn:
        await audit.record(
            connection,
            actor=actor,
            action="prices.withdraw",
            subject=f"{name}:{activation.version}",
            reason=reason,
            details={"activeFrom": activation.active_from.isoformat()},
        )
    return withdrawn


async def assign(
    connection: Connection,
    organization_id: UUID,
    name: str,
    *,
    actor: Actor | str,
    valid_from: datetime | None = None,
    reason: str | None = None,
) -> datetime:
    """Give an organization a book of its own from a moment on; return the moment."""
    if await store.lock_book(connection, name) is None:
        raise NotFoundError(f"There is no price book {name!r}.")
    await _check_room(connection, organization_id)
    now = await store.now(connection)
    moment = _moment(valid_from, now=now, first=False, field="validFrom")
    if not await store.assign(connection, organization_id, name, moment, created_by=_name(actor)):
        raise AlreadyExistsError("A price book is given at that moment already.")
    await audit.record(
        connection,
        actor=actor,
        action="prices.assign",
        subject=name,
        organization_id=organization_id,
        reason=reason,
        details={"validFrom": moment.isoformat()},
    )
    return moment


async def discount(
    connection: Connection,
    organization_id: UUID,
    *,
    pattern: str,
    percent: str,
    actor: Actor | str,
    valid_from: datetime | None = None,
    reason: str | None = None,
) -> Discount:
    """Give an organization a discount on models or meters; 0% ends one."""
    reader = Reader()
    reader.pattern(pattern, ("pattern",))
    value = reader.percent(percent, ("percent",), maximum=PERCENT_MAX)
    if reader.problems:
        raise _invalid(*reader.problems)
    await _check_room(connection, organization_id)
    now = await store.now(connection)
    found = Discount(
        pattern=pattern,
        percent=value,
        valid_from=_moment(valid_from, now=now, first=False, field="validFrom"),
    )
    if not await store.add_discount(connection, organization_id, found, created_by=_name(actor)):
        raise AlreadyExistsError("The pattern has another discount from that moment on.")
    await audit.record(
        connection,
        actor=actor,
        action="prices.discount",
        subject=pattern,
        organization_id=organization_id,
        reason=reason,
        details={"percent": str(value), "validFrom": found.valid_from.isoformat()},
    )
    return found


async def find(connection: Connection, name: str, version: int) -> PriceBook:
    """Return a version of a book; raise NotFoundError."""
    content = await store.content(connection, name, version)
    if content is None:
        raise NotFoundError(f"There is no version {version} of a price book {name!r}.")
    return from_content(content, version=version)


async def _check_room(connection: Connection, organization_id: UUID) -> None:
    pricing = await store.organization_pricing(connection, organization_id)
    if len(pricing.assignments) + len(pricing.discounts) >= OWN_PRICES_MAX:
        raise ValidationError(
            f"An organization has at most {OWN_PRICES_MAX} price books and discounts, past ones"
            " among them. Give it a price book of its own."
        )


def _moment(requested: datetime | None, *, now: datetime, first: bool, field: str) -> datetime:
    moment = activation_moment(requested, now=now, first=first)
    if isinstance(moment, str):
        raise _invalid({"loc": ["body", field], "msg": moment, "type": "value_error"})
    return moment


def _name(actor: Actor | str) -> str:
    return actor.name if isinstance(actor, Actor) else actor


def _invalid(*errors: FieldError) -> ValidationError:
    return ValidationError(f"{errors[0]['loc'][-1]}: {errors[0]['msg']}.", errors=[*errors])
