"""No statement's cost grows with history: plans on skewed data, with fresh and old statistics."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from shared.db.pool import create_pool
from shared.db.queries import Queries, is_queries

if TYPE_CHECKING:
    from shared.db.pool import Connection

ROOT = Path(__file__).parents[2]
QUERY_FILES = sorted(
    file
    for room in ("console", "shared")
    for file in (ROOT / room).rglob("*.sql")
    if is_queries(file)
)

# One organization has nearly all rows of the ledger. PREPAID_PLAN_ROWS=3000000 for a thorough run.
ROWS = int(os.environ.get("PREPAID_PLAN_ROWS", "20000"))
FILL = Path(__file__).with_name("skewed_data.sql")

GROWING = {
    "accounts", "api_keys", "audit_log", "auto_recharges", "budget_counters", "budgets",
    "burn_segments", "credit_grants", "credit_transactions", "holds", "idempotent_requests",
    "metric_samples", "organizations", "outbound_messages",
    "payment_methods", "purchases", "recharge_attempts", "stripe_events", "stripe_invoices",
    "stripe_disputes", "stripe_payments", "usage_breakdowns", "usage_totals",
}  # fmt: skip
# Tables in which one organization may have most of the rows.
GROWING_IN_ONE = {
    "budget_counters", "budgets", "burn_segments", "credit_grants", "credit_transactions", "holds",
    "outbound_messages",
    "recharge_attempts", "stripe_invoices", "stripe_payments", "usage_breakdowns",
    "usage_totals",
}  # fmt: skip

# Indexes with one entry for each organization, or of what is under way and not of what is done.
SMALL = {
    "recharge_attempts_one_live", "recharge_attempts_due", "recharge_attempts_blocked",
    "burn_segments_one_open",
    "payment_methods_one_default", "payment_methods_undescribed", "purchases_closing",
    "purchases_open",
}  # fmt: skip

ON_PURPOSE = "a check or an anchor of the whole ledger reads all of it"
UNTIL_FULL = "reads an organization's rows, newest first, until its page is full"
ONCE = "an organization is erased once, after it is closed"
FEW_BUDGETS = "an organization has 10,000 budgets at most"
# Whether it sorts or walks an index depends on the rows that ANALYZE happens to sample.
BY_THE_SAMPLE = {
    "retention.finished_payloads",
    "pages.of_organization",
    "retention.clear_attempt_details",
    "erasure.erase_attempts",
}
EXCEPTIONS = {
    "verification.verify_grants": ON_PURPOSE,
    "verification.verify_usage": ON_PURPOSE,
    "verification.verify_breakdowns": ON_PURPOSE,
    "verification.verify_terms": ON_PURPOSE,
    "verification.verify_captures": ON_PURPOSE,
    "verification.verify_attempts": ON_PURPOSE,
    "verification.verify_invoices": ON_PURPOSE,
    "verification.fill_terms": ON_PURPOSE,
    "verification.with_unhashed_terms": ON_PURPOSE,
    "verification.heads": ON_PURPOSE,
    "ledger.trial_balance": ON_PURPOSE,
    "samples.credits_outstanding": "adds one number of each account, seldom where there are many",
    "ledger.recent_of_types": UNTIL_FULL,
    "ledger.recent_usage": UNTIL_FULL,
    "pages.burn_order": "skips the grants whose expiration is not posted yet, which takes seconds",
    "pages.of_organization": UNTIL_FULL,
    "ledger.count_filtered": "counts what passes any filter; its caller has a deadline",
    "ledger.count_listed": "adds one number of each organization, for keys of all of them",
    "erasure.customers": ONCE,
    "erasure.messages_left": ONCE,
    "erasure.erase_attempts": ONCE,
    "retention.finished_payloads": "for events of erased organizations alone",
    "organizations.currency_in_use": "runs once, at the start",
    "recharge.overview": "a list for the operator, one row of each organization",
    "inbox.backlog": "counts what is in the rarer states",
    "inbox.pending": "counts what waits",
    "events.claim_undescribed_payment_methods": "reads those without details, a few at a time",
    "budgets.page": FEW_BUDGETS,
    "budgets.purge_removed": FEW_BUDGETS,
    "budgets.purge_removed_counters": FEW_BUDGETS,
    "budgets.purge_windows": "deletes counters of windows that have ended, a few at a time",
    "erasure.delete_budgets": ONCE,
    "budgets.count_holds": "counts the active holds of an organization, once for a new budget",
    "idempotency.purge": "deletes what is a week old, a few at a time",
    "clock.expire_top_ups": "looks at an organization's top-ups, which daily limits bound",
    "retention.clear_attempt_details": "clears what is old, once, a few at a time",
    "retention.remove_client_secrets": "takes what an older release stored, once, a few at a time",
}


async def plan_of(connection: Connection, statement: str) -> dict[str, Any]:
    """Return the generic plan of a statement, as it is reused whatever its arguments are."""
    numbers = [int(number) for number in re.findall(r"\$(\d+)", statement)]
    arguments = ", ".join(["NULL"] * max(numbers, default=0))
    await connection.execute(f"PREPARE planned AS {statement.rstrip(';')}")
    try:
        called = f"planned({arguments})" if arguments else "planned"
        row = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE {called}")
    finally:
        await connection.execute("DEALLOCATE planned")
    plan: dict[str, Any] = json.loads(row)[0]["Plan"]
    return plan


def faults(node: dict[str, Any], *, everything: bool) -> Iterator[str]:
    """Name the nodes that read without a bound. `everything`: whoever is above wants all rows."""
    kind, table = node["Node Type"], node.get("Relation Name")
    if kind == "Limit":
        everything = False
    elif kind in {"Sort", "Aggregate", "WindowAgg", "Hash", "Materialize", "Bitmap Heap Scan"}:
        everything = True
    index = node.get("Index Name", "")
    condition = node.get("Index Cond", "")
    if kind == "Bitmap Index Scan":
        table = next((name for name in GROWING if index.startswith(name)), None)
    if kind == "Seq Scan" and table in GROWING:
        yield f"Seq Scan on {table}"
    if "Index" in kind and table in GROWING:
        columns = set(re.findall(r"\(*(?:\w+\.)?(\w+) (?:=|<|>|<=|>=|IS) ?", condition))
        by_one = columns == {"organization_id"} and table in GROWING_IN_ONE
        if by_one and index not in SMALL and (everything or "Filter" in node):
            yield f"all of an organization by {index}"
        if not condition and everything and index not in SMALL:
            yield f"all of {index}"
    for child in node.get("Plans", []):
        yield from faults(child, everything=everything)


async def test_no_plan_reads_more_than_a_stated_part_of_a_table_that_grows(
    superuser_url: str,
) -> None:
    """R10, R20: whatever the statistics say, and whichever arguments the plan was made for."""
    async with (
        create_pool(superuser_url, size=1, application_name="prepaid-tests") as pool,
        pool.acquire() as connection,
    ):
        found = await faults_of_all(connection)
    unexpected = {name: said for name, said in found.items() if name not in EXCEPTIONS}
    assert unexpected == {}, json.dumps(
        {name: sorted(said) for name, said in unexpected.items()}, indent=1
    )
    unneeded = set(EXCEPTIONS) - set(found) - BY_THE_SAMPLE
    assert unneeded == set(), "these have no faults: they are no exceptions"


async def faults_of_all(connection: Connection) -> dict[str, set[str]]:
    """Fill the tables; return the faults of each statement, with old statistics and fresh ones."""
    found: dict[str, set[str]] = {}
    # Rows that refer to nothing are enough. Only a superuser leaves triggers out.
    await connection.execute("SET session_replication_role = replica; ANALYZE")
    # A sequential scan is then what no index can serve, and not what is better for a small table.
    await connection.execute("SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off")
    for statement in FILL.read_text(encoding="utf-8").split(";"):
        if statement.strip():
            await connection.execute(statement.replace(":rows", str(ROWS)))
    for statistics in ("old", "fresh"):
        if statistics == "fresh":
            await connection.execute("ANALYZE")
        for file in QUERY_FILES:
            for name, statement in Queries(file).items():
                plan = await plan_of(connection, statement)
                for fault in faults(plan, everything=True):
                    found.setdefault(f"{file.parent.name}.{name}", set()).add(
                        f"{fault} ({statistics})"
                    )
    return found


@pytest.mark.parametrize(
    "node",
    [
        {"Node Type": "Seq Scan", "Relation Name": "stripe_events"},
        {
            "Node Type": "Index Scan",
            "Relation Name": "credit_transactions",
            "Index Name": "credit_transactions_by_key",
            "Index Cond": "(organization_id = $1)",
            "Filter": "(seq = $2)",
        },
        {
            "Node Type": "Limit",
            "Plans": [
                {
                    "Node Type": "Sort",
                    "Plans": [
                        {
                            "Node Type": "Index Scan",
                            "Relation Name": "holds",
                            "Index Name": "holds_pkey",
                            "Index Cond": "(h.organization_id = $1)",
                        }
                    ],
                }
            ],
        },
    ],
)
def test_the_rule_sees_what_it_forbids(node: dict[str, Any]) -> None:
    assert list(faults(node, everything=False))
