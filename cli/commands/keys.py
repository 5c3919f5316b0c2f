"""prepaid keys: create, list, rotate, revoke."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from cli.actor import current_actor
from cli.database import transaction
from cli.output import EXIT_USAGE, AsJson, emit, refuse, run, table
from shared.access import service
from shared.access.model import SCOPE_NAMES, parse_scopes, scopes_text
from shared.durations import Duration, parse_expiry
from shared.organizations import service as organizations

if TYPE_CHECKING:
    import asyncpg

app = typer.Typer(no_args_is_help=True, help="API keys for client apps.")
COLUMNS = (
    "id", "name", "scope", "organizationId", "hint", "createdAt", "expiresAt", "lastUsedAt",
    "revokedAt",
)  # fmt: skip
OVERLAP_DEFAULT = "P1D"

KeyId = Annotated[UUID, typer.Argument(metavar="ID")]


@app.command()
def create(
    name: Annotated[str, typer.Option(help="A name that no other valid key has.")],
    scope: Annotated[
        str, typer.Option(metavar="SCOPE[,SCOPE…]", help=f"Any of {', '.join(SCOPE_NAMES)}.")
    ],
    organization: Annotated[
        str | None, typer.Option(help="Bind the key to one organization (id or slug).")
    ] = None,
    all_organizations: Annotated[
        bool, typer.Option("--all", help="Create a key for all organizations.")
    ] = False,
    expires: Annotated[
        str | None,
        typer.Option(metavar="D", help="Expiry in ISO 8601: P90D, 2027-01-31, or a time."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a key. It is printed once."""
    _check_scope(scope)
    if (organization is None) is not all_organizations:
        refuse("Give either --organization ID or --all.", code=EXIT_USAGE)
    expires_at = _expiry(expires) if expires is not None else None

    async def work() -> service.CreatedKey:
        async with transaction() as connection:
            owner = None
            if organization is not None:  # an empty reference is an error, never all organizations
                owner = await organizations.find(connection, organization)
            owner_id = owner.id if owner else None
            made = await service.create_key(
                connection, name=name, scope=scope, organization_id=owner_id, expires_at=expires_at
            )
            await service.record(
                connection,
                actor=await current_actor(connection),
                action="keys.create",
                subject=made["id"],
                organization_id=owner_id,
                details={
                    "name": name,
                    "scope": made["scope"],
                    "expiresAt": expires_at and expires_at.isoformat(),
                },
            )
        return made

    emit(run(work()), as_json=as_json, human=lambda made: str(made["key"]))


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List keys, without their secrets."""

    async def work() -> list[dict[str, Any]]:
        keys: list[asyncpg.Record] = []
        async with transaction() as connection:
            while page := await service.list_keys(
                connection, before=keys[-1]["id"] if keys else None
            ):
                keys += page
        return [_public(row) for row in keys]

    emit(
        {"keys": run(work())},
        as_json=as_json,
        human=lambda document: table(
            COLUMNS, [[key[c] for c in COLUMNS] for key in document["keys"]], empty="no keys"
        ),
    )


@app.command()
def rotate(
    key_id: KeyId,
    overlap: Annotated[
        str, typer.Option(metavar="D", help="How long the old key remains valid: PT1H, P1D, P30D.")
    ] = OVERLAP_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Replace a key: create one with its name and scopes; the old one expires after the overlap."""
    try:
        until = Duration.parse(overlap).after(datetime.now(UTC))
    except ValueError as error:
        refuse(f"--overlap: {error}", code=EXIT_USAGE)

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            made = await service.rotate_key(connection, key_id, until=until)
            owner = made["organizationId"]
            await service.record(
                connection,
                actor=await current_actor(connection),
                action="keys.rotate",
                subject=str(key_id),
                organization_id=UUID(owner) if owner else None,
                details={"successor": made["id"], "until": until.isoformat()},
            )
        return {**made, "replaces": str(key_id), "oldExpiresAt": until}

    emit(run(work()), as_json=as_json, human=lambda made: str(made["key"]))


@app.command()
def revoke(key_id: KeyId, as_json: AsJson = False) -> None:
    """Revoke a key at once, with its sessions."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            await service.revoke_key(connection, key_id)
            await service.record(
                connection,
                actor=await current_actor(connection),
                action="keys.revoke",
                subject=str(key_id),
            )
        return {"id": str(key_id), "revoked": True}

    emit(run(work()), as_json=as_json, human=lambda document: f"revoked {document['id']}")


def _check_scope(scope: str) -> None:
    try:
        parse_scopes(part.strip() for part in scope.split(","))
    except ValueError:
        refuse(
            f"--scope must list any of {', '.join(SCOPE_NAMES)}, separated by commas",
            code=EXIT_USAGE,
        )


def _expiry(text: str) -> datetime:
    try:
        return parse_expiry(text, datetime.now(UTC))
    except (ValueError, OverflowError) as error:
        refuse(f"--expires: {error}", code=EXIT_USAGE)


def _public(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "name": row["name"],
        "scope": scopes_text(service.scopes_of(row)),
        "organizationId": str(row["organization_id"]) if row["organization_id"] else None,
        "hint": f"…{row['key_hint']}",
        "createdAt": row["created_at"],
        "expiresAt": row["expires_at"],
        "lastUsedAt": row["last_used_at"],
        "replacedBy": str(row["replaced_by"]) if row["replaced_by"] else None,
        "revokedAt": row["revoked_at"],
    }
