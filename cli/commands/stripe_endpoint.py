"""prepaid stripe endpoint: create, update, show."""

from __future__ import annotations

from typing import Annotated, Any

import asyncpg
import typer

from cli.actor import current_actor
from cli.database import transaction
from cli.environment import environment
from cli.output import AsJson, emit, run, table
from shared import config
from shared.access import service as audit
from shared.db.pool import UNAVAILABLE
from shared.errors import PrepaidError, StripeRefusedError, UnavailableError
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

    async def work() -> tuple[str, StripeEndpoint, str]:
        address = url or config.public_url(environment()) + DELIVERY_PATH
        stripe_access = config.stripe_access(environment())
        actor = await _actor()
        async with stripe_client(*stripe_access) as client:
            made, secret = await webhook_endpoints.create(
                client, address, HANDLED_TYPES, connect=connect
            )
        return actor, made, secret

    actor, made, secret = run(work())
    # Before the audit entry, which may fail: Stripe shows the secret this once.
    emit({**_shown(made), "secret": secret}, as_json=as_json, human=_human_with_secret)
    run(_record_created(actor, made))


@endpoint.command()
def update(
    endpoint_id: Annotated[str, typer.Argument(metavar="ID", help="we_…")],
    url: Annotated[str | None, typer.Option(help="Another address.")] = None,
    as_json: AsJson = False,
) -> None:
    """Enable an endpoint, and set its types to those that Prepaid handles."""

    async def work() -> dict[str, Any]:
        stripe_access = config.stripe_access(environment())
        actor = await _actor()
        async with stripe_client(*stripe_access) as client:
            changed = await webhook_endpoints.update(client, endpoint_id, url, HANDLED_TYPES)
        await _record("stripe.endpoint.update", actor, changed)
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


async def _actor() -> str:
    """Return the actor; raise before Stripe is asked where the database is missing or away."""
    async with transaction() as connection:
        return await current_actor(connection)


async def _record_created(actor: str, made: StripeEndpoint) -> None:
    try:
        await _record("stripe.endpoint.create", actor, made)
    except (PrepaidError, asyncpg.PostgresError, *UNAVAILABLE) as error:
        raise UnavailableError(
            f"{made.id} exists at Stripe, and its secret is printed; the audit log may lack its"
            f" entry ({str(error) or type(error).__name__}). Do not create it again."
        ) from error


async def _record(action: str, actor: str, changed: StripeEndpoint) -> None:
    async with transaction() as connection:
        await audit.record(
            connection,
            actor=actor,
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
