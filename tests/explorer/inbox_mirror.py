"""The inbox in PostgreSQL, moved along with a walk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from shared.money import plain
from tests.explorer.inbox_tables import ATTEMPT, InboxTables
from tests.explorer.inbox_world import InboxState
from tests.explorer.mirroring import Mirror
from tests.explorer.recharge_tables import BEGINNING, CUSTOMER
from tests.explorer.walks import Stride

_ATTEMPT = """
INSERT INTO recharge_attempts (
    organization_id, id, state, created_at, amount, amount_minor, currency, customer_id,
    payment_method_id, payment_intent_id, charged_at, settled_at
)
VALUES ($1, $2, 'succeeded', now(), $3, $4, 'usd', $5, $6, $7, now(), now())
"""
# In the order of the model: PostgreSQL claims what is due at one moment in any order.
_DUE = """
UPDATE stripe_events
SET available_at = now() - interval '1 second' + array_position($1, id) * interval '1 microsecond'
WHERE id = any($1)
"""
_EVENTS = "SELECT * FROM stripe_events WHERE id LIKE $1 ORDER BY id"
_LEDGER = """
SELECT idempotency_key AS key, amount FROM credit_transactions
WHERE organization_id = $1 ORDER BY seq
"""
_CUSTOMER = "SELECT stripe_customer_id FROM organizations WHERE id = $1"
_CLOSE = """
UPDATE stripe_events
SET
    state = 'ignored',
    reason = 'its walk is over',
    waits_for = NULL,
    lease_token = NULL,
    settled_at = now()
"""


@dataclass
class InboxMirror(Mirror):
    """The events about the same organization in PostgreSQL."""

    async def begin(self) -> None:
        """Store the attempt that the first payment is of; leave no event of another walk open."""
        await self.pool.execute(_CLOSE)
        self.moved = await self.pool.fetchval("SELECT clock_timestamp()") - BEGINNING
        self.attempt_ids = [UUID(int=self.owner.id.int ^ 1)]
        await self.pool.execute(
            _ATTEMPT, self.owner.id, self.attempt_ids[0], ATTEMPT.amount, ATTEMPT.amount_minor,
            self.named(CUSTOMER), self.named(ATTEMPT.method), self.named(ATTEMPT.intent),
        )  # fmt: skip

    async def make(self, stride: Stride[InboxState]) -> None:
        """Do what a move did to the rows."""
        due = [self.named(e.id) for e in stride.before.tables.events if e.can_be_leased]
        await self.pool.execute(_DUE, due)
        await self.execute(stride.executed)

    async def rows(self) -> dict[str, Any]:
        """Return what the model has too."""
        events = await self.pool.fetch(_EVENTS, self.named("evt_1")[:-1] + "%")
        ledger = await self.pool.fetch(_LEDGER, self.owner.id)
        return {
            "events": [
                (
                    row["id"], row["state"], row["lane"], row["lease_token"] is not None,
                    row["attempts"], row["leases_lost"], row["waits_for"],
                )
                for row in events
            ],
            "ledger": [(row["key"], plain(row["amount"])) for row in ledger],
            "customer": await self.pool.fetchval(_CUSTOMER, self.owner.id),
        }  # fmt: skip

    def expected(self, tables: InboxTables) -> dict[str, Any]:
        """Return the rows of the model under the names of this organization."""
        return {
            "events": [
                (
                    self.named(e.id), str(e.state), str(e.lane), e.lease is not None, e.attempts,
                    e.leases_lost, self.named(e.waits_for),
                )
                for e in tables.events
            ],
            "ledger": [(self.named(key), plain(amount)) for key, amount in tables.ledger],
            "customer": self.named(tables.customer),
        }  # fmt: skip
