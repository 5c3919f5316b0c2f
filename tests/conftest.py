import pytest

pytest_plugins = [
    "tests.fixtures.stripe_contract",
    "tests.fixtures.servers",
    "tests.fixtures.product",
    "tests.fixtures.api",
    "tests.fixtures.operations",
    "tests.fixtures.receiver",
    "tests.fixtures.recharging",
    "tests.fixtures.storefront",
    "tests.fixtures.stripe_answers",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("random runs of auto-recharge")
    group.addoption("--recharge-seed", type=int, default=0, help="the first seed (0)")
    group.addoption("--recharge-runs", type=int, default=1000, help="how many seeds (1000)")
