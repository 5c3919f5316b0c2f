"""A stored payload for a page: decoded where it is short enough, else the beginning of its text."""

from __future__ import annotations

from typing import Any

import msgspec

from shared.inbox.rules import without_client_secrets

# A longer payload is not shown as a tree; its beginning is shown as text.
PAYLOAD_BYTES_MAX = 2_000_000
TEXT_LENGTH_MAX = 20_000


def read(payload: str, length: int) -> tuple[Any, str | None]:
    """Return the decoded payload and None, or None and the beginning of its text.

    `length`: the bytes of the whole payload, of which `payload` may be the beginning.
    """
    payload = without_client_secrets(payload)
    if length <= PAYLOAD_BYTES_MAX:
        try:
            return msgspec.json.decode(payload), None
        except (msgspec.DecodeError, RecursionError):
            pass
    return None, payload[:TEXT_LENGTH_MAX]
