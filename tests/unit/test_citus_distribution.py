"""The order in which a database is distributed over a cluster, from every state on the way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pglast import parse_sql

from cli.checks.cluster import cluster_finding
from cli.checks.model import Caution, DoctorError
from migrations import runner
from migrations.citus.distribution import (
    DELEGATED,
    DISTRIBUTED,
    REFERENCE,
    ClusterState,
    Coordinator,
    Kind,
    Step,
    steps,
)
from shared.errors import ConflictError

COORDINATOR = Coordinator("db-0.internal", 5433)
FUNCTIONS = ("ledger_post_organization", "ledger_burn")
NEW = ClusterState(version="14.0-1", nodes=2)


def after(state: ClusterState, step: Step) -> ClusterState:
    """Return the state of a cluster after a step, as Citus documents what it does."""
    name = step.statement.partition("'")[2].partition("'")[0]
    function = name.partition("(")[0]
    match step.statement.partition("(")[0].removeprefix("SELECT "):
        case "create_reference_table":
            assert state.is_distributed or not state.has_coordinator
            changed = replace(state, reference=state.reference | {name})
        case "create_distributed_table":
            assert state.is_distributed or not state.has_coordinator
            changed = replace(state, distributed=state.distributed | {name})
        case "citus_set_coordinator_host":
            changed = replace(state, has_coordinator=True)
        case "replicate_reference_tables":
            assert state.has_coordinator
            changed = replace(state, replicated=state.reference)
        case "create_distributed_function":
            assert function in state.propagated
            changed = replace(state, delegated=state.delegated | {function})
        case "":
            assert step.kind is Kind.FUNCTIONS
            assert set(DISTRIBUTED) <= state.distributed, "their types are not on every node"
            changed = replace(state, propagated=frozenset({*FUNCTIONS, *DELEGATED}))
        case other:
            assert other == "SET citus.enable_unsafe_triggers TO on"
            changed = state
    return changed


def run(state: ClusterState, count: int | None = None) -> ClusterState:
    for step in steps(state, COORDINATOR, FUNCTIONS)[:count]:
        state = after(state, step)
    return state


def test_a_new_cluster_is_distributed_in_the_order_that_works() -> None:
    names = [step.name for step in steps(NEW, COORDINATOR, FUNCTIONS)]
    assert names == [
        *(f"copy {table} to every node" for table in REFERENCE),
        "allow triggers on shards",
        *(f"distribute {table}" for table in DISTRIBUTED),
        "add the coordinator to the metadata",
        "copy reference tables to the coordinator",
        "create the functions on every node",
        *(f"delegate {name}" for name in DELEGATED),
    ]


@pytest.mark.parametrize("done", range(len(steps(NEW, COORDINATOR, FUNCTIONS)) + 1))
def test_a_run_that_was_killed_goes_on_where_it_was(done: int) -> None:
    interrupted = run(NEW, done)
    finished = run(interrupted)
    assert finished == run(NEW)
    assert steps(finished, COORDINATOR, FUNCTIONS) == []
    every = [step.name for step in steps(NEW, COORDINATOR, FUNCTIONS)]
    left = [step.name for step in steps(interrupted, COORDINATOR, FUNCTIONS)]
    assert [name for name in left if name != "allow triggers on shards"] == [
        name for name in every[done:] if name != "allow triggers on shards"
    ]


def test_a_database_without_the_extension_or_without_nodes_is_refused() -> None:
    with pytest.raises(ConflictError, match="CREATE EXTENSION citus"):
        steps(ClusterState(), COORDINATOR, FUNCTIONS)
    with pytest.raises(ConflictError, match="citus_add_node"):
        steps(ClusterState(version="14.0-1"), COORDINATOR, FUNCTIONS)


def test_a_cluster_whose_coordinator_was_added_first_is_refused() -> None:
    early = replace(NEW, has_coordinator=True)
    with pytest.raises(ConflictError, match=r"budgets.* is not distributed yet.*citus_remove_node"):
        steps(early, COORDINATOR, FUNCTIONS)


@pytest.mark.parametrize("table", [*DISTRIBUTED[1:], *REFERENCE])
def test_a_table_of_a_later_release_is_distributed_with_the_coordinator_in_the_metadata(
    table: str,
) -> None:
    done = run(NEW)
    old = replace(
        done,
        distributed=done.distributed - {table},
        reference=done.reference - {table},
        replicated=done.replicated - {table},
    )
    names = [step.name for step in steps(old, COORDINATOR, FUNCTIONS)]
    assert run(old) == done
    expected = f"distribute {table}" if table in DISTRIBUTED else f"copy {table} to every node"
    assert expected in names
    assert "add the coordinator to the metadata" not in names


def test_each_step_is_a_statement_of_postgresql() -> None:
    taken = steps(NEW, Coordinator("it's", 1), FUNCTIONS)
    texts = [step.text() for step in taken if step.kind is Kind.STATEMENT]
    assert len(parse_sql(";".join(texts))) == len(texts)
    assert "SELECT citus_set_coordinator_host('it''s', 1)" in texts


def test_the_script_of_a_cluster_creates_its_functions_after_the_tables_are_distributed() -> None:
    script = runner.script(coordinator=COORDINATOR)
    places = [
        script.index("CREATE TABLE accounts"),
        script.index("create_distributed_table('accounts'"),
        script.index("citus_set_coordinator_host('db-0.internal', 5433)"),
        script.index("replicate_reference_tables('block_writes')"),
        script.index("CREATE OR REPLACE FUNCTION ledger_post_on_node"),
        script.index("create_distributed_function('ledger_post_on_node"),
    ]
    assert places == sorted(places)
    assert "citus" not in runner.script().lower().replace("migrations/citus", "")


def test_the_doctor_says_whether_changes_are_delegated() -> None:
    functions = list(FUNCTIONS)
    assert cluster_finding(ClusterState(), functions) == "one PostgreSQL, without Citus"
    assert isinstance(cluster_finding(NEW, functions), Caution)
    done = run(NEW)
    assert cluster_finding(done, functions) == "Citus 14.0-1 with 2 nodes, delegation is on"
    with pytest.raises(DoctorError, match="delegation is off for ledger_hold_on_node, so"):
        cluster_finding(
            replace(done, delegated=done.delegated - {"ledger_hold_on_node"}), functions
        )
    with pytest.raises(DoctorError, match="copy reference tables to the coordinator"):
        cluster_finding(replace(done, replicated=frozenset()), functions)
