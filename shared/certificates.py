"""What to do where Redis' certificate is refused."""

from __future__ import annotations

# Source: the reason of OpenSSL that every error of a certificate carries in its text.
_REFUSED = "CERTIFICATE_VERIFY_FAILED"
FIX = (
    "set REDIS_URL to the host that the certificate is valid for, with ?ssl_ca_certs=FILE where a"
    " CA of your own has signed it"
)


def fix_of(error: BaseException) -> str | None:
    """Return what to do about a refused certificate; None: the error is another one."""
    return FIX if _REFUSED in str(error) else None
