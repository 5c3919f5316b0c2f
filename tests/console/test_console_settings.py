"""The page of the settings in force."""

from __future__ import annotations

import re
from pathlib import Path

from console.pages.settings import masked
from tests.fixtures.console import ConsoleBrowser

ROOT = Path(__file__).parents[2]
# Variables of other programs: the command line, the sandbox, docker-compose.
ELSEWHERE = {
    "PREPAID_APP_ROLE", "PREPAID_HOME", "DEMO", "PREPAID_POSTGRES_BIN", "PREPAID_REDIS_BIN",
    "POSTGRES_PASSWORD", "POSTGRES_APP_PASSWORD", "VALKEY_PASSWORD",
}  # fmt: skip


async def test_every_variable_is_shown_and_no_secret(operator: ConsoleBrowser) -> None:
    page = await operator.get("/console/settings")
    shown = {row[0]: row[1] for row in page.rows("Settings")}
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    named = set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE))
    assert named - ELSEWHERE <= set(shown)
    settings = operator.console.settings
    assert settings.stripe_api_key not in page.html
    assert all(secret not in page.html for secret in settings.stripe_webhook_secrets)
    assert shown["STRIPE_API_KEY"] == "sk_test_…uite masked"
    assert shown["PREPAID_RECONCILE_RATE"] == "20"
    assert shown["PREPAID_EVENT_RETENTION"] == "90 days"


def test_a_masked_secret_keeps_its_kind_and_its_end() -> None:
    assert masked("sk_live_51abcdefghijklmnop") == "sk_live_…mnop"
    assert (
        masked(("whsec_0123456789abcdef", "whsec_fedcba9876543210")) == "whsec_…cdef, whsec_…3210"
    )
    assert masked("postgresql://me:secret@db:5432/prepaid?password=x") == (
        "postgresql://…@db:5432/prepaid"
    )
    assert masked("redis://cache:6379/0") == "redis://cache:6379/0"
    assert masked(None) == "-"
