"""What a database lacks to be distributed over a Citus cluster, as statements in their order.

Everything of an organization lies on one shard. What is in neither list of tables stays a plain
table of the coordinator: the inbox needs FOR UPDATE SKIP LOCKED over all its rows, and so do the
outbound messages.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from shared.errors import ConflictError

COLUMN = "organization_id"
# For a session that creates tables: Citus leaves those of the coordinator out of the metadata, even
# where they refer to a reference table.
LOCAL_TABLES_STAY = "SET citus.enable_local_reference_table_foreign_keys TO off"
# The others are stored beside this one: all rows of an organization are on one node.
FIRST = "accounts"
DISTRIBUTED = (
    FIRST,
    "credit_transactions",
    "credit_grants",
    "burn_segments",
    "holds",
    "usage_totals",
    "usage_breakdowns",
    "recharge_attempts",
    "auto_recharges",
    "budgets",
    "budget_counters",
)
REFERENCE = ("organizations", "webhook_endpoints")
# The functions that the coordinator sends to the node of an organization.
DELEGATED = {
    "ledger_hold_on_node": "ledger_hold_on_node(uuid, text, jsonb)",
    "ledger_lock_on_node": "ledger_lock_on_node(uuid, integer)",
    "ledger_post_on_node": "ledger_post_on_node(uuid, jsonb, integer, integer, integer)",
}


@dataclass(frozen=True)
class Coordinator:
    """The address under which the nodes of a cluster reach its coordinator."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether the address leads each machine to itself."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Return whether a host names the machine that uses the name: `localhost`, or a socket."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.lower().rstrip(".")
        return name in {"", "localhost"} or name.endswith(".localhost") or name.startswith("/")
    return address.is_loopback or address.is_unspecified


@dataclass(frozen=True)
class ClusterState:
    """How far a database is distributed, as the catalog of Citus says.

    `has_remote_nodes`: a node is on another machine than the coordinator.
    `replicated` are the reference tables that the coordinator has a copy of; `propagated`
    and `delegated` the functions that every node has, and those that are sent to a node.
    """

    version: str | None = None
    nodes: int = 0
    has_remote_nodes: bool = False
    has_coordinator: bool = False
    distributed: frozenset[str] = frozenset()
    reference: frozenset[str] = frozenset()
    replicated: frozenset[str] = frozenset()
    propagated: frozenset[str] = frozenset()
    delegated: frozenset[str] = frozenset()

    @property
    def is_distributed(self) -> bool:
        """Whether the ledger is on the shards of a cluster, or on its way there."""
        return FIRST in self.distributed


class Kind(Enum):
    """What a step does: a statement, or the files of functions once more."""

    STATEMENT = "statement"
    FUNCTIONS = "functions"


@dataclass(frozen=True)
class Step:
    """A statement with its arguments, or the creation of all functions."""

    name: str
    statement: str = ""
    arguments: tuple[object, ...] = field(default=())
    kind: Kind = Kind.STATEMENT

    def text(self) -> str:
        """Return the statement with its arguments in it, for a script."""
        text = self.statement
        for place, argument in enumerate(self.arguments, start=1):
            literal = str(argument).replace("'", "''")
            text = text.replace(
                f"${place}", literal if isinstance(argument, int) else f"'{literal}'"
            )
        return text


def steps(state: ClusterState, coordinator: Coordinator, functions: Iterable[str]) -> list[Step]:
    """Return what is left to do, in the order that a cluster needs.

    At first, tables are distributed while the coordinator is not in the metadata: Citus would
    otherwise add the coordinator's own tables, which refer to reference tables, to the metadata
    too. Those that a later release adds follow with LOCAL_TABLES_STAY in force. Functions are
    created again once the types that they take are on every node.

    Raises ConflictError where the extension or the nodes are missing, or where it is too late.
    """
    check(state, coordinator)
    return [*_tables(state), *_coordinator(state, coordinator), *_functions(state, functions)]


def unfinished(state: ClusterState, functions: Iterable[str]) -> list[str]:
    """Return the names of the steps that a database lacks which is distributed, or on its way."""
    anywhere = Coordinator("", 0)
    left = [*_tables(state), *_coordinator(state, anywhere), *_functions(state, functions)]
    return [step.name for step in left]


def check(state: ClusterState, coordinator: Coordinator) -> None:
    """Raise ConflictError where a database cannot be distributed."""
    if state.version is None:
        raise ConflictError(
            "This database has no Citus. Run CREATE EXTENSION citus on every node, then"
            " SELECT citus_add_node('HOST', PORT) on the coordinator for each of the others."
        )
    if state.nodes == 0:
        raise ConflictError(
            "The cluster has no node beside its coordinator: run SELECT citus_add_node('HOST',"
            " PORT) for each."
        )
    if state.has_remote_nodes and coordinator.is_loopback and not state.has_coordinator:
        raise ConflictError(
            f"At {coordinator.host} each node reaches itself, and not the coordinator."
            " Add --coordinator HOST:PORT, an address of the coordinator that every node reaches."
        )
    missing = _missing(state)
    if missing and state.has_coordinator and not state.is_distributed:
        raise ConflictError(
            f"The coordinator is in the metadata, and {', '.join(missing)} is not distributed yet:"
            " Citus would add tables of the coordinator to the metadata too. Remove it with SELECT"
            " citus_remove_node('HOST', PORT), then run this again, which adds it again."
        )


def _missing(state: ClusterState) -> list[str]:
    return [
        *(table for table in REFERENCE if table not in state.reference),
        *(table for table in DISTRIBUTED if table not in state.distributed),
    ]


def _tables(state: ClusterState) -> list[Step]:
    if not _missing(state):
        return []
    reference = [
        Step(f"copy {table} to every node", f"SELECT create_reference_table('{table}')")
        for table in REFERENCE
        if table not in state.reference
    ]
    # The append-only trigger runs on the shards.
    triggers = Step("allow triggers on shards", "SET citus.enable_unsafe_triggers TO on")
    distributed = [
        Step(f"distribute {table}", _distribution(table))
        for table in DISTRIBUTED
        if table not in state.distributed
    ]
    return [*reference, triggers, *distributed]


def _distribution(table: str) -> str:
    beside = "" if table == FIRST else f", colocate_with => '{FIRST}'"
    return f"SELECT create_distributed_table('{table}', '{COLUMN}'{beside})"


def _coordinator(state: ClusterState, coordinator: Coordinator) -> list[Step]:
    found = []
    if not state.has_coordinator:
        found.append(
            Step(
                "add the coordinator to the metadata",
                "SELECT citus_set_coordinator_host($1, $2)",
                (coordinator.host, coordinator.port),
            )
        )
    if not set(REFERENCE) <= state.replicated:
        found.append(
            Step(
                "copy reference tables to the coordinator",
                "SELECT replicate_reference_tables('block_writes')",
            )
        )
    return found


def _functions(state: ClusterState, functions: Iterable[str]) -> list[Step]:
    found = []
    if not {*functions, *DELEGATED} <= state.propagated:
        found.append(Step("create the functions on every node", kind=Kind.FUNCTIONS))
    found += [
        Step(
            f"delegate {name}",
            f"SELECT create_distributed_function('{signature}', 'p_{COLUMN}',"
            f" colocate_with => '{FIRST}', force_delegation => true)",
        )
        for name, signature in DELEGATED.items()
        if name not in state.delegated
    ]
    return found
