"""Validation of holds, and what their captures take over from them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from shared.ids import transaction_public_id
from shared.ledger import rules
from shared.ledger.holds.model import Hold, HoldStatus, NewHold
from shared.ledger.model import Posting
from shared.ledger.origin import KEY_ID, OWN, PRICING, TAGS

SECONDS_MAX = 30 * 24 * 3600


def refusal(hold: NewHold) -> str | None:
    """Say what is wrong with a hold, in a sentence; None when the ledger can take it."""
    if error := rules.decimal_refusal("amount", hold.amount):
        return error
    if hold.amount <= 0:
        return "amount: must be positive"
    if error := seconds_refusal(hold.seconds):
        return error
    if error := rules.key_refusal(hold.key):
        return error
    texts = (
        ("note", hold.description, rules.TEXT_LENGTH_MAX),
        ("category", hold.category, rules.CATEGORY_LENGTH_MAX),
        ("user_id", hold.user_id, rules.KEY_LENGTH_MAX),
    )
    for name, text, length_max in texts:
        if text is not None and (error := rules.text_refusal(name, text, length_max)):
            return error
    return rules.metadata_refusal(hold.metadata)


def seconds_refusal(seconds: int) -> str | None:
    """Say why a hold cannot last so long from now."""
    if not 1 <= seconds <= SECONDS_MAX:
        return f"expires_in_seconds: 1 to {SECONDS_MAX}"
    return None


def digest(hold: NewHold) -> str:
    """Return the SHA-256 of what was requested. Fields that are not set are not part of it."""
    amount = hold.amount.normalize() if hold.usage is None else hold.usage
    fields: list[Any] = [amount, hold.seconds, hold.description]
    more = {
        "user_id": hold.user_id,
        "category": hold.category,
        "metadata": hold.metadata,
    }
    if set_fields := {name: value for name, value in more.items() if value is not None}:
        fields.append(set_fields)
    return rules.request_digest(*fields)


def with_origin(hold: NewHold) -> NewHold:
    """Return the hold with its API key and price in its metadata, as a posting has them."""
    origin: dict[str, Any] = {}
    if hold.key_id is not None:
        origin[KEY_ID] = str(hold.key_id)
    if hold.pricing is not None:
        origin[PRICING] = hold.pricing
    return replace(hold, metadata={**(hold.metadata or {}), **origin} or None)


def closed_detail(hold: Hold, captured_by: UUID | None) -> str:
    """Say how a hold ended, and what can be done then. `captured_by`: the row that closed it."""
    if hold.status == HoldStatus.CAPTURED:
        row = f" by {transaction_public_id(captured_by)}" if captured_by else ", without a debit"
        return f"The hold was captured at {_text(hold.closed_at)}{row}. Post more usage as a debit."
    if hold.status == HoldStatus.RELEASED:
        return f"The hold was released at {_text(hold.closed_at)}. Post its usage as a debit."
    return (
        f"The hold expired at {_text(hold.expires_at)}, and its credits are available again. Post"
        ' its usage as a debit, with onInsufficient "overdraft" if it has happened already.'
    )


def _text(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def capture_of(hold: Hold, posting: Posting) -> Posting:
    """Return the capture with the fields of its hold where it has none of its own.

    Its digest is that of the capture as it was requested: a hold's fields never change.
    """
    inherited = {
        name: value
        for name, value in (hold.metadata or {}).items()
        if name == TAGS or not name.startswith(OWN)
    }
    return replace(
        posting,
        digest=posting.digest or rules.digest(posting),
        description=posting.description or hold.description,
        category=posting.category or hold.category,
        user_id=posting.user_id or hold.user_id,
        metadata={**inherited, **(posting.metadata or {})} or None,
    )
