"""The ledger key of a request, under which it is posted once."""

from __future__ import annotations

from uuid import UUID

from api.framework import fields
from api.framework.operation import Call
from shared.ledger import keys, posting_errors, rules


def posting_key(
    call: Call, transaction_id: str | None, where: tuple[str | int, ...] = ("body",)
) -> str:
    """Return the caller's own id, else the Idempotency-Key, else a key unique to the request."""
    if transaction_id is not None:
        return _own_key(transaction_id, where)
    if call.idempotency_key is not None:
        return f"{keys.HEADER}{call.idempotency_key}"
    return f"{keys.REQUEST}{call.id}"


def item_key(item_id: UUID, transaction_id: str | None, where: tuple[str | int, ...]) -> str:
    """Return the key of an item of a batch: the caller's own id, else a key unique to the item.

    The Idempotency-Key identifies the whole batch, whose response is stored, and no item of it.
    """
    if transaction_id is not None:
        return _own_key(transaction_id, where)
    return f"{keys.REQUEST}{item_id}"


def _own_key(transaction_id: str, where: tuple[str | int, ...]) -> str:
    if transaction_id.startswith(keys.RESERVED):
        raise fields.invalid((*where, "transactionId"), "begins with a reserved prefix")
    # Here and not with the rest: priced usage is looked up by its key before it is posted.
    if error := rules.key_refusal(transaction_id):
        raise posting_errors.invalid_field(error, where)
    return transaction_id
