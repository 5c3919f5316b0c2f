"""prepaid orgs: create, list, show."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.actor import current_actor
from cli.database import transaction
from cli.environment import environment
from cli.output import AsJson, cell, emit, run, table
from shared import config
from shared.access import service as audit
from shared.errors import NotFoundError
from shared.ids import parse_id
from shared.organizations import service, store

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
