"""Decisions about outbound messages: signature, retry schedule, end of retries. Pure."""

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
    ClaimedMessage,
    DeliveryOutcome,
    DeliveryResponse,
    MessageKey,
    MessageState,
    MessageType,
)
from shared.printable import is_printable

MESSAGE_PREFIX = "msg_"
SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of Standard Webhooks secrets
SECRET_RANDOM_BYTES = 32
DESCRIPTION_LENGTH_MAX = 200
REASON_LENGTH_MAX = 1000

RETRY_FOR = timedelta(days=3)
BACKOFF_SECONDS = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.1
ROTATION_OVERLAP = timedelta(hours=24)
_SUCCESS = range(200, 300)


def public_id(message_id: UUID) -> str:
    """Return the `msg_…` form of a message's id: its webhook-id, the same at every attempt."""
    return MESSAGE_PREFIX + message_id.hex


def read_message_id(text: str) -> UUID | None:
    """Parse a message's id, `msg_…` or a UUID; None when it is neither."""
    return parse_id(text.removeprefix(MESSAGE_PREFIX))


def delivery_id(key: MessageKey) -> str:
    """Return the name of a message to one endpoint: `msg_…/` and the endpoint's id."""
    return f"{public_id(key.id)}/{key.endpoint_id}"


def read_delivery_id(text: str) -> MessageKey:
    """Parse what `delivery_id` returned."""
    message_id, _, endpoint_id = text.removeprefix(MESSAGE_PREFIX).partition("/")
    return MessageKey(UUID(message_id), UUID(endpoint_id))


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
    """Return the Standard Webhooks headers of an attempt at `now`.

    During a rotation the previous secret signs too, so that a receiver may deploy the new one at
    any time.
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
    """Raise ValidationError with every invalid field of an endpoint and the reason."""
    errors: list[FieldError] = []
    fault = fault_of_url(url, allow_private=allow_private)
    if fault is not None:
        errors.append(_error("url", fault))
    unknown = sorted(set(types) - set(MessageType))
    if unknown:
        errors.append(_error("types", f"{', '.join(map(repr, unknown))}: no such type"))
    if description is not None and not (
        len(description) <= DESCRIPTION_LENGTH_MAX and is_printable(description)
    ):
        errors.append(
            _error("description", f"at most {DESCRIPTION_LENGTH_MAX} printable characters")
        )
    if errors:
        summary = "; ".join(f"{error['loc'][-1]}: {error['msg']}" for error in errors)
        raise ValidationError(summary, errors=errors)


def _error(name: str, message: str) -> FieldError:
    return {"loc": ["body", name], "msg": message, "type": "value_error"}


def exact(value: Any) -> Any:
    """Return data that JSON and PostgreSQL accept: exact numbers for Decimals, text without NUL.

    Text may come from a payment; PostgreSQL would refuse a NUL and abort the caller's transaction.
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
    """Return the wait after this attempt: from 5 s to 24 h, ±10 %.

    `random` is a number from 0 to 1; the jitter spreads messages that failed together.
    """
    seconds = BACKOFF_SECONDS[min(attempts, len(BACKOFF_SECONDS)) - 1]
    return timedelta(seconds=seconds * (1 + JITTER * (2 * random - 1)))


def is_success(response: DeliveryResponse) -> bool:
    """Whether the receiver accepted the message: 2xx, and nothing else."""
    return response.status is not None and response.status in _SUCCESS


def says_gone(response: DeliveryResponse) -> bool:
    """Whether the receiver answered 410: no more messages."""
    return response.status == HTTPStatus.GONE


def after_attempt(
    message: ClaimedMessage, response: DeliveryResponse, *, now: datetime, random: float
) -> DeliveryOutcome:
    """Decide the outcome of an attempt: delivered, another attempt, or dead.

    The last attempt is made three days after the first, whatever the backoff is by then.
    """
    if is_success(response):
        return DeliveryOutcome(message.key, MessageState.DELIVERED, response.status)
    reason = (response.error or f"the receiver answered {response.status}")[:REASON_LENGTH_MAX]
    deadline = message.since + RETRY_FOR
    if says_gone(response) or now >= deadline:
        return DeliveryOutcome(message.key, MessageState.DEAD, response.status, reason)
    # Never sooner than the first step: clocks that disagree about the deadline must not cause a
    # busy loop.
    first = timedelta(seconds=BACKOFF_SECONDS[0])
    again = max(min(now + backoff(message.attempts, random=random), deadline), now + first)
    return DeliveryOutcome(message.key, MessageState.PENDING, response.status, reason, again)


def for_disabled_endpoint(message: ClaimedMessage) -> DeliveryOutcome:
    """Decide the outcome for a disabled endpoint: dead, without an attempt."""
    reason = "the endpoint is disabled; add it again, then replay"
    return DeliveryOutcome(message.key, MessageState.DEAD, None, reason)
