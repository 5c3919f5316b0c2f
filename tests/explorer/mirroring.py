"""Executes the statements of a walk on PostgreSQL, for an organization with ids of its own."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from shared.ledger import store as ledger_store
from shared.organizations.model import Organization
from shared.recharge.attempts import store as attempt_store
from shared.recharge.model import Rule
from tests.explorer.recharge_tables import AMOUNT, ORGANIZATION, THRESHOLD, Tables
from tests.explorer.walks import Stride
from tests.fixtures.ledger import grant, post, usage
from tests.fixtures.recharging import agree

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

_LEASING = (attempt_store.QUERIES.claim, attempt_store.QUERIES.take)
_NAMES = re.compile(r"\b(pi|pm|cus|ch)_(\d+)")
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
WHERE organization_id = $1 AND type = 'recharge' ORDER BY seq
"""
_CARD = """
INSERT INTO payment_methods (id, organization_id, customer_id, type, is_default, as_of)
VALUES ($1, $2, $3, 'card', FALSE, clock_timestamp())
"""


@dataclass
class Mirror:
    """The same organization in PostgreSQL. `moved`: how far its clock is behind the model's."""

    pool: Pool
    owner: Organization
    moved: timedelta = timedelta(0)
    attempt_ids: list[UUID] = field(default_factory=list)
    _leases: dict[str, UUID] = field(default_factory=dict)
    _tokens: Any = field(default_factory=lambda: itertools.count(1))

    async def begin(self, first: Tables, now: datetime) -> None:
        """Arm the first attempt, as usage does."""
        rule = Rule(threshold=THRESHOLD, amount=AMOUNT, pause_seconds_min=60, monthly_cap=first.cap)
        await self.pool.execute(_CARD, self._named("pm_1"), self.owner.id, self._named("cus_1"))
        await agree(self.pool, self.owner, rule)
        await post(self.pool, grant(self.owner, 12), usage(self.owner, 7))
        await self._find_attempts()
        self.moved = await self.pool.fetchval("SELECT clock_timestamp()") - now

    async def make(self, stride: Stride) -> None:
        """Do what a move did to the rows."""
        if stride.passed:
            self.moved -= stride.passed
            await self.pool.execute(_SHIFT, self.owner.id, stride.passed)
        if stride.used:
            await post(self.pool, usage(self.owner, stride.used))
        if stride.another_card:
            await self.pool.execute(_CARD, self._named("pm_2"), self.owner.id, self._named("cus_1"))
        for executed in stride.executed:
            async with self.pool.acquire() as connection, connection.transaction():
                for sql, args in executed.statements:
                    await self._execute(connection, stride, executed.process, sql, args)
        await self._find_attempts()

    async def rows(self) -> dict[str, Any]:
        """Return what the model has too."""
        attempts = await self.pool.fetch(_ATTEMPTS, self.owner.id)
        rule = await self.pool.fetchrow(_RULE, self.owner.id)
        credited = await self.pool.fetch(_CREDITS, self.owner.id)
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
        }  # fmt: skip

    def expected(self, tables: Tables) -> dict[str, Any]:
        """Return the rows of the model under the names of this organization."""
        return {
            "attempts": [
                (
                    str(a.state), a.amount, a.amount_minor, self._named(a.intent),
                    self._named(a.method), a.reason, a.decline_code, a.blocked_by, a.create_key,
                    a.lease is not None, a.link_expires_at is not None,
                )
                for a in tables.attempts
            ],
            "rule": (tables.rule_state, tables.rule_reason, tables.declines),
            "times": (tables.not_before is not None, tables.suspended_until is not None),
            "account": (tables.balance, tables.arms_below, tables.waits),
            "credits": [(self._named(key), amount) for key, amount in tables.ledger],
        }  # fmt: skip

    async def _execute(
        self, connection: Connection, stride: Stride, process: str, sql: str, args: Any
    ) -> None:
        if sql in _LEASING:
            self._leases[process] = UUID(int=next(self._tokens))
            await self._end_leases(connection, stride)
        if sql == ledger_store.QUERIES.post:
            postings = [{**one, "id": str(uuid4())} for one in json.loads(args[0])]
            args = (json.dumps(postings),)
        tokens = {t for executed in stride.executed for t in executed.tokens}
        await connection.fetch(sql, *(self._value(arg, process, tokens) for arg in args))

    async def _end_leases(self, connection: Connection, stride: Stride) -> None:
        """Make the live attempt due, if the model lets it be leased now."""
        live = stride.before.tables.live
        if live is not None and live.can_be_leased:
            await connection.execute(_DUE, self.owner.id)

    def _value(self, value: Any, process: str, tokens: set[UUID]) -> Any:
        """Return an argument with this organization's ids, tokens, names and time."""
        if isinstance(value, list | tuple):
            return [self._value(one, process, tokens) for one in value]
        if isinstance(value, datetime):
            return value + self.moved
        if isinstance(value, UUID):
            if value in tokens:
                return self._leases[process]
            return self._id(value)
        return self._named(value) if isinstance(value, str) else value

    def _id(self, value: UUID) -> UUID:
        if value == ORGANIZATION:
            return self.owner.id
        place = value.int - 1
        return self.attempt_ids[place] if place < len(self.attempt_ids) else value

    def _named(self, text: Any) -> Any:
        if text is None:
            return None
        slug = self.owner.slug.replace("-", "")
        named = _NAMES.sub(rf"\1_{slug}\2", text)
        return named.replace(str(ORGANIZATION), str(self.owner.id))

    async def _find_attempts(self) -> None:
        rows = await self.pool.fetch(_ATTEMPTS, self.owner.id)
        self.attempt_ids = [row["id"] for row in rows]


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Name what PostgreSQL has otherwise."""
    return [
        f"{name}: the model has {ours[name]}, PostgreSQL {theirs[name]}"
        for name in ours
        if ours[name] != theirs[name]
    ]
