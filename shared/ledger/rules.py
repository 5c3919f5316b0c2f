"""What a posting may ask for. Everything refused here is refused before it reaches the database."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import Any
from uuid import UUID

import msgspec

from shared.ledger import keys
from shared.ledger.model import Posting, SystemAccount, TransactionType
from shared.money import CREDIT_DECIMALS_MAX, plain

AMOUNT_MAX = Decimal(10) ** 18
KEY_LENGTH_MAX = 255
TEXT_LENGTH_MAX = 2_000
CATEGORY_LENGTH_MAX = 100
METADATA_BYTES_MAX = 16 * 1024
# Far from where a reader of JSON, ours or a client's, gives up: what was taken must be readable.
METADATA_LEVELS_MAX = 32
PRIORITY_MAX = 100
HOLD_SECONDS_MAX = 30 * 24 * 3600
RESERVED_KEY = keys.EXPIRATION
MOMENT_MIN = datetime(1970, 1, 1, tzinfo=UTC)
MOMENT_MAX = datetime(9000, 1, 1, tzinfo=UTC)
EFFECTIVE_AHEAD_MAX = timedelta(hours=1)

CREDITS = frozenset({
    TransactionType.PURCHASE,
    TransactionType.RECHARGE,
    TransactionType.GRANT,
    TransactionType.BONUS,
    TransactionType.DISPUTE_REVERSAL,
})  # fmt: skip
_TYPES = frozenset(TransactionType)

# The fields that make one request differ from another, in the order of the digest.
_REQUEST = (
    "type", "amount", "counterparty", "effective_at", "description", "category", "quantity",
    "user_id", "grant_id", "hold_id", "payment_intent_id", "metadata", "priority", "promotional",
    "expires_at", "may_overdraw",
)  # fmt: skip
# An even number of backslashes before it are backslashes themselves.
_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_asked = attrgetter(*_REQUEST)
_digest_encoder = msgspec.json.Encoder(order="deterministic")


def digest(posting: Posting) -> str:
    """Return the SHA-256 that stands for what a posting asks; its ids do not count."""
    return request_digest(*map(_one_form, _asked(posting)))


def _one_form(value: Any) -> Any:
    """Write the same number and the same instant the same way, however they came."""
    if value is None:
        return None
    if isinstance(value, Decimal) and value.is_finite():
        return plain(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    return value


def request_digest(*asked: Any) -> str:
    """Return the SHA-256 of what a request asks, the same for the same in any order of keys.

    In PostgreSQL's text form of bytes: a backslash, an x, 64 hex digits.
    """
    return "\\x" + hashlib.sha256(_digest_encoder.encode(asked)).hexdigest()


def refusal(posting: Posting, *, now: datetime) -> str | None:
    """Say what is wrong with a posting, in a sentence; None when the ledger can take it.

    Except for `expiry_refusal`, what is taken once is taken whenever it is asked for again.
    """
    if posting.type not in _TYPES or posting.type is TransactionType.EXPIRATION:
        return f"type: {posting.type!r} cannot be posted"  # what expires, the ledger posts itself
    if posting.key.startswith(RESERVED_KEY):
        # An expiration that found its key taken would stop every later posting of its organization.
        return f"key: {RESERVED_KEY}… is the ledger's own"
    return (
        _amount_refusal(posting)
        or _text_refusal(posting)
        or _clock_refusal("effective_at", posting.effective_at)
        or _clock_refusal("expires_at", posting.expires_at)
        or _grant_refusal(posting)
        or _moment_refusal(posting, now)
    )


def decimal_refusal(name: str, value: Decimal) -> str | None:
    """Say why a number cannot be stored exactly, whatever its sign."""
    if not value.is_finite():
        return f"{name}: must be a finite number"
    if abs(value) > AMOUNT_MAX:
        return f"{name}: must be at most {AMOUNT_MAX:f}"
    # Counted in the text: arithmetic would round a number that is longer than its precision.
    if len(f"{value:f}".partition(".")[2].rstrip("0")) > CREDIT_DECIMALS_MAX:
        return f"{name}: at most {CREDIT_DECIMALS_MAX} decimals"
    return None


def _amount_refusal(posting: Posting) -> str | None:
    amount = posting.amount
    if posting.type is TransactionType.VOID:
        names_a_grant = amount is None and posting.grant_id is not None
        return None if names_a_grant else "amount: a void names a grant and no amount"
    if amount is None:
        return "amount: is missing"
    found = decimal_refusal("amount", amount) or _sign_refusal(posting.type, amount)
    if found is None and posting.quantity is not None:
        return decimal_refusal("quantity", posting.quantity)
    return found


def _sign_refusal(kind: TransactionType, amount: Decimal) -> str | None:
    if amount == 0:
        return "amount: must not be zero"
    if kind is TransactionType.ADJUSTMENT or (amount > 0) == (kind in CREDITS):
        return None
    return f"amount: a {kind} must be {'positive' if kind in CREDITS else 'negative'}"


def _text_refusal(posting: Posting) -> str | None:
    if not 1 <= len(posting.key) <= KEY_LENGTH_MAX:
        return f"key: 1 to {KEY_LENGTH_MAX} characters"
    limits = (
        ("key", posting.key, KEY_LENGTH_MAX),
        ("description", posting.description, TEXT_LENGTH_MAX),
        ("category", posting.category, CATEGORY_LENGTH_MAX),
        ("user_id", posting.user_id, KEY_LENGTH_MAX),
        ("payment_intent_id", posting.payment_intent_id, KEY_LENGTH_MAX),
    )
    for name, text, length_max in limits:
        if text is not None and (found := text_refusal(name, text, length_max)):
            return found
    return _metadata_refusal(posting.metadata)


def text_refusal(name: str, text: str, length_max: int) -> str | None:
    """Say why PostgreSQL could not take a text: too long, a NUL, or half of a surrogate pair."""
    if len(text) > length_max:
        return f"{name}: at most {length_max} characters"
    if "\0" in text or (not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)):
        return f"{name}: must not hold NUL or half of a surrogate pair"
    return None


def _metadata_refusal(metadata: dict[str, Any] | None) -> str | None:
    if not metadata:
        return None
    try:
        encoded = msgspec.json.encode(metadata)
    except (TypeError, ValueError, RecursionError) as error:  # half a surrogate pair among them
        return f"metadata: must be JSON ({error})"
    if len(encoded) > METADATA_BYTES_MAX:
        return f"metadata: at most {METADATA_BYTES_MAX} bytes of JSON"
    if _ESCAPED_NUL.search(encoded):
        return "metadata: must not hold NUL"
    return nesting_refusal("metadata", metadata)


def nesting_refusal(name: str, value: Any) -> str | None:
    """Say why free JSON is nested too deeply, however deep it is; the value is the first level."""
    level = [value]
    for _ in range(METADATA_LEVELS_MAX):
        inside = [v.values() if isinstance(v, dict) else v for v in level]
        level = [v for values in inside for v in values if isinstance(v, dict | list | tuple)]
        if not level:
            return None
    return f"{name}: at most {METADATA_LEVELS_MAX} levels of lists and objects"


def expiry_refusal(posting: Posting, *, now: datetime) -> str | None:
    """Say that a grant would have expired before it began; one that is on the ledger may have."""
    if posting.expires_at is not None and posting.expires_at <= now:
        return "expires_at: lies in the past"
    return None


def _grant_refusal(posting: Posting) -> str | None:
    if posting.priority is not None and not 0 <= posting.priority <= PRIORITY_MAX:
        return f"priority: 0 to {PRIORITY_MAX}"
    if posting.type is TransactionType.HOLD_CAPTURE and posting.hold_id is None:
        return "hold_id: a capture names its hold"
    if posting.type in (TransactionType.REFUND, TransactionType.DISPUTE) and (
        posting.payment_intent_id is None
    ):
        return "payment_intent_id: a reversal names its payment"
    return None


def _clock_refusal(name: str, moment: datetime | None) -> str | None:
    if moment is not None and moment.tzinfo is None:
        return f"{name}: must name its time zone"
    if moment is not None and not MOMENT_MIN <= moment <= MOMENT_MAX:
        return f"{name}: from {MOMENT_MIN.year} to {MOMENT_MAX.year}"
    return None


def _moment_refusal(posting: Posting, now: datetime) -> str | None:
    if posting.effective_at is not None and posting.effective_at > now + EFFECTIVE_AHEAD_MAX:
        return "effective_at: lies in the future"
    return None


def hold_refusal(amount: Decimal, key: str, *, seconds: int) -> str | None:
    """Say what is wrong with a reservation; None when the ledger can take it."""
    if found := decimal_refusal("amount", amount):
        return found
    if amount <= 0:
        return "amount: must be positive"
    if not 1 <= seconds <= HOLD_SECONDS_MAX:
        return f"expires_in_seconds: 1 to {HOLD_SECONDS_MAX}"
    if not key:
        return f"key: 1 to {KEY_LENGTH_MAX} characters"
    return text_refusal("key", key, KEY_LENGTH_MAX)


def reversal_target(granted: Decimal, refunded: Decimal, withdrawn: Decimal) -> Decimal:
    """Return how much of a payment's credits is to be taken back, all in all.

    `refunded` is what its refunds give back, `withdrawn` what disputes have taken less what they
    have reinstated, both in credits. It tells a level and not a step, so that the order of events,
    their duplicates and their replay cannot matter.
    """
    return max(Decimal(0), min(granted, refunded + withdrawn))


def reversal(
    organization_id: UUID,
    transaction_id: UUID,
    payment_intent_id: str,
    *,
    difference: Decimal,
    number: int,
    disputed: bool,
) -> Posting:
    """Return the posting that moves what was taken back of a payment by a difference.

    Positive takes credits away, negative gives them back. `number` counts the reversals of this
    payment, so that each step has a key of its own.
    """
    taking = TransactionType.DISPUTE if disputed else TransactionType.REFUND
    return Posting(
        organization_id=organization_id,
        id=transaction_id,
        type=taking if difference > 0 else TransactionType.DISPUTE_REVERSAL,
        counterparty=SystemAccount.STRIPE,
        key=f"{keys.PAYMENT}{payment_intent_id}:reversal:{number}",
        amount=-difference,
        payment_intent_id=payment_intent_id,
    )
