"""Idempotency-Key: the first response is stored and returned again.

A key belongs to the organization of the request, whichever operation or API key sends it, so that
an app may rotate its API key between two attempts. A request without an organization, such as
creating one, has a key of the API key's tenant. A refusal is not stored: it changed nothing, and a
retry with the same key runs again. An operation that needs only PostgreSQL runs in the transaction
that stores its response. An operation that calls Stripe and is interrupted leaves its id, and a
retry continues under it: Stripe's idempotency keys and the created rows derive from that id.
"""

from __future__ import annotations

import contextlib
import hashlib
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from msgspec.structs import replace

from api.framework.operation import Call, Operation, Reply, Retry
from shared.db.deadline import in_time
from shared.db.pool import UNAVAILABLE
from shared.errors import ConflictError, IdempotencyError, NothingChargedError, PrepaidError
from shared.http.envelope import encode
from shared.idempotency import store
from shared.idempotency.store import AlreadyUsed, Claimed

if TYPE_CHECKING:
    from shared.db.pool import Connections

# Longer than any operation may take, so that two attempts never run at once.
LEASE = timedelta(seconds=40)
END_SECONDS_MAX = 2
OF_ALL_ORGANIZATIONS = UUID(int=0)
_encoder = msgspec.json.Encoder(order="deterministic")


async def once(operation: Operation, call: Call, key: str) -> Reply:
    """Run a request, or return the stored response of its key.

    Raises IdempotencyError if the key was used with another request, ConflictError while the first
    request is in progress.
    """
    async with call.api.pool.acquire() as connection:
        claim = await store.claim(
            connection,
            _tenant(call),
            key,
            digest=_digest(operation, call),
            new_id=call.id,
            token=call.api.make_id(),
            lease=LEASE,
        )
    if isinstance(claim, AlreadyUsed):
        return _stored_reply(claim)
    try:
        if operation.retry is Retry.STORED:
            return await _run_and_store(operation, call, claim)
        return await _run_then_store(operation, call, claim)
    except BaseException as error:  # the deadline too: the request has stopped
        await _release(call.api.pool, claim, refused=_is_refusal(error))
        raise


async def _run_and_store(operation: Operation, call: Call, claimed: Claimed) -> Reply:
    """Run the operation and store its response in one transaction."""
    async with call.api.pool.acquire() as connection, connection.transaction():
        reply = await operation.handle(replace(call, id=claimed.id, connection=connection))
        status, body = int(reply.status or operation.status), encode(reply.body)
        if not await store.complete(connection, claimed, status=status, answer=body):
            raise ConflictError(
                "Another attempt of this request is in progress. Retry with its key."
            )
    return Reply(msgspec.Raw(body), status, replayed=reply.replayed)


async def _run_then_store(operation: Operation, call: Call, claimed: Claimed) -> Reply:
    """Run the operation, then store its response; a retry continues by the id of the claim."""
    reply = await operation.handle(replace(call, id=claimed.id))
    status, body = int(reply.status or operation.status), encode(reply.body)
    async with call.api.pool.acquire() as connection:
        if reply.final:
            await store.complete(connection, claimed, status=status, answer=body)
        else:
            await store.release(connection, claimed)
    return Reply(msgspec.Raw(body), status, replayed=reply.replayed)


def _tenant(call: Call) -> UUID:
    """Return the tenant of the key: the organization of the request, if it has one."""
    if call.organization is not None:
        return call.organization.id
    return call.caller.organization_id or OF_ALL_ORGANIZATIONS


def _is_refusal(error: BaseException) -> bool:
    if isinstance(error, NothingChargedError):
        return True
    return isinstance(error, PrepaidError) and error.status < HTTPStatus.INTERNAL_SERVER_ERROR


async def _release(pool: Connections, claimed: Claimed, *, refused: bool) -> None:
    """Release the claim for the next attempt; if that fails, its lease expires."""
    with contextlib.suppress(*UNAVAILABLE):
        await in_time(_end(pool, claimed, refused=refused), END_SECONDS_MAX)


async def _end(pool: Connections, claimed: Claimed, *, refused: bool) -> None:
    end = store.delete if refused else store.release
    async with pool.acquire() as connection:
        await end(connection, claimed)


def _stored_reply(seen: AlreadyUsed) -> Reply:
    if not seen.same_request:
        raise IdempotencyError(
            "This Idempotency-Key was used with another request. Send a new one."
        )
    if seen.answer is None:
        raise ConflictError(
            "The first request with this Idempotency-Key is in progress.", retry_after_seconds=1
        )
    return Reply(msgspec.Raw(seen.answer), seen.status, replayed=True)


def _digest(operation: Operation, call: Call) -> bytes:
    request: list[Any] = [operation.name, sorted(call.path.items()), call.query, call.body]
    return hashlib.sha256(_encoder.encode(request)).digest()
