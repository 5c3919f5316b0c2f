"""Settings, read once from the environment and checked before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import urlsplit

from shared import merchant_settings, reconcile_settings, secret_settings, sentinel_address
from shared.durations import Duration
from shared.errors import ConfigError
from shared.merchant_settings import MerchantSettings
from shared.money import rate_refusal
from shared.reconcile_settings import ReconcileSettings

T = TypeVar("T")

EXPONENT_MAX = 20
STRIPE_API_BASE_DEFAULT = "https://api.stripe.com"


class LogFormat(StrEnum):
    """How log lines are written: for machines, or for a person at a terminal."""

    JSON = "json"
    CONSOLE = "console"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a process, read from its environment.

    Secrets are fields without `repr`, so that a traceback or a log line cannot show them; the
    console masks them. A field whose variable has another name says it in its metadata.
    """

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    stripe_api_key: str = field(repr=False)
    stripe_webhook_secrets: tuple[str, ...] = field(repr=False)
    stripe_api_base: str = STRIPE_API_BASE_DEFAULT
    stripe_accounts: frozenset[str] = frozenset()
    host: str = "127.0.0.1"
    port: int = 8000
    log_format: LogFormat = LogFormat.JSON
    log_level: str = "INFO"
    credits_per_unit: Decimal = Decimal(1)
    database_pool_size: int = 10
    worker_port: int | None = None
    operations_port: int | None = None
    operations_token: str | None = field(default=None, repr=False)
    lease_seconds: int = 6
    webhooks_allow_private: bool = False
    public_url: str = "http://127.0.0.1:8000"
    requests_per_minute: int = 60_000
    drain_seconds: int = 5
    purchase_min: Decimal = Decimal(1)
    purchase_max: Decimal = Decimal(10_000)
    top_ups_per_day_amount: Decimal = Decimal(10_000)
    top_ups_per_day_count: int = 20
    top_ups_per_day_amount_by_key: Decimal = Decimal(100_000)
    top_ups_per_day_count_by_key: int = 1_000
    credit_customer_payments: bool = False
    purchase_expires: Duration | None = None
    event_retention: Duration | None = None
    message_retention: Duration | None = None
    attempt_detail_retention: Duration | None = None
    tracing: bool = False
    reconcile: ReconcileSettings = field(default_factory=ReconcileSettings)
    merchant: MerchantSettings = field(default_factory=MerchantSettings)
    unpooled_database_url: str | None = field(
        default=None, repr=False, metadata={"variable": "PREPAID_DIRECT_DATABASE_URL"}
    )

    @property
    def pooled(self) -> bool:
        """Whether DATABASE_URL leads through a pooler that shares connections by transaction."""
        return self.unpooled_database_url is not None

    @property
    def direct_database_url(self) -> str:
        """The address of PostgreSQL itself: for what needs a session of its own."""
        return self.unpooled_database_url or self.database_url

    @property
    def livemode(self) -> bool:
        """Whether the Stripe key moves real money."""
        return _key_is_live(self.stripe_api_key)


