"""Identifiers: time-ordered UUIDs, and their short public form for ledger transactions."""

from __future__ import annotations

import itertools
import os
import time
from uuid import UUID, SafeUUID

TRANSACTION_PREFIX = "ct_"

# Of the last 80 bits of a UUID: those that are random, and those of version 7 and its variant.
_RANDOM_BITS = 0x0FFF_3FFF_FFFF_FFFF_FFFF
_VERSION_7 = 0x7 << 76 | 0x2 << 62
_PROCESS = os.urandom(8).hex()
_requests = itertools.count(1)


def new_id(unix_ms: int | None = None, random_bytes: bytes | None = None) -> UUID:
    """Return a UUID version 7 (RFC 9562): 48 bits of Unix milliseconds, then 74 random bits.

    Ordered by time, so that rows written together are adjacent in an index.
    """
    milliseconds = time.time_ns() // 1_000_000 if unix_ms is None else unix_ms
    tail = int.from_bytes(os.urandom(10) if random_bytes is None else random_bytes, "big")
    return _uuid((milliseconds & 0xFFFF_FFFF_FFFF) << 80 | tail & _RANDOM_BITS | _VERSION_7)


def _uuid(value: int) -> UUID:
    """Return `UUID(int=value)`, without its checks of five kinds of arguments.

    Every request has a new id, and they were a hundredth of a debit.
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
    """Parse an id as a person may type it, a UUID or `ct_…`; None when it is neither."""
    try:
        return UUID(hex=text.removeprefix(TRANSACTION_PREFIX))
    except ValueError:
        return None
