"""A transaction: its row, and where its credits came from or went to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aiohttp import web

from console.framework import formatting, paging
from console.framework.context import Visit
from console.framework.page import get
from console.pages import explanation
from console.pages.organization import LIST
from shared.db.queries import beside
from shared.errors import NotFoundError
from shared.ids import parse_id, transaction_public_id
from shared.ledger import service as ledger
from shared.ledger import store
from shared.ledger.model import Source, Use
from shared.ledger.origin import KEY_ID, OWN, REQUEST_ID, TAGS
from shared.organizations import service as organizations
from shared.pricing.record import read_record

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__, "transactions.sql")
SOURCES_MAX = 30
PAYMENTS_MAX = 10
# The events that arrived before and after a credit, among which those of its payment are searched.
EVENTS_SEARCHED_MAX = 500
EVENTS_MAX = 50
Events = Mapping[str, Sequence[Mapping[str, Any]]]


async def show(visit: Visit) -> web.Response:
    """Show a row of the ledger: a debit with its funding, a credit with its uses."""
    position = paging.decode(visit.query, int)
    async with visit.reading() as connection:
        row = await _find(visit, connection)
        organization = await organizations.find(connection, str(row["organization_id"]))
        sources = await ledger.explain(connection, row, sources_max=SOURCES_MAX)
        uses: list[Use] = []
        if row["amount"] > 0:
            uses = await store.uses(
                connection,
                organization.id,
                row["grant_id"],
                after=position[0] if position else 0,
                limit=paging.ROWS_MAX + 1,
            )
        grants = await _grants(connection, row, sources)
        events = await _events(connection, organization.id, list(grants.values()))
        origin = await _origin(connection, row)
    return _render(visit, row, organization, sources, uses, grants, events, origin)


def _render(
    visit: Visit,
    row: asyncpg.Record,
    organization: Any,
    sources: Sequence[Source],
    uses: Sequence[Use],
    grants: Mapping[UUID, Mapping[str, Any]],
    events: Events,
    origin: Mapping[str, str | None],
) -> web.Response:
    is_bound = visit.organization_id is not None
    drawn = explanation.paths(sources, grants, events, is_bound=is_bound)
    total: Decimal = abs(row["amount"])
    rest = total - sum((path.amount for path in drawn), Decimal(0)) if row["amount"] < 0 else 0
    own = grants.get(row["grant_id"]) if row["amount"] > 0 else None
    path = f"/console/transactions/{row['id']}"
    above = [] if is_bound else [("Organizations", LIST)]
    home = f"{LIST}/{organization.id}"
    return visit.render(
        "transaction.html",
        title=transaction_public_id(row["id"]),
        breadcrumbs=[
            *above,
            (formatting.shortened(organization.name, 60), home),
            ("History", f"{home}/history"),
        ],
        organization=organization,
        row=row,
        metadata=_callers(row["metadata"]),
        tags=(row["metadata"] or {}).get(TAGS, []),
        pricing=read_record(row["metadata"]),
        origin=origin,
        drawn=drawn,
        segments=explanation.segments(drawn, total),
        rest=rest,
        total=total,
        brought=explanation.payment_steps(own, events, is_bound=is_bound) if own else [],
        uses=paging.rows(uses, path=path, query=visit.query, position=lambda use: [use.seq]),
    )


async def _find(visit: Visit, connection: Connection) -> asyncpg.Record:
    """Return the row of the path, by UUID or `ct_…`; the same error for another organization's."""
    transaction_id = parse_id(visit.path["transaction"])
    row = None if transaction_id is None else await store.find(connection, transaction_id)
    if row is None or visit.organization_id not in {None, row["organization_id"]}:
        raise NotFoundError("There is no such transaction.")
    return row


async def _grants(
    connection: Connection, row: asyncpg.Record, sources: Sequence[Source]
) -> dict[UUID, Mapping[str, Any]]:
    """Return the grants that paid for the row, or the one that it opened, by id."""
    names = [source.grant_id for source in sources if source.grant_id is not None]
    if row["grant_id"] is not None:
        names.append(row["grant_id"])
    found = await connection.fetch(
        QUERIES.funding, row["organization_id"], list(dict.fromkeys(names))
    )
    return {grant["id"]: dict(grant) for grant in found}


async def _events(
    connection: Connection, organization_id: UUID, grants: Sequence[Mapping[str, Any]]
) -> Events:
    """Return the events of the payments of grants, by PaymentIntent."""
    credited: dict[str, datetime] = {
        grant["payment_intent_id"]: grant["created_at"]
        for grant in grants
        if grant["payment_intent_id"] is not None
    }
    names = list(credited)[:PAYMENTS_MAX]
    if not names:
        return {}
    rows = await connection.fetch(
        QUERIES.payment_events, organization_id, names, [credited[name] for name in names],
        EVENTS_SEARCHED_MAX, EVENTS_MAX,
    )  # fmt: skip
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["payment_intent_id"]].append(dict(row))
    return found


async def _origin(connection: Connection, row: asyncpg.Record) -> dict[str, str | None]:
    """Return the API key and the request behind the row, from its metadata."""
    metadata = row["metadata"] or {}
    key_id, name = parse_id(str(metadata.get(KEY_ID, ""))), None
    if key_id is not None:
        name = await connection.fetchval(QUERIES.key_name, key_id)
    return {
        "key_id": str(key_id) if key_id else None,
        "key_name": name,
        "request_id": metadata.get(REQUEST_ID),
    }


def _callers(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the metadata without what Prepaid added."""
    return {name: value for name, value in (metadata or {}).items() if not name.startswith(OWN)}


PAGES = (get("/transactions/{transaction}", show, for_bound_keys=True),)
