"""Asking Stripe where a receipt is: once in a while for each transaction, so often for each key."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from uuid import UUID

from api.framework.ttl_cache import TTLCache
from shared.errors import RateLimitError
from shared.payments.client import Stripe
from shared.token_bucket import TokenBuckets

REMEMBERED_SECONDS = 300
ASKED_PER_SECOND = 1.0
ASKED_BURST = 30


class Receipts:
    """The addresses that Stripe gave a moment ago, and how often each key has asked for more."""

    def __init__(self, client: Stripe) -> None:
        self.client = client
        self._cache = TTLCache[UUID, str](REMEMBERED_SECONDS)
        self._asked = TokenBuckets[UUID](ASKED_PER_SECOND, ASKED_BURST)

    async def find(
        self, transaction_id: UUID, look_up: Callable[[UUID], Awaitable[str | None]]
    ) -> str | None:
        """Return what is remembered of a transaction, else look it up, once for all who ask."""
        return await self._cache.get_or_load(transaction_id, look_up)

    def take(self, key_id: UUID) -> None:
        """Count a question to Stripe; raise RateLimitError where a key has caused too many."""
        wait = self._asked.take(key_id)
        if wait:
            raise RateLimitError(
                "This key has asked Stripe for too many receipts; try again later.",
                retry_after_seconds=math.ceil(wait),
            )
