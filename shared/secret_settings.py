"""The settings that are secrets, and what is refused as a placeholder."""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qs

# After its prefix. Stripe's own are longer.
SECRET_CHARACTERS_MIN = 16
SECRET_DISTINCT_CHARACTERS_MIN = 5
_PLACEHOLDERS = ("changeme", "replaceme", "placeholder", "example")


def stripe_key(text: str) -> str:
    """Set it to a whole secret or restricted key: sk_test_…, sk_live_…, rk_test_… or rk_live_…."""
    prefixes = ("sk_test_", "sk_live_", "rk_test_", "rk_live_")
    if not (text.startswith(prefixes) and is_secret(text[len(prefixes[0]) :])):
        raise ValueError
    return text


def webhook_secrets(text: str) -> tuple[str, ...]:
    """Set it to the endpoint's whole whsec_…; several, separated by commas, while one rotates."""
    secrets = tuple(part.strip() for part in text.split(",") if part.strip())
    prefix = "whsec_"
    if not secrets or not all(
        secret.startswith(prefix) and is_secret(secret.removeprefix(prefix)) for secret in secrets
    ):
        raise ValueError
    return secrets


def optional_token(text: str) -> str | None:
    """Set it to 16 or more random characters without spaces, or leave it empty for no token."""
    if text and (not is_secret(text) or not text.isprintable() or " " in text):
        raise ValueError
    return text or None


def is_secret(random: str) -> bool:
    """Whether the part after a secret's prefix looks real: neither short nor a placeholder."""
    return (
        len(random) >= SECRET_CHARACTERS_MIN
        and len(set(random)) >= SECRET_DISTINCT_CHARACTERS_MIN
        and random.isascii()
        and not random.startswith("your_")
        and not is_placeholder(random)
    )


def is_placeholder(text: str) -> bool:
    """Whether a secret contains a word that examples use."""
    plain = text.lower().replace("_", "").replace("-", "")
    return any(word in plain for word in _PLACEHOLDERS)


def has_placeholder(url: SplitResult) -> bool:
    """Whether a password of an address is a placeholder."""
    passwords = [url.password or "", *parse_qs(url.query).get("password", [])]
    return any(is_placeholder(password) for password in passwords)
