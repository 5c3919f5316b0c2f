"""prepaid endpoints: add, list, remove, rotate."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import typer

from cli.actor import current_actor
from cli.database import transaction
from cli.environment import environment
from cli.output import AsJson, emit, run, table
from shared import config
from shared.access import service as audit
from shared.counts import counted
from shared.outbound import service
from shared.outbound.model import EndpointWithSecret, MessageType, OutboundEndpoint

app = typer.Typer(no_args_is_help=True, help="Webhook endpoints: where outbound messages are sent.")
COLUMNS = ("id", "url", "types", "createdAt", "disabledAt", "description")

EndpointId = Annotated[UUID, typer.Argument(metavar="ID")]


@app.command()
def add(
    url: Annotated[str, typer.Option(help="An https:// address of your app.")],
    types: Annotated[
        list[MessageType] | None, typer.Option("--type", help="Only this message type; repeatable.")
    ] = None,
    description: Annotated[str | None, typer.Option(help="A description.")] = None,
    as_json: AsJson = False,
) -> None:
    """Add an endpoint, or enable a disabled one. Its secret is printed once."""

    async def work() -> dict[str, Any]:
        allow_private = config.webhooks_allow_private(environment())
        async with transaction() as connection:
            made = await service.add_endpoint(
                connection,
                url=url,
                types=types or (),
                description=description,
                allow_private=allow_private,
            )
            await audit.record(
                connection,
                actor=await current_actor(connection),
                action="endpoints.add",
                subject=str(made.endpoint.id),
                details={"url": url, "types": list(made.endpoint.types)},
            )
        return _with_secret(made)

    emit(run(work()), as_json=as_json, human=_secret_human)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List endpoints, including disabled ones, without their secrets."""

    async def work() -> list[dict[str, Any]]:
        async with transaction() as connection:
            return [_public(endpoint) for endpoint in await service.list_endpoints(connection)]

    emit(
        {"endpoints": run(work())},
        as_json=as_json,
        human=lambda document: table(
            COLUMNS,
            [
                [", ".join(row[c]) or "all" if c == "types" else row[c] for c in COLUMNS]
                for row in document["endpoints"]
            ],
            empty="no endpoints",
        ),
    )


@app.command()
def remove(endpoint_id: EndpointId, as_json: AsJson = False) -> None:
    """Remove an endpoint, and discard its pending messages."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            discarded = await service.remove_endpoint(connection, endpoint_id)
            await audit.record(
                connection,
                actor=await current_actor(connection),
                action="endpoints.remove",
                subject=str(endpoint_id),
                details={"discarded": discarded},
            )
        return {"id": str(endpoint_id), "removed": True, "discarded": discarded}

    emit(
        run(work()),
        as_json=as_json,
        human=lambda document: (
            f"removed {document['id']}, {counted(document['discarded'], 'message')} discarded"
        ),
    )


@app.command()
def rotate(endpoint_id: EndpointId, as_json: AsJson = False) -> None:
    """Rotate an endpoint's secret. The new one is printed once; the old one also signs for 24 h."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            made = await service.rotate_secret(connection, endpoint_id)
            await audit.record(
                connection,
                actor=await current_actor(connection),
                action="endpoints.rotate",
                subject=str(endpoint_id),
            )
        return _with_secret(made)

    emit(run(work()), as_json=as_json, human=_secret_human)


def _public(endpoint: OutboundEndpoint) -> dict[str, Any]:
    return {
        "id": str(endpoint.id),
        "url": endpoint.url,
        "types": list(endpoint.types),
        "description": endpoint.description,
        "createdAt": endpoint.created_at,
        "disabledAt": endpoint.disabled_at,
        "disabledReason": endpoint.disabled_reason,
    }


def _with_secret(made: EndpointWithSecret) -> dict[str, Any]:
    return _public(made.endpoint) | {"secret": made.secret}


def _secret_human(document: dict[str, Any]) -> str:
    return f"{document['id']}  {document['url']}\n{document['secret']}"
