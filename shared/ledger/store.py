"""All SQL of the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from shared.db.queries import beside
from shared.ledger.model import (
    Balance,
    BudgetExceeded,
    BudgetShortfall,
    Deferral,
    InsufficientCredits,
    KeyConflict,
    PostedTransaction,
    Posting,
    PostingResult,
    PostingStatus,
    RefusedPosting,
    Shortfall,
    Source,
    Use,
)
from shared.ledger.shards import Shard

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)


async def post(connection: Connection, postings: Sequence[Posting]) -> list[PostingResult]:
    """Run the posting function; return the results in the order of the postings.

    A posting whose `Idempotency-Key` belongs to another request is a conflict.
    """
    return results(postings, await connection.fetch(QUERIES.post, encode(postings)))


def results(postings: Sequence[Posting], rows: Sequence[asyncpg.Record]) -> list[PostingResult]:
    """Return the results of postings, in their order, from the rows of `ledger_post`."""
    by_place = {row["place"]: row for row in rows}
    return [_result(posting, by_place[n]) for n, posting in enumerate(postings, start=1)]


async def post_shared(
    connection: Connection,
    postings: Sequence[Posting],
    *,
    lock_milliseconds_max: int,
    grants_max: int | None,
) -> list[PostingResult | Deferral]:
    """Post what the limits allow, and return why the rest is deferred; see `ledger_post`."""
    rows = await connection.fetch(
        QUERIES.post_shared, encode(postings), lock_milliseconds_max, grants_max
    )
    by_place = {row["place"]: row for row in rows}
    return [
        _DEFERRALS.get(by_place[n]["status"]) or _result(posting, by_place[n])
        for n, posting in enumerate(postings, start=1)
    ]


_DEFERRALS = {deferral.value: deferral for deferral in Deferral}
_STATUSES = {status.value: status for status in PostingStatus}


def encode(postings: Sequence[Posting]) -> str:
    """Return postings as `ledger_post` takes them."""
    return msgspec.json.encode(_mark_repeated(postings)).decode()


def _result(posting: Posting, row: asyncpg.Record) -> PostingResult:
    status = _STATUSES[row["status"]]
    if status in (PostingStatus.POSTED, PostingStatus.REPLAYED):
        return PostedTransaction(
            organization_id=posting.organization_id,
            status=status,
            id=row["id"],
            seq=row["seq"],
            amount=row["amount"],
            balance_after=row["balance_after"],
            created_at=row["created_at"],
        )
    if status is PostingStatus.CONFLICT:
        return KeyConflict(
            organization_id=posting.organization_id,
            id=row["id"],
            seq=row["seq"],
            amount=row["amount"],
            balance_after=row["balance_after"],
        )
    if status is PostingStatus.INSUFFICIENT:
        shortfall = Shortfall(
            required=-row["amount"],
            available=row["available"],
            balance=row["balance_after"],
            held=row["held"],
        )
        return InsufficientCredits(organization_id=posting.organization_id, shortfall=shortfall)
    if status is PostingStatus.BUDGET_EXCEEDED:
        return budget_exceeded(posting.organization_id, row["budget"])
    return RefusedPosting(organization_id=posting.organization_id, status=status)


def budget_exceeded(organization_id: UUID, budget: Mapping[str, Any]) -> BudgetExceeded:
    """Return the result of a posting or hold that a budget refuses, from its numbers."""
    shortfall = msgspec.convert(budget, BudgetShortfall, strict=False)
    return BudgetExceeded(organization_id=organization_id, shortfall=shortfall)


def _mark_repeated(postings: Sequence[Posting]) -> list[Posting]:
    """Mark the keys that occur earlier in the batch: no row exists for them yet."""
    seen: set[tuple[UUID, str]] = set()
    marked = []
    for posting in postings:
        name = (posting.organization_id, posting.key)
        marked.append(msgspec.structs.replace(posting, repeated=True) if name in seen else posting)
        seen.add(name)
    return marked


async def are_known(connection: Connection, keys: Sequence[tuple[UUID, str]]) -> list[bool]:
    """Return of each key of an organization whether it has been posted. True stays true."""
    rows = await connection.fetch(
        QUERIES.known_places,
        [organization_id for organization_id, _ in keys],
        [key for _, key in keys],
    )
    places = {row["place"] for row in rows}
    return [place in places for place in range(1, len(keys) + 1)]


async def recharges_in_progress(
    connection: Connection, organization_ids: Sequence[UUID]
) -> dict[UUID, int]:
    """Return the seconds until the next check of each live recharge; without one: left out."""
    rows = await connection.fetch(QUERIES.recharges_in_progress, organization_ids)
    return {row["organization_id"]: row["seconds"] for row in rows}


async def balance(connection: Connection, organization_id: UUID) -> Balance | None:
    """Return the balance as of now; None for an unknown organization."""
    return (await balances(connection, [organization_id])).get(organization_id)


async def balances(connection: Connection, organization_ids: Sequence[UUID]) -> dict[UUID, Balance]:
    """Return balances as of now; unknown organizations are left out.

    Where something has expired that is not posted yet, all figures of that organization are read
    again in one statement, with what has expired.
    """
    rows = await connection.fetch(QUERIES.balances, organization_ids)
    due = [row["organization_id"] for row in rows if row["is_due"]]
    if due:
        rows = [row for row in rows if not row["is_due"]]
        rows += await connection.fetch(QUERIES.due_balances, due)
    return {
        row["organization_id"]: Balance(
            balance=row["balance"],
            held=row["held"],
            overdraft_limit=row["overdraft_limit"],
            last_seq=row["last_seq"],
        )
        for row in rows
    }


async def balance_at(connection: Connection, organization_id: UUID, moment: datetime) -> Decimal:
    """Return the balance at a moment."""
    amount: Decimal = await connection.fetchval(QUERIES.balance_at, organization_id, moment)
    return amount


async def transaction_after(
    connection: Connection, organization_id: UUID, seq: int
) -> asyncpg.Record | None:
    """Return the first row of an organization after a seq, if there is one."""
    return await connection.fetchrow(QUERIES.transaction_after, organization_id, seq)


async def history(
    connection: Connection, organization_id: UUID, *, before: int, limit: int
) -> list[asyncpg.Record]:
    """Return a page of rows, newest first, with a seq below `before`."""
    return await connection.fetch(QUERIES.history, organization_id, before, limit)


async def recent_of_types(
    connection: Connection, organization_id: UUID, types: Sequence[str], *, limit: int
) -> list[asyncpg.Record]:
    """Return the newest rows of these types, none of them usage, newest first."""
    return await connection.fetch(QUERIES.recent_of_types, organization_id, types, limit)


async def recent_usage(
    connection: Connection,
    organization_id: UUID,
    categories: Sequence[str],
    *,
    others_than: Sequence[str] | None,
    limit: int,
) -> list[asyncpg.Record]:
    """Return the newest usage in `categories`, or in all but `others_than`, newest first."""
    return await connection.fetch(
        QUERIES.recent_usage, organization_id, categories, others_than is not None,
        others_than or [], limit,
    )  # fmt: skip


async def grants(
    connection: Connection,
    organization_id: UUID,
    *,
    before: int,
    is_open: bool | None,
    limit: int,
) -> list[asyncpg.Record]:
    """Return a page of grants, newest first, with a seq below `before`."""
    if is_open:
        return await connection.fetch(QUERIES.open_grants, organization_id, before, limit)
    only_spent = is_open is not None
    return await connection.fetch(QUERIES.grants, organization_id, before, only_spent, limit)


async def find_grant(
    connection: Connection, organization_id: UUID, grant_id: UUID
) -> asyncpg.Record | None:
    """Return a grant."""
    return await connection.fetchrow(QUERIES.find_grant, organization_id, grant_id)


async def usage_total(
    connection: Connection,
    organization_id: UUID,
    category: str,
    *,
    start: datetime,
    end: datetime,
) -> asyncpg.Record:
    """Return quantity, cost and number of rows of a category, from one hour until another."""
    (row,) = await connection.fetch(QUERIES.usage_total, organization_id, category, start, end)
    return row


async def find(connection: Connection, transaction_id: UUID) -> asyncpg.Record | None:
    """Return a row by its id, in any organization."""
    return await connection.fetchrow(QUERIES.find, transaction_id)


async def find_by_keys(
    connection: Connection, organization_id: UUID, keys: Sequence[str]
) -> dict[str, asyncpg.Record]:
    """Return the rows of these keys, by key, each with its `digest` as text."""
    rows = await connection.fetch(QUERIES.find_by_keys, organization_id, keys)
    return {row["idempotency_key"]: row for row in rows}


async def consumed_before(connection: Connection, organization_id: UUID, seq: int) -> Decimal:
    """Return the credits consumed before a row."""
    amount: Decimal = await connection.fetchval(QUERIES.consumed_before, organization_id, seq)
    return amount


async def sources(
    connection: Connection,
    organization_id: UUID,
    *,
    lower: Decimal,
    upper: Decimal,
    limit: int | None = None,
) -> list[Source]:
    """Return the first grants that paid for a range of consumption."""
    rows = await connection.fetch(QUERIES.sources, organization_id, lower, upper, limit)
    return [Source(**row) for row in rows]


async def grant_source(
    connection: Connection,
    organization_id: UUID,
    grant_id: UUID | None,
    payment_intent_id: str | None,
    *,
    amount: Decimal,
) -> Source | None:
    """Return the grant, or the first one of a payment, that an amount was taken from directly."""
    row = await connection.fetchrow(
        QUERIES.grant_source, organization_id, grant_id, payment_intent_id
    )
    return Source(amount=amount, **row) if row else None


async def uses(
    connection: Connection, organization_id: UUID, grant_id: UUID, *, after: int = 0, limit: int
) -> list[Use]:
    """Return a page of the debits that a grant paid for, oldest first, with a seq above `after`."""
    rows = await connection.fetch(QUERIES.uses, organization_id, grant_id, after, limit)
    return [Use(**row) for row in rows]


async def announce_expiring(
    connection: Connection, now: datetime, within: timedelta, *, grants_max: int
) -> int:
    """Announce the grants that expire soon, each once; return their number.

    In the caller's transaction. Locks no account.
    """
    expiring = await connection.fetch(QUERIES.expiring, now, within, grants_max)
    if not expiring:
        return 0
    grants = await connection.fetchmany(
        QUERIES.mark_announced, [(row["organization_id"], row["id"], now) for row in expiring]
    )
    await connection.execute(
        QUERIES.announce_expiring,
        now,
        [row["organization_id"] for row in grants],
        [row["id"] for row in grants],
        [row["remaining"] for row in grants],
        [row["expires_at"] for row in grants],
    )
    return len(grants)


async def due(connection: Connection, *, limit: int) -> list[UUID]:
    """Return organizations with expirations that are not posted yet."""
    return [row["organization_id"] for row in await connection.fetch(QUERIES.due, limit)]


async def post_expirations(
    connection: Connection,
    organization_ids: Sequence[UUID],
    *,
    organizations_max: int,
    expirations_max: int,
) -> int:
    """Post expirations in some of these organizations; return the number of organizations.

    Limited in each; organizations whose account is locked are skipped. In the order of their ids,
    in the caller's transaction.
    """
    posted = 0
    waiting = sorted(organization_ids)
    while waiting and posted < organizations_max:
        room = organizations_max - posted
        rows = await connection.fetchmany(
            QUERIES.post_expirations, [(one, expirations_max) for one in waiting[:room]]
        )
        posted += sum(row["posted"] for row in rows)
        waiting = waiting[room:]
    return posted


async def lock_payment(connection: Connection, payment_intent_id: str) -> asyncpg.Record | None:
    """Lock a bound payment; return its credits, if they are posted, and the part reversed."""
    return await connection.fetchrow(QUERIES.lock_payment, payment_intent_id)


async def record_reversal(
    connection: Connection, payment_intent_id: str, reversed_credits: Decimal
) -> None:
    """Record the total that has been reversed of a payment."""
    await connection.execute(QUERIES.record_reversal, payment_intent_id, reversed_credits)


async def trial_balance(connection: Connection) -> dict[str, Decimal]:
    """Return the balance of every account of the ledger."""
    rows = await connection.fetch(QUERIES.trial_balance)
    return {row["account"]: row["balance"] for row in rows}


async def shards(connection: Connection) -> list[Shard]:
    """Return the shards of a cluster, sorted; none on one PostgreSQL."""
    return [Shard(**row) for row in await connection.fetch(QUERIES.shards)]
