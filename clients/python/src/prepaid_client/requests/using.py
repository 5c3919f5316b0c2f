"""Debits, priced usage and holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from prepaid_client import operations, types
from prepaid_client.gate import Need
from prepaid_client.requests.request import Amount, Request, exact, exact_all, request, time_text


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


def usage(
    organization: str,
    *,
    model: str | None = None,
    meter: str | None = None,
    measures: Mapping[str, Amount],
    transaction_id: str | None = None,
    hold_id: str | None = None,
    final: bool | None = None,
    user_id: str | None = None,
    category: str | None = None,
    quantity: Amount | None = None,
    note: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    tags: Sequence[str] | None = None,
    on_insufficient: Literal["refuse", "overdraft"] | None = None,
    effective_on: datetime | None = None,
    idempotency_key: str | None = None,
) -> Request[types.PostedUsageResponse]:
    """Post the usage of a model or a meter at its price in the price book. Raises Insufficient.

    `transaction_id` is your own id of it: the same usage is posted once, also after a change of
    prices. A model or a measure without a price raises Invalid. With `hold_id`, it is captured.
    """
    body = {
        "model": model,
        "meter": meter,
        "measures": exact_all(measures),
        "transactionId": transaction_id,
        "holdId": hold_id,
        "final": final,
        "userId": user_id,
        "category": category,
        "quantity": None if quantity is None else exact(quantity),
        "note": note,
        "metadata": metadata,
        "tags": tags,
        "onInsufficient": on_insufficient,
        "effectiveOn": time_text(effective_on),
    }
    return request(
        operations.CREATE_USAGE,
        {"organizationId": organization},
        body=body,
        idempotency_key=idempotency_key,
        need=None if on_insufficient == "overdraft" else Need(organization, None),
    )


def quote(
    organization: str,
    *,
    model: str | None = None,
    meter: str | None = None,
    measures: Mapping[str, Amount],
) -> Request[types.QuoteResponse]:
    """Return the price of usage, and post nothing. Raises Invalid where it has none."""
    body = {"model": model, "meter": meter, "measures": exact_all(measures)}
    return request(operations.QUOTE_USAGE, {"organizationId": organization}, body=body)


def hold(
    organization: str,
    amount: Amount | None = None,
    *,
    model: str | None = None,
    meter: str | None = None,
    measures: Mapping[str, Amount] | None = None,
    expires_in_seconds: int | None = None,
    transaction_id: str | None = None,
    user_id: str | None = None,
    category: str | None = None,
    note: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    tags: Sequence[str] | None = None,
    idempotency_key: str | None = None,
) -> Request[types.HoldResponse]:
    """Reserve an amount, or an estimate of the measures of a model or meter. Raises Insufficient.

    `user_id`, `category`, `note`, `metadata` and `tags` are the defaults of its captures.
    """
    reserved = None if amount is None else exact(amount)
    body = {
        "amount": reserved,
        "model": model,
        "meter": meter,
        "measures": exact_all(measures),
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
    amount: Amount | None = None,
    *,
    measures: Mapping[str, Amount] | None = None,
    model: str | None = None,
    meter: str | None = None,
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
    """Use held credits: an amount, or measures of the hold's model. The rest is available again.

    With `final=False` the hold stays open for more. `allow_exceed` takes what the hold lacks from
    the balance. Raises Conflict where the hold has ended.
    """
    body = {
        "amount": None if amount is None else exact(amount),
        "measures": exact_all(measures),
        "model": model,
        "meter": meter,
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
