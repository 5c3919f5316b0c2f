"""`prepaid …` where settings or the database are wrong or new: one line, or a schema."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from migrations.runner import migrate
from tests.fixtures.commands import Command, assert_refused, run_command
from tests.fixtures.product import closed_port
from tests.fixtures.servers import database_at, execute

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.fixtures.servers import Roles, Servers


@pytest.mark.parametrize(
    "command", [("orgs", "list"), ("migrate", "status"), ("events", "replay", "--state", "dead")]
)
async def test_a_missing_database_url_is_named_with_its_mend(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    finished = await run_command([*command, "--json"], {}, folder=tmp_path)
    assert_refused(finished, "DATABASE_URL", "postgresql://USER@HOST/DATABASE")


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("nonsense", "DATABASE_URL"),
        ("http://localhost/prepaid", "DATABASE_URL"),
        ("postgresql://localhost:notaport/prepaid", "DATABASE_URL"),
        ("postgresql://nobody:wrong@127.0.0.1:{port}/prepaid", "PostgreSQL"),
    ],
)
async def test_a_database_url_that_leads_nowhere_is_one_line(
    prepaid: Command, url: str, word: str
) -> None:
    finished = await prepaid("orgs", "list", DATABASE_URL=url.format(port=closed_port()))
    assert_refused(finished, word)


async def test_a_database_that_does_not_exist_is_one_line(
    prepaid_process: Command, servers: Servers
) -> None:
    url = database_at(servers.database_url, "no_such_database")
    assert_refused(await prepaid_process("orgs", "list", DATABASE_URL=url), "no_such_database")


async def test_a_wrong_password_is_one_line(prepaid_process: Command, servers: Servers) -> None:
    user, host = servers.database_url.rsplit("@", 1)
    url = f"{user.rsplit(':', 1)[0]}:wrong@{host}"
    finished = await prepaid_process("orgs", "list", DATABASE_URL=url)
    if finished.code == 0:
        pytest.skip("this server takes any password")
    assert_refused(finished, "password")


@pytest_asyncio.fixture
async def empty_database_url(servers: Servers, roles: Roles) -> AsyncIterator[str]:
    """Make a database that no migration has seen; the address is its owner's."""
    name = "prepaid_empty"
    await execute(servers.database_url, f"CREATE DATABASE {name}{roles.owner_clause}")
    yield roles.owner_url(database_at(servers.database_url, name))
    await execute(servers.database_url, f"DROP DATABASE {name} WITH (FORCE)")


async def test_a_database_without_the_schema_is_one_line_that_says_to_migrate(
    prepaid_process: Command, empty_database_url: str
) -> None:
    finished = await prepaid_process("orgs", "list", DATABASE_URL=empty_database_url)
    assert_refused(finished, "prepaid migrate")


async def test_migrating_an_empty_database_then_again_changes_nothing(
    prepaid: Command, empty_database_url: str
) -> None:
    behind = await prepaid("migrate", "status", "--json", DATABASE_URL=empty_database_url)
    assert (behind.code, behind.json["upToDate"], behind.json["current"]) == (1, False, None)
    up = await prepaid("migrate", "up", "--json", DATABASE_URL=empty_database_url)
    assert (up.code, up.json["upToDate"]) == (0, True)
    await migrate(empty_database_url)
    status = await prepaid("migrate", "status", "--json", DATABASE_URL=empty_database_url)
    assert (status.code, status.json) == (0, up.json)


async def test_migrate_without_a_word_takes_json_too(prepaid: Command, database_url: str) -> None:
    finished = await prepaid("migrate", "--json", DATABASE_URL=database_url)
    assert (finished.code, finished.json["upToDate"]) == (0, True)


async def test_the_printed_schema_builds_a_database(
    prepaid: Command, empty_database_url: str
) -> None:
    finished = await prepaid("migrate", "sql")
    assert finished.code == 0
    await execute(empty_database_url, finished.stdout)
    listed = await prepaid("orgs", "list", "--json", DATABASE_URL=empty_database_url)
    assert (listed.code, listed.json) == (0, {"organizations": []})


@pytest.mark.parametrize(
    ("process", "env", "variable"),
    [
        ("serve", {"STRIPE_API_KEY": ""}, "STRIPE_API_KEY"),
        ("serve", {"STRIPE_API_KEY": "sk_live_51H7gV2eZvKYlo2C"}, "STRIPE_WEBHOOK_SECRETS"),
        ("serve", {"PORT": "http"}, "PORT"),
        ("serve", {"DATABASE_URL": "nonsense"}, "DATABASE_URL"),
        ("serve", {"REDIS_URL": "nonsense"}, "REDIS_URL"),
        ("worker", {"STRIPE_WEBHOOK_SECRETS": "nonsense"}, "STRIPE_WEBHOOK_SECRETS"),
        ("worker", {"DATABASE_URL": "nonsense"}, "DATABASE_URL"),
        ("worker", {"REDIS_URL": "nonsense"}, "REDIS_URL"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
async def test_a_wrong_setting_stops_the_start_in_one_line_that_names_it(
    prepaid: Command, process: str, env: dict[str, str], variable: str
) -> None:
    async with asyncio.timeout(30):
        finished = await prepaid(process, **env)
    assert_refused(finished, variable)


@pytest.mark.parametrize("process", ["serve", "worker"])
async def test_a_process_with_a_wrong_setting_ends_with_one_line(
    prepaid_process: Command, process: str
) -> None:
    async with asyncio.timeout(30):
        finished = await prepaid_process(process, STRIPE_API_KEY="")
    assert_refused(finished, "STRIPE_API_KEY")


async def test_doctor_names_every_check_in_one_document_and_fails_where_one_does(
    prepaid_process: Command,
) -> None:
    finished = await prepaid_process(
        "doctor", "--json", STRIPE_API_BASE=f"http://127.0.0.1:{closed_port()}"
    )
    assert finished.code == 1
    checks = {check["name"]: check["ok"] for check in finished.json["checks"]}
    assert set(checks) == {
        *("settings", "postgres", "schema", "redis", "files", "clock", "pooler", "cluster"),
        "currencies",
        *("events", "messages", "reconciliation"),
        *("stripe", "permissions", "webhook", "recharges", "workers", "invariants"),
    }  # fmt: skip
    assert (checks["settings"], checks["schema"], checks["redis"]) == (True, True, True)
    assert checks["stripe"] is False


async def test_doctor_says_what_is_wrong_with_a_database_that_does_not_exist(
    prepaid_process: Command, servers: Servers
) -> None:
    finished = await prepaid_process(
        "doctor",
        "--json",
        DATABASE_URL=database_at(servers.database_url, "no_such_database"),
        STRIPE_API_BASE=f"http://127.0.0.1:{closed_port()}",
    )
    assert finished.code == 1
    failed = {check["name"] for check in finished.json["checks"] if not check["ok"]}
    assert {"postgres", "schema"} <= failed


async def test_no_secret_is_printed_when_settings_are_wrong(prepaid_process: Command) -> None:
    finished = await prepaid_process("doctor", "--json", STRIPE_API_KEY="sk_wrong_topsecret")
    assert finished.code == 1
    assert "topsecret" not in finished.stdout + finished.stderr
