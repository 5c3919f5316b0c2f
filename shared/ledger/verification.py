"""Verifying the ledger: each row against the row before it, what is derived against the rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

from shared.ledger import store
from shared.ledger.store import QUERIES

if TYPE_CHECKING:
    from shared.db.pool import Connection

ROWS_AT_ONCE = 10_000
ACCOUNTS_AT_ONCE = 1_000
PROBLEMS_MAX = 1_000
_FIRST = UUID(int=0)
_LAST = UUID(int=(1 << 128) - 1)


class Verification(TypedDict):
    """What a verification found. `ok`: no problem, in so many organizations and transactions."""

    ok: bool
    organizations: int
    transactions: int
    problems: list[dict[str, Any]]


class Anchor(TypedDict):
    """A root over the heads of all ledgers, to be kept elsewhere: it dates everything before it."""

    root: str
    organizations: int
    transactions: int


async def verify(
    connection: Connection,
    organization_id: UUID | None = None,
    *,
    progress: Callable[[int], None] = lambda _rows: None,
) -> Verification:
    """Recompute every hash, balance and seq; hold accounts, grants and totals against the rows.

    One pass in the order of the ledgers, a page at a time: memory stays flat whatever the size.
    Runs in a snapshot of its own, so that postings go on meanwhile.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        transactions, problems = await _verify_rows(connection, organization_id, progress)
        organizations, more = await _verify_accounts(connection, organization_id)
        problems += more
        balances = {} if organization_id else await store.trial_balance(connection)
    if sum(balances.values()):
        problems.append(_problem(None, "the sum of all accounts is not zero"))
    return Verification(
        ok=not problems,
        organizations=organizations,
        transactions=transactions,
        problems=problems[:PROBLEMS_MAX],
    )


async def anchor(connection: Connection) -> Anchor:
    """Return SHA-256 over the heads of all ledgers, in the order of their organizations.

    It changes with every posting. What binds the rows to their heads is `verify`: a root that was
    kept elsewhere and a verification together prove that nothing before it has changed.
    """
    digest, organizations, transactions = hashlib.sha256(), 0, 0
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        async for row in connection.cursor(QUERIES.heads, prefetch=ACCOUNTS_AT_ONCE):
            digest.update(row["organization_id"].bytes)
            digest.update(row["last_seq"].to_bytes(8, "big"))
            digest.update(row["last_hash"])
            organizations += 1
            transactions += row["last_seq"]
    return Anchor(root=digest.hexdigest(), organizations=organizations, transactions=transactions)


async def _verify_rows(
    connection: Connection, organization_id: UUID | None, progress: Callable[[int], None]
) -> tuple[int, list[dict[str, Any]]]:
    transactions = 0
    problems: list[dict[str, Any]] = []
    after = (organization_id or _FIRST, 0)
    last = organization_id or _LAST
    while True:
        page = await connection.fetchrow(QUERIES.verify_rows, *after, last, ROWS_AT_ONCE)
        assert page is not None  # noqa: S101 - an aggregate always answers
        transactions += page["rows"]
        for organization, seq, row_id, problem in page["problems"]:
            if len(problems) < PROBLEMS_MAX:
                problems.append(_problem(organization, problem, seq=seq, transaction_id=row_id))
        progress(transactions)
        if page["rows"] < ROWS_AT_ONCE:
            return transactions, problems
        after = (page["last_organization_id"], page["last_seq"])


async def _verify_accounts(
    connection: Connection, organization_id: UUID | None
) -> tuple[int, list[dict[str, Any]]]:
    organizations = 0
    problems: list[dict[str, Any]] = []
    first, last = organization_id or _FIRST, organization_id or _LAST
    while True:
        page = await connection.fetch(QUERIES.accounts_page, first, last, ACCOUNTS_AT_ONCE)
        ids = [row["organization_id"] for row in page]
        organizations += len(ids)
        for check in (QUERIES.verify_accounts, QUERIES.verify_grants, QUERIES.verify_usage):
            problems += [
                _problem(str(row["organization_id"]), row["problem"])
                for row in await connection.fetch(check, ids)
            ]
        if len(ids) < ACCOUNTS_AT_ONCE:
            return organizations, problems
        first = UUID(int=ids[-1].int + 1)


def _problem(
    organization_id: str | None,
    problem: str,
    *,
    seq: int | None = None,
    transaction_id: str | None = None,
) -> dict[str, Any]:
    return {
        "organizationId": organization_id,
        "seq": seq,
        "transactionId": transaction_id,
        "problem": problem,
    }
