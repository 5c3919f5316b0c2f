"""`prepaid dev`: everything on this machine, from nothing to a paid purchase, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from cli.commands.console import LINK_PATH
from cli.environment import ENV_FILE, home_path
from cli.output import refuse
from migrations.runner import migrate
from sandbox.process import fresh_log, tail
from sandbox.saved_choices import SavedChoices
from sandbox.servers import EmbeddedServers
from sandbox.story import tell
from sandbox.stripe.process import SECRETS_VARIABLE
from sandbox.supervisor import Child, ChildError, Supervisor
from shared import logging
from shared.access import service as access
from shared.access.console import store as console_sessions
from shared.access.console.model import Identity, Role
from shared.config import LogFormat, load
from shared.db.pool import connect
from shared.errors import PrepaidError
from webhooks.app import PATH

PORT_DEFAULT = 8000
CHOICES_FILE = "sandbox.json"
LOG_FILE = "dev.log"
DIRECT_VARIABLE = "PREPAID_DIRECT_DATABASE_URL"
KEY_NAME = "sandbox"


def run() -> None:
    """Start the embedded servers, the simulator, web and worker; tell the story; keep serving.

    The story and the addresses are printed; the logs of the processes go to a file that is named.
    DATABASE_URL and REDIS_URL, when both are set, are used in place of the embedded servers. DEMO=0
    skips the story. Nothing is left running when this ends.
    """
    logging.configure(LogFormat.CONSOLE, "WARNING")
    try:
        asyncio.run(_run())
    except* KeyboardInterrupt:  # before the supervisor took the signals over
        pass
    except* ChildError as errors:
        refuse("; ".join(map(str, errors.exceptions)) + tail(home_path() / LOG_FILE))
    except* (PrepaidError, OSError) as errors:
        refuse("; ".join(map(str, errors.exceptions)))
    print("stopped")


async def _run() -> None:
    external = external_addresses(os.environ)
    if external is not None:
        home_path().mkdir(parents=True, exist_ok=True)
        await _serve(external)
        return
    print(f"starting PostgreSQL and Valkey in {_short(home_path())}", flush=True)
    # The servers are the outer block: what uses them stops first.
    async with EmbeddedServers(home_path()) as servers:
        await _serve(embedded_addresses(servers.database_url, servers.redis_url))


def external_addresses(environment: Mapping[str, str]) -> dict[str, str] | None:
    """Return the addresses of the servers that are set; None where one of the two is not."""
    addresses = {name: environment.get(name, "") for name in ("DATABASE_URL", "REDIS_URL")}
    if not all(addresses.values()):
        return None
    return addresses | {DIRECT_VARIABLE: environment.get(DIRECT_VARIABLE, "")}


def embedded_addresses(database_url: str, redis_url: str) -> dict[str, str]:
    """Return the addresses of the embedded servers.

    The direct address is empty: an exported one is of another database, and processes inherit it.
    """
    return {"DATABASE_URL": database_url, "REDIS_URL": redis_url, DIRECT_VARIABLE: ""}


async def _serve(servers: dict[str, str]) -> None:
    await migrate(servers["DATABASE_URL"])
    saved = SavedChoices.read(home_path() / CHOICES_FILE)
    variables = servers | _sandbox_settings(saved)
    _write_env_file(variables)
    log_path = home_path() / LOG_FILE
    try:
        with _log_file(log_path) as log_file:
            async with Supervisor(log=log_file) as supervisor:
                supervisor.say(f"logs: {_short(log_path)}")
                await _start_processes(supervisor, variables)
                key = await _working_key(variables["DATABASE_URL"], saved)
                saved.write(home_path() / CHOICES_FILE)
                supervisor.say("ready")
                if os.environ.get("DEMO", "1") != "0":
                    await tell(load(variables), key, supervisor.say)
                link = await _console_link(variables)
                for line in _addresses(variables, key, link):
                    supervisor.say(line)
                await supervisor.wait()
    finally:
        (home_path() / ENV_FILE).unlink(missing_ok=True)


@contextlib.contextmanager
def _log_file(path: Path) -> Iterator[TextIO]:
    """Open an empty log of this start, readable by the owner alone; the last one becomes `.1`."""
    with fresh_log(path) as file, io.TextIOWrapper(file, encoding="utf-8") as log:
        path.chmod(0o600)
        yield log


def _write_env_file(variables: dict[str, str]) -> None:
    """Write the addresses of the servers for other terminals; readable by the owner alone."""
    file = home_path() / ENV_FILE
    file.touch(mode=0o600)
    lines = [f"{name}={value}\n" for name, value in variables.items()]
    file.write_text("".join(lines), encoding="utf-8")


def _sandbox_settings(saved: SavedChoices) -> dict[str, str]:
    return {
        "STRIPE_API_KEY": "sk_test_of_the_prepaid_sandbox",
        "STRIPE_API_BASE": f"http://127.0.0.1:{saved.port('stripe')}",
        "STRIPE_WEBHOOK_SECRETS": saved.secret(),
        "HOST": "127.0.0.1",
        "PORT": str(saved.port("web", wanted=int(os.environ.get("PORT", PORT_DEFAULT)))),
        "PREPAID_OPERATIONS_PORT": str(saved.port("operations")),
        "PREPAID_WORKER_PORT": str(saved.port("worker")),
        # Whoever tries it out has the app on this machine.
        "PREPAID_WEBHOOKS_ALLOW_PRIVATE": "1",
        # No balancer has to notice that it stops.
        "PREPAID_DRAIN_SECONDS": "0",
        "LOG_FORMAT": os.environ.get("LOG_FORMAT", "console"),
        "LOG_LEVEL": os.environ.get("LOG_LEVEL", "INFO"),
    }


async def _start_processes(supervisor: Supervisor, variables: dict[str, str]) -> None:
    web, stripe = _url(variables), variables["STRIPE_API_BASE"]
    prepaid = [sys.executable, "-m", "cli"]
    simulator = [
        sys.executable,
        "-m",
        "sandbox.stripe",
        "--state",
        str(home_path() / "stripe.sqlite"),
    ]
    simulator += ["--port", stripe.rpartition(":")[2], "--webhook-url", web + PATH]
    secrets = {SECRETS_VARIABLE: variables["STRIPE_WEBHOOK_SECRETS"]}
    async with asyncio.TaskGroup() as starts:
        for child in (
            Child("stripe", simulator, secrets, ready='"ready"'),
            Child("web", [*prepaid, "serve"], variables, ready='"ready"'),
            Child("worker", [*prepaid, "worker"], variables, ready='"ready"'),
        ):
            starts.create_task(supervisor.start(child))


async def _working_key(database_url: str, saved: SavedChoices) -> str:
    """Return the key of last time while the database knows it, else a new one."""
    connection = await connect(database_url, application_name="prepaid-dev")
    try:
        keys = await access.list_keys(connection)
        works = {key["key_hint"] for key in keys if key["revoked_at"] is None}
        if saved.api_key[-4:] not in works:
            for key in keys:
                if key["name"] == KEY_NAME and key["revoked_at"] is None:
                    await access.revoke_key(connection, key["id"])
            made = await access.create_key(
                connection, name=KEY_NAME, scope="admin", organization_id=None
            )
            saved.api_key = made["key"]
    finally:
        await connection.close()
    return saved.api_key


async def _console_link(variables: dict[str, str]) -> str:
    token = console_sessions.new_token()
    identity = Identity(actor="console:sandbox", role=Role.OPERATE)
    connection = await connect(variables["DATABASE_URL"], application_name="prepaid-dev")
    try:
        await console_sessions.create_link(connection, token, identity, now=datetime.now(UTC))
    finally:
        await connection.close()
    return f"{_url(variables)}{LINK_PATH}{token}"


def _url(variables: dict[str, str]) -> str:
    return f"http://127.0.0.1:{variables['PORT']}"


def _operations_url(variables: dict[str, str]) -> str:
    return f"http://127.0.0.1:{variables['PREPAID_OPERATIONS_PORT']}"


def _addresses(variables: dict[str, str], key: str, console_link: str) -> list[str]:
    return [
        "",
        f"Prepaid            {_url(variables)}",
        f"console            {console_link}  (signs you in once)",
        f"API to browse      {_url(variables)}/docs",
        f"webhook endpoint   {_url(variables)}{PATH}",
        f"for operators      {_operations_url(variables)}  (health /readyz, metrics /metrics)",
        f"Stripe simulator   {variables['STRIPE_API_BASE']}  (a stand-in: no real money)",
        f"PostgreSQL         {variables['DATABASE_URL']}",
        f"API key            {key}",
        f"logs               {_short(home_path() / LOG_FILE)}",
        "",
        "In another terminal, in this folder:  .venv/bin/prepaid events list",
        "Ctrl-C stops everything.",
    ]


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
