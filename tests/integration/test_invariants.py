"""Each invariant is seen to fail when its fact is broken, and names the row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import structlog
from prometheus_client import REGISTRY

from shared.invariants import service, store
from shared.invariants.catalog import BY_NAME, INVARIANTS
from tests.fixtures.invariants import (
    AT_ONCE,
    OLD,
    PROBLEM_VERIFICATION,
    SUSPENSION,
    UNFINISHED_VERIFICATION,
    WRONG_BUDGET,
    attempt,
    check,
    event,
    results,
)
from tests.fixtures.ledger import grant, hold, post, tampering, usage
from tests.fixtures.product import create_organization, payment, receive
from worker.invariant_checker import InvariantChecker

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from worker.drainer import Drainer

MESSAGE = """
INSERT INTO webhook_endpoints (id, url, secret, types)
VALUES (
    '019a0000-0000-7000-8000-00000000000e', 'https://app.example.com',
    'whsec_' || repeat('A', 32), '{}'
);
INSERT INTO outbound_messages (id, endpoint_id, organization_id, type, payload, available_at)
SELECT
    '019a0000-0000-7000-8000-00000000000b', '019a0000-0000-7000-8000-00000000000e', id,
    'credits.low', '{}', now() - interval '70 minutes'
FROM organizations
"""
PURCHASE = """
INSERT INTO purchases (id, organization_id, amount_minor, currency, closes_at)
SELECT '019a0000-0000-7000-8000-00000000000c', id, 100, 'usd', now() - interval '70 minutes'
FROM organizations
"""
STALE_VERIFICATION = """
INSERT INTO ledger_verifications (id, whole, after_organization_id, finished_at)
SELECT gen_random_uuid(), FALSE, id, now() - interval '3 days' FROM organizations
"""
ORGANIZATION = "organizationId"
EXPIRE = f"UPDATE accounts SET next_due_at = {OLD}"  # noqa: S608 - a constant

# Of each: what breaks it, and what its example must name.
BREAKS = [
    ("zero_sum", "UPDATE accounts SET balance = balance + 1", "the rows add up to", ORGANIZATION),
    ("zero_sum", "UPDATE credit_transactions SET amount = 99 WHERE seq = 2", "rows", ORGANIZATION),
    ("balances", "UPDATE accounts SET balance = balance + 1", "of the last row", ORGANIZATION),
    ("balances", "UPDATE accounts SET held = held + 1", "held", ORGANIZATION),
    ("balances", "UPDATE credit_grants SET remaining = 0", "left of the grants", ORGANIZATION),
    ("balances", "UPDATE holds SET amount = amount + 1", "held", ORGANIZATION),
    ("payments_credited", "UPDATE stripe_payments SET credits = 11", "pi_1", "transactionId"),
    (
        "payments_credited",
        attempt("succeeded", due="now()", charged="now()"),
        "019a0000-0000-7000-8000-00000000000a",
        ORGANIZATION,
    ),
    ("budget_counters", WRONG_BUDGET, "has counted 3", ORGANIZATION),
    ("ledger", PROBLEM_VERIFICATION, "hash does not fit", "seq"),
    ("ledger", STALE_VERIFICATION, "no verification has ended", "problem"),
    ("ledger", UNFINISHED_VERIFICATION, "no verification has ended", "problem"),
    ("backlog_age", event(f"attempts = 0, available_at = {OLD}"), "due since", "eventId"),
    ("events_on_time", event(f"attempts = 3, available_at = {OLD}"), "due since", "eventId"),
    (
        "events_on_time",
        event(f"attempts = 1, lease_token = gen_random_uuid(), available_at = {OLD}"),
        "due since",
        "eventId",
    ),
    ("attempts_on_time", attempt("charging", due=OLD, charged="now()"), "charging", "attemptId"),
    (
        "attempts_on_time",
        attempt("unknown", due="now()", charged="now() - interval '27 hours'"),
        "unknown",
        "attemptId",
    ),
    (
        "attempts_on_time",
        attempt("processing", due="now()", charged="now() - interval '31 days'"),
        "processing",
        "attemptId",
    ),
    (
        "attempts_on_time",
        attempt(
            "requires_action", due="now()", charged="now()", link="now() - interval '3 hours'"
        ),
        "requires_action",
        "attemptId",
    ),
    ("messages_on_time", MESSAGE, "endpoint", "messageId"),
    ("expirations_on_time", EXPIRE, "due since", ORGANIZATION),
    ("purchases_on_time", PURCHASE, "should have expired", "purchaseId"),
    ("suspensions_on_time", SUSPENSION, "cap", ORGANIZATION),
]  # fmt: skip


@pytest.fixture
async def history(pool: Pool, drainer: Drainer, organization: Organization) -> None:
    """Post a payment, a grant, usage and a hold."""
    await receive(pool, payment("1"))
    await drainer.drain()
    await post(pool, grant(organization, 5), usage(organization, 3))
    await hold(pool, organization, 2)


@pytest.mark.usefixtures("history")
async def test_every_invariant_holds_where_nothing_is_broken(pool: Pool) -> None:
    await InvariantChecker(pool).check()
    found = await results(pool)
    assert set(found) == {invariant.name for invariant in INVARIANTS}
    assert {name: result.example for name, result in found.items() if not result.ok} == {}


def test_each_invariant_is_broken_by_a_test() -> None:
    assert {name for name, *_ in BREAKS} == set(BY_NAME)


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize(
    ("name", "statement", "problem", "names"), BREAKS, ids=[name for name, *_ in BREAKS]
)
async def test_a_broken_fact_is_found_and_its_row_is_named(
    pool: Pool, name: str, statement: str, problem: str, names: str
) -> None:
    async with tampering(pool) as connection:
        await connection.execute(statement)
    with structlog.testing.capture_logs() as logs:
        result = await check(pool, name)
    assert not result.ok
    assert result.violations >= 1
    assert result.example is not None
    assert problem in result.example["problem"]
    assert names in result.example
    assert [line["example"] for line in logs if line["event"] == "invariants.broken"] == [
        result.example
    ]


@pytest.mark.usefixtures("history")
async def test_an_invariant_is_restored_when_its_fact_is_and_says_since_when_it_failed(
    pool: Pool,
) -> None:
    async with tampering(pool) as connection:
        await connection.execute("UPDATE accounts SET held = held + 1")
    first = await check(pool, "balances")
    second = await check(pool, "balances")
    assert first.failing_since is not None
    assert first.failing_since == second.failing_since
    assert second.checked_at > first.checked_at
    async with tampering(pool) as connection:
        await connection.execute("UPDATE accounts SET held = held - 1")
    with structlog.testing.capture_logs() as logs:
        restored = await check(pool, "balances")
    assert (restored.ok, restored.failing_since, restored.example) == (True, None, None)
    assert [line["event"] for line in logs] == ["invariants.restored"]


async def test_accounts_are_checked_a_page_at_a_time_and_a_violation_is_stored_at_once(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners = [await create_organization(pool, f"org-{n}") for n in range(5)]
    for owner in owners:
        await post(pool, grant(owner, 5))
    last = max(owner.id for owner in owners)
    async with tampering(pool) as connection:
        await connection.execute("UPDATE accounts SET held = 1 WHERE organization_id = $1", last)
    monkeypatch.setattr(service, "PAGES_MAX", 1)

    async def check_page() -> Any:
        await service.check(pool, BY_NAME["balances"], pause=AT_ONCE, page_accounts_max=2)
        return (await results(pool)).get("balances")

    assert await check_page() is None  # it holds so far, which is no result yet
    assert await check_page() is None
    broken = await check_page()
    assert (broken.ok, broken.example["organizationId"]) == (False, str(last))
    await check_page()  # the pass ends
    async with tampering(pool) as connection:
        await connection.execute("UPDATE accounts SET held = 0")
    for _ in range(4):
        found = await check_page()
    assert found.ok


async def test_a_page_ends_where_its_accounts_have_many_unverified_rows(
    pool: Pool, organization: Organization
) -> None:
    await create_organization(pool, "other")
    await post(pool, *(grant(organization, 1) for _ in range(3)))
    async with pool.acquire() as connection:
        first = service.FIRST
        both = await store.accounts(connection, first, accounts_max=10, rows_max=4)
        one = await store.accounts(connection, first, accounts_max=10, rows_max=3)
    assert len(both) == 2
    assert len(one) == (1 if both[0] == organization.id else 2)


async def test_of_two_workers_one_checks_an_invariant(pool: Pool) -> None:
    await check(pool, "zero_sum")
    before = await results(pool)
    async with pool.acquire() as connection, connection.transaction():
        assert await store.take(connection, "zero_sum", AT_ONCE) is not None
        await check(pool, "zero_sum")
    assert await results(pool) == before
    await service.check(pool, BY_NAME["zero_sum"])  # it was checked less than a minute ago
    assert await results(pool) == before


@pytest.mark.usefixtures("history")
async def test_a_result_is_a_metric_in_every_process(pool: Pool) -> None:
    async with tampering(pool) as connection:
        await connection.execute("UPDATE accounts SET held = held + 1")
    await InvariantChecker(pool).check()
    await store.measure(pool)
    assert REGISTRY.get_sample_value("prepaid_invariant_ok", {"name": "balances"}) == 0
    assert REGISTRY.get_sample_value("prepaid_invariant_ok", {"name": "zero_sum"}) == 1


async def test_a_check_that_fails_does_not_stop_the_others(pool: Pool) -> None:
    await pool.execute("ALTER TABLE purchases RENAME TO moved")
    with pytest.raises(Exception, match="purchases"):
        await InvariantChecker(pool).check()
    assert set(BY_NAME) - set(await results(pool)) == {"purchases_on_time"}
