"""Under which key a request reaches the ledger, so that it is posted once."""

from __future__ import annotations

from api import fields
from api.operation import Call

# A caller who took one of these could keep a payment, an expiry or a capture from its own row.
RESERVED = ("stripe:", "expiration:", "idempotency-key:", "request:", "hold:", "grant:")


def posting_key(
    call: Call, transaction_id: str | None, where: tuple[str | int, ...] = ("body",)
) -> str:
    """Return the caller's own id, else the Idempotency-Key, else one that no retry can find."""
    if transaction_id is not None:
        if transaction_id.startswith(RESERVED):
            raise fields.refused((*where, "transactionId"), "begins with a word of Prepaid's own")
        return transaction_id
    if call.idempotency_key is not None:
        return f"idempotency-key:{call.idempotency_key}"
    return f"request:{call.id}"
