"""Which API key and which request a posting is of, stored among the metadata of its row.

There it is hashed with the row and can never change. It is no part of the request's digest: the
same request, sent again with another key, is a replay.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from shared.ledger.model import Posting

# Names that begin so are Prepaid's own; no surface takes them from a caller or shows them.
OWN = "prepaid:"
KEY_ID, REQUEST_ID = f"{OWN}key", f"{OWN}request"


def with_origin(posting: Posting) -> Posting:
    """Return the posting with its origin among its metadata."""
    found: dict[str, Any] = {}
    if posting.key_id is not None:
        found[KEY_ID] = str(posting.key_id)
    if posting.request_id is not None:
        found[REQUEST_ID] = posting.request_id
    if not found:
        return posting
    return replace(
        posting, key_id=None, request_id=None, metadata={**(posting.metadata or {}), **found}
    )
