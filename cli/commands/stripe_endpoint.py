"""prepaid stripe endpoint: create, update, show."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.actor import current_actor
from cli.database import transaction
from cli.environment import environment
from cli.output import AsJson, emit, run, table
from shared import config
from shared.access import service as audit
from shared.errors import StripeRefusedError
from shared.events.rules import HANDLED_TYPES
from shared.inbox.model import DELIVERY_PATH
from shared.payments import webhook_endpoints
from shared.payments.client import stripe_client
from shared.payments.webhook_endpoints import StripeEndpoint

app = typer.Typer(no_args_is_help=True, help="The Stripe account that Prepaid works with.")
endpoint = typer.Typer(no_args_is_help=True, help="The webhook endpoint at Stripe.")
app.add_typer(endpoint, name="endpoint")

COLUMNS = ("id", "url", "status", "apiVersion", "missingEvents")
Url = Annotated[
    str | None,
    typer.Option(help="Its address; without it, PREPAID_PUBLIC_URL and the path of deliveries."),
]


@endpoint.command()
def create(
    url: Url = None,
    connect: Annotated[
        bool, typer.Option("--connect", help="Receive the events of connected accounts.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create the endpoint, with the types that Prepaid handles. Its secret is printed once."""

    async def work() -> dict[str, Any]:
        address = url or config.public_url(environment()) + DELIVERY_PATH
        async with stripe_client(*config.stripe_access(environment())) as client:
            made, secret = await webhook_endpoints.create(
                client, address, HANDLED_TYPES, connect=connect
            )
        await _record("stripe.endpoint.create", made)
        return {**_shown(made), "secret": secret}

    emit(run(work()), as_json=as_json, human=_human_with_secret)


@endpoint.command()
def update(
    endpoint_id: Annotated[str, typer.Argument(metavar="ID", help="we_…")],
    url: Annotated[str | None, typer.Option(help="Another address.")] = None,
    as_json: AsJson = False,
) -> None:
    """Enable an endpoint, and set its types to those that Prepaid handles."""

    async def work() -> dict[str, Any]:
        async with stripe_client(*config.stripe_access(environment())) as client:
            changed = await webhook_endpoints.update(client, endpoint_id, url, HANDLED_TYPES)
        await _record("stripe.endpoint.update", changed)
        return _shown(changed)

    emit(run(work()), as_json=as_json, human=lambda document: _human([document]))


@endpoint.command()
def show(as_json: AsJson = False) -> None:
    """Show the account's endpoints, and which types they do not receive."""

    async def work() -> dict[str, Any]:
        async with stripe_client(*config.stripe_access(environment())) as client:
            found = await webhook_endpoints.list_endpoints(client)
        if found is None:
            raise StripeRefusedError(
                "The key may not list endpoints. Give it the permission Webhook Endpoints: Read."
            )
        return {"endpoints": [_shown(one) for one in found]}

    emit(run(work()), as_json=as_json, human=lambda document: _human(document["endpoints"]))


async def _record(action: str, changed: StripeEndpoint) -> None:
    async with transaction() as connection:
        await audit.record(
            connection,
            actor=await current_actor(connection),
            action=action,
            subject=changed.id,
            details={"url": changed.url},
        )


def _shown(found: StripeEndpoint) -> dict[str, Any]:
    return {
        "id": found.id,
        "url": found.url,
        "status": found.status,
        "apiVersion": found.api_version,
        "enabledEvents": list(found.enabled_events),
        "missingEvents": found.missing_events(HANDLED_TYPES),
    }


def _human(documents: list[dict[str, Any]]) -> str:
    rows = [
        [
            ", ".join(document[name]) or "none" if name == "missingEvents" else document[name]
            for name in COLUMNS
        ]
        for document in documents
    ]
    return table(
        COLUMNS, rows, empty="Stripe has no webhook endpoint: prepaid stripe endpoint create"
    )


def _human_with_secret(document: dict[str, Any]) -> str:
    return (
        f"{_human([document])}\n\nSTRIPE_WEBHOOK_SECRETS={document['secret']}\n"
        "Stripe shows this secret once: store it now."
    )
