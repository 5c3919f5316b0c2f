"""Jobs in Redis: JSON, and only the one job that Prepaid uses.

arq pickles jobs by default, so that anyone who can write to Redis could run code in a worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

DRAIN_JOB = "drain_inbox"
JOB_BYTES_MAX = 1_000
# Source: arq reads it as milliseconds since 1970; this is the year 2286.
ENQUEUED_MAX = 10**13

RefusalReason = Literal["malformed", "too_large", "unknown_function", "unreadable"]


class JobRefusedError(Exception):
    """A job in the queue that is no wakeup of this release."""

    def __init__(self, reason: RefusalReason) -> None:
        super().__init__(reason)
        self.reason: RefusalReason = reason


class _Job(msgspec.Struct, forbid_unknown_fields=True):
    f: str
    a: tuple[()]
    k: dict[str, None]
    t: None
    et: int


def write_job(job: Mapping[str, Any]) -> bytes:
    """Serialize a job of arq's, or its result."""
    return msgspec.json.encode(job, enc_hook=str)


def read_job(data: bytes) -> dict[str, Any]:
    """Deserialize a job for arq; raise JobRefusedError unless it is a wakeup without arguments."""
    if len(data) > JOB_BYTES_MAX:
        raise JobRefusedError("too_large")
    try:
        job = msgspec.json.decode(data, type=_Job)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise JobRefusedError("malformed") from None
    if job.k or not 0 <= job.et <= ENQUEUED_MAX:
        raise JobRefusedError("malformed")
    if job.f != DRAIN_JOB:
        raise JobRefusedError("unknown_function")
    return msgspec.structs.asdict(job)
