"""When a request is repeated: pure decisions. It is always repeated with the same key."""

from __future__ import annotations

from dataclasses import dataclass

# Failures of a server or of what stands before it; the request may have been carried out.
RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})
CONFLICT = 409


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """The limits of one call.

    A request is repeated after a failure of the connection, an answer that cannot be decoded, a
    429, 500, 502, 503 or 504, and a 409 with `Retry-After`, which says that the first request is
    still in progress. The pause doubles from `first_seconds` up to `pause_seconds_max`, times a
    random factor of 0.5 to 1; `Retry-After` is waited for in full. The call ends with the last
    failure once `attempts_max` requests were sent, or where the next one would begin after
    `deadline_seconds`.
    """

    attempts_max: int = 5
    deadline_seconds: float = 60.0
    attempt_seconds_max: float = 20.0
    first_seconds: float = 0.2
    pause_seconds_max: float = 8.0

    def pause(self, failures: int, *, retry_after: float | None, random: float) -> float:
        """Return the seconds to wait after so many failures; `random` is from 0 to 1."""
        doubled: float = self.first_seconds * 2 ** min(failures - 1, 30)
        backoff = min(doubled, self.pause_seconds_max) * (1 + random) / 2
        return max(backoff, retry_after or 0.0)

    def may_repeat(self, failures: int, *, pause: float, seconds_left: float) -> bool:
        """Whether another request may follow so many failures."""
        return failures < self.attempts_max and pause < seconds_left


def is_retried(status: int, retry_after: float | None) -> bool:
    """Whether a request with this answer is repeated."""
    return status in RETRIED_STATUSES or (status == CONFLICT and retry_after is not None)


def parse_retry_after(value: str | None) -> float | None:
    """Return the seconds of a `Retry-After` header. The server sends no dates."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
