"""prepaid prices assign and discount: what an organization gets of the books."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.actor import current_actor
from cli.commands.prices import From
from cli.database import transaction
from cli.output import AsJson, emit, run
from cli.reasons import Reason
from shared.money import plain
from shared.organizations import service as organizations
from shared.pricing import books

Organization = Annotated[str, typer.Argument(metavar="ORGANIZATION", help="Id or slug.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `prepaid prices`."""
    app.command()(assign)
    app.command()(discount)


def assign(
    organization: Organization,
    name: Annotated[str, typer.Argument(help="The name of a book.")],
    valid_from: From = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Give an organization a book of its own from a moment on."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            owner = await organizations.find(connection, organization)
            begins = await books.assign(
                connection,
                owner.id,
                name,
                actor=await current_actor(connection),
                valid_from=valid_from,
                reason=reason,
            )
        return {"organizationId": str(owner.id), "name": name, "validFrom": begins}

    emit(
        run(work()),
        as_json=as_json,
        human=lambda d: f"{organization} has {d['name']} from {d['validFrom'].isoformat()}",
    )


def discount(
    organization: Organization,
    pattern: Annotated[str, typer.Argument(help="A model, a meter or a glob, such as 'gpt-*'.")],
    percent: Annotated[str, typer.Argument(help="Such as 10%; 0% ends a discount.")],
    valid_from: From = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Give an organization a discount on models or meters from a moment on."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            owner = await organizations.find(connection, organization)
            added = await books.discount(
                connection,
                owner.id,
                pattern=pattern,
                percent=percent,
                actor=await current_actor(connection),
                valid_from=valid_from,
                reason=reason,
            )
        return {
            "organizationId": str(owner.id),
            "pattern": added.pattern,
            "percent": f"{plain(added.percent)}%",
            "validFrom": added.valid_from,
        }

    emit(
        run(work()),
        as_json=as_json,
        human=lambda d: (
            f"{organization} has {d['percent']} off {d['pattern']}"
            f" from {d['validFrom'].isoformat()}"
        ),
    )
