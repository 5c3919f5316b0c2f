"""prepaid migrate: up, status, sql."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ops.database import database_url
from ops.environment import environment
from ops.output import EXIT_REFUSED, AsJson, emit, run

app = typer.Typer(help="The database's schema. Without a word: up.")


@app.callback(invoke_without_command=True)
def default(context: typer.Context, as_json: AsJson = False) -> None:
    """Bring the schema up to date when no other word is given."""
    if context.invoked_subcommand is None:
        up(as_json)


@app.command()
def up(as_json: AsJson = False) -> None:
    """Bring the schema up to date; does nothing where it is."""
    from migrations import runner  # noqa: PLC0415 - Alembic is heavy, and no other command needs it

    async def work() -> dict[str, Any]:
        await runner.migrate(database_url(), app_role=environment().get("PREPAID_APP_ROLE"))
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
        human=lambda found: (
            f"schema at {found['current']}, up to date"
            if found["upToDate"]
            else f"schema at {found['current']}, this release has {found['head']}: prepaid migrate"
        ),
    )
    if not found["upToDate"]:
        raise typer.Exit(EXIT_REFUSED)


@app.command()
def sql(
    citus: Annotated[
        bool, typer.Option("--citus", help="Add what distributes it over a Citus cluster.")
    ] = False,
) -> None:
    """Print the whole schema as SQL, for those who run it by hand."""
    from migrations import runner  # noqa: PLC0415 - as above

    print(runner.script(citus=citus))
