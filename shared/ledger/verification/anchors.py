"""Anchors: one hash over the heads of all ledgers, to be stored elsewhere and checked later."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

from shared.errors import InvalidRequestError
from shared.ledger.verification.store import QUERIES

if TYPE_CHECKING:
    from shared.db.pool import Connection

HEADS_AT_ONCE = 1_000
PROBLEMS_MAX = 1_000


class Anchor(TypedDict):
    """A root over the heads of all ledgers, to be stored elsewhere: it dates every earlier row."""

    root: str
    organizations: int
    transactions: int


async def anchor(
    connection: Connection, write: Callable[[str], object] = lambda _line: None
) -> Anchor:
    """Return SHA-256 over the heads of all ledgers, in the order of their organizations.

    It changes with every posting. `verify` checks the rows against their heads: a root stored
    elsewhere and a verification together prove that no earlier row has changed. `write` receives a
    line for each head, from which `verify_heads` can check the root again later.
    """
    root = _Root()
    async for organization_id, seq, row_hash in _heads(connection):
        root.add(organization_id, seq, row_hash)
        write(f"{organization_id} {seq} {row_hash.hex()}\n")
    return root.anchor()


async def verify_heads(
    connection: Connection, lines: Iterable[str]
) -> tuple[Anchor, list[dict[str, Any]]]:
    """Check that the rows which were the heads of an old anchor are still what they were.

    Returns the root over the lines, to be compared with the stored one, and the rows that
    have changed or are missing. Raises InvalidRequestError where a line is no head.
    """
    root = _Root()
    problems: list[dict[str, Any]] = []
    page: list[tuple[UUID, int, bytes]] = []
    for number, line in enumerate(lines, start=1):
        head = _head(number, line)
        root.add(*head)
        page.append(head)
        if len(page) == HEADS_AT_ONCE:
            problems += await _changed(connection, page)
            page = []
    problems += await _changed(connection, page)
    return root.anchor(), problems[:PROBLEMS_MAX]


class _Root:
    """The incremental hash over heads."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._organizations = 0
        self._transactions = 0

    def add(self, organization_id: UUID, seq: int, row_hash: bytes) -> None:
        self._digest.update(organization_id.bytes)
        self._digest.update(seq.to_bytes(8, "big"))
        self._digest.update(row_hash)
        self._organizations += 1
        self._transactions += seq

    def anchor(self) -> Anchor:
        return Anchor(
            root=self._digest.hexdigest(),
            organizations=self._organizations,
            transactions=self._transactions,
        )


async def _heads(connection: Connection) -> AsyncIterator[tuple[UUID, int, bytes]]:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        async for row in connection.cursor(QUERIES.heads, prefetch=HEADS_AT_ONCE):
            yield row["organization_id"], row["last_seq"], row["last_hash"]


def _head(number: int, line: str) -> tuple[UUID, int, bytes]:
    try:
        organization_id, seq, row_hash = line.split()
        head = UUID(organization_id), int(seq), bytes.fromhex(row_hash)
        head[1].to_bytes(8, "big")
    except (ValueError, OverflowError):
        raise InvalidRequestError(
            f"Line {number} of the anchor is not an organization, a seq and a hash."
        ) from None
    return head


async def _changed(
    connection: Connection, heads: list[tuple[UUID, int, bytes]]
) -> list[dict[str, Any]]:
    columns = [list(column) for column in zip(*heads, strict=True)]
    if not columns:
        return []
    return [
        {
            "organizationId": str(row["organization_id"]),
            "seq": row["seq"],
            "transactionId": None if row["id"] is None else str(row["id"]),
            "problem": "the row is not the one that the anchor was made over",
        }
        for row in await connection.fetch(QUERIES.changed_heads, *columns)
    ]
