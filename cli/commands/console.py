"""prepaid console: link."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from cli.actor import current_actor
from cli.database import transaction
from cli.environment import environment
from cli.output import AsJson, emit, run
from shared import config
from shared.access import service
from shared.access.console import store
from shared.access.console.model import LINK_LIFETIME, Identity, Role
from shared.organizations import service as organizations

app = typer.Typer(no_args_is_help=True, help="The operator console, /console of a web process.")
LINK_PATH = "/console/sign-in/"


@app.callback()
def _group() -> None:
    """Keep `link` a command of its own."""


@app.command()
def link(
    role: Annotated[Role, typer.Option(help="view, or operate: view and act.")] = Role.OPERATE,
    organization: Annotated[
        str | None, typer.Option(help="Show this organization alone (id or slug).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print a link that signs a browser in: once, within ten minutes."""
    token = store.new_token()
    now = datetime.now(UTC)

    async def work() -> dict[str, str | None]:
        async with transaction() as connection:
            owner = None
            if organization is not None:
                owner = await organizations.find(connection, organization)
            actor = await current_actor(connection)
            owner_id = owner.id if owner else None
            identity = Identity(actor=f"console:{actor}", role=role, organization_id=owner_id)
            await store.create_link(connection, token, identity, now=now)
            await service.record(
                connection,
                actor=actor,
                action="console.link",
                subject="console",
                organization_id=owner_id,
                details={"role": role},
            )
        return {
            "url": config.public_url(environment()) + LINK_PATH + token,
            "role": role,
            "organizationId": str(owner_id) if owner_id else None,
            "expiresAt": (now + LINK_LIFETIME).isoformat(),
        }

    emit(run(work()), as_json=as_json, human=lambda made: str(made["url"]))
