"""Receipt addresses from Stripe: cached by transaction, rate-limited by key."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from uuid import UUID

from shared.errors import RateLimitError
from shared.payments.client import Stripe
from shared.token_bucket import TokenBuckets
from shared.ttl_cache import TTLCache

REMEMBERED_SECONDS = 300
REQUESTS_PER_SECOND = 1.0
REQUESTS_BURST = 30


class Receipts:
    """Recent receipt addresses, and a bucket of Stripe requests for each key."""

    def __init__(self, client: Stripe) -> None:
        self.client = client
        self._cache = TTLCache[UUID, str](REMEMBERED_SECONDS)
        self._buckets = TokenBuckets[UUID](REQUESTS_PER_SECOND, REQUESTS_BURST)

    async def find(
        self, transaction_id: UUID, look_up: Callable[[UUID], Awaitable[str | None]]
    ) -> str | None:
        """Return the cached address of a transaction, else look it up once for all callers."""
        return await self._cache.get_or_load(transaction_id, look_up)

    def take(self, key_id: UUID) -> None:
        """Count a request to Stripe; raise RateLimitError if the key has caused too many."""
        wait = self._buckets.take(key_id)
        if wait:
            raise RateLimitError(
                f"This key has looked up {REQUESTS_BURST} receipts. Retry in {math.ceil(wait)} s.",
                retry_after_seconds=math.ceil(wait),
            )
