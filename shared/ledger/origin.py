"""The origin of a posting: its API key, request and price, stored in the metadata of its row.

There it is hashed with the row and cannot change. It is not part of the request's digest: the same
request, sent again with another API key or after a change of prices, is a replay.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from shared.ledger.model import Posting

# A reserved prefix: no endpoint accepts such names from a caller or returns them.
OWN = "prepaid:"
KEY_ID, REQUEST_ID = f"{OWN}key", f"{OWN}request"
# How the amount of priced usage arose: see shared/pricing/record.py.
PRICING = f"{OWN}pricing"
# The caller's tags are part of the digest, as the rest of the caller's metadata.
TAGS = f"{OWN}tags"


def metadata(posting: Posting) -> dict[str, Any] | None:
    """Return the metadata of a posting with its origin."""
    origin: dict[str, Any] = {}
    if posting.key_id is not None:
        origin[KEY_ID] = str(posting.key_id)
    if posting.request_id is not None:
        origin[REQUEST_ID] = posting.request_id
    if posting.pricing is not None:
        origin[PRICING] = posting.pricing
    return {**(posting.metadata or {}), **origin} if origin else posting.metadata


def with_origin(posting: Posting, *, digest: str) -> Posting:
    """Return the posting with its digest, and with its origin in its metadata."""
    return replace(
        posting,
        digest=digest,
        key_id=None,
        request_id=None,
        pricing=None,
        metadata=metadata(posting),
    )
