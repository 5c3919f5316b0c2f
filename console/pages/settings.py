"""The settings in force in this process, with secrets masked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from console.framework import formatting
from console.framework.context import Visit
from console.framework.page import get
from shared.durations import Duration
from shared.merchant_settings import MerchantSettings
from shared.reconcile_settings import ReconcileSettings

# Variables that other programs read too, and that have no prefix.
_COMMON = frozenset({
    "database_url", "redis_url", "stripe_api_key", "stripe_webhook_secrets", "stripe_api_base",
    "host", "port", "log_format", "log_level",
})  # fmt: skip
PREFIX = "PREPAID_"
SHOWN_CHARACTERS = 4
_KIND = re.compile(r"(?:[rs]k_(?:test|live)|whsec)_")


@dataclass(frozen=True, slots=True)
class Setting:
    """A variable and its value as text; of a secret, no more than tells it from another."""

    variable: str
    value: str
    is_secret: bool


async def show(visit: Visit) -> web.Response:
    """List the settings."""
    console = visit.console
    return visit.render(
        "settings.html",
        title="Settings",
        settings=sorted(settings_of(console.settings), key=lambda setting: setting.variable),
        livemode=console.settings.livemode,
    )


def settings_of(values: Any, prefix: str = "") -> Iterator[Setting]:
    """Yield the settings of a dataclass; those of a dataclass within it have its name before."""
    for field in fields(values):
        value = getattr(values, field.name)
        name = prefix + field.name
        if isinstance(value, MerchantSettings | ReconcileSettings):
            yield from settings_of(value, f"{name}_")
        else:
            variable = field.metadata.get("variable") or (
                name if name in _COMMON else PREFIX + name
            )
            secret = not field.repr
            yield Setting(variable.upper(), masked(value) if secret else text(value), secret)


def masked(secret: str | tuple[str, ...] | None) -> str:
    """Return what tells a secret from another: its kind and its end, or an address without user."""
    if not secret:
        return text(None)
    if isinstance(secret, tuple):
        return ", ".join(map(masked, secret))
    if "://" in secret:
        url = urlsplit(secret)
        user, _, host = url.netloc.rpartition("@")
        return f"{url.scheme}://{'…@' if user else ''}{host}{url.path}"
    kind = _KIND.match(secret)
    return f"{kind[0] if kind else ''}…{secret[-SHOWN_CHARACTERS:]}"


def text(value: Any) -> str:
    """Return a value as its variable has it."""
    if value is None or value == frozenset():
        return "-"
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, frozenset):
        return ", ".join(sorted(value))
    if isinstance(value, Duration):
        months = f"{value.months} months" if value.months else ""
        return " and ".join(filter(None, [months, text(value.time) if value.time else ""]))
    if isinstance(value, timedelta):
        return formatting.duration(value)
    return str(value)


PAGES = (get("/settings", show),)
