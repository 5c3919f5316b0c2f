"""Validation of postings, before any of them reaches the database."""

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
# Far below the nesting limit of JSON parsers: what is accepted must be readable by clients.
METADATA_LEVELS_MAX = 32
PRIORITY_MAX = 100
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
_OF_PAYMENTS = frozenset({TransactionType.REFUND, TransactionType.DISPUTE})
_TYPES = frozenset(TransactionType)
# With a sign and digits up to here, a number is below the limit.
_SHORT_DIGITS_MAX = AMOUNT_MAX.adjusted()

# The fields that make one request differ from another, in the order of the digest.
_REQUEST = (
    "type", "amount", "counterparty", "effective_at", "description", "category", "quantity",
    "user_id", "grant_id", "hold_id", "payment_intent_id", "metadata", "priority", "promotional",
    "expires_at", "may_overdraw",
)  # fmt: skip
_AMOUNT = _REQUEST.index("amount")
# Numbers and moments: equal ones may be written in several ways.
_NORMALIZED = tuple(map(_REQUEST.index, ("amount", "effective_at", "quantity", "expires_at")))
_CONTAINERS = (dict, list, tuple)
_NUL = rb"\u0000"
# An even number of backslashes before it are backslashes themselves.
_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_request_fields = attrgetter(*_REQUEST)
_digest_encoder = msgspec.json.Encoder(order="deterministic")


def digest(posting: Posting, *, usage: Any = None) -> str:
    """Return the SHA-256 of a posting's request fields, without its ids.

    `usage` is what the amount was computed from, and takes its place: the same usage has one digest
    whatever its price.
    """
    fields = list(_request_fields(posting))
    for place in _NORMALIZED:
        if fields[place] is not None:
            fields[place] = _normalized(fields[place])
    if usage is not None:
        fields[_AMOUNT] = usage
    if posting.partial or posting.past_limit:  # not part of the digests of earlier releases
        fields += [posting.partial, posting.past_limit]
    return request_digest(*fields)


def _normalized(value: Any) -> Any:
    """Return equal numbers and equal instants in one notation."""
    if isinstance(value, Decimal) and value.is_finite():
        return plain(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    return value


def request_digest(*fields: Any) -> str:
    """Return the SHA-256 of the fields of a request, independent of the order of JSON keys.

    In PostgreSQL's text form of bytes: a backslash, an x, 64 hex digits.
    """
    return "\\x" + hashlib.sha256(_digest_encoder.encode(fields)).hexdigest()


def refusal(posting: Posting, *, now: datetime) -> str | None:
    """Say what is wrong with a posting, in a sentence; None when the ledger can take it.

    Except for `expiry_refusal`, a posting that was accepted once is accepted on every repetition.
    """
    if posting.type not in _TYPES or posting.type is TransactionType.EXPIRATION:
        return f"type: {posting.type!r} cannot be posted"  # only the ledger posts expirations
    if posting.key.startswith(RESERVED_KEY):
        # An expiration whose key is taken would block every later posting of its organization.
        return f"key: {RESERVED_KEY}… is the ledger's own"
    error = _amount_refusal(posting) or _text_refusal(posting)
    if error is None and not (posting.effective_at is posting.expires_at is None):
        error = clock_refusal("effective_at", posting.effective_at) or clock_refusal(
            "expires_at", posting.expires_at
        )
    return error or _grant_refusal(posting) or _moment_refusal(posting, now)


def decimal_refusal(name: str, value: Decimal) -> str | None:
    """Say why a number cannot be stored exactly, whatever its sign."""
    if not value.is_finite():
        return f"{name}: must be a finite number"
    # Nearly all numbers are short, and their text shows at once that they fit.
    text = str(value)
    whole, _, decimals = text.partition(".")
    is_short = len(whole) <= _SHORT_DIGITS_MAX and len(decimals) <= CREDIT_DECIMALS_MAX
    if (is_short and "E" not in text) or not value:
        return None
    # By its exponent first: 1e-999999999 in digits is a gigabyte, and 1e999999999 overflows.
    if value.adjusted() < -CREDIT_DECIMALS_MAX:
        return f"{name}: at most {CREDIT_DECIMALS_MAX} decimals"
    if value.adjusted() > AMOUNT_MAX.adjusted() or abs(value) > AMOUNT_MAX:
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
    error = decimal_refusal("amount", amount) or _sign_refusal(posting.type, amount)
    if error is None and posting.quantity is not None:
        return decimal_refusal("quantity", posting.quantity)
    return error


def _sign_refusal(kind: TransactionType, amount: Decimal) -> str | None:
    if amount == 0:
        return "amount: must not be zero"
    if kind is TransactionType.ADJUSTMENT or (amount > 0) == (kind in CREDITS):
        return None
    return f"amount: a {kind} must be {'positive' if kind in CREDITS else 'negative'}"


def _text_refusal(posting: Posting) -> str | None:
    if error := key_refusal(posting.key):
        return error
    error = None
    if posting.description is not None:
        error = text_refusal("description", posting.description, TEXT_LENGTH_MAX)
    if posting.category is not None:
        error = error or text_refusal("category", posting.category, CATEGORY_LENGTH_MAX)
    if posting.user_id is not None:
        error = error or text_refusal("user_id", posting.user_id, KEY_LENGTH_MAX)
    if posting.payment_intent_id is not None:
        error = error or text_refusal(
            "payment_intent_id", posting.payment_intent_id, KEY_LENGTH_MAX
        )
    return error or metadata_refusal(posting.metadata)


def key_refusal(key: str) -> str | None:
    """Say why an idempotency key cannot be stored."""
    if not 1 <= len(key) <= KEY_LENGTH_MAX:
        return f"key: 1 to {KEY_LENGTH_MAX} characters"
    return text_refusal("key", key, KEY_LENGTH_MAX)


def text_refusal(name: str, text: str, length_max: int) -> str | None:
    """Say why PostgreSQL could not take a text: too long, a NUL, or half of a surrogate pair."""
    if len(text) > length_max:
        return f"{name}: at most {length_max} characters"
    if "\0" in text or (not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)):
        return f"{name}: must not hold NUL or half of a surrogate pair"
    return None


