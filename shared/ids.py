"""Identifiers: time-ordered UUIDs, and their short public form for ledger transactions."""

from __future__ import annotations

import itertools
import os
import re
import time
from uuid import UUID, SafeUUID

TRANSACTION_PREFIX = "ct_"

_DIGITS = r"(?:[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})"
_UUID = re.compile(rf"{_DIGITS}|\{{{_DIGITS}\}}")

# Of the last 80 bits of a UUID: those that are random, and those of version 7 and its variant.
_RANDOM_BITS = 0x0FFF_3FFF_FFFF_FFFF_FFFF
_VERSION_7 = 0x7 << 76 | 0x2 << 62
_TAIL_BYTES, _TAILS = 10, 200
_tails: list[int] = []
os.register_at_fork(after_in_child=_tails.clear)
_PROCESS = os.urandom(8).hex()
_requests = itertools.count(1)


def new_id(unix_ms: int | None = None, random_bytes: bytes | None = None) -> UUID:
    """Return a UUID version 7 (RFC 9562): 48 bits of Unix milliseconds, then 74 random bits.

    Ordered by time, so that rows written together are adjacent in an index.
    """
    milliseconds = time.time_ns() // 1_000_000 if unix_ms is None else unix_ms
    tail = _random_tail() if random_bytes is None else int.from_bytes(random_bytes, "big")
    return _uuid((milliseconds & 0xFFFF_FFFF_FFFF) << 80 | tail & _RANDOM_BITS | _VERSION_7)


def _random_tail() -> int:
    """Return 80 random bits, read from the operating system for many ids at once.

    Each is used once: threads take from one list, and a fork begins with an empty one.
    """
    if not _tails:
        read = os.urandom(_TAIL_BYTES * _TAILS)
        starts = range(0, len(read), _TAIL_BYTES)
        fresh = [int.from_bytes(read[start : start + _TAIL_BYTES], "big") for start in starts]
        tail = fresh.pop()
        _tails.extend(fresh)
        return tail
    return _tails.pop()


def _uuid(value: int) -> UUID:
    """Return `UUID(int=value)`, without its checks of five kinds of arguments.

    Every request and every row has a new id: with one read of random bits each, these were a tenth
    of a row of a batch.
    """
    made = object.__new__(UUID)
    object.__setattr__(made, "int", value)
    object.__setattr__(made, "is_safe", SafeUUID.unknown)
    return made


def transaction_public_id(transaction_id: UUID) -> str:
    """Return the `ct_…` form of a ledger transaction's UUID."""
    return TRANSACTION_PREFIX + transaction_id.hex


def new_request_id() -> str:
    """Return a request id: a random prefix of this process, then a counter."""
    return f"req_{_PROCESS}{next(_requests):08x}"


def parse_id(text: str) -> UUID | None:
    """Parse an id as a person may type it, a UUID or `ct_…`; None when it is neither.

    A UUID has its usual dashes or none, in any case, and may stand in braces. `UUID()` also takes
    dashes anywhere, signs, underscores, `0x` and the digits of other scripts, since it reads the
    rest as an integer.
    """
    text = text.removeprefix(TRANSACTION_PREFIX)
    return UUID(hex=text) if _UUID.fullmatch(text) else None
