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
    group = parser.getgroup("roles of the database")
    group.addoption(
        "--database-roles",
        choices=["restricted", "superuser"],
        default="restricted",
        help="restricted (the default): the database has an owner that is no superuser, and"
        " processes have the role that migrations/grants.sql makes for them; superuser: one role"
        " for all",
    )
    group = parser.getgroup("random runs of auto-recharge")
    group.addoption("--recharge-seed", type=int, default=0, help="the first seed (0)")
    group.addoption("--recharge-runs", type=int, default=1000, help="how many seeds (1000)")
