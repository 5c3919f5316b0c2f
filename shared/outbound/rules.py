"""What outbound messages decide: how one is signed, when it is tried again, when to give up."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from typing import Any
from uuid import UUID

from shared.errors import FieldError, ValidationError
from shared.ids import parse_id
from shared.money import json_number
from shared.outbound.addresses import fault_of_url
from shared.outbound.model import (
    Answer,
    ClaimedMessage,
    MessageState,
    MessageType,
    Settlement,
)

MESSAGE_PREFIX = "msg_"
SECRET_PREFIX = "whsec_"  # noqa: S105 - how Standard Webhooks marks one
SECRET_RANDOM_BYTES = 32
DESCRIPTION_LENGTH_MAX = 200
REASON_LENGTH_MAX = 1000

RETRY_FOR = timedelta(days=3)
BACKOFF_SECONDS = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.1
ROTATION_OVERLAP = timedelta(hours=24)
_SUCCESS = range(200, 300)


def public_id(message_id: UUID) -> str:
    """Return the `msg_…` form of a message's id: its webhook-id, at every attempt the same."""
    return MESSAGE_PREFIX + message_id.hex


def read_message_id(text: str) -> UUID | None:
    """Read a message's id as a person may give it, `msg_…` or a UUID; None when it is neither."""
    return parse_id(text.removeprefix(MESSAGE_PREFIX))


def new_secret(random_bytes: bytes) -> str:
    """Return random bytes, 24 to 64 of them, as a Standard Webhooks secret."""
    return SECRET_PREFIX + base64.b64encode(random_bytes).decode()


def sign(secrets: Iterable[str], message_id: str, unix_seconds: int, body: str) -> str:
    """Return a webhook-signature header: one signature for each secret, separated by spaces.

    Source: https://github.com/standard-webhooks/standard-webhooks, "Signature scheme"
    """
    signed = f"{message_id}.{unix_seconds}.{body}".encode()
    return " ".join(f"v1,{_hmac(secret, signed)}" for secret in secrets)


def _hmac(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def headers(message: ClaimedMessage, *, now: datetime) -> dict[str, str]:
    """Return the Standard Webhooks headers of an attempt at this moment.

    While a rotation is under way the secret before it signs too, so that no receiver misses a
    message between two deploys.
    """
    secrets = [message.secret]
    until = message.previous_secret_until
    if message.previous_secret is not None and until is not None and now < until:
        secrets.append(message.previous_secret)
    name, seconds = public_id(message.key.id), int(now.timestamp())
    return {
        "webhook-id": name,
        "webhook-timestamp": str(seconds),
        "webhook-signature": sign(secrets, name, seconds, message.payload),
    }


def check_endpoint(
    *, url: str, types: Sequence[str], description: str | None, allow_private: bool
) -> None:
    """Raise ValidationError with every field of an endpoint that is wrong, and why."""
    found: list[FieldError] = []
    fault = fault_of_url(url, allow_private=allow_private)
    if fault is not None:
        found.append(_wrong("url", fault))
    unknown = sorted(set(types) - set(MessageType))
    if unknown:
        found.append(_wrong("types", f"{', '.join(map(repr, unknown))}: no such type"))
    if description is not None and not (
        len(description) <= DESCRIPTION_LENGTH_MAX and description.isprintable()
    ):
        found.append(
            _wrong("description", f"at most {DESCRIPTION_LENGTH_MAX} printable characters")
        )
    if found:
        summary = "; ".join(f"{error['loc'][-1]}: {error['msg']}" for error in found)
        raise ValidationError(summary, errors=found)


def _wrong(name: str, message: str) -> FieldError:
    return {"loc": ["body", name], "msg": message, "type": "value_error"}


def exact(value: Any) -> Any:
    """Return data that JSON can say: Decimals as numbers with all their digits, no NUL in a text.

    A text may come from a payment, and what PostgreSQL refuses would take the caller's transaction
    with it.
    """
    if isinstance(value, Decimal):
        return json_number(value)
    if isinstance(value, str):
        return value.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return {exact(str(name)): exact(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [exact(item) for item in value]
    return value


def backoff(attempts: int, *, random: float) -> timedelta:
    """Return the wait after the given attempt: from 5 s to 24 h, ±10 %.

    `random` is a number from 0 to 1; the spread keeps messages that failed together apart.
    """
    seconds = BACKOFF_SECONDS[min(attempts, len(BACKOFF_SECONDS)) - 1]
    return timedelta(seconds=seconds * (1 + JITTER * (2 * random - 1)))


def is_success(answer: Answer) -> bool:
    """Whether the receiver has taken the message: 2xx, and nothing else."""
    return answer.status is not None and answer.status in _SUCCESS


def says_gone(answer: Answer) -> bool:
    """Whether the receiver asks never to be called again."""
    return answer.status == HTTPStatus.GONE


def after_attempt(
    message: ClaimedMessage, answer: Answer, *, now: datetime, random: float
) -> Settlement:
    """Decide what an attempt comes to: delivered, another attempt, or dead.

    The last attempt is made three days after the first moment, wherever the backoff stands then.
    """
    if is_success(answer):
        return Settlement(message.key, MessageState.DELIVERED, answer.status)
    reason = (answer.error or f"the receiver answered {answer.status}")[:REASON_LENGTH_MAX]
    deadline = message.since + RETRY_FOR
    if says_gone(answer) or now >= deadline:
        return Settlement(message.key, MessageState.DEAD, answer.status, reason)
    # Never sooner than the first step: clocks that disagree about the deadline must not spin here.
    first = timedelta(seconds=BACKOFF_SECONDS[0])
    again = max(min(now + backoff(message.attempts, random=random), deadline), now + first)
    return Settlement(message.key, MessageState.PENDING, answer.status, reason, again)


def for_disabled_endpoint(message: ClaimedMessage) -> Settlement:
    """Decide on a message whose endpoint takes none any more: dead, without an attempt."""
    reason = "the endpoint is disabled; add it again, then replay"
    return Settlement(message.key, MessageState.DEAD, None, reason)
