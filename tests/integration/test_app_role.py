"""The role of the processes: it can do all their work, and cannot change what has been posted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from migrations.runner import migrate
from shared.db.pool import create_pool
from shared.events.service import Applier
from shared.organizations import store as organization_store
from shared.outbound import service as outbound
from shared.outbound.model import MessageType, OutboundMessage
from shared.outbound.sender import Sender
from shared.payments.model import SaleTerms
from tests.fixtures.product import create_organization, event_states, payment, receive, transactions
from tests.fixtures.receiver import Receiver
from tests.fixtures.servers import execute
from tests.integration.invoices import invoice
from worker.drainer import Drainer
from worker.expirer import Expirer
from worker.messenger import Messenger

if TYPE_CHECKING:
    from shared.db.pool import Pool


@pytest_asyncio.fixture
async def restricted(pool: Pool, database_url: str, superuser_url: str) -> AsyncIterator[str]:
    """Make a role as a superuser, grant it what it needs as the owner, and let the owner be it."""
    role = f"app_{uuid4().hex}"
    owner = await pool.fetchval("SELECT current_user")
    await execute(superuser_url, f"CREATE ROLE {role} NOLOGIN; GRANT {role} TO {owner}")
    await migrate(database_url, app_role=role)
    yield role
    await execute(superuser_url, f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE credit_transactions SET amount = 1000",
        "DELETE FROM credit_transactions",
        "TRUNCATE credit_transactions",
        "ALTER TABLE credit_transactions DISABLE TRIGGER ALL",
        "UPDATE audit_log SET actor = 'nobody'",
        "DELETE FROM audit_log",
        "DELETE FROM accounts",
        "DELETE FROM stripe_events",
        "DELETE FROM outbound_messages",
        "DELETE FROM webhook_endpoints",
        "DROP TABLE credit_transactions",
    ],
)
async def test_the_role_of_the_processes_cannot_change_what_is_posted(
    pool: Pool, restricted: str, statement: str
) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(f"SET LOCAL ROLE {restricted}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)


async def test_the_role_of_the_processes_can_do_their_work(
    pool: Pool, database_url: str, restricted: str
) -> None:
    await create_organization(pool)
    closed = await create_organization(pool, "closed")
    async with pool.acquire() as connection:
        assert await organization_store.set_closed(connection, closed.id, closed=True)
    await receive(pool, payment("1"), payment("2", organization="closed"), invoice(amount_paid=0))
    url = f"{database_url}?options=-c%20role%3D{restricted}"
    async with create_pool(url, size=2, application_name="prepaid-tests") as own:
        assert await own.fetchval("SELECT current_user") == restricted
        await Drainer(own, Applier(own, SaleTerms(Decimal(1))), make_token=uuid4).drain()
        await Expirer(own).expire()
    states = await event_states(pool)
    assert states.pop("evt_2") == "dead"
    assert set(states.values()) == {"applied"}
    assert len(await transactions(pool)) == 2


async def test_the_role_of_the_processes_can_announce_and_deliver(
    pool: Pool, database_url: str, restricted: str, receiver: Receiver
) -> None:
    organization = await create_organization(pool)
    url = f"{database_url}?options=-c%20role%3D{restricted}"
    async with create_pool(url, size=2, application_name="prepaid-tests") as own:
        async with own.acquire() as connection:
            made = await outbound.add_endpoint(connection, url=receiver.url(), allow_private=True)
            await outbound.rotate_secret(connection, made.endpoint.id)
            message = OutboundMessage(
                organization.id, MessageType.CREDITS_LOW, {}, uuid4(), datetime.now(UTC)
            )
            await outbound.announce(connection, [message])
        async with Sender(allow_private=True) as sender:
            assert await Messenger(own, sender, uuid4).deliver() == 1
        async with own.acquire() as connection:
            await outbound.remove_endpoint(connection, made.endpoint.id)
        await outbound.measure_backlog(own)
    assert len(receiver.received) == 1


async def test_the_role_of_the_processes_can_read_everything_there_is(
    pool: Pool, restricted: str
) -> None:
    """A table or a view that was forgotten would fail in production alone."""
    rows = await pool.fetch(
        "SELECT oid::regclass::text AS name FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')"
        " AND NOT has_table_privilege($1, oid, 'SELECT')",
        restricted,
    )
    assert [row["name"] for row in rows] == []
