"""`Idempotency-Key`: the first answer is stored for 24 hours and returned again.

https://docs.stripe.com/api/idempotent_requests
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import msgspec

from sandbox.stripe import errors
from sandbox.stripe.params import Params
from sandbox.stripe.store import Store

KEPT_SECONDS: Final = 24 * 3600
KEY_LENGTH_MAX: Final = 255


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered: the status, the exact body, and the id of that request."""

    status: int
    body: bytes
    request_id: str


class Keys:
    """Remembers answers in the store, and in memory which keys are being worked on right now.

    A process that dies forgets the latter together with the work, whose transaction never ended.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._in_flight: set[str] = set()

    @contextmanager
    def claimed(self, key: str | None, account: str = "") -> Iterator[None]:
        """Hold the key while a request works; a second request with it is refused with 409."""
        if key is None:
            yield
            return
        if len(key) > KEY_LENGTH_MAX:
            raise errors.malformed(f"Idempotency keys have at most {KEY_LENGTH_MAX} characters.")
        held = _held(key, account)
        if held in self._in_flight:
            raise errors.key_in_use(key)
        self._in_flight.add(held)
        try:
            yield
        finally:
            self._in_flight.discard(held)

    def recall(
        self, key: str, endpoint: str, params: Params, now: int, *, account: str = ""
    ) -> Answer | None:
        """Return the remembered answer, None for a fresh key, or refuse another request's key."""
        held = _held(key, account)
        self._store.execute(
            "DELETE FROM idempotency_keys WHERE key = ? AND created <= ?",
            (held, now - KEPT_SECONDS),
        )
        row = self._store.execute(
            "SELECT * FROM idempotency_keys WHERE key = ?", (held,)
        ).fetchone()
        if row is None:
            return None
        advice = f"Try using a key other than '{key}' if you meant to execute a different request."
        if row["endpoint"] != endpoint:
            raise errors.key_conflict(
                "Keys for idempotent requests can only be used for the same endpoint they were "
                f"first used for ('{endpoint}' vs '{row['endpoint']}'). {advice}"
            )
        if row["fingerprint"] != _fingerprint(params):
            raise errors.key_conflict(
                "Keys for idempotent requests can only be used with the same parameters they were "
                f"first used with. {advice}"
            )
        return Answer(row["status"], row["answer"], row["request_id"])

    def remember(
        self,
        key: str,
        endpoint: str,
        params: Params,
        answer: Answer,
        now: int,
        *,
        account: str = "",
    ) -> None:
        """Keep an answer; part of the caller's transaction, so effect and memory go together."""
        self._store.execute(
            "INSERT OR REPLACE INTO idempotency_keys VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                _held(key, account),
                endpoint,
                _fingerprint(params),
                answer.status,
                answer.body,
                answer.request_id,
                now,
            ),
        )


def _held(key: str, account: str) -> str:
    """Return the name under which a key is stored: each account has keys of its own."""
    return f"{account} {key}" if account else key


def _fingerprint(params: Params) -> str:
    return hashlib.sha256(msgspec.json.encode(params, order="deterministic")).hexdigest()