def metadata_refusal(metadata: dict[str, Any] | None) -> str | None:
    """Say why metadata cannot be stored as JSON, or not within its limits."""
    if not metadata:
        return None
    try:
        encoded = msgspec.json.encode(metadata)
    except (TypeError, ValueError, RecursionError) as error:  # half a surrogate pair among them
        return f"metadata: must be JSON ({error})"
    if len(encoded) > METADATA_BYTES_MAX:
        return f"metadata: at most {METADATA_BYTES_MAX} bytes of JSON"
    if _NUL in encoded and _ESCAPED_NUL.search(encoded):
        return "metadata: must not hold NUL"
    return nesting_refusal("metadata", metadata)


def nesting_refusal(name: str, value: Any) -> str | None:
    """Say why free JSON is nested too deeply, in bounded time; the value is the first level."""
    level = [value]
    for _ in range(METADATA_LEVELS_MAX):
        deeper: list[Any] = []
        for v in level:
            children = v.values() if isinstance(v, dict) else v
            deeper += [child for child in children if isinstance(child, _CONTAINERS)]
        level = deeper
        if not level:
            return None
    return f"{name}: at most {METADATA_LEVELS_MAX} levels of lists and objects"


def expiry_refusal(posting: Posting, *, now: datetime) -> str | None:
    """Say that a grant is expired already; not an error for one that was posted in time."""
    if posting.expires_at is not None and posting.expires_at <= now:
        return "expires_at: lies in the past"
    return None


def _grant_refusal(posting: Posting) -> str | None:
    if posting.priority is not None and not 0 <= posting.priority <= PRIORITY_MAX:
        return f"priority: 0 to {PRIORITY_MAX}"
    if posting.type is TransactionType.HOLD_CAPTURE and posting.hold_id is None:
        return "hold_id: a capture names its hold"
    if posting.payment_intent_id is None and posting.type in _OF_PAYMENTS:
        return "payment_intent_id: a reversal names its payment"
    return None


def clock_refusal(name: str, moment: datetime | None) -> str | None:
    """Say why a moment cannot be stored: it has no time zone, or lies outside the calendar."""
    if moment is not None and moment.tzinfo is None:
        return f"{name}: must name its time zone"
    if moment is not None and not MOMENT_MIN <= moment <= MOMENT_MAX:
        return f"{name}: from {MOMENT_MIN.year} to {MOMENT_MAX.year}"
    return None


def _moment_refusal(posting: Posting, now: datetime) -> str | None:
    if posting.effective_at is not None and posting.effective_at > now + EFFECTIVE_AHEAD_MAX:
        return "effective_at: lies in the future"
    return None


def reversal_target(granted: Decimal, refunded: Decimal, withdrawn: Decimal) -> Decimal:
    """Return the total of a payment's credits that is to be reversed.

    `refunded`: the credits of its refunds; `withdrawn`: those that disputes withdrew, less those
    reinstated. A level and not a step, so that the order, duplicates and replay of events make no
    difference.
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
    """Return the posting that changes the reversed part of a payment by `difference`.

    Positive takes credits, negative returns them. `number` counts the reversals of this
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
