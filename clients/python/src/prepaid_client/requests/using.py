"""Debits and holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from prepaid_client import operations, types
from prepaid_client.gate import Need
from prepaid_client.requests.request import Amount, Request, exact, request, time_text


def debit(
    organization: str,
    amount: Amount,
    *,
    transaction_id: str | None = None,
    user_id: str | None = None,
    category: str | None = None,
    quantity: Amount | None = None,
    note: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    tags: Sequence[str] | None = None,
    on_insufficient: Literal["refuse", "overdraft"] | None = None,
    effective_on: datetime | None = None,
    idempotency_key: str | None = None,
) -> Request[types.TransactionResponse]:
    """Use so many credits (a positive amount). Raises Insufficient.

    `transaction_id` is your own id of the usage, and is posted once. Post usage that has already
    happened with `on_insufficient="overdraft"`.
    """
    used = exact(amount)
    if not used > 0:
        raise ValueError(f"a debit of {amount} is not positive")
    body = {
        "organizationId": organization,
        "amount": -used,
        "transactionId": transaction_id,
        "userId": user_id,
        "category": category,
        "quantity": None if quantity is None else exact(quantity),
        "note": note,
        "metadata": metadata,
        "tags": tags,
        "onInsufficient": on_insufficient,
        "effectiveOn": time_text(effective_on),
    }
    need = None if on_insufficient == "overdraft" else Need(organization, used)
    return request(
        operations.CREATE_TRANSACTION, body=body, idempotency_key=idempotency_key, need=need
    )


def hold(
    organization: str,
    amount: Amount,
    *,
    expires_in_seconds: int | None = None,
    transaction_id: str | None = None,
    user_id: str | None = None,
    category: str | None = None,
    note: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    tags: Sequence[str] | None = None,
    idempotency_key: str | None = None,
) -> Request[types.HoldResponse]:
    """Reserve credits, so that no other request can use them. Raises Insufficient.

    `user_id`, `category`, `note`, `metadata` and `tags` are the defaults of its captures.
    """
    reserved = exact(amount)
    body = {
        "amount": reserved,
        "expiresInSeconds": expires_in_seconds,
        "transactionId": transaction_id,
        "userId": user_id,
        "category": category,
        "note": note,
        "metadata": metadata,
        "tags": tags,
    }
    return request(
        operations.CREATE_HOLD,
        {"organizationId": organization},
        body=body,
        idempotency_key=idempotency_key,
        need=Need(organization, reserved),
    )


def get_hold(organization: str, hold_id: str) -> Request[types.HoldResponse]:
    """Return a hold. Raises NotFound."""
    return request(operations.GET_HOLD, {"organizationId": organization, "id": hold_id})


def capture(
    organization: str,
    hold_id: str,
    amount: Amount,
    *,
    final: bool | None = None,
    allow_exceed: bool | None = None,
    on_insufficient: Literal["refuse", "overdraft"] | None = None,
    transaction_id: str | None = None,
    user_id: str | None = None,
    category: str | None = None,
    quantity: Amount | None = None,
    note: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    tags: Sequence[str] | None = None,
    idempotency_key: str | None = None,
) -> Request[types.CaptureResponse]:
    """Use held credits. The rest becomes available again.

    With `final=False` the hold stays open for more. `allow_exceed` takes what the hold lacks from
    the balance. Raises Conflict where the hold has ended.
    """
    body = {
        "amount": exact(amount),
        "final": final,
        "allowExceed": allow_exceed,
        "onInsufficient": on_insufficient,
        "transactionId": transaction_id,
        "userId": user_id,
        "category": category,
        "quantity": None if quantity is None else exact(quantity),
        "note": note,
        "metadata": metadata,
        "tags": tags,
    }
    of = {"organizationId": organization, "id": hold_id}
    return request(operations.CAPTURE_HOLD, of, body=body, idempotency_key=idempotency_key)


def extend(
    organization: str,
    hold_id: str,
    expires_in_seconds: int,
    *,
    idempotency_key: str | None = None,
) -> Request[types.HoldResponse]:
    """Let a hold expire no earlier than so many seconds from now."""
    return request(
        operations.EXTEND_HOLD,
        {"organizationId": organization, "id": hold_id},
        body={"expiresInSeconds": expires_in_seconds},
        idempotency_key=idempotency_key,
    )


def release(
    organization: str, hold_id: str, *, idempotency_key: str | None = None
) -> Request[types.HoldResponse]:
    """Release a hold without using credits. Raises Conflict where it was captured."""
    of = {"organizationId": organization, "id": hold_id}
    return request(operations.RELEASE_HOLD, of, idempotency_key=idempotency_key)
