"""The `prepaid` command: the composition root of settings, services and processes."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from importlib.metadata import entry_points, version
from typing import Annotated, Any, NoReturn

import structlog
import typer

from cli import launch as launches
from cli.deferred import CommandLine
from cli.environment import load_settings
from cli.output import AsJson, refuse, write
from migrations.head import HEAD
from shared import logging, tracing
from shared.config import LogFormat, Settings
from shared.errors import ConfigError, NotReadyError

# The entry points of the sandbox, which is installed in a checkout only. Nothing imports it.
SANDBOX_GROUP = "prepaid.sandbox"

app = typer.Typer(
    cls=CommandLine,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer passes it so
    if wanted:
        write(f"prepaid {version('prepaid')}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Self-hosted prepaid credits on Stripe."""


@app.command()
def serve(
    services: Annotated[
        list[str] | None, typer.Argument(help="webhooks, api, console; all by default.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(help="The port to listen on; 0 for any free port.")
    ] = None,
    processes: Annotated[
        int,
        typer.Option(
            min=1, max=launches.PROCESSES_MAX, help="How many processes serve on this port."
        ),
    ] = 1,
) -> None:
    """Run a web process: webhook endpoint, billing API, console, health and metrics."""
    unknown = set(services or ()) - set(launches.SERVICES)
    if unknown:
        raise typer.BadParameter(f"{unknown.pop()!r} is none of: {', '.join(launches.SERVICES)}")
    settings = _configure("prepaid-web")
    settings = dataclasses.replace(
        settings,
        host=settings.host if host is None else host,
        port=settings.port if port is None else port,
    )
    ready = _announce(settings.host)
    services = services or list(launches.SERVICES)
    if processes > 1:
        _supervise(settings, services, processes, ready)

    from cli import serve as server  # noqa: PLC0415 - other commands do not need aiohttp

    _run_forever(server.run(settings, services, on_ready=ready))


@app.command(launches.COMMAND, hidden=True)
def serve_process(launch: str) -> None:
    """Run one of several web processes; their supervisor starts it."""
    from cli import serve as server  # noqa: PLC0415 - as above
    from cli.web_process import Supervised  # noqa: PLC0415 - as above

    # A SIGHUP to all processes of a service is meant for the supervisor.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    supervised = Supervised(launches.decode(launch))
    structlog.contextvars.bind_contextvars(process=supervised.processes.number)
    settings = _configure("prepaid-web")
    _run_forever(
        server.run(settings, supervised.services, on_ready=supervised.ready, supervised=supervised)
    )


@app.command()
def worker() -> None:
    """Run a worker process: applies events, charges, sends messages and runs periodic jobs."""
    from worker import main as process  # noqa: PLC0415 - other commands do not need arq

    # Like the web process, print a line on stdout that no log level hides.
    ready = json.dumps({"ready": True})
    _run_forever(
        process.run(
            _configure("prepaid-worker"),
            schema_needed=HEAD,
            on_ready=lambda: print(ready, flush=True),
        )
    )


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check settings, PostgreSQL, Redis and Stripe; exit code 1 if a check fails."""
    from cli import doctor as checks  # noqa: PLC0415 - as above

    checks.examine(as_json=as_json)


@app.command()
def dev() -> None:
    """Start everything embedded, run the story, keep serving until Ctrl-C (DEMO=0: no story)."""
    installed = entry_points(group=SANDBOX_GROUP, name="dev")
    if not installed:
        refuse("The sandbox is not part of this installation: it starts in a checkout, by make up.")
    installed["dev"].load()()


def _supervise(
    settings: Settings, services: Sequence[str], processes: int, ready: Callable[[int], None]
) -> NoReturn:
    from cli import supervisor  # noqa: PLC0415 - as above

    try:
        code = asyncio.run(supervisor.run(settings, services, processes, on_ready=ready))
    except ConfigError as error:
        refuse(error.detail)
    finally:
        tracing.stop()
    raise typer.Exit(code)


def _configure(process: str) -> Settings:
    try:
        settings = load_settings()
        tracing.configure(enabled=settings.tracing, process=process)
    except ConfigError as error:
        refuse(error.detail)
    logging.configure(settings.log_format, settings.log_level)
    return settings


def _announce(host: str) -> Any:
    # One line on stdout with the actual port; logs go to stderr.
    return lambda port: print(
        json.dumps({"ready": True, "url": f"http://{host}:{port}"}), flush=True
    )


def _run_forever(process: Coroutine[Any, Any, None]) -> None:
    import uvloop  # noqa: PLC0415 - only long-running processes benefit from it

    try:
        uvloop.run(process)
    except (ConfigError, NotReadyError) as error:  # what only this machine or database can refuse
        refuse(error.detail)
    finally:
        tracing.stop()


def main() -> None:
    """Run the command line; incorrect usage is exit code 2."""
    logging.configure(LogFormat.CONSOLE, "WARNING", sys.stderr)
    app()
