"""One answer for one Idempotency-Key: the first is kept, and given again.

A key belongs to the organization that the request is about, whatever operation or API key sent it,
so that an app may change its API key between two tries. A request about no organization, such as
creating one, has a key of the API key's tenant. What was refused is not kept: it changed nothing,
and the same key may try again. What needs nobody but PostgreSQL is done and answered in one
transaction. A request that asks Stripe and dies on the way leaves its id behind, and the next try
goes on under it: whatever it had created by then is found again by that id.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from msgspec.structs import replace

from api.framework.operation import Call, Operation, Reply, Retry
from shared.db.pool import UNAVAILABLE
from shared.errors import ConflictError, IdempotencyError, PrepaidError
from shared.http.envelope import encode
from shared.idempotency import store
from shared.idempotency.store import AlreadyUsed, Claimed

if TYPE_CHECKING:
    from shared.db.pool import Connections

# Longer than any operation may take, so that two tries never run at once.
LEASE = timedelta(seconds=40)
END_SECONDS_MAX = 2
OF_ALL_ORGANIZATIONS = UUID(int=0)
_encoder = msgspec.json.Encoder(order="deterministic")


async def once(operation: Operation, call: Call, key: str) -> Reply:
    """Carry a request out, or give the answer that its key has had.

    Raises IdempotencyError where the key came with another request, ConflictError while the first
    one is under way.
    """
    async with call.api.pool.acquire() as connection:
        found = await store.claim(
            connection,
            _tenant(call),
            key,
            digest=_digest(operation, call),
            new_id=call.id,
            token=call.api.make_id(),
            lease=LEASE,
        )
    if isinstance(found, AlreadyUsed):
        return _again(found)
    try:
        if operation.retry is Retry.STORED:
            return await _together(operation, call, found)
        return await _one_after_the_other(operation, call, found)
    except BaseException as error:  # the deadline too: nobody works on the request any more
        await _end(call.api.pool, found, refused=_is_refusal(error))
        raise


async def _together(operation: Operation, call: Call, claimed: Claimed) -> Reply:
    """Do it and keep its answer in one transaction: whoever has the one has the other."""
    async with call.api.pool.acquire() as connection, connection.transaction():
        reply = await operation.handle(replace(call, id=claimed.id, connection=connection))
        status, answer = int(reply.status or operation.status), encode(reply.body)
        if not await store.complete(connection, claimed, status=status, answer=answer):
            raise ConflictError("Another try of this request went on meanwhile; ask again.")
    return Reply(msgspec.Raw(answer), status, replayed=reply.replayed)


async def _one_after_the_other(operation: Operation, call: Call, claimed: Claimed) -> Reply:
    """Do it, then keep its answer; what a try leaves undone, the next one finds by its id."""
    reply = await operation.handle(replace(call, id=claimed.id))
    status, answer = int(reply.status or operation.status), encode(reply.body)
    async with call.api.pool.acquire() as connection:
        if reply.final:
            await store.complete(connection, claimed, status=status, answer=answer)
        else:
            await store.release(connection, claimed)
    return Reply(msgspec.Raw(answer), status, replayed=reply.replayed)


def _tenant(call: Call) -> UUID:
    """Return whose key it is: that of the organization which the request is about."""
    if call.organization is not None:
        return call.organization.id
    return call.caller.organization_id or OF_ALL_ORGANIZATIONS


def _is_refusal(error: BaseException) -> bool:
    return isinstance(error, PrepaidError) and error.status < HTTPStatus.INTERNAL_SERVER_ERROR


async def _end(pool: Connections, claimed: Claimed, *, refused: bool) -> None:
    """Let the next try in at once; where that cannot be written, it waits for the lease to end."""
    end = store.delete if refused else store.release
    with contextlib.suppress(*UNAVAILABLE):
        async with asyncio.timeout(END_SECONDS_MAX), pool.acquire() as connection:
            await end(connection, claimed)


def _again(seen: AlreadyUsed) -> Reply:
    if not seen.same_request:
        raise IdempotencyError("This Idempotency-Key came with another request before.")
    if seen.answer is None:
        raise ConflictError(
            "The first request with this Idempotency-Key is under way.", retry_after_seconds=1
        )
    return Reply(msgspec.Raw(seen.answer), seen.status, replayed=True)


def _digest(operation: Operation, call: Call) -> bytes:
    asked: list[Any] = [operation.name, sorted(call.path.items()), call.query, call.body]
    return hashlib.sha256(_encoder.encode(asked)).digest()
