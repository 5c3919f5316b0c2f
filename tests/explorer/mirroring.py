"""Executes the statements of a walk on PostgreSQL, for an organization with ids of its own."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from shared.inbox import store as inbox_store
from shared.ledger import store as ledger_store
from shared.organizations.model import Organization
from shared.payments import store as payments_store
from shared.recharge.attempts import store as attempt_store
from tests.explorer.recharge_tables import ORGANIZATION
from tests.explorer.stepping import Executed

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

_LEASING = (
    attempt_store.QUERIES.claim,
    attempt_store.QUERIES.take,
    inbox_store.QUERIES.claim,
    inbox_store.QUERIES.claim_for_replay,
)
# Where a statement has its postings.
_POSTINGS = {ledger_store.QUERIES.post: 0, payments_store.QUERIES.credit: 1}
_NAMES = re.compile(r"\b(pi|pm|cus|ch|evt|dp)_(\d+)")


@dataclass
class Mirror:
    """An organization in PostgreSQL. `moved`: how far its clock is ahead of the model's."""

    pool: Pool
    owner: Organization
    moved: timedelta = timedelta(0)
    attempt_ids: list[UUID] = field(default_factory=list)
    _leases: dict[str, UUID] = field(default_factory=dict)
    _tokens: Any = field(default_factory=lambda: itertools.count(1))

    async def execute(self, steps: Sequence[Executed]) -> None:
        """Execute the statements of each step in one transaction."""
        for step in steps:
            async with self.pool.acquire() as connection, connection.transaction():
                for sql, args in step.statements:
                    await self._execute(connection, step, sql, args)

    def named(self, text: Any) -> Any:
        """Return a text with the names of this organization's objects, and its id."""
        if text is None:
            return None
        slug = self.owner.slug.replace("-", "")
        named = _NAMES.sub(rf"\1_{slug}\2", text)
        named = named.replace(str(ORGANIZATION), str(self.owner.id))
        for place, attempt_id in enumerate(self.attempt_ids, start=1):
            named = named.replace(str(UUID(int=place)), str(attempt_id))
        return named

    async def _execute(self, connection: Connection, step: Executed, sql: str, args: Any) -> None:
        if sql in _LEASING:
            self._leases[step.process] = UUID(int=next(self._tokens) << 64)
        place = _POSTINGS.get(sql)
        if place is not None:
            postings = [{**one, "id": str(uuid4())} for one in json.loads(args[place])]
            args = (*args[:place], json.dumps(postings), *args[place + 1 :])
        await connection.fetch(sql, *(self._value(arg, step) for arg in args))

    def _value(self, value: Any, step: Executed) -> Any:
        """Return an argument with this organization's ids, tokens, names and time."""
        if isinstance(value, list | tuple):
            return [self._value(one, step) for one in value]
        if isinstance(value, datetime):
            return value + self.moved
        if isinstance(value, UUID):
            return self._leases[step.process] if value in step.tokens else self._id(value)
        return self.named(value) if isinstance(value, str) else value

    def _id(self, value: UUID) -> UUID:
        if value == ORGANIZATION:
            return self.owner.id
        place = value.int - 1
        return self.attempt_ids[place] if place < len(self.attempt_ids) else value


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Name what PostgreSQL has otherwise."""
    return [
        f"{name}: the model has {ours[name]}, PostgreSQL {theirs[name]}"
        for name in ours
        if ours[name] != theirs[name]
    ]
