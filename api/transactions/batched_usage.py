"""Posting the usage of a batch request."""

from __future__ import annotations

from collections.abc import Sequence

from api.framework.operation import Call
from shared.ledger import service as ledger
from shared.ledger.model import Posting, PostingResult


async def post_usage(call: Call, postings: Sequence[Posting]) -> Sequence[PostingResult]:
    """Return a result for each posting of the request's organization, in order.

    They share a commit with other batches of the organization. Under an Idempotency-Key they are
    part of the transaction in which the response is stored.
    """
    if call.connection is not None:
        return await ledger.post(call.connection, postings, now=call.now)
    return await call.api.batches.post(call.owner.id, postings, now=call.now)