def load(env: Mapping[str, str]) -> Settings:
    """Read the settings; raise ConfigError, which names the variable and how to correct it."""
    settings = Settings(
        database_url=database_url(env),
        redis_url=_read(env, "REDIS_URL", None, _redis_url),
        stripe_api_key=stripe_access(env)[0],
        stripe_webhook_secrets=_read(
            env, "STRIPE_WEBHOOK_SECRETS", None, secret_settings.webhook_secrets
        ),
        stripe_api_base=stripe_access(env)[1],
        stripe_accounts=_read(env, "PREPAID_STRIPE_ACCOUNTS", "", _account_ids),
        host=_read(env, "HOST", "127.0.0.1", _host),
        port=_read(env, "PORT", "8000", _port),
        log_format=_read(env, "LOG_FORMAT", "json", _log_format),
        log_level=_read(env, "LOG_LEVEL", "INFO", _log_level),
        credits_per_unit=credits_per_unit(env),
        database_pool_size=_read(env, "PREPAID_DATABASE_POOL_SIZE", "10", _pool_size),
        worker_port=_read(env, "PREPAID_WORKER_PORT", "", _optional_port),
        operations_port=_read(env, "PREPAID_OPERATIONS_PORT", "", _optional_port),
        operations_token=_read(env, "PREPAID_OPERATIONS_TOKEN", "", secret_settings.optional_token),
        lease_seconds=_read(env, "PREPAID_LEASE_SECONDS", "6", _lease_seconds),
        webhooks_allow_private=webhooks_allow_private(env),
        public_url=public_url(env),
        requests_per_minute=_read(env, "PREPAID_REQUESTS_PER_MINUTE", "60000", _not_negative),
        drain_seconds=_read(env, "PREPAID_DRAIN_SECONDS", "5", _drain_seconds),
        purchase_min=_read(env, "PREPAID_PURCHASE_MIN", "1", _positive_decimal),
        purchase_max=purchase_max(env),
        **_top_ups_per_day(env),
        tracing=_read(env, "PREPAID_TRACING", "0", _switch),
        credit_customer_payments=_read(env, "PREPAID_CREDIT_CUSTOMER_PAYMENTS", "0", _switch),
        purchase_expires=_read(env, "PREPAID_PURCHASE_EXPIRES", "", _optional_duration),
        event_retention=_read(env, "PREPAID_EVENT_RETENTION", "P90D", _retention),
        message_retention=_read(env, "PREPAID_MESSAGE_RETENTION", "P90D", _retention),
        attempt_detail_retention=_read(
            env, "PREPAID_ATTEMPT_DETAIL_RETENTION", "P400D", _retention
        ),
        reconcile=ReconcileSettings(
            every=_read(env, "PREPAID_RECONCILE_EVERY", "PT1H", reconcile_settings.interval),
            window=_read(env, "PREPAID_RECONCILE_WINDOW", "PT6H", reconcile_settings.window),
            repair=_read(env, "PREPAID_RECONCILE_REPAIR", "events", reconcile_settings.repair),
            rate=_read(env, "PREPAID_RECONCILE_RATE", "20", reconcile_settings.rate),
        ),
        merchant=_merchant(env),
        unpooled_database_url=_read(env, "PREPAID_DIRECT_DATABASE_URL", "", _optional_database_url),
    )
    _refuse_mixed_modes(settings)
    if settings.purchase_max < settings.purchase_min:
        raise ConfigError(
            "PREPAID_PURCHASE_MAX", "is below PREPAID_PURCHASE_MIN, so that nothing could be bought"
        )
    return settings


def _local_url(env: Mapping[str, str]) -> str:
    return f"http://127.0.0.1:{env.get('PORT', '').strip() or '8000'}"


def database_url(env: Mapping[str, str]) -> str:
    """Read DATABASE_URL only, for commands that need nothing else."""
    return _read(env, "DATABASE_URL", None, _database_url)


def direct_database_url(env: Mapping[str, str]) -> str:
    """Read only the address of PostgreSQL itself, around a pooler that DATABASE_URL may name."""
    direct = _read(env, "PREPAID_DIRECT_DATABASE_URL", "", _optional_database_url)
    return direct or database_url(env)


def stripe_access(env: Mapping[str, str]) -> tuple[str, str]:
    """Read only STRIPE_API_KEY and STRIPE_API_BASE."""
    return (
        _read(env, "STRIPE_API_KEY", None, secret_settings.stripe_key),
        _read(env, "STRIPE_API_BASE", STRIPE_API_BASE_DEFAULT, _http_url),
    )


def credits_per_unit(env: Mapping[str, str]) -> Decimal:
    """Read only how many credits a currency unit buys.

    Raises ConfigError where a cent would buy a part of the last decimal.
    """
    rate = _read(env, "PREPAID_CREDITS_PER_UNIT", "1", _positive_decimal)
    # US dollars stand for every currency of two decimals or none. A finer one is checked where
    # an organization has it.
    if refusal := rate_refusal("usd", rate):
        raise ConfigError("PREPAID_CREDITS_PER_UNIT", refusal)
    return rate


