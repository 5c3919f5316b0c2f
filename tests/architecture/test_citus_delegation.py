"""On a cluster, what writes rows of an organization runs on its node, and writes nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from migrations.citus.distribution import DELEGATED, DISTRIBUTED
from migrations.runner import CITUS_FUNCTIONS, FUNCTION_FILES
from shared.db.queries import Queries
from tests.architecture.test_citus_statements import QUERY_FILES
from tests.fixtures.citus_catalog import calls_of, function_texts, reached_functions
from tests.fixtures.sql_blocks import WRITES, Function, called, functions, name_of, parse

if TYPE_CHECKING:
    from shared.db.pool import Connection

ON_A_CLUSTER = function_texts((*FUNCTION_FILES, *CITUS_FUNCTIONS))
# Nothing on a cluster calls them: the batch over many organizations, and one of the last release.
NOT_ON_A_CLUSTER = {"ledger_post_plain", "ledger_announce_expiring"}
# A call that Citus sends to a node: all of an executed statement, in FROM.
EXECUTED = re.compile(r"EXECUTE '([^']*)'")
DELEGATED_CALL = re.compile(r"SELECT \* FROM (\w+)\(\$1(?:, \$\d)*\)")
# A function that does something else on a node: up to ELSE.
GUARDED = re.compile(r"\bBEGIN\s+IF ledger_is_on_a_node\(\) THEN(.*?)\bELSE\b", re.DOTALL)


def tables_written(function: Function) -> set[str]:
    """Return the tables that a function writes itself."""
    return {
        block.node.relation.relname
        for top in function.statements
        for block in top.below()
        if isinstance(block.node, WRITES)
    }


def calls_of_statements() -> set[str]:
    """Return what named statements call: the functions that are executed on the coordinator."""
    return {
        name_of(call)
        for file in QUERY_FILES
        for _, statement in Queries(file).items()
        for top in parse(statement)
        for block in top.below()
        for call in called(block.nodes)
    }


def reached(names: Iterable[str]) -> set[str]:
    return {found for name in names for found in reached_functions(name, ON_A_CLUSTER)}


def reached_on_nodes() -> set[str]:
    """Return what delegated functions call; of one that is guarded, what it calls on a node."""
    on_nodes = {
        name: _on_a_node(function) if GUARDED.search(function.body) else function
        for name, function in ON_A_CLUSTER.items()
    }
    return {found for name in DELEGATED for found in reached_functions(name, on_nodes)}


def _on_a_node(function: Function) -> Function:
    branch = GUARDED.search(function.body)
    assert branch is not None
    text = (
        f"CREATE FUNCTION {function.name}() RETURNS void LANGUAGE plpgsql AS $$"
        f" BEGIN {branch[1]} END $$"
    )
    return functions(text)[0]


async def test_every_function_of_a_cluster_is_read(connection: Connection) -> None:
    """But those that a migration creates: they write nothing."""
    for file in CITUS_FUNCTIONS:
        await connection.execute(file.read_text(encoding="utf-8"))
    rows = await connection.fetch(
        "SELECT p.proname AS name FROM pg_proc AS p"
        " WHERE p.pronamespace = 'public'::regnamespace AND p.prorettype <> 'trigger'::regtype"
        " AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = p.oid AND d.deptype = 'e')"
    )
    assert {row["name"] for row in rows} - set(ON_A_CLUSTER) == {"ledger_chain"}
    assert set(ON_A_CLUSTER) <= {row["name"] for row in rows}


def test_what_writes_rows_of_an_organization_is_delegated_or_called_by_what_is() -> None:
    """Static SQL on the coordinator is a remote statement each, and a commit in two phases."""
    writers = {
        name for name, function in ON_A_CLUSTER.items() if tables_written(function) & {*DISTRIBUTED}
    }
    assert {"ledger_save", "ledger_open_hold", "ledger_end_hold", "ledger_end_holds"} <= writers
    assert writers - reached(DELEGATED) == NOT_ON_A_CLUSTER
    assert writers & reached(calls_of_statements()) == set()


def test_a_delegated_function_is_executed_as_a_whole_statement() -> None:
    """Citus delegates neither static SQL of a function nor `SELECT f()` inside of one."""
    executed = {
        text
        for function in ON_A_CLUSTER.values()
        for text in EXECUTED.findall(function.body)
        if any(name in text for name in DELEGATED)
    }
    calls = [DELEGATED_CALL.fullmatch(text) for text in executed]
    assert {call and call[1] for call in calls} == set(DELEGATED)
    static = {name for name, f in ON_A_CLUSTER.items() if calls_of(f) & set(DELEGATED)}
    assert static - reached(DELEGATED) == set()


def test_a_node_writes_to_no_table_of_the_coordinator_and_notifies_nobody() -> None:
    on_nodes = reached_on_nodes()
    assert {"announce", "wake_recharge_workers", "ledger_save", "ledger_end_hold"} <= on_nodes
    assert {
        name: tables
        for name in on_nodes
        if (tables := tables_written(ON_A_CLUSTER[name]) - {*DISTRIBUTED})
    } == {}
    notifying = {name for name in on_nodes if "pg_notify" in calls_of(ON_A_CLUSTER[name])}
    assert {name for name in notifying if not GUARDED.search(ON_A_CLUSTER[name].body)} == set()
