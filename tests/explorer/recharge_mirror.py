"""The auto-recharge of an organization in PostgreSQL, moved along with a walk."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.recharge.model import Rule
from tests.explorer.mirroring import Mirror
from tests.explorer.recharge_state import State
from tests.explorer.recharge_tables import AMOUNT, SECOND_CARD, THRESHOLD, Tables
from tests.explorer.walks import Stride
from tests.fixtures.ledger import grant, post, usage
from tests.fixtures.recharging import agree

_SHIFT = """
WITH shifted AS (
    UPDATE recharge_attempts
    SET
        created_at = created_at - $2::interval,
        charged_at = charged_at - $2::interval,
        link_expires_at = link_expires_at - $2::interval
    WHERE organization_id = $1
)
UPDATE auto_recharges
SET not_before = not_before - $2::interval, suspended_until = suspended_until - $2::interval
WHERE organization_id = $1
"""
_DUE = """
UPDATE recharge_attempts
SET due_at = now() - interval '1 second'
WHERE organization_id = $1 AND settled_at IS NULL
"""
_ATTEMPTS = "SELECT * FROM recharge_attempts WHERE organization_id = $1 ORDER BY created_at, id"
_RULE = """
SELECT s.*, a.balance, a.recharge_below, a.recharge_waits
FROM auto_recharges AS s
INNER JOIN accounts AS a ON s.organization_id = a.organization_id
WHERE s.organization_id = $1
"""
_CREDITS = """
SELECT idempotency_key AS key, amount FROM credit_transactions
WHERE organization_id = $1 AND payment_intent_id IS NOT NULL ORDER BY seq
"""
_REVERSED = """
SELECT payment_intent_id, reversed, reversals, reversal_as_of IS NOT NULL AS is_asked
FROM stripe_payments WHERE organization_id = $1 ORDER BY payment_intent_id
"""
_DISPUTES = "SELECT id FROM stripe_disputes WHERE organization_id = $1 ORDER BY id"
_CARD = """
INSERT INTO payment_methods (id, organization_id, customer_id, type, is_default, as_of)
VALUES ($1, $2, $3, 'card', FALSE, clock_timestamp())
"""


@dataclass
class RechargeMirror(Mirror):
    """The auto-recharge of the same organization in PostgreSQL."""

    async def begin(self, first: Tables, now: datetime) -> None:
        """Arm the first attempt, as usage does."""
        rule = Rule(threshold=THRESHOLD, amount=AMOUNT, pause_seconds_min=60, monthly_cap=first.cap)
        await self.pool.execute(_CARD, self.named("pm_1"), self.owner.id, self.named("cus_1"))
        await agree(self.pool, self.owner, rule)
        await post(self.pool, grant(self.owner, 12), usage(self.owner, 7))
        await self._find_attempts()
        self.moved = await self.pool.fetchval("SELECT clock_timestamp()") - now

    async def make(self, stride: Stride[State]) -> None:
        """Do what a move did to the rows."""
        passed = stride.after.now - stride.before.now
        if passed:
            self.moved -= passed
            await self.pool.execute(_SHIFT, self.owner.id, passed)
        before, after = stride.before.tables, stride.after.tables
        if stride.words.startswith("the customer: uses"):
            await post(self.pool, usage(self.owner, before.balance - after.balance))
        if after.method == SECOND_CARD != before.method:
            await self.pool.execute(_CARD, self.named("pm_2"), self.owner.id, self.named("cus_1"))
        live = before.live
        if live is not None and live.can_be_leased:
            await self.pool.execute(_DUE, self.owner.id)
        await self.execute(stride.executed)
        await self._find_attempts()

    async def rows(self) -> dict[str, Any]:
        """Return what the model has too."""
        attempts = await self.pool.fetch(_ATTEMPTS, self.owner.id)
        rule = await self.pool.fetchrow(_RULE, self.owner.id)
        credited = await self.pool.fetch(_CREDITS, self.owner.id)
        reversed_ = await self.pool.fetch(_REVERSED, self.owner.id)
        disputes = await self.pool.fetch(_DISPUTES, self.owner.id)
        assert rule is not None
        return {
            "attempts": [
                (
                    row["state"], row["amount"], row["amount_minor"], row["payment_intent_id"],
                    row["payment_method_id"], row["reason"], row["decline_code"],
                    row["blocked_by"], row["create_key"], row["lease_token"] is not None,
                    row["link_expires_at"] is not None,
                )
                for row in attempts
            ],
            "rule": (rule["state"], rule["reason"], rule["declines_in_row"]),
            "times": (rule["not_before"] is not None, rule["suspended_until"] is not None),
            "account": (
                rule["balance"], rule["recharge_below"] is not None, rule["recharge_waits"],
            ),
            "credits": [(row["key"], row["amount"]) for row in credited],
            "reversed": [tuple(row) for row in reversed_],
            "disputes": [row["id"] for row in disputes],
        }  # fmt: skip

    def expected(self, tables: Tables) -> dict[str, Any]:
        """Return the rows of the model under the names of this organization."""
        return {
            "attempts": [
                (
                    str(a.state), a.amount, a.amount_minor, self.named(a.intent),
                    self.named(a.method), a.reason, a.decline_code, a.blocked_by, a.create_key,
                    a.lease is not None, a.link_expires_at is not None,
                )
                for a in tables.attempts
            ],
            "rule": (tables.rule_state, tables.rule_reason, tables.declines),
            "times": (tables.not_before is not None, tables.suspended_until is not None),
            "account": (tables.balance, tables.arms_below, tables.waits),
            "credits": [(self.named(key), amount) for key, amount in tables.ledger],
            "reversed": [
                (self.named(name), known.credits, known.rows, known.as_of is not None)
                for name, known in sorted(
                    (name, tables.reversed_of(name)) for name, _, _ in tables.bound
                )
            ],
            "disputes": [self.named(name) for name in sorted(tables.disputes)],
        }  # fmt: skip

    async def _find_attempts(self) -> None:
        rows = await self.pool.fetch(_ATTEMPTS, self.owner.id)
        self.attempt_ids = [row["id"] for row in rows]