def purchase_max(env: Mapping[str, str]) -> Decimal:
    """Read only the maximum of one charge, in whole units of the currency."""
    return _read(env, "PREPAID_PURCHASE_MAX", "10000", _positive_decimal)


def _top_ups_per_day(env: Mapping[str, str]) -> dict[str, Any]:
    """Read the daily limits of top-ups: one charge as large as may be, and ten times it by key."""
    most, name = purchase_max(env), "PREPAID_TOP_UPS_PER_DAY"
    return {
        "top_ups_per_day_amount": _read(env, f"{name}_AMOUNT", str(most), _amount),
        "top_ups_per_day_count": _read(env, f"{name}_COUNT", "20", _not_negative),
        "top_ups_per_day_amount_by_key": _read(
            env, f"{name}_AMOUNT_BY_KEY", str(10 * most), _amount
        ),
        "top_ups_per_day_count_by_key": _read(env, f"{name}_COUNT_BY_KEY", "1000", _not_negative),
    }


def _merchant(env: Mapping[str, str]) -> MerchantSettings:
    return MerchantSettings(
        name=_read(env, "PREPAID_MERCHANT_NAME", "", merchant_settings.name),
        logo=_read(env, "PREPAID_MERCHANT_LOGO", "", merchant_settings.https_url),
        colour=_read(env, "PREPAID_MERCHANT_COLOUR", "", merchant_settings.colour),
        support=_read(env, "PREPAID_MERCHANT_SUPPORT", "", merchant_settings.support),
        return_url=_read(env, "PREPAID_MERCHANT_RETURN_URL", "", merchant_settings.https_url),
    )


def public_url(env: Mapping[str, str]) -> str:
    """Read only the public URL of this installation."""
    return _read(env, "PREPAID_PUBLIC_URL", _local_url(env), _http_url)


def webhooks_allow_private(env: Mapping[str, str]) -> bool:
    """Read only whether messages may use http and private addresses."""
    return _read(env, "PREPAID_WEBHOOKS_ALLOW_PRIVATE", "0", _switch)


def _refuse_mixed_modes(settings: Settings) -> None:
    # Stripe's own secrets do not say their mode; those that do (the sandbox's whsec_test_…, and
    # any that an operator marks the same way) must agree with the key. What cannot be seen here
    # is caught later: an event of the other mode is quarantined.
    wrong = "whsec_test_" if settings.livemode else "whsec_live_"
    if any(secret.startswith(wrong) for secret in settings.stripe_webhook_secrets):
        key, secret = ("live", "test") if settings.livemode else ("test", "live")
        raise ConfigError(
            "STRIPE_WEBHOOK_SECRETS",
            f"a {secret} secret beside a {key} STRIPE_API_KEY; take both from the same mode",
        )
    if settings.livemode and not settings.public_url.startswith("https://"):
        raise ConfigError(
            "PREPAID_PUBLIC_URL",
            "a live STRIPE_API_KEY needs https, since links to payments are secrets. Set it to the"
            " https:// address at which customers reach this installation",
        )
    if settings.livemode and settings.stripe_api_base != STRIPE_API_BASE_DEFAULT:
        raise ConfigError(
            "STRIPE_API_BASE", "a stand-in is refused with a live STRIPE_API_KEY; unset one of them"
        )


def _read(env: Mapping[str, str], name: str, default: str | None, parse: Callable[[str], T]) -> T:
    value = env.get(name, "").strip()
    if not value and default is None:
        raise ConfigError(name, f"is missing. {parse.__doc__}")
    try:
        return parse(value or default or "")
    except (ValueError, InvalidOperation):
        raise ConfigError(name, f"is not valid. {parse.__doc__}") from None


def _key_is_live(key: str) -> bool:
    return key.split("_")[1:2] == ["live"]


def _account_ids(text: str) -> frozenset[str]:
    """List the connected accounts of this installation, as acct_…, separated by commas."""
    accounts = frozenset(part.strip() for part in text.split(",") if part.strip())
    if not all(account.startswith("acct_") for account in accounts):
        raise ValueError
    return accounts


