"""Divides a batch of events by node of a cluster, so that a transaction writes to one node."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.pool import AWAY, is_node_away
from shared.errors import EventError
from shared.events.effects import interpret_batch
from shared.events.model import CheckoutClosed, CheckoutPending, Ignored
from shared.inbox.model import ClaimedEvent
from shared.ledger import store as ledger
from shared.ledger.nodes import READ_AGAIN_SECONDS
from shared.ledger.shards import Shard, node_of
from shared.payments import store as payments
from shared.payments.model import Claim, PaymentCaptured

if TYPE_CHECKING:
    from shared.db.pool import Connections

Batches = list[Sequence[ClaimedEvent]]


class NodeBatches:
    """Divides batches of events where the ledger is on a cluster; each batch is one transaction.

    A batch has the payments of organizations of one node. An event that may write to other nodes,
    or to all of them, is a batch of its own: one that binds a customer, or that is no payment. What
    writes to the coordinator alone is one batch. On one PostgreSQL, all events are one batch, and
    nothing is read but, once a minute, that there are no shards.

    A shard that has moved is known within a minute: until then a batch may be of two nodes, and is
    applied all the same. Raises what asyncpg raises.
    """

    def __init__(self, pool: Connections, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._clock = clock
        self._shards: Sequence[Shard] = ()
        self._read_at: float | None = None

    @property
    def are_one(self) -> bool:
        """Whether there is one PostgreSQL, as of the last batch that was divided."""
        return self._read_at is not None and not self._shards

    async def divide(self, events: Sequence[ClaimedEvent]) -> Batches:
        """Return all events, in batches."""
        now = self._clock()
        if self._read_at is None or now - self._read_at >= READ_AGAIN_SECONDS:
            async with self._pool.acquire() as connection:
                self._shards = await ledger.shards(connection)
            self._read_at = now
        if not self._shards or len(events) <= 1:
            return [events] if events else []
        return await self._by_node(events)

    async def _by_node(self, events: Sequence[ClaimedEvent]) -> Batches:
        meanings = interpret_batch(events)
        captured = [meaning for meaning in meanings if isinstance(meaning, PaymentCaptured)]
        try:
            async with self._pool.acquire() as connection:
                claims = await payments.claims(connection, captured) if captured else []
        except AWAY as error:
            if not is_node_away(error):
                raise
            # An attempt is looked up by its PaymentIntent on every node.
            return [[event] for event in events]
        claim_of = dict(zip(captured, claims, strict=True))
        alone: Batches = []
        by_node: dict[str | None, list[ClaimedEvent]] = {}
        for event, meaning in zip(events, meanings, strict=True):
            if isinstance(meaning, _OF_THE_COORDINATOR):
                by_node.setdefault(None, []).append(event)
            elif isinstance(meaning, PaymentCaptured) and not _binds_a_customer(
                meaning, claim_of[meaning]
            ):
                node = self._node(claim_of[meaning])
                by_node.setdefault(node, []).append(event)
            else:
                alone.append([event])
        return [*by_node.values(), *alone]

    def _node(self, claim: Claim) -> str | None:
        organization_id = _organization(claim)
        return None if organization_id is None else node_of(self._shards, organization_id)


# These change no row of an organization's ledger; neither does an event that cannot be read.
_OF_THE_COORDINATOR = (Ignored, CheckoutClosed, CheckoutPending, EventError)


def _organization(claim: Claim) -> UUID | None:
    """Return the organization that a payment will be of, if it is credited."""
    if claim.bound is not None:
        return claim.bound.organization_id
    named = next(iter(claim.organizations.values()), claim.customer_organization)
    return None if named is None else named.id


def _binds_a_customer(payment: PaymentCaptured, claim: Claim) -> bool:
    """Whether a payment may bind its customer: organizations are written on every node."""
    return payment.customer_id is not None and claim.customer_organization is None
