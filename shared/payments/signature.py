"""Stripe's webhook signature: the check that a delivery comes from Stripe, now, unchanged.

Source: https://docs.stripe.com/webhooks#verify-manually
"""

from __future__ import annotations

from collections.abc import Iterable

from stripe import SignatureVerificationError, WebhookSignature

from shared.errors import InvalidRequestError

TOLERANCE_SECONDS = 300

# stripe-python raises these, besides its own error, on headers that nobody honest sends, such as a
# signature that is not ASCII (TypeError) or has a lone surrogate (UnicodeError, a ValueError).
_HOSTILE = (SignatureVerificationError, ValueError, TypeError, AttributeError)


def verify(payload: str, header: str | None, secrets: Iterable[str], *, unix_now: int) -> None:
    """Return if any of the secrets signed this payload within 300 s of now, before or after.

    Several secrets are tried while one rotates. Raises InvalidRequestError (400), whose text tells
    the operator what is wrong and nothing about the secret.
    """
    if not header:
        raise InvalidRequestError("The Stripe-Signature header is missing.")
    if not any(_is_signed_by(secret, payload, header) for secret in secrets):
        raise InvalidRequestError("The Stripe-Signature header does not match the body.")
    age_seconds = unix_now - _timestamp(header)
    if abs(age_seconds) > TOLERANCE_SECONDS:
        direction = "old" if age_seconds > 0 else "far in the future"
        raise InvalidRequestError(f"The Stripe-Signature timestamp is too {direction}.")


def _is_signed_by(secret: str, payload: str, header: str) -> bool:
    try:
        return bool(WebhookSignature.verify_header(payload, header, secret))
    except _HOSTILE:
        return False


def _timestamp(header: str) -> int:
    # The header has been verified: it carries a timestamp, and the first one is what was signed.
    parts = (part.split("=", 2) for part in header.split(","))
    return next(int(part[1]) for part in parts if part[0] == "t")
