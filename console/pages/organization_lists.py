"""Lists of an organization: history, grants, holds, auto-recharge, messages, audit log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
from aiohttp import web

from console.framework import filtering, paging
from console.framework.context import Visit
from console.framework.page import get
from console.pages import organization as overview
from shared.access import service as access
from shared.db.queries import beside
from shared.errors import InvalidRequestError
from shared.ledger import store as ledger
from shared.ledger.holds import store as hold_store
from shared.ledger.holds.model import HoldStatus
from shared.ledger.model import TransactionType
from shared.recharge.attempts import store as attempts

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__, "organization.sql")
# A filtered page looks through so many rows; the next page goes on from there.
SEARCHED_MAX = 20_000
ATTEMPTS_MAX = 20
USAGE = (TransactionType.USAGE, TransactionType.HOLD_CAPTURE)
TYPES = tuple(map(str, TransactionType))
_LAST_ID = UUID(int=2**128 - 1)
BEFORE_THE_NEWEST = (datetime.max.replace(tzinfo=UTC), _LAST_ID, _LAST_ID)


@dataclass(frozen=True, slots=True)
class HistoryFilter:
    """Types, and the days of the first and last row, in UTC."""

    kind: str
    since: date | None
    until: date | None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> HistoryFilter:
        """Read the query; raise InvalidRequestError for an unknown type or a wrong date."""
        kind = query.get("type", "")
        if kind and kind not in TYPES:
            raise InvalidRequestError("There is no such type of transaction.")
        return cls(kind, filtering.day(query, "since"), filtering.day(query, "until"))


async def history(visit: Visit) -> web.Response:
    """List the rows of the ledger, newest first, by type and date."""
    wanted = HistoryFilter.of(visit.query)
    position = paging.decode(visit.query, int)
    async with visit.reading() as connection:
        found = await overview.find(visit, connection)
        path = f"{overview.LIST}/{found.id}/history"
        after, before = await _seqs(connection, found.id, wanted)
        if position is not None:
            before = min(before, position[0])
        page, searched = await _history(visit, connection, found.id, wanted, after, before, path)
    return overview.render(
        visit,
        "organization_history.html",
        found,
        title="History",
        page=page,
        wanted=wanted,
        types=TYPES,
        searched=searched,
    )


async def _seqs(
    connection: Connection, organization_id: UUID, wanted: HistoryFilter
) -> tuple[int, int]:
    """Return the seqs that the rows of the days lie between."""
    after, before = 0, paging.SEQ_MAX
    if wanted.since is not None:
        after = await connection.fetchval(
            QUERIES.seq_before, organization_id, filtering.start_of(wanted.since)
        )
    if wanted.until is not None:
        last = await connection.fetchval(
            QUERIES.seq_before, organization_id, filtering.end_of(wanted.until)
        )
        before = last + 1
    return after, before


async def _history(
    visit: Visit,
    connection: Connection,
    organization_id: UUID,
    wanted: HistoryFilter,
    after: int,
    before: int,
    path: str,
) -> tuple[paging.Rows[asyncpg.Record], int | None]:
    """Return a page, and how many rows were searched where more remain."""
    rows_max = paging.ROWS_MAX + 1
    goes_on: int | None = None
    if wanted.kind and wanted.kind not in USAGE:
        found = await connection.fetch(
            QUERIES.history_without_usage, organization_id, before, after, [wanted.kind], rows_max,
            SEARCHED_MAX,
        )  # fmt: skip
        if len(found) < rows_max:
            goes_on = await connection.fetchval(
                QUERIES.last_without_usage, organization_id, before, after, SEARCHED_MAX
            )
    else:
        last = await _last_seq(connection, organization_id)
        before = min(before, last + 1)
        lower = max(after, before - 1 - SEARCHED_MAX) if wanted.kind else after
        kinds = [wanted.kind] if wanted.kind else None
        found = await connection.fetch(
            QUERIES.history, organization_id, before, lower, kinds, rows_max
        )
        goes_on = lower + 1 if lower > after else None
    page = paging.rows(found, path=path, query=visit.query, position=lambda row: [row["seq"]])
    if page.next is not None or goes_on is None:
        return page, None
    return paging.continued(page, path=path, query=visit.query, position=[goes_on]), SEARCHED_MAX


async def _last_seq(connection: Connection, organization_id: UUID) -> int:
    row = await connection.fetchrow(QUERIES.account, organization_id)
    return int(row["last_seq"]) if row else 0


async def grants(visit: Visit) -> web.Response:
    """List the grants, newest first, with what is left of each."""
    position = paging.decode(visit.query, int)
    which = visit.query.get("which", "")
    async with visit.reading() as connection:
        found = await overview.find(visit, connection)
        rows = await ledger.grants(
            connection,
            found.id,
            before=position[0] if position else paging.SEQ_MAX,
            is_open={"open": True, "spent": False}.get(which),
            limit=paging.ROWS_MAX + 1,
        )
    page = paging.rows(
        [{**row, "type": None} for row in rows],
        path=f"{overview.LIST}/{found.id}/grants",
        query=visit.query,
        position=lambda row: [row["seq"]],
    )
    return overview.render(
        visit,
        "organization_grants.html",
        found,
        title="Grants",
        page=page,
        bars=overview.burn_bars(page.rows, is_order=False),
        which=which,
    )


async def holds(visit: Visit) -> web.Response:
    """List the holds, newest first."""
    position = paging.decode(visit.query, UUID)
    state = visit.query.get("state", "")
    async with visit.reading() as connection:
        found = await overview.find(visit, connection)
        rows = await hold_store.page(
            connection,
            found.id,
            before=position[0] if position else None,
            status=state or None,
            limit=paging.ROWS_MAX + 1,
        )
    page = paging.rows(
        rows,
        path=f"{overview.LIST}/{found.id}/holds",
        query=visit.query,
        position=lambda row: [row.id],
    )
    return overview.render(
        visit,
        "organization_holds.html",
        found,
        title="Holds",
        page=page,
        state=state,
        states=tuple(HoldStatus),
    )


async def recharge(visit: Visit) -> web.Response:
    """Show the rule and the state of auto-recharge, and its last attempts."""
    async with visit.reading() as connection:
        found = await overview.find(visit, connection)
        auto = await overview.auto_recharge(connection, found.id, visit.now)
        rows = await attempts.attempts(connection, found.id, rows_max=ATTEMPTS_MAX)
    return overview.render(
        visit, "organization_recharge.html", found, title="Auto-recharge", auto=auto, attempts=rows
    )


async def messages(visit: Visit) -> web.Response:
    """List the messages to the customer's app, newest first."""
    position = paging.decode(visit.query, datetime, UUID, UUID) or BEFORE_THE_NEWEST
    async with visit.reading() as connection:
        found = await overview.find(visit, connection)
        rows = await connection.fetch(QUERIES.messages, found.id, *position, paging.ROWS_MAX + 1)
    page = paging.rows(
        rows,
        path=f"{overview.LIST}/{found.id}/messages",
        query=visit.query,
        position=lambda row: [row["created_at"], row["id"], row["endpoint_id"]],
    )
    return overview.render(visit, "organization_messages.html", found, title="Messages", page=page)


