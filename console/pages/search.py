"""The search box: exact look-ups by index, of whatever a person may paste."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from aiohttp import web

from console.framework.context import Visit
from console.framework.formatting import segment
from console.framework.page import get
from shared.db.queries import beside
from shared.ids import parse_id, transaction_public_id

if TYPE_CHECKING:
    from shared.db.pool import Connection

QUERIES = beside(__file__, "search.sql")
TEXT_LENGTH_MAX = 200
HITS_OF_KIND_MAX = 20


@dataclass(frozen=True, slots=True)
class Hit:
    """What was found. `organization_id` None: of the installation, for unbound sessions alone."""

    kind: str
    label: str
    path: str
    organization_id: UUID | None = None


async def show(visit: Visit) -> web.Response:
    """Go to the one page that was found, or list what was found."""
    text = visit.query.get("q", "").strip()[:TEXT_LENGTH_MAX]
    hits: list[Hit] = []
    if text:
        async with visit.reading() as connection:
            hits = [hit async for hit in _hits(connection, text) if _may_see(visit, hit)]
    if len({hit.path for hit in hits}) == 1:
        return web.Response(status=303, headers={"Location": hits[0].path})
    return visit.render("search.html", title="Search", text=text, hits=hits)


def _may_see(visit: Visit, hit: Hit) -> bool:
    return visit.organization_id in {None, hit.organization_id}


async def _hits(connection: Connection, text: str) -> AsyncIterator[Hit]:
    unique, most = parse_id(text), HITS_OF_KIND_MAX
    for row in await connection.fetch(QUERIES.organizations, unique, text, most):
        yield _organization("organization", row["slug"], row["id"])
    if text.startswith("evt_"):
        for row in await connection.fetch(QUERIES.events, text, most):
            path = f"/console/events/{segment(row['id'])}"
            yield Hit("event", f"{row['id']} {row['type']}", path)
    async for hit in _of_stripe(connection, text):
        yield hit
    for row in await connection.fetch(QUERIES.attempts, unique, text, most):
        path = f"/console/attempts/{row['id']}"
        yield Hit("recharge attempt", f"{row['id']} {row['state']}", path, row["organization_id"])
    if unique is not None:
        async for hit in _by_id(connection, unique):
            yield hit


async def _of_stripe(connection: Connection, text: str) -> AsyncIterator[Hit]:
    """Yield what an id of Stripe leads to: the organization, and the ledger rows of a payment."""
    payments = await connection.fetch(QUERIES.payments, text, HITS_OF_KIND_MAX)
    for row in payments:
        label = row["payment_intent_id"] or text
        yield _organization("payment of organization", label, row["organization_id"])
    for row in await connection.fetch(
        QUERIES.credits_of_payments,
        [row["organization_id"] for row in payments],
        [row["payment_intent_id"] for row in payments],
        HITS_OF_KIND_MAX,
    ):
        yield _transaction(row["id"], row["type"], row["organization_id"])
    for row in await connection.fetch(QUERIES.others, text, HITS_OF_KIND_MAX):
        yield _organization(f"{row['kind']} of organization", text, row["organization_id"])


async def _by_id(connection: Connection, unique: UUID) -> AsyncIterator[Hit]:
    for row in await connection.fetch(QUERIES.transactions, unique, HITS_OF_KIND_MAX):
        yield _transaction(row["id"], row["type"], row["organization_id"])
    for row in await connection.fetch(QUERIES.messages, unique, HITS_OF_KIND_MAX):
        path = f"/console/messages/{row['id']}"
        yield Hit("message", f"{row['id']} {row['type']}", path, row["organization_id"])


def _organization(kind: str, label: str, organization_id: UUID) -> Hit:
    return Hit(kind, label, f"/console/organizations/{organization_id}", organization_id)


def _transaction(transaction_id: UUID, kind: str, organization_id: UUID) -> Hit:
    public = transaction_public_id(transaction_id)
    return Hit("ledger row", f"{public} {kind}", f"/console/transactions/{public}", organization_id)


PAGES = (get("/search", show, for_bound_keys=True),)
