"""prepaid migrate: up, status, sql."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from cli.database import database_url
from cli.environment import environment
from cli.output import EXIT_REFUSED, AsJson, emit, run

app = typer.Typer(help="The database's schema. Without a word: up.")
WAIT_SECONDS_MAX = 600.0
WaitSeconds = Annotated[
    float, typer.Option("--wait", help="How many seconds to wait for locks, in all.", min=0)
]


@app.callback(invoke_without_command=True)
def default(
    context: typer.Context, wait: WaitSeconds = WAIT_SECONDS_MAX, as_json: AsJson = False
) -> None:
    """Bring the schema up to date when no other word is given."""
    if context.invoked_subcommand is None:
        up(wait, as_json)


@app.command()
def up(wait: WaitSeconds = WAIT_SECONDS_MAX, as_json: AsJson = False) -> None:
    """Bring the schema up to date while the product works; does nothing where it is."""
    from migrations import runner  # noqa: PLC0415 - Alembic is heavy, and no other command needs it

    async def work() -> dict[str, Any]:
        await runner.migrate(
            database_url(),
            app_role=environment().get("PREPAID_APP_ROLE"),
            wait_seconds_max=wait,
            report=lambda line: print(f"prepaid: {line}", file=sys.stderr, flush=True),
        )
        return dict(await runner.status(database_url()))

    emit(run(work()), as_json=as_json, human=lambda found: f"schema at {found['current']}")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Compare the database's schema with this release's; exit code 1 where it is behind."""
    from migrations import runner  # noqa: PLC0415 - as above

    async def work() -> dict[str, Any]:
        return dict(await runner.status(database_url()))

    found = run(work())
    emit(
        found,
        as_json=as_json,
        human=_status_human,
    )
    if not found["upToDate"]:
        raise typer.Exit(EXIT_REFUSED)


def _status_human(found: dict[str, Any]) -> str:
    if found["upToDate"]:
        return f"schema at {found['current']}, up to date"
    lines = [f"schema at {found['current']}, this release has {found['head']}: prepaid migrate"]
    lines += [f"  missing: {name}" for name in found["indexesMissing"]]
    lines += [f"  not finished: {name}" for name in found["indexesInvalid"]]
    return "\n".join(lines)


@app.command()
def sql(
    citus: Annotated[
        bool, typer.Option("--citus", help="Add what distributes it over a Citus cluster.")
    ] = False,
) -> None:
    """Print the whole schema as SQL, for those who run it by hand."""
    from migrations import runner  # noqa: PLC0415 - as above

    print(runner.script(citus=citus))
