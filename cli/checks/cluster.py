"""Citus: whether the ledger is on a cluster, and whether its changes are sent to the nodes."""

from __future__ import annotations

from cli.checks.model import Caution, DoctorError, Finding
from cli.checks.postgres import connected
from migrations import runner
from migrations.citus import cluster
from migrations.citus.distribution import DELEGATED, ClusterState, unfinished
from shared.config import Settings

FIX = "prepaid migrate --citus"


async def check_cluster(settings: Settings) -> Finding:
    """Read how far the database is distributed."""
    async with connected(settings) as connection:
        state = await cluster.read_state(connection)
    return cluster_finding(state, runner.function_names())


def cluster_finding(state: ClusterState, functions: list[str]) -> Finding:
    """Say what the state of a cluster means for the processes."""
    if state.version is None:
        return "one PostgreSQL, without Citus"
    if not state.is_distributed:
        return Caution(
            f"Citus {state.version} is installed, and the ledger is not distributed", FIX
        )
    left = unfinished(state, functions)
    if coordinated := sorted(set(DELEGATED) - state.delegated):
        raise DoctorError(
            f"Citus {state.version}: delegation is off for {', '.join(coordinated)}, so that each"
            " call takes several remote statements and a commit in two phases",
            FIX,
        )
    if left:
        raise DoctorError(f"Citus {state.version}: not done yet: {', '.join(left)}", FIX)
    return f"Citus {state.version} with {state.nodes} nodes, delegation is on"