def _database_url(text: str) -> str:
    """Set it to an address such as postgresql://USER@HOST/DATABASE, with a password if need be."""
    url = urlsplit(text)
    if url.scheme not in {"postgresql", "postgres"} or not (url.netloc or url.query):
        raise ValueError
    _ = url.port  # raises ValueError where it is no number
    if secret_settings.has_placeholder(url):
        raise ValueError
    return text


def _optional_database_url(text: str) -> str | None:
    """Set it to the address of PostgreSQL itself, or leave it empty without a pooler."""
    return _database_url(text) if text else None


def _redis_url(text: str) -> str:
    """Set it to redis://HOST:6379/0, rediss:// for TLS, or redis+sentinel://HOST,HOST/MASTER/0."""
    url = urlsplit(text)
    if url.scheme in sentinel_address.SCHEMES:
        if secret_settings.is_placeholder(sentinel_address.parse(text).password or ""):
            raise ValueError
        return text
    if url.scheme not in {"redis", "rediss", "unix"} or not (url.netloc or url.path):
        raise ValueError
    _ = url.port  # raises ValueError where it is no number
    if secret_settings.has_placeholder(url):
        raise ValueError
    return text


def _host(text: str) -> str:
    """Set it to the address to listen on, such as 127.0.0.1 or 0.0.0.0."""
    return text


def _http_url(text: str) -> str:
    """Set it to an http:// or https:// address."""
    url = urlsplit(text)
    if not text.startswith(("http://", "https://")) or not url.hostname:
        raise ValueError
    _ = url.port  # raises ValueError where it is no number
    return text.rstrip("/")


def _port(text: str) -> int:
    """Set it to a port from 0 (any free one) to 65535."""
    port = int(text)
    if not 0 <= port <= 65535:  # noqa: PLR2004 - the range of TCP
        raise ValueError
    return port


def _optional_port(text: str) -> int | None:
    """Set it to a port from 0 to 65535, or leave it empty for no metrics port."""
    return _port(text) if text else None


def _log_format(text: str) -> LogFormat:
    """Set it to json or console."""
    return LogFormat(text.lower())


def _log_level(text: str) -> str:
    """Set it to DEBUG, INFO, WARNING or ERROR."""
    if text.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise ValueError
    return text.upper()


def _positive_decimal(text: str) -> Decimal:
    """Set it to a number above 0, such as 1 or 0.01."""
    number = Decimal(text)
    if not number.is_finite() or number <= 0 or abs(number.adjusted()) > EXPONENT_MAX:
        raise ValueError
    return number


def _amount(text: str) -> Decimal:
    """Set it to a number above 0, or to 0 for no limit."""
    return Decimal(0) if text == "0" else _positive_decimal(text)


def _not_negative(text: str) -> int:
    """Set it to a whole number from 0 (no limit)."""
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def _lease_seconds(text: str) -> int:
    """Set it to a whole number of seconds from 1 to 3600."""
    seconds = int(text)
    if not 1 <= seconds <= 3600:  # noqa: PLR2004 - the sentence above
        raise ValueError
    return seconds


def _drain_seconds(text: str) -> int:
    """Set it to a whole number of seconds from 0 to 600."""
    seconds = int(text)
    if not 0 <= seconds <= 600:  # noqa: PLR2004 - the sentence above
        raise ValueError
    return seconds


def _switch(text: str) -> bool:
    """Set it to 0 or 1."""
    if text not in {"0", "1"}:
        raise ValueError
    return text == "1"


def _optional_duration(text: str) -> Duration | None:
    """Set it to an ISO 8601 duration, such as P1Y or P90D, or leave it empty for none."""
    return Duration.parse(text) if text else None


def _retention(text: str) -> Duration | None:
    """Set it to an ISO 8601 duration, such as P90D, or to forever."""
    return None if text.lower() == "forever" else Duration.parse(text)


def _pool_size(text: str) -> int:
    """Set it to a whole number from 2 to 200."""
    size = int(text)
    if not 2 <= size <= 200:  # noqa: PLR2004 - the sentence above
        raise ValueError
    return size
