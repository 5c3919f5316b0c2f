"""prepaid keys: create, list, revoke."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import typer

from ops.actor import current_actor
from ops.database import transaction
from ops.output import EXIT_USAGE, AsJson, emit, refuse, run, table
from shared.access import service
from shared.organizations import service as organizations

app = typer.Typer(no_args_is_help=True, help="API keys for client apps.")
COLUMNS = ("id", "name", "scope", "organizationId", "hint", "createdAt", "revokedAt")


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What the key is for.")],
    scope: Annotated[str, typer.Option(help="read, write or admin.")],
    organization: Annotated[
        str | None, typer.Option(help="Bind the key to one organization (id or slug).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a key. It is shown once."""
    if scope not in service.SCOPES:
        refuse(f"--scope: one of {', '.join(service.SCOPES)}", code=EXIT_USAGE)

    async def work() -> service.CreatedKey:
        async with transaction() as connection:
            owner = await organizations.find(connection, organization) if organization else None
            owner_id = owner.id if owner else None
            made = await service.create_key(
                connection, name=name, scope=scope, organization_id=owner_id
            )
            await service.record(
                connection,
                actor=current_actor(),
                action="keys.create",
                subject=made["id"],
                organization_id=owner_id,
                details={"name": name, "scope": scope},
            )
        return made

    emit(run(work()), as_json=as_json, human=lambda made: str(made["key"]))


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List keys, without the keys themselves."""

    async def work() -> list[dict[str, Any]]:
        async with transaction() as connection:
            rows = await service.list_keys(connection)
        return [
            {
                "id": str(row["id"]),
                "name": row["name"],
                "scope": row["scope"],
                "organizationId": str(row["organization_id"]) if row["organization_id"] else None,
                "hint": f"…{row['key_hint']}",
                "createdAt": row["created_at"],
                "revokedAt": row["revoked_at"],
            }
            for row in rows
        ]

    emit(
        {"keys": run(work())},
        as_json=as_json,
        human=lambda document: table(
            COLUMNS, [[key[c] for c in COLUMNS] for key in document["keys"]], empty="no keys"
        ),
    )


@app.command()
def revoke(key_id: Annotated[UUID, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """Make a key useless from now on."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            await service.revoke_key(connection, key_id)
            await service.record(
                connection, actor=current_actor(), action="keys.revoke", subject=str(key_id)
            )
        return {"id": str(key_id), "revoked": True}

    emit(run(work()), as_json=as_json, human=lambda document: f"revoked {document['id']}")
