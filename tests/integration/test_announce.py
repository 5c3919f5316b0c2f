"""Announcing on PostgreSQL: with the effect or not at all, once, to those who want it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from migrations.runner import migrate, status
from migrations.script import SQL
from shared.errors import AlreadyExistsError, ValidationError
from shared.organizations.model import Organization
from shared.outbound import service
from shared.outbound.model import MessageType, OutboundMessage
from tests.fixtures.servers import execute

FIRST_SCHEMA = SQL / "0001_first_ledger_and_inbox.sql"

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

AT = datetime(2026, 1, 31, 12, 0, 0, 5, tzinfo=UTC)


def message(
    organization: Organization,
    *,
    message_type: MessageType = MessageType.CREDITS_LOW,
    message_id: UUID | None = None,
    **data: Any,
) -> OutboundMessage:
    return OutboundMessage(organization.id, message_type, data, message_id or uuid4(), AT)


async def add(connection: Connection, name: str = "a", *types: str) -> UUID:
    made = await service.add_endpoint(
        connection, url=f"https://{name}.example.com/hooks", types=types, allow_private=False
    )
    return made.endpoint.id


async def rows(connection: Connection) -> list[asyncpg.Record]:
    return await connection.fetch("SELECT * FROM outbound_messages ORDER BY id, endpoint_id")


async def test_a_message_is_written_as_standard_webhooks_has_it(
    connection: Connection, organization: Organization
) -> None:
    await add(connection)
    sent = message(organization, balance=Decimal("4.250000000"), threshold=Decimal(5))
    await service.announce(connection, [sent])
    (row,) = await rows(connection)
    assert json.loads(row["payload"]) == {
        "type": "credits.low",
        "timestamp": "2026-01-31T12:00:00.000005Z",
        "data": {"organizationId": str(organization.id), "balance": 4.25, "threshold": 5},
    }
    assert list(json.loads(row["payload"])) == ["type", "timestamp", "data"]
    assert (row["state"], row["attempts"], row["organization_id"]) == (
        "pending",
        0,
        organization.id,
    )


async def test_without_an_endpoint_nothing_is_written(
    connection: Connection, organization: Organization
) -> None:
    await service.announce(connection, [message(organization)])
    await service.announce(connection, [])
    assert await rows(connection) == []


async def test_a_message_goes_to_each_endpoint_that_wants_its_type(
    connection: Connection, organization: Organization
) -> None:
    everything = await add(connection, "all")
    low = await add(connection, "low", "credits.low", "credits.depleted")
    await add(connection, "disputes", "dispute.opened")
    removed = await add(connection, "removed")
    await service.remove_endpoint(connection, removed)
    await service.announce(connection, [message(organization)])
    assert {row["endpoint_id"] for row in await rows(connection)} == {everything, low}


async def test_a_rollback_of_the_caller_leaves_no_message(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    await add(connection)
    transaction = connection.transaction()
    await transaction.start()
    await service.announce(connection, [message(organization)])
    assert len(await rows(connection)) == 1
    async with pool.acquire() as other:
        assert await rows(other) == []
    await transaction.rollback()
    assert await rows(connection) == []


async def test_a_message_that_was_announced_before_is_one_message(
    connection: Connection, organization: Organization
) -> None:
    await add(connection)
    once = message(organization, n=1)
    twice = message(organization, message_id=once.id, n=2)
    await service.announce(connection, [once])
    await service.announce(connection, [twice, twice])
    (row,) = await rows(connection)
    assert json.loads(row["payload"])["data"]["n"] == 1


async def test_a_batch_is_announced_by_one_statement(
    connection: Connection, organization: Organization
) -> None:
    await add(connection, "a")
    await add(connection, "b")
    batch = [message(organization, n=n) for n in range(50)]
    await service.announce(connection, batch)
    assert len(await rows(connection)) == 100
    # Outside a transaction each statement is one of its own.
    writers = await connection.fetch("SELECT DISTINCT xmin::text FROM outbound_messages")
    assert len(writers) == 1


async def test_sql_announces_with_the_same_function(
    connection: Connection, organization: Organization
) -> None:
    await add(connection)
    sent = message(organization, balance=Decimal("0.500000000"))
    await service.announce(connection, [sent])
    (by_python,) = await rows(connection)
    await connection.execute("DELETE FROM outbound_messages")
    await connection.execute(
        "SELECT announce($1, $2, $3, jsonb_build_object('balance', $4::numeric(38, 9)), $5)",
        *(sent.organization_id, sent.id, "credits.low", Decimal("0.5"), AT),
    )
    (by_sql,) = await rows(connection)
    assert by_sql["payload"] == by_python["payload"]
    assert '"balance": 0.5,' in by_sql["payload"] or '"balance": 0.5}' in by_sql["payload"]


@pytest.mark.parametrize(
    "amount",
    ["0.000000001", "12345678901234567890123456789.123456789", "-100", "0E-9", "1E+3"],
)
async def test_amounts_keep_every_digit_and_no_exponent(
    connection: Connection, organization: Organization, amount: str
) -> None:
    await add(connection)
    await service.announce(connection, [message(organization, amount=Decimal(amount))])
    (row,) = await rows(connection)
    found = json.loads(row["payload"], parse_float=Decimal, parse_int=Decimal)["data"]["amount"]
    assert found == Decimal(amount)
    assert "e" not in row["payload"].split('"amount": ')[1].split(",")[0].rstrip("}").lower()


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "'; DROP TABLE accounts --", 'ä\n"{}%s%%', ""])
async def test_no_text_of_a_payment_takes_the_callers_transaction_with_it(
    connection: Connection, organization: Organization, text: str
) -> None:
    await add(connection)
    await service.announce(connection, [message(organization, description=text)])
    (row,) = await rows(connection)
    found = json.loads(row["payload"])["data"]["description"]
    assert found == text.replace("\0", "\\x00").replace("\ud800", "\\ud800")


async def test_data_cannot_speak_for_another_organization(
    connection: Connection, organization: Organization
) -> None:
    await add(connection)
    await service.announce(connection, [message(organization, organizationId=str(UUID(int=1)))])
    (row,) = await rows(connection)
    assert json.loads(row["payload"])["data"]["organizationId"] == str(organization.id)


async def test_an_endpoint_that_is_put_again_is_changed_and_keeps_its_secret(
    connection: Connection,
) -> None:
    url = "https://example.com/hooks"
    first, secret = await service.put_endpoint(connection, url=url, allow_private=False)
    assert secret is not None
    again, nothing = await service.put_endpoint(
        connection, url=url, types=["credits.low"], description="billing", allow_private=False
    )
    assert (again.id, again.types, again.description, nothing) == (
        first.id,
        (MessageType.CREDITS_LOW,),
        "billing",
        None,
    )
    stored = "SELECT secret, previous_secret FROM webhook_endpoints"
    assert tuple(await connection.fetchrow(stored) or ()) == (secret, None)
    rotated = await service.rotate_secret(connection, first.id)
    await service.put_endpoint(connection, url=url, allow_private=False)
    assert tuple(await connection.fetchrow(stored) or ()) == (rotated.secret, secret)
    await service.remove_endpoint(connection, first.id)
    enabled, new = await service.put_endpoint(connection, url=url, allow_private=False)
    assert enabled.disabled_at is None
    assert tuple(await connection.fetchrow(stored) or ()) == (new, None)
    assert new not in {None, secret, rotated.secret}
    with pytest.raises(AlreadyExistsError):
        await service.add_endpoint(connection, url=url, allow_private=False)
    with pytest.raises(ValidationError):
        await service.put_endpoint(connection, url="http://x", allow_private=False)


async def test_an_unknown_type_is_refused(
    connection: Connection, organization: Organization
) -> None:
    await add(connection)
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute(
            "SELECT announce($1, $2, 'credits.nonsense', '{}', now())", organization.id, uuid4()
        )


@pytest.mark.parametrize(
    "change",
    [
        "state = 'delivered', settled_at = now()",
        "state = 'delivered', settled_at = now(), last_status = 302",
        "state = 'dead', settled_at = now()",
        "state = 'dead', reason = 'x'",
        "settled_at = now()",
        "state = 'discarded', settled_at = now(), reason = 'x', lease_token = gen_random_uuid()",
        "state = 'sent', settled_at = now()",
        "attempts = -1",
    ],
)
async def test_the_database_refuses_a_row_that_makes_no_sense(
    connection: Connection, organization: Organization, change: str
) -> None:
    await add(connection)
    await service.announce(connection, [message(organization)])
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute(f"UPDATE outbound_messages SET {change}")  # noqa: S608


async def test_a_database_from_before_gets_tables_and_functions(database_url: str) -> None:
    """The file of the ledger's functions was known by its bare name once."""
    await execute(database_url, "DROP SCHEMA public CASCADE")
    await execute(database_url, "CREATE SCHEMA public")
    await execute(database_url, FIRST_SCHEMA.read_text(encoding="utf-8"))
    await execute(
        database_url,
        "CREATE TABLE alembic_version (version_num text PRIMARY KEY);"
        "INSERT INTO alembic_version VALUES ('0001');"
        "CREATE TABLE schema_functions (file text PRIMARY KEY, sha256 text NOT NULL,"
        " applied_at timestamptz NOT NULL DEFAULT now());"
        "INSERT INTO schema_functions VALUES ('functions.sql', 'of the first release')",
    )
    assert not (await status(database_url))["upToDate"]
    await migrate(database_url)
    assert (await status(database_url))["upToDate"]
    await execute(
        database_url,
        "SELECT announce(gen_random_uuid(), gen_random_uuid(), 'credits.low', '{}', now())",
    )
