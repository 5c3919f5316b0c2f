"""Signatures of the console's cookies and forms."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

VALUE_LENGTH_MAX = 4_000


class Signer:
    """Signs short texts with a key that is derived from a secret of this installation.

    All processes with the same secret accept each other's signatures. A purpose is part of what is
    signed, so that a text that is signed for one purpose is refused for another.
    """

    def __init__(self, secret: str) -> None:
        self._key = hmac.digest(secret.encode(), b"prepaid console, version 1", "sha256")

    def sign(self, purpose: str, text: str) -> str:
        """Return the text with its signature, in characters that a cookie may hold."""
        return f"{_encode(text.encode())}.{_encode(self._signature(purpose, text))}"

    def verify(self, purpose: str, signed: str) -> str | None:
        """Return the text of `sign`; None where the signature is not of this text and purpose."""
        if len(signed) > VALUE_LENGTH_MAX:
            return None
        encoded, _, signature = signed.partition(".")
        try:
            text = _decode(encoded).decode()
            given = _decode(signature)
        except (ValueError, binascii.Error):
            return None
        return text if hmac.compare_digest(given, self._signature(purpose, text)) else None

    def token(self, purpose: str, text: str) -> str:
        """Return a token that only who knows the secret can make from the text."""
        return _encode(self._signature(purpose, text))

    def _signature(self, purpose: str, text: str) -> bytes:
        return hmac.digest(self._key, f"{purpose}\0{text}".encode(), hashlib.sha256)


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
