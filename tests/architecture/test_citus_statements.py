"""Every statement is one that a Citus cluster takes: no rule of its planner refuses it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from migrations.citus.distribution import DELEGATED
from migrations.runner import CITUS_FUNCTIONS, FUNCTION_FILES
from shared.db.queries import Queries, is_queries
from tests.fixtures.citus_catalog import function_texts, reached_functions, read_catalog
from tests.fixtures.citus_rules import Catalog, Kind, Rule, broken_rules, rules_of_function
from tests.fixtures.sql_blocks import called, name_of, parse

if TYPE_CHECKING:
    from shared.db.pool import Connection

ROOT = Path(__file__).parents[2]
QUERY_FILES = sorted(
    file
    for room in ("console", "shared")
    for file in (ROOT / room).rglob("*.sql")
    if is_queries(file)
)
REFUSED = Path(__file__).with_name("refused_by_citus")
# The rule that the message of Citus was about, by file and statement.
SEEN = {
    "ledger.are_known": Rule.CORRELATED_WITHOUT_A_TABLE,
    "ledger.balances": Rule.CORRELATED_WITHOUT_A_TABLE,
    "ledger.tell_expiring": Rule.LOCKS_MANY_SHARDS,
    "ledger.uses": Rule.QUERY_INSIDE_A_QUERY,
    "notifications.replay": Rule.LOCKS_MANY_SHARDS,
    "notifications.settle": Rule.MUTABLE_IN_CASE,
    "recharge.arm_scheduled": Rule.MUTABLE_IN_CASE,
    "recharge.billing": Rule.LOCAL_CORRELATED,
    "recharge.claim": Rule.LOCKS_MANY_SHARDS,
    "recharge.lock_due": Rule.LOCKS_MANY_SHARDS,
    "recharge.overview": Rule.COMPLEX_LATERAL,
    "recharge.postpone": Rule.MUTABLE_IN_CASE,
    "recharge.record_success": Rule.MUTABLE_WITH_COLUMN,
    "recharge.require_action": Rule.MUTABLE_IN_CASE,
    "recharge.resume": Rule.SIMPLE_CASE,
    "recharge.ring": Rule.MUTABLE_IN_CASE,
    "recharge.save": Rule.MUTABLE_ON_CONFLICT,
}


def broken_by(statement: str, catalog: Catalog) -> set[Rule]:
    return {rule for top in parse(statement) for rule in broken_rules(top, catalog)}


async def test_each_statement_that_a_cluster_refused_breaks_the_rule_of_its_message(
    connection: Connection,
) -> None:
    """Outbound messages were in the metadata of that cluster."""
    catalog = await read_catalog(connection)
    catalog = replace(catalog, kinds={**catalog.kinds, "outbound_messages": Kind.DISTRIBUTED})
    broken = {
        f"{file.stem}.{name}": broken_by(statement, catalog)
        for file in REFUSED.glob("*.sql")
        for name, statement in Queries(file).items()
    }
    assert broken.keys() == SEEN.keys()
    assert {name for name, rule in SEEN.items() if rule not in broken[name]} == set()


async def test_a_table_in_an_arm_of_a_union_counts_for_the_subquery_around_it(
    connection: Connection,
) -> None:
    statement = """
        SELECT p.payment_intent_id, a.id
        FROM stripe_payments AS p
        LEFT JOIN LATERAL (
            SELECT u.id
            FROM (
                SELECT m.id
                FROM recharge_attempts AS m
                WHERE m.payment_intent_id = p.payment_intent_id
                UNION ALL
                SELECT NULL
            ) AS u
        ) AS a ON TRUE
    """
    catalog = await read_catalog(connection)
    assert Rule.CORRELATED_WITHOUT_A_TABLE in broken_by(statement, catalog)


async def test_no_named_statement_is_one_that_citus_refuses(connection: Connection) -> None:
    catalog = await read_catalog(connection)
    refused = {
        f"{file.parent.name}.{name}": sorted(rule.name for rule in rules)
        for file in QUERY_FILES
        for name, statement in Queries(file).items()
        if (rules := broken_by(statement, catalog))
    }
    assert refused == {}


async def test_no_function_that_a_cluster_runs_is_one_that_citus_refuses(
    connection: Connection,
) -> None:
    catalog = await read_catalog(connection)
    own = function_texts((*FUNCTION_FILES, *CITUS_FUNCTIONS))
    statements = [text for file in QUERY_FILES for _, text in Queries(file).items()]
    named = {
        name_of(call)
        for statement in statements
        for top in parse(statement)
        for block in top.below()
        for call in called(block.nodes)
    }
    used = {found for name in named | set(DELEGATED) for found in reached_functions(name, own)}
    refused = {
        name: sorted(rule.name for rule in rules)
        for name in sorted(used)
        if (rules := rules_of_function(own[name], catalog))
    }
    assert refused == {}
