"""The shard of an organization on a cluster, from the hash of its id as PostgreSQL has it."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

_WORD = 0xFFFFFFFF
_SIGN = 0x80000000
# The start of PostgreSQL's hash_bytes for a key of 16 bytes.
_START = (0x9E3779B9 + 16 + 3923095) & _WORD


@dataclass(frozen=True, order=True, slots=True)
class Shard:
    """The organizations whose hash is in a range, both ends included, and the node they are on."""

    hash_min: int
    hash_max: int
    node: str


def node_of(shards: Sequence[Shard], organization_id: UUID) -> str | None:
    """Return the node of an organization; None: no shard has it. Shards are sorted."""
    value = uuid_hash(organization_id)
    place = bisect_right(shards, value, key=lambda shard: shard.hash_min) - 1
    if place < 0 or shards[place].hash_max < value:
        return None
    return shards[place].node


def uuid_hash(value: UUID) -> int:
    """Return PostgreSQL's uuid_hash: Bob Jenkins' hash of the bytes, as a signed integer."""
    one, two, three, rest = struct.unpack("<4I", value.bytes)
    a, b, c = _mix((_START + one) & _WORD, (_START + two) & _WORD, (_START + three) & _WORD)
    c = _final((a + rest) & _WORD, b, c)
    return c - (_WORD + 1) if c & _SIGN else c


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (32 - bits))) & _WORD


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for first, second, third in ((4, 6, 8), (16, 19, 4)):
        a = ((a - c) & _WORD) ^ _rotate(c, first)
        c = (c + b) & _WORD
        b = ((b - a) & _WORD) ^ _rotate(a, second)
        a = (a + c) & _WORD
        c = ((c - b) & _WORD) ^ _rotate(b, third)
        b = (b + a) & _WORD
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    c = ((c ^ b) - _rotate(b, 14)) & _WORD
    a = ((a ^ c) - _rotate(c, 11)) & _WORD
    b = ((b ^ a) - _rotate(a, 25)) & _WORD
    c = ((c ^ b) - _rotate(b, 16)) & _WORD
    a = ((a ^ c) - _rotate(c, 4)) & _WORD
    b = ((b ^ a) - _rotate(a, 14)) & _WORD
    return ((c ^ b) - _rotate(b, 24)) & _WORD