async def audit(visit: Visit) -> web.Response:
    """List what operators and keys did to the organization, newest first."""
    position = paging.decode(visit.query, datetime, UUID)
    async with visit.reading() as connection:
        found = await overview.find(visit, connection)
        rows = await access.audit_entries(
            connection,
            organization_id=found.id,
            actor=None,
            since=None,
            after=(position[0], position[1]) if position else None,
            limit=paging.ROWS_MAX + 1,
        )
    page = paging.rows(
        [{**row, "details": _json(row["details"])} for row in rows],
        path=f"{overview.LIST}/{found.id}/audit",
        query=visit.query,
        position=lambda row: [row["at"], row["id"]],
    )
    return overview.render(visit, "organization_audit.html", found, title="Audit log", page=page)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode() if value else ""


_ONE = "/organizations/{organization}"
PAGES = (
    get(f"{_ONE}/history", history, for_bound_keys=True),
    get(f"{_ONE}/grants", grants, for_bound_keys=True),
    get(f"{_ONE}/holds", holds, for_bound_keys=True),
    get(f"{_ONE}/recharge", recharge, for_bound_keys=True),
    get(f"{_ONE}/messages", messages, for_bound_keys=True),
    get(f"{_ONE}/audit", audit, for_bound_keys=True),
)
