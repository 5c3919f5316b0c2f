"""The API key of a request, from Bearer or the user name of Basic.

https://docs.stripe.com/api/authentication
"""

import base64
import binascii


def sent_in(header: str | None) -> str:
    """Return the key in an Authorization header, empty if there is none."""
    scheme, _, value = (header or "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""
