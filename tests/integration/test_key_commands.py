"""`prepaid keys` and `prepaid audit`: who is let in, for how long, and who did what."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest

import migrations
from api.framework.key_uses import KeyUses
from shared.access import service as access
from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient
from tests.fixtures.commands import Command
from tests.fixtures.many_keys import make_many_keys

if TYPE_CHECKING:
    from shared.db.pool import Pool

SQL = sorted(Path(migrations.__file__).with_name("sql").glob("0*.sql"))
CREATE = ("keys", "create", "--name", "app", "--scope", "usage,read", "--json")


async def test_a_key_is_for_one_organization_or_for_all_and_its_name_is_its_own(
    prepaid: Command, organization: Organization
) -> None:
    unset = await prepaid(*CREATE, "--organization", "")  # a variable of a shell, say
    assert (unset.code, unset.stdout) == (1, ""), "a key for all organizations"
    for wrong in ((), ("--all", "--organization", "acme"), ("--all", "--expires", "2020-01-01"),
                  ("--all", "--expires", "soon"), ("--all", "--expires", "P0D")):  # fmt: skip
        assert (await prepaid(*CREATE, *wrong)).code == 2, wrong
    made = await prepaid(*CREATE, "--all")
    assert (made.code, made.json["scope"], made.json["organizationId"]) == (0, "usage,read", None)
    twice = await prepaid(*CREATE, "--organization", "acme")
    assert (twice.code, "app" in twice.stderr) == (1, True)
    await prepaid("keys", "revoke", made.json["id"])
    assert (await prepaid(*CREATE, "--organization", "acme", "--expires", "P90D")).code == 0


async def test_every_key_is_listed_however_many_there_are(prepaid: Command, pool: Pool) -> None:
    made = await prepaid(*CREATE, "--all")
    await make_many_keys(pool, access.KEYS_MAX)
    listed = (await prepaid("keys", "list", "--json")).json["keys"]
    assert len({key["id"] for key in listed}) == access.KEYS_MAX + 1
    assert listed[-1]["id"] == made.json["id"]


async def test_a_rotated_key_works_until_the_overlap_is_over(
    prepaid: Command, api_client: ApiClient, organization: Organization, pool: Pool
) -> None:
    made = (await prepaid(*CREATE, "--organization", "acme", "--expires", "P90D")).json
    rotated = await prepaid("keys", "rotate", made["id"], "--overlap", "PT1H", "--json")
    assert (rotated.code, rotated.json["scope"]) == (0, "usage,read")
    assert rotated.json["organizationId"] == str(organization.id)
    assert (await prepaid("keys", "rotate", made["id"], "--json")).code == 1
    listed = {key["id"]: key for key in (await prepaid("keys", "list", "--json")).json["keys"]}
    old, new = listed[made["id"]], listed[rotated.json["id"]]
    assert (old["name"], old["replacedBy"]) == (new["name"], new["id"])
    left = datetime.fromisoformat(old["expiresAt"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    for key in (made["key"], rotated.json["key"]):
        assert (await api_client.with_key(key).get("/v1/billing/acme/credits")).status == 200
    expire = "UPDATE api_keys SET expires_at = now() WHERE id = $1"
    await pool.execute(expire, UUID(made["id"]))
    async with pool.acquire() as connection:
        found = await access.find_callers(
            connection, [access.digest(made["key"]), access.digest(rotated.json["key"])]
        )
    assert [str(caller.key_id) for caller in found.values()] == [new["id"]]


async def test_an_expired_key_is_401_and_frees_its_name(
    api_client: ApiClient, organization: Organization
) -> None:
    async def create(expires_at: datetime | None) -> str:
        async with api_client.api.pool.acquire() as connection:
            made = await access.create_key(
                connection, name="app", scope="read", organization_id=None, expires_at=expires_at
            )
        return made["key"]

    expired = api_client.with_key(await create(datetime.now(UTC) - timedelta(seconds=1)))
    answer = await expired.get("/v1/billing/acme/credits")
    assert (answer.status, answer.json["type"]) == (401, "authentication_error")
    valid = api_client.with_key(await create(None))
    assert (await valid.get("/v1/billing/acme/credits")).status == 200


async def test_the_last_use_is_written_behind_the_request_once_a_minute(
    api_client: ApiClient, organization: Organization, pool: Pool
) -> None:
    used = "SELECT last_used_at FROM api_keys"
    await api_client.get("/v1/billing/acme/credits")
    await api_client.api.authenticator.uses.write()
    first = await pool.fetchval(used)
    assert first is not None
    uses = KeyUses(pool)
    key_id = await pool.fetchval("SELECT id FROM api_keys")
    for seconds in (30, 61):
        uses = KeyUses(pool)
        uses.add(key_id, first + timedelta(seconds=seconds))
        await uses.close()
        changed = await pool.fetchval(used) != first
        assert changed is (seconds > access.USED_SECONDS_MIN)


async def test_a_use_that_cannot_be_written_is_dropped_and_harms_nobody(pool: Pool) -> None:
    uses = KeyUses(pool, interval_seconds=0)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE api_keys")
        uses.add(UUID(int=1), datetime.now(UTC))
        closed = asyncio.create_task(uses.close())
    await closed


async def test_the_audit_log_is_listed_by_organization_actor_and_time_in_pages(
    prepaid: Command, api_client: ApiClient, organization: Organization, pool: Pool
) -> None:
    for amount in (1, 2):
        await api_client.post("/v1/billing/acme/grants", {"amount": amount})
    await prepaid("keys", "create", "--name", "cli", "--scope", "read", "--all")

    async def entries(*arguments: str) -> Any:
        found = await prepaid("audit", "list", "--json", *arguments)
        assert found.code == 0, found.stderr
        return found.json

    every = await entries()
    assert [row["action"] for row in every["entries"]] == [
        "keys.create", "grants.create", "grants.create",
    ]  # fmt: skip
    assert set(every["entries"][0]) == {
        "id", "at", "actor", "keyId", "requestId", "action", "subject", "organizationId", "reason",
        "details",
    }  # fmt: skip
    assert every["nextCursor"] is None
    first = await entries("--limit", "2")
    rest = await entries("--limit", "2", "--cursor", first["nextCursor"])
    assert first["entries"] + rest["entries"] == every["entries"]
    of_acme = await entries("--organization", "acme")
    assert of_acme["entries"] == every["entries"][1:]
    assert all(row["keyId"] and row["requestId"] for row in of_acme["entries"])
    actor = every["entries"][0]["actor"]
    assert (await entries("--actor", actor))["entries"] == every["entries"][:1]
    await pool.execute(
        "UPDATE audit_log SET at = at - interval '1 day' WHERE action LIKE 'grants%'"
    )
    assert (await entries("--since", "1h"))["entries"] == every["entries"][:1]
    for nobody in ("nobody", ""):
        assert (await prepaid("audit", "list", "--organization", nobody)).code == 1
    assert (await prepaid("audit", "list", "--cursor", "nonsense")).code == 2


@pytest.mark.parametrize("scopes", ["'{root}'", "'{}'"])
async def test_the_schema_knows_the_scopes(pool: Pool, scopes: str) -> None:
    async with pool.acquire() as connection:
        await access.create_key(connection, name="k", scope="read", organization_id=None)
    with pytest.raises(asyncpg.CheckViolationError):
        await pool.execute(f"UPDATE api_keys SET scopes = {scopes}")  # noqa: S608


async def test_keys_from_before_keep_their_rights_and_one_of_each_name_keeps_it(
    database_url: str, pool: Pool
) -> None:
    await pool.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    connection = await asyncpg.connect(database_url)
    for file in SQL:
        if file.name < "0013":
            await connection.execute(file.read_text(encoding="utf-8"))
    for number, scope in enumerate(("read", "write", "admin", "write")):
        await connection.execute(
            "INSERT INTO api_keys (id, name, scope, key_sha256, key_hint, revoked_at)"
            " VALUES ($1, 'app', $2, $3, 'x', $4)",
            UUID(int=number), scope, bytes([number]), datetime.now(UTC) if number == 3 else None,
        )  # fmt: skip
    (file,) = [file for file in SQL if file.match("*_scopes_and_sessions.sql")]
    await connection.execute(file.read_text(encoding="utf-8"))
    # The last release creates one more.
    await connection.execute(
        "INSERT INTO api_keys (id, name, scope, key_sha256, key_hint)"
        " VALUES ($1, 'late', 'write', $2, 'x')",
        UUID(int=9), bytes([9]),
    )  # fmt: skip
    rows = {row["id"].int: row for row in await access.list_keys(connection)}
    await connection.close()
    assert [rows[n]["name"] for n in (0, 3)] == ["app", "app"]
    assert len({rows[n]["name"] for n in (0, 1, 2)}) == 3
    rights = {n: access.scopes_of(row) for n, row in rows.items()}
    assert rights[0] == {"read"}
    assert rights[1] == rights[9] == {"usage", "purchases", "grants", "billing", "read"}
    assert rights[2] == {"admin"}
