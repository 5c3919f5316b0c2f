"""The settings of the merchant whom customers see on the pay page, and how each is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from shared.printable import is_printable

NAME_CHARACTERS_MAX = 80
URL_CHARACTERS_MAX = 2000
_COLOUR = re.compile(r"#[0-9a-f]{6}")
# A local part and a host: what a mailto: link takes without escapes.
_EMAIL = re.compile(r"[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
_UNSAFE_IN_URLS = re.compile(r"[\s\"'<>\\^`{|}]|[^!-~]")


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantSettings:
    """Who sells the credits. Each may be missing.

    `logo` and `return_url` are https URLs, `colour` is #rrggbb in lower case, and `support` is an
    e-mail address or an https URL.
    """

    name: str | None = None
    logo: str | None = None
    colour: str | None = None
    support: str | None = None
    return_url: str | None = None


def name(text: str) -> str | None:
    """Set it to a name of at most 80 printable characters, or leave it empty."""
    if len(text) > NAME_CHARACTERS_MAX or not is_printable(text):
        raise ValueError
    return text or None


def https_url(text: str) -> str | None:
    """Set it to a whole https:// URL, such as https://example.com/logo.svg, or leave it empty."""
    return _https_url(text) if text else None


def colour(text: str) -> str | None:
    """Set it to a colour as # and six hexadecimal digits, such as #4338ca, or leave it empty."""
    if text and not _COLOUR.fullmatch(text.lower()):
        raise ValueError
    return text.lower() or None


def support(text: str) -> str | None:
    """Set it to an e-mail address or an https:// URL for help, or leave it empty."""
    if not text or _EMAIL.fullmatch(text):
        return text or None
    return _https_url(text)


def _https_url(text: str) -> str:
    url = urlsplit(text)
    if (
        url.scheme != "https"
        or len(text) > URL_CHARACTERS_MAX
        or _UNSAFE_IN_URLS.search(text)
        or "@" in url.netloc
        or not _HOST.fullmatch(url.hostname or "")
    ):
        raise ValueError
    _ = url.port  # raises ValueError where it is no number
    return text
