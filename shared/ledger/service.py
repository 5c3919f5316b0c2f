"""Posting to the ledger, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from shared import metrics
from shared.ledger import store
from shared.ledger.model import Posting, PostingResult

if TYPE_CHECKING:
    from shared.db.pool import Connection


async def post(connection: Connection, postings: Sequence[Posting]) -> list[PostingResult]:
    """Post transfers of any mix of organizations; return a result for each, in order.

    Guarantees: a key posts once within its organization, for ever; `seq` has no gaps; a posting
    that is refused changes nothing and harms no other. Runs inside the caller's transaction and
    commits nothing itself: roll back, and nothing was posted.
    """
    if not postings:
        return []
    results = await store.post(connection, postings)
    for posting, result in zip(postings, results, strict=True):
        metrics.LEDGER_POSTINGS.labels(posting.type, result.status).inc()
    return results
