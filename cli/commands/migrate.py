"""prepaid migrate: up, status, sql."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from cli.database import database_url
from cli.environment import environment
from cli.output import EXIT_REFUSED, AsJson, emit, run, write
from cli.schema_differences import differences

if TYPE_CHECKING:
    from migrations.citus.distribution import Coordinator
    from migrations.runner import MigrationStatus

app = typer.Typer(help="The database schema. Without a subcommand: up.")
WAIT_SECONDS_MAX = 600.0
POSTGRES_PORT = 5432
WaitSeconds = Annotated[
    float, typer.Option("--wait", help="The total time to wait for locks, in seconds.", min=0)
]


OnCluster = Annotated[
    bool, typer.Option("--citus", help="Distribute the ledger over a Citus cluster as well.")
]
CoordinatorAddress = Annotated[
    str | None,
    typer.Option(
        "--coordinator",
        metavar="HOST:PORT",
        help="Where the nodes reach the coordinator; by default the address of DATABASE_URL.",
    ),
]


@app.callback(invoke_without_command=True)
def default(
    context: typer.Context,
    wait: WaitSeconds = WAIT_SECONDS_MAX,
    citus: OnCluster = False,
    coordinator: CoordinatorAddress = None,
    as_json: AsJson = False,
) -> None:
    """Upgrade the schema unless there is a subcommand."""
    if context.invoked_subcommand is None:
        up(wait, citus, coordinator, as_json)


@app.command()
def up(
    wait: WaitSeconds = WAIT_SECONDS_MAX,
    citus: OnCluster = False,
    coordinator: CoordinatorAddress = None,
    as_json: AsJson = False,
) -> None:
    """Upgrade the schema while Prepaid runs. Does nothing if it is up to date."""
    from migrations import runner  # noqa: PLC0415 - Alembic is heavy, and no other command needs it

    async def work() -> dict[str, Any]:
        await runner.migrate(
            database_url(),
            app_role=environment().get("PREPAID_APP_ROLE"),
            wait_seconds_max=wait,
            report=lambda line: print(f"prepaid: {line}", file=sys.stderr, flush=True),
            coordinator=_coordinator(coordinator) if citus else None,
        )
        return dict(await runner.status(database_url()))

    emit(run(work()), as_json=as_json, human=lambda schema: f"schema at {schema['current']}")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Compare the schema with this release's; exit code 1 if it is behind."""
    from migrations import runner  # noqa: PLC0415 - as above

    async def work() -> dict[str, Any]:
        return dict(await runner.status(database_url()))

    schema = run(work())
    emit(
        schema,
        as_json=as_json,
        human=_status_human,
    )
    if not schema["upToDate"]:
        raise typer.Exit(EXIT_REFUSED)


def _status_human(schema: MigrationStatus) -> str:
    if schema["upToDate"]:
        return f"schema at {schema['current']}, up to date"
    if schema["newer"]:
        return differences(schema)[0]
    return "\n".join(["run prepaid migrate:", *(f"  {line}" for line in differences(schema))])


@app.command()
def sql(citus: OnCluster = False, coordinator: CoordinatorAddress = None) -> None:
    """Print the whole schema as SQL, to run it manually."""
    from migrations import runner  # noqa: PLC0415 - as above

    write(runner.script(coordinator=_coordinator(coordinator) if citus else None))


def _coordinator(address: str | None) -> Coordinator:
    """Return the address of the coordinator, as an option has it or DATABASE_URL."""
    from migrations.citus.distribution import Coordinator  # noqa: PLC0415 - as above

    if address is None:
        url = urlsplit(database_url())
        return Coordinator(url.hostname or "localhost", url.port or POSTGRES_PORT)
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise typer.BadParameter("write it as HOST:PORT", param_hint="--coordinator")
    return Coordinator(host, int(port))
