"""The order of a verification: rows first, then what is derived from them, page by page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from shared.ids import new_id
from shared.ledger.verification import store
from shared.ledger.verification.model import FIRST, Run, Verification

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

ROWS_AT_ONCE = 10_000
ACCOUNTS_AT_ONCE = 1_000
# Organizations are checked together while they have so many rows together: a statement is short.
ROWS_TOGETHER_MAX = 100_000
LEFT_AFTER = timedelta(minutes=15)


def _quiet(_rows: int) -> None:
    """Show no progress."""


async def verify(
    connection: Connection,
    organization_id: UUID | None = None,
    *,
    whole: bool = True,
    resume: bool = False,
    progress: Callable[[int], None] = _quiet,
) -> Verification:
    """Recompute every hash, balance and seq; compare derived data with the rows.

    `whole`: all rows; otherwise those after the checkpoints, and the organizations changed since.
    `resume`: continue the last whole run that did not end. Memory use does not grow with the
    ledger, and postings continue meanwhile: each page is a snapshot of its own.
    """
    if organization_id is not None:
        run = Run(after=(organization_id, 0), last=organization_id)
        await _Verifier(connection, run, progress, record=False).whole()
        return run.result()
    record = not await store.is_read_only(connection)
    unfinished = await store.unfinished(connection) if record and resume and whole else None
    run = unfinished or (await store.start(connection, new_id(), whole=whole) if record else Run())
    verifier = _Verifier(connection, run, progress, record=record)
    await (verifier.whole() if whole else verifier.new())
    return run.result()


async def verify_day(connection: Connection, day: date) -> Verification | None:
    """Verify what is new, once a day; None where it is done, or another process is running it.

    A run that was not saved for LEFT_AFTER is abandoned, and taken over.
    """
    run = await store.start_of_day(connection, new_id(), day, LEFT_AFTER)
    if run is None:
        return None
    await _Verifier(connection, run, _quiet, record=True).new()
    return run.result()


class _Verifier:
    """One run on one connection, in no transaction."""

    def __init__(
        self, connection: Connection, run: Run, progress: Callable[[int], None], *, record: bool
    ) -> None:
        self._connection = connection
        self._run = run
        self._progress = progress
        self._record = record
        self._bad = {problem["organizationId"] for problem in run.problems}

    async def whole(self) -> None:
        """Check all rows, then all accounts with their derived data."""
        run = self._run
        first = run.after[0] if run.id is None and run.after[0] != FIRST else None
        if run.phase == "rows":
            while await self._rows(run.last):
                await self._save()
            run.phase, run.after = "accounts", (_before(first), 0)
            await self._save()
        while page := await store.accounts(
            self._connection, run.after[0], run.last, ACCOUNTS_AT_ONCE
        ):
            for together in _together(page):
                await self._derived(together, whole=True)
                run.after = (together[-1], 0)
                await self._save()
        await self._save(finished=True)

    async def new(self) -> None:
        """Check the rows after the checkpoints, and their organizations."""
        run = self._run
        while page := await store.new_accounts(self._connection, run.after[0], ACCOUNTS_AT_ONCE):
            for account in page:
                await self._new_rows(account["organization_id"], account["verified_seq"])
            for together in _together(page):
                await self._derived(together, whole=False)
            run.after = (page[-1]["organization_id"], 0)
            await self._save()
        await self._save(finished=True)

    async def _new_rows(self, organization_id: UUID, verified_seq: int) -> None:
        # The row of the checkpoint itself is read again: it must be what it was.
        self._run.after = (organization_id, max(verified_seq - 1, 0))
        if verified_seq:
            self._run.transactions -= 1
        while await self._rows(organization_id):
            pass

    async def _rows(self, last: UUID) -> bool:
        """Check a page of rows; return whether there may be more."""
        run = self._run
        page = await store.rows(self._connection, run.after, last, ROWS_AT_ONCE)
        run.transactions += page["rows"]
        for organization, seq, row_id, problem in page["problems"]:
            self._bad.add(organization)
            run.add_problem(organization, problem, seq=seq, transaction_id=row_id)
        if self._record:
            heads = [
                (UUID(organization), seq, bytes.fromhex(row_hash))
                for organization, seq, row_hash in page["heads"]
                if organization not in self._bad
            ]
            await store.save_checkpoints(self._connection, heads)
        self._progress(run.transactions)
        if page["rows"] < ROWS_AT_ONCE:
            return False
        run.after = (page["last_organization_id"], page["last_seq"])
        return True

    async def _derived(self, organization_ids: Sequence[UUID], *, whole: bool) -> None:
        if self._record:
            await store.fill_terms(self._connection, organization_ids)
        for row in await store.derived(self._connection, organization_ids, whole=whole):
            self._run.add_problem(
                row["organization_id"],
                row["problem"],
                seq=row["seq"],
                transaction_id=row["transaction_id"],
            )
        self._run.organizations += len(organization_ids)

    async def _save(self, *, finished: bool = False) -> None:
        if self._record:
            await store.save(self._connection, self._run, finished=finished)


def _before(first: UUID | None) -> UUID:
    """Return the id after which the accounts begin: of one organization, just before its own."""
    return FIRST if first is None else UUID(int=first.int - 1)


def _together(page: Sequence[asyncpg.Record]) -> list[list[UUID]]:
    """Divide a page of accounts into parts of at most ROWS_TOGETHER_MAX rows."""
    parts: list[list[UUID]] = []
    rows = 0
    for account in page:
        rows += account["last_seq"]
        if rows > ROWS_TOGETHER_MAX or not parts:
            parts.append([])
            rows = account["last_seq"]
        parts[-1].append(account["organization_id"])
    return parts
