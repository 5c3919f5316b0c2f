"""Reads the objects of stored events from Stripe again, as they are today."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from shared.errors import PrepaidError, StripeMissingError
from shared.inbox.rules import without_client_secrets
from shared.payments import object_paths
from shared.payments.client import Stripe

if TYPE_CHECKING:
    import asyncpg

REQUESTS_AT_ONCE_MAX = 5


@dataclass(frozen=True, slots=True)
class Refetched:
    """Events with today's objects, and why the others have none, by the event's id."""

    payloads: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refetcher:
    """Reads with one client, and writes nothing: neither at Stripe nor here."""

    client: Stripe

    async def payloads(self, rows: Sequence[asyncpg.Record]) -> Refetched:
        """Return each stored event with its object of today."""
        turn = asyncio.Semaphore(REQUESTS_AT_ONCE_MAX)
        found = Refetched()

        async def one(row: asyncpg.Record) -> None:
            async with turn:
                try:
                    found.payloads[row["id"]] = await self._payload(row)
                except PrepaidError as error:
                    found.errors[row["id"]] = error.detail

        await asyncio.gather(*(one(row) for row in rows))
        return found

    async def _payload(self, row: asyncpg.Record) -> str:
        event = msgspec.json.decode(row["payload"])
        stored = _object(event)
        if not isinstance(stored.get("id"), str):
            event = await self._event(row)
            stored = _object(event)
        today = await object_paths.retrieve(
            self.client, str(stored.get("object")), str(stored.get("id")), row["account"]
        )
        previous = (event.get("data") or {}).get("previous_attributes")
        data = {"object": today} | ({"previous_attributes": previous} if previous else {})
        header = {
            "id": row["id"],
            "object": "event",
            "type": row["type"],
            "api_version": row["api_version"],
            "created": int(row["stripe_created_at"].timestamp()),
            "livemode": row["livemode"],
        }
        account = {"account": row["account"]} if row["account"] else {}
        body = msgspec.json.encode({**event, **header, **account, "data": data})
        return without_client_secrets(body.decode())

    async def _event(self, row: asyncpg.Record) -> dict[str, Any]:
        """Return the event from Stripe, whose payload was deleted here with its object's id."""
        try:
            return await object_paths.retrieve_event(self.client, row["id"], row["account"])
        except StripeMissingError as error:
            raise StripeMissingError(
                "its payload was deleted here, and Stripe keeps events for 30 days:"
                " correct the balance with an adjustment"
            ) from error


def _object(event: dict[str, Any]) -> dict[str, Any]:
    stored = (event.get("data") or {}).get("object")
    return stored if isinstance(stored, dict) else {}
