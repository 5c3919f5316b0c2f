"""Stripe's webhook signature: the check that a delivery comes from Stripe, now, unchanged.

The header is checked first, alone: a delivery that cannot be Stripe's is refused before its body is
read. Source: https://docs.stripe.com/webhooks#verify-manually
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from shared.errors import InvalidRequestError
from shared.payments.library import stripe

TOLERANCE_SECONDS = 300
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def check_header(header: str | None, *, unix_now: int) -> str:
    """Return a well-formed header whose timestamp is within 300 s of now, before or after.

    Raises InvalidRequestError (400). The timestamp is not proven until the body is verified: the
    signature covers both.
    """
    if not header:
        raise InvalidRequestError("The Stripe-Signature header is missing.")
    timestamp = None
    signed = False
    for part in header.split(","):
        name, _, value = part.partition("=")
        if name == "v1":
            signed = signed or _DIGEST.fullmatch(value) is not None
        elif name == "t" and timestamp is None:
            timestamp = value
    if not signed or timestamp is None or not _TIMESTAMP.fullmatch(timestamp):
        raise InvalidRequestError("The Stripe-Signature header is malformed.")
    age_seconds = unix_now - int(timestamp)
    if abs(age_seconds) > TOLERANCE_SECONDS:
        direction = "old" if age_seconds > 0 else "far in the future"
        raise InvalidRequestError(f"The Stripe-Signature timestamp is too {direction}.")
    return header


def verify(body: bytes, header: str, secrets: Iterable[str]) -> None:
    """Return if any of the secrets signed this body; the comparison takes constant time.

    Several secrets are tried while one rotates. Raises InvalidRequestError (400), whose text
    helps the operator and reveals nothing about the secrets.
    """
    try:
        payload = body.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequestError("The body is not UTF-8.") from None
    if not any(_is_signed_by(secret, payload, header) for secret in secrets):
        raise InvalidRequestError("The Stripe-Signature header does not match the body.")


def _is_signed_by(secret: str, payload: str, header: str) -> bool:
    try:
        return bool(stripe.WebhookSignature.verify_header(payload, header, secret))
    except (stripe.SignatureVerificationError, TypeError):  # TypeError: another part is not ASCII
        return False
