"""prepaid orgs: create, list, show, edit, close, reopen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from cli.actor import current_actor
from cli.database import transaction
from cli.environment import environment
from cli.output import AsJson, cell, emit, run, table
from cli.reasons import RequiredReason
from shared import config
from shared.access import service as audit
from shared.errors import NotFoundError, ValidationError
from shared.ids import parse_id
from shared.organizations import service, store

if TYPE_CHECKING:
    from shared.db.pool import Connection

app = typer.Typer(no_args_is_help=True, help="Organizations: the customers who own credits.")
PAGE_ROWS = 1000
COLUMNS = ("id", "slug", "name", "currency", "balance", "held")


@app.command()
def create(
    slug: Annotated[str, typer.Option(help="A short name of a-z, 0-9 and -.")],
    name: Annotated[str, typer.Option(help="The full name.")],
    currency: Annotated[str, typer.Option(help="The ISO 4217 code of its payments.")] = "usd",
    as_json: AsJson = False,
) -> None:
    """Create an organization."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            made = await service.create(
                connection,
                slug=slug,
                name=name,
                currency=currency,
                credits_per_unit=config.credits_per_unit(environment()),
            )
            await audit.record(
                connection,
                actor=await current_actor(connection),
                action="organizations.create",
                subject=str(made.id),
                organization_id=made.id,
            )
        return {"id": str(made.id), "slug": made.slug, "name": made.name, "currency": made.currency}

    emit(run(work()), as_json=as_json, human=lambda made: f"created {made['slug']} {made['id']}")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List organizations with their balances."""

    async def work() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        async with transaction() as connection:
            while page := await store.list_page(
                connection, after=rows[-1]["id"] if rows else None, limit=PAGE_ROWS
            ):
                rows += [dict(row) for row in page]
        return rows

    emit(
        {"organizations": [_public(row) for row in run(work())]},
        as_json=as_json,
        human=lambda document: table(
            COLUMNS,
            [[row[column] for column in COLUMNS] for row in document["organizations"]],
            empty="no organizations",
        ),
    )


@app.command()
def show(
    reference: Annotated[str, typer.Argument(help="Id or slug.")], as_json: AsJson = False
) -> None:
    """Show one organization."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            row = await store.show(connection, parse_id(reference), reference)
        if row is None:
            raise NotFoundError(f"There is no organization {reference!r}.")
        return _public(dict(row))

    emit(
        run(work()),
        as_json=as_json,
        human=lambda row: "\n".join(f"{name:18}{cell(value)}" for name, value in row.items()),
    )


Reference = Annotated[str, typer.Argument(metavar="ORGANIZATION", help="Id or slug.")]


@app.command()
def edit(
    organization: Reference,
    reason: RequiredReason,
    name: Annotated[str | None, typer.Option(help="The new name.")] = None,
    email: Annotated[str | None, typer.Option(help="The new email address; empty: none.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change the name or the email address. Slug and currency never change."""

    async def work() -> dict[str, Any]:
        if name is None and email is None:
            raise ValidationError("Nothing to change: give --name or --email.")
        async with transaction() as connection:
            owner = await service.find(connection, organization)
            await service.change(
                connection, owner, name=name, email=email or None, clear_email=email == ""
            )
            await audit.record(
                connection,
                actor=await current_actor(connection),
                action="organizations.change",
                subject=str(owner.id),
                organization_id=owner.id,
                reason=reason,
                details={"changed": [word for word, new in _given(name, email) if new is not None]},
            )
            return await _document(connection, owner.id)

    emit(run(work()), as_json=as_json, human=_summary)


def _given(name: str | None, email: str | None) -> tuple[tuple[str, str | None], ...]:
    return (("name", name), ("email", email))


@app.command()
def close(
    organization: Reference,
    reason: RequiredReason,
    force: Annotated[
        bool, typer.Option("--force", help="Release holds, and leave checkouts open.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Close an organization: it can be read, and buys, uses and is given nothing.

    Refused while a charge is under way.
    """
    from shared.closing import service as closing  # noqa: PLC0415 - other commands do not need Stripe

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            owner = await service.find(connection, organization)
            done = await closing.close(
                connection,
                owner,
                actor=await current_actor(connection),
                reason=reason,
                force=force,
            )
            return await _document(connection, owner.id) | {
                "changed": done.changed,
                "holdsReleased": done.holds_released,
                "openCheckouts": done.open_checkouts,
                "subscriptions": done.subscriptions,
            }

    emit(run(work()), as_json=as_json, human=_summary)


@app.command()
def reopen(organization: Reference, reason: RequiredReason, as_json: AsJson = False) -> None:
    """Open a closed organization again. Auto-recharge stays off."""
    from shared.closing import service as closing  # noqa: PLC0415 - as above

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            owner = await service.find(connection, organization)
            changed = await closing.reopen(
                connection, owner, actor=await current_actor(connection), reason=reason
            )
            return await _document(connection, owner.id) | {"changed": changed}

    emit(run(work()), as_json=as_json, human=_summary)


async def _document(connection: Connection, organization_id: UUID) -> dict[str, Any]:
    row = await store.show(connection, organization_id, "")
    assert row is not None  # noqa: S101 - an organization is never deleted
    return _public(dict(row))


def _summary(row: dict[str, Any]) -> str:
    return f"{row['slug']} ({row['name']}, {row['email'] or 'no email'}) is {row['status']}" + (
        "" if row.get("changed", True) else " already; nothing changed"
    )


def _public(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "slug": row["slug"],
        "name": row["name"],
        "currency": row["currency"],
        "email": row["email"],
        "status": "active" if row["closed_at"] is None else "closed",
        "stripeCustomerId": row["stripe_customer_id"],
        "balance": row["balance"],
        "held": row["held"],
        "createdAt": row["created_at"],
    }
