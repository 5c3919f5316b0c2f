"""prepaid bind: a Stripe customer or payment that no metadata names."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cli.actor import current_actor
from cli.database import database_url
from cli.environment import load_settings
from cli.output import AsJson, emit, run
from cli.reasons import RequiredReason
from shared.counts import counted
from shared.db.pool import create_pool
from shared.events.binding import Binder
from shared.ids import new_id, transaction_public_id
from shared.ledger.model import PostingStatus
from shared.organizations import service as organizations
from shared.payments.client import stripe_client
from shared.payments.lookup import StripeLookup
from shared.payments.model import SaleTerms

CUSTOMER, PAYMENT = "cus_", "pi_"


def _stripe_id(text: str) -> str:
    if not text.startswith((CUSTOMER, PAYMENT)):
        raise typer.BadParameter("an id of Stripe is expected: cus_… or pi_…")
    return text


def bind(
    organization: Annotated[str, typer.Argument(metavar="ORGANIZATION", help="Id or slug.")],
    stripe_id: Annotated[
        str, typer.Argument(parser=_stripe_id, metavar="cus_…|pi_…", help="What to bind.")
    ],
    reason: RequiredReason,
    account: Annotated[str, typer.Option(help="The connected account that it is in.")] = "",
    as_json: AsJson = False,
) -> None:
    """Bind a Stripe customer or a captured payment to an organization.

    A payment is credited. Events that waited for it or its customer are applied again.
    """

    async def work() -> dict[str, Any]:
        settings = load_settings()
        async with (
            create_pool(database_url(), size=2, application_name="prepaid-cli") as pool,
            stripe_client(settings.stripe_api_key, settings.stripe_api_base) as client,
        ):
            async with pool.acquire() as connection:
                owner = await organizations.find(connection, organization)
                actor = await current_actor(connection)
            binder = Binder(
                pool=pool,
                lookup=StripeLookup(client),
                terms=SaleTerms.of(settings),
                make_id=new_id,
                account=account,
            )
            document = {"organizationId": str(owner.id), "bound": stripe_id}
            if stripe_id.startswith(CUSTOMER):
                changed = await binder.bind_customer(owner, stripe_id, actor=actor, reason=reason)
                return document | {"changed": changed, "transactionId": None, "amount": None}
            posted = await binder.bind_payment(
                owner, stripe_id, actor=actor, reason=reason, now=datetime.now(UTC)
            )
        return document | {
            "changed": posted.status is PostingStatus.POSTED,
            "transactionId": transaction_public_id(posted.id),
            "amount": posted.amount,
        }

    emit(run(work()), as_json=as_json, human=_sentence)


def _sentence(document: dict[str, Any]) -> str:
    what = f"{document['bound']} belongs to {document['organizationId']}"
    if document["amount"] is not None:
        what += f": {counted(document['amount'], 'credit')}, {document['transactionId']}"
    return what if document["changed"] else f"{what} (already; nothing changed)"
