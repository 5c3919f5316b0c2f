"""Settings: what is refused, by which name, and what never shows."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from shared.config import LogFormat, load
from shared.durations import Duration
from shared.errors import ConfigError
from tests.fixtures.product import SECRET_NEW, SECRET_OLD, STRIPE_API_KEY, environment

ENV = environment("postgresql://u:dbpass@localhost/x", "redis://:redispass@localhost/0")
REQUIRED = sorted(name for name, value in ENV.items() if value)
RANDOM = "51H7gV2eZvKYlo2C"  # what Stripe puts after a prefix, and longer
LIVE = {
    "STRIPE_API_KEY": f"sk_live_{RANDOM}",
    "STRIPE_WEBHOOK_SECRETS": f"whsec_{RANDOM}",
    "PREPAID_PUBLIC_URL": "https://credits.example.com",
}


def refusal(**changes: str) -> ConfigError:
    with pytest.raises(ConfigError) as raised:
        load(ENV | changes)
    return raised.value


def test_the_required_variables_are_enough() -> None:
    found = load(ENV)
    assert (found.host, found.port, found.log_format) == ("127.0.0.1", 8000, LogFormat.JSON)
    assert found.credits_per_unit == 1
    assert found.stripe_webhook_secrets == (SECRET_NEW, SECRET_OLD)
    assert found.livemode is False
    assert found.worker_port is None
    assert found.operations_port is None
    assert found.operations_token is None
    assert (found.credit_customer_payments, found.purchase_expires) == (False, None)


@pytest.mark.parametrize("blank", [None, "", "  "])
@pytest.mark.parametrize("variable", REQUIRED)
def test_a_missing_variable_is_named_with_its_mend(variable: str, blank: str | None) -> None:
    env = {name: value for name, value in ENV.items() if name != variable}
    with pytest.raises(ConfigError) as raised:
        load(env if blank is None else env | {variable: blank})
    assert raised.value.variable == variable
    assert raised.value.detail.startswith(f"{variable}: ")
    assert "Set it to" in raised.value.detail
    assert "\n" not in raised.value.detail


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "nonsense"),
        ("DATABASE_URL", "mysql://localhost/x"),
        ("REDIS_URL", "nonsense"),
        ("REDIS_URL", "http://localhost"),
        ("STRIPE_API_KEY", "pk_test_51H7gV2eZvKYlo2C"),
        ("STRIPE_API_KEY", "whsec_51H7gV2eZvKYlo2C"),
        ("STRIPE_API_KEY", "SK_TEST_51H7gV2eZvKYlo2C"),
        ("STRIPE_WEBHOOK_SECRETS", ","),
        ("STRIPE_WEBHOOK_SECRETS", "whsec_51H7gV2eZvKYlo2C,nonsense"),
        ("STRIPE_WEBHOOK_SECRETS", "whsec_51H7gV2eZvKYlo2Cä"),
        ("STRIPE_API_BASE", "localhost:12111"),
        ("STRIPE_API_BASE", "ftp://localhost"),
        ("PREPAID_STRIPE_ACCOUNTS", "cus_1"),
        ("PORT", "http"),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("PORT", "80.5"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "LOUD"),
        ("PREPAID_CREDITS_PER_UNIT", "0"),
        ("PREPAID_CREDITS_PER_UNIT", "-1"),
        ("PREPAID_CREDITS_PER_UNIT", "NaN"),
        ("PREPAID_CREDITS_PER_UNIT", "Infinity"),
        ("PREPAID_CREDITS_PER_UNIT", "many"),
        ("PREPAID_CREDITS_PER_UNIT", "0.00000001"),
        ("PREPAID_CREDITS_PER_UNIT", "0.3333333333"),
        ("PREPAID_CREDITS_PER_UNIT", "1.00000001"),
        ("PREPAID_CREDITS_PER_UNIT", "1e-400"),
        ("PREPAID_CREDITS_PER_UNIT", "1e400"),
        ("PREPAID_DATABASE_POOL_SIZE", "1"),
        ("PREPAID_DATABASE_POOL_SIZE", "201"),
        ("PREPAID_DATABASE_POOL_SIZE", "x"),
        ("PREPAID_WORKER_PORT", "65536"),
        ("PREPAID_OPERATIONS_PORT", "web"),
        ("PREPAID_OPERATIONS_TOKEN", "short"),
        ("PREPAID_OPERATIONS_TOKEN", "with a space and long"),
        ("PREPAID_WEBHOOKS_ALLOW_PRIVATE", "yes"),
        ("PREPAID_PUBLIC_URL", "https://"),
        ("PREPAID_PUBLIC_URL", "https://:443/pay"),
        ("PREPAID_PUBLIC_URL", "https://credits.example.com:x"),
        ("PREPAID_REQUESTS_PER_MINUTE", "-1"),
        ("PREPAID_DRAIN_SECONDS", "-1"),
        ("PREPAID_DRAIN_SECONDS", "601"),
        ("PREPAID_PURCHASE_MIN", "0"),
        ("PREPAID_PURCHASE_MAX", "x"),
        ("PREPAID_PURCHASE_MAX", "0.5"),
        ("PREPAID_CREDIT_CUSTOMER_PAYMENTS", "true"),
        ("PREPAID_PURCHASE_EXPIRES", "1 year"),
        ("PREPAID_PURCHASE_EXPIRES", "P0D"),
        ("PREPAID_EVENT_RETENTION", "90"),
        ("PREPAID_EVENT_RETENTION", "P0D"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(variable: str, value: str) -> None:
    error = refusal(**{variable: value})
    assert error.variable == variable
    assert "\n" not in error.detail


@pytest.mark.parametrize(
    ("key", "secrets"),
    [
        ("sk_live_", "whsec_test_"),
        ("rk_live_", "whsec_live_,whsec_test_"),
        ("sk_test_", "whsec_live_"),
        ("rk_test_", "whsec_test_,whsec_live_"),
    ],
)
def test_a_live_key_beside_a_test_secret_or_the_other_way_round_is_refused(
    key: str, secrets: str
) -> None:
    given = ",".join(prefix + RANDOM for prefix in secrets.split(","))
    error = refusal(STRIPE_API_KEY=key + RANDOM, STRIPE_WEBHOOK_SECRETS=given)
    assert error.variable == "STRIPE_WEBHOOK_SECRETS"


@pytest.mark.parametrize("key", ["sk_live_", "rk_live_"])
def test_a_live_key_at_a_stand_in_is_refused(key: str) -> None:
    changes = LIVE | {"STRIPE_API_KEY": key + RANDOM, "STRIPE_API_BASE": "http://localhost"}
    assert refusal(**changes).variable == "STRIPE_API_BASE"


@pytest.mark.parametrize("url", ["", "http://credits.example.com", "http://127.0.0.1:8000"])
def test_a_live_key_needs_https_where_customers_come(url: str) -> None:
    error = refusal(**LIVE | {"PREPAID_PUBLIC_URL": url})
    assert error.variable == "PREPAID_PUBLIC_URL"
    assert "https://" in error.detail


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("STRIPE_API_KEY", "sk_test_CHANGE_ME"),
        ("STRIPE_API_KEY", "sk_live_"),
        ("STRIPE_API_KEY", "rk_live_x"),
        ("STRIPE_API_KEY", f"sk_test_{RANDOM[:-1]}"),
        ("STRIPE_API_KEY", "sk_test_CHANGE_ME_CHANGE_ME"),
        ("STRIPE_API_KEY", "sk_test_your_stripe_secret_key"),
        ("STRIPE_API_KEY", "sk_test_xxxxxxxxxxxxxxxxxxxxxxxx"),
        ("STRIPE_API_KEY", f"sk_test_{RANDOM}…"),
        ("STRIPE_WEBHOOK_SECRETS", "whsec_CHANGE_ME"),
        ("STRIPE_WEBHOOK_SECRETS", "whsec_"),
        ("STRIPE_WEBHOOK_SECRETS", "whsec_test_new"),
        ("STRIPE_WEBHOOK_SECRETS", "whsec_change-me_change-me"),
        ("STRIPE_WEBHOOK_SECRETS", f"whsec_{RANDOM},whsec_"),
        ("STRIPE_WEBHOOK_SECRETS", f"whsec_{RANDOM},whsec_................"),
        ("DATABASE_URL", "postgresql://prepaid:CHANGE_ME@127.0.0.1:5432/prepaid"),
        ("DATABASE_URL", "postgresql://prepaid@localhost/prepaid?password=changeme"),
        ("REDIS_URL", "redis://:change-me@localhost:6379/0"),
        ("PREPAID_OPERATIONS_TOKEN", "CHANGE_ME_CHANGE_ME"),
        ("PREPAID_OPERATIONS_TOKEN", "xxxxxxxxxxxxxxxxxxxx"),
    ],
)
def test_r4_a_placeholder_and_a_short_secret_are_refused(variable: str, value: str) -> None:
    error = refusal(**{variable: value})
    assert error.variable == variable
    assert "Set it to" in error.detail
    assert "\n" not in error.detail


def test_r4_each_placeholder_of_the_example_is_refused() -> None:
    lines = Path(".env.example").read_text(encoding="utf-8").splitlines()
    given = dict(line.split("=", 1) for line in lines if line[:1].isalpha())
    refused = [name for name in REQUIRED if "CHANGE_ME" in given[name]]
    assert refused == ["DATABASE_URL", "STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRETS"]
    for name in refused:
        assert refusal(**{name: given[name]}).variable == name


@pytest.mark.parametrize(
    ("key", "livemode"),
    [("sk_live_", True), ("rk_live_", True), ("sk_test_", False), ("sk_test_live_", False)],
)
def test_the_key_says_whether_money_moves(key: str, *, livemode: bool) -> None:
    found = load(ENV | LIVE | {"STRIPE_API_KEY": key + RANDOM})
    assert found.livemode is livemode


@pytest.mark.parametrize("variable", ["HOST", "PORT", "LOG_FORMAT", "LOG_LEVEL", "STRIPE_API_BASE"])
def test_an_empty_variable_is_as_good_as_none(variable: str) -> None:
    assert load(ENV | {variable: ""}) == load(ENV)


def test_values_are_read_without_the_spaces_around_them() -> None:
    found = load(
        ENV
        | {
            "STRIPE_WEBHOOK_SECRETS": f" whsec_a{RANDOM} , whsec_b{RANDOM} ,",
            "PREPAID_STRIPE_ACCOUNTS": " acct_1 ,acct_2",
            "PORT": " 80 ",
            "STRIPE_API_BASE": "http://localhost:12111/",
            "PREPAID_CREDITS_PER_UNIT": "0.01",
            "PREPAID_CREDIT_CUSTOMER_PAYMENTS": " 1 ",
            "PREPAID_PURCHASE_EXPIRES": " P1Y ",
        }
    )
    assert found.stripe_webhook_secrets == (f"whsec_a{RANDOM}", f"whsec_b{RANDOM}")
    assert found.stripe_accounts == {"acct_1", "acct_2"}
    assert (found.port, found.stripe_api_base) == (80, "http://localhost:12111")
    assert found.credits_per_unit == Decimal("0.01")
    assert found.credit_customer_payments is True
    assert found.purchase_expires == Duration(months=12)


@pytest.mark.parametrize("secret", ["dbpass", "redispass", STRIPE_API_KEY, SECRET_NEW, SECRET_OLD])
def test_settings_do_not_show_their_secrets(secret: str) -> None:
    assert secret not in repr(load(ENV))


@pytest.mark.parametrize("variable", REQUIRED)
def test_a_refusal_does_not_repeat_the_value(variable: str) -> None:
    for value in ("topsecret", "sk_wrong_topsecret"):
        try:
            load(ENV | {variable: value})
        except ConfigError as error:
            assert "topsecret" not in str(error)  # noqa: PT017 - a value may also be accepted


@pytest.mark.parametrize("rate", ["0.0000001", "0.3333333", "100", "1e3"])
def test_a_rate_at_which_a_cent_buys_whole_decimals_is_taken(rate: str) -> None:
    assert load(ENV | {"PREPAID_CREDITS_PER_UNIT": rate}).credits_per_unit == Decimal(rate)


def test_a_rate_that_is_too_fine_says_which_is_not() -> None:
    detail = refusal(PREPAID_CREDITS_PER_UNIT="0.00000001").detail
    assert "0.01 USD" in detail
    assert "a multiple of 0.0000001." in detail
