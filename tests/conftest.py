import os

import pytest

from tests.fixtures.profile import cases

# What takes longest, begun first: at the end it would run alone. Files are handed out whole, in
# this order where --no-loadscope-reorder is given.
LONGEST_FILES = (
    "test_api_under_fuzzing.py",
    "test_chaos.py",
    "test_recharge_random_runs.py",
    "test_ingest_faults.py",
    "test_hostile_bodies.py",
    "test_hostile_headers.py",
    "test_hostile_queries.py",
    "test_documented_answers.py",
    "test_tenancy.py",
    "test_ledger_against_a_model.py",
    "test_docs.py",
    "test_sales_against_a_model.py",
    "test_recharge_killed.py",
    "test_recharge_faults.py",
    "test_embedded_servers.py",
    "test_worker_stopped.py",
    "test_sentinel_failover.py",
    "test_redis_tls.py",
    "test_runbook_faults.py",
    "test_connection_limit.py",
    "test_console_walk.py",
    "test_attack.py",
    "test_bounded_refusals.py",
)

# Each process of the suite has a PostgreSQL and a Valkey.
PROCESSES_MAX = 4

pytest_plugins = [
    "tests.fixtures.certificates",
    "tests.fixtures.forked_processes",
    "tests.fixtures.logs",
    "tests.fixtures.stripe_contract",
    "tests.fixtures.servers",
    "tests.fixtures.product",
    "tests.fixtures.citus_cluster",
    "tests.fixtures.pooler",
    "tests.fixtures.commands",
    "tests.fixtures.dumps",
    "tests.fixtures.api",
    "tests.fixtures.console",
    "tests.fixtures.operation_requests",
    "tests.fixtures.operation_things",
    "tests.fixtures.operation_refusals",
    "tests.fixtures.ledger_model",
    "tests.fixtures.operations",
    "tests.fixtures.operation_tenants",
    "tests.fixtures.operation_world",
    "tests.fixtures.receiver",
    "tests.fixtures.recharging",
    "tests.fixtures.crash_points",
    "tests.fixtures.storefront",
    "tests.fixtures.stripe_answers",
    "tests.fixtures.webhook_deliveries",
    "tests.fixtures.worker_loops",
]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many processes `-n auto` starts: one more than cores, since tests also wait."""
    return min((os.cpu_count() or 1) + 1, PROCESSES_MAX)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {name: rank for rank, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))


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
    group.addoption(
        "--template-database",
        help="a database with the schema, on servers that are given, to clone instead of a new one",
    )
    group = parser.getgroup("random runs of auto-recharge")
    group.addoption("--recharge-seed", type=int, default=0, help="the first seed (0)")
    runs = cases(quick=100, thorough=500)
    group.addoption("--recharge-runs", type=int, default=runs, help=f"how many seeds ({runs})")
    group = parser.getgroup("crash points")
    group.addoption(
        "--crash-rounds", type=int, default=1, help="how often to kill a process at each step (1)"
    )
