"""Every statement is one that a Citus cluster takes: no rule of its planner refuses it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

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
PAST = [
    pytest.param(statement, id=f"{file.stem}.{name}")
    for file in sorted(REFUSED.glob("*.sql"))
    for name, statement in Queries(file).items()
]


def broken_by(statement: str, catalog: Catalog) -> set[Rule]:
    return {rule for top in parse(statement) for rule in broken_rules(top, catalog)}


@pytest.mark.parametrize("statement", PAST)
async def test_each_statement_that_a_cluster_refused_breaks_a_rule(
    connection: Connection, statement: str
) -> None:
    """Outbound messages were in the metadata of that cluster."""
    catalog = await read_catalog(connection)
    kinds = {**catalog.kinds, "outbound_messages": Kind.DISTRIBUTED}
    assert broken_by(statement, replace(catalog, kinds=kinds))


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
    own = function_texts((*FUNCTION_FILES, CITUS_FUNCTIONS))
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
