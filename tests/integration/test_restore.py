"""A backup is restored: the ledger verifies, the role is restricted, what was sent stays sent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from shared.db.pool import create_pool
from shared.organizations.model import Organization
from shared.outbound.sender import Sender
from tests.fixtures.commands import Command
from tests.fixtures.dumps import run
from tests.fixtures.ledger import balances, some_history
from tests.fixtures.outbound_messages import add, announce, states
from tests.fixtures.receiver import Clock, Receiver, create_messenger
from tests.fixtures.servers import process_url
from worker.messenger import Messenger

if TYPE_CHECKING:
    from shared.db.pool import Pool


async def test_a_restored_dump_verifies_is_restricted_and_sends_only_what_was_not_sent(
    *,
    pool: Pool,
    organization: Organization,
    database_url: str,
    empty_url: str,
    receiver: Receiver,
    messenger: Messenger,
    clock: Clock,
    prepaid: Command,
    tmp_path: Path,
) -> None:
    await some_history(pool, organization)
    await add(pool, receiver.url())
    await announce(pool, organization)
    await messenger.deliver()
    await announce(pool, organization)
    dump = str(tmp_path / "prepaid.dump")
    await run("pg_dump", "--format=custom", f"--file={dump}", database_url)
    await messenger.deliver()  # after the backup, which does not know of it
    sent, sent_since = (got.id for got in receiver.received)

    await run("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={empty_url}", dump)

    here = {"DATABASE_URL": empty_url}
    assert (await prepaid("migrate", "status", "--json", **here)).json["upToDate"] is True
    assert (await prepaid("ledger", "verify", "--json", **here)).json["ok"] is True
    async with create_pool(empty_url, size=2, application_name="prepaid-tests") as restored:
        assert await balances(restored, organization) == await balances(pool, organization)
        assert await states(restored) == {"delivered": 1, "pending": 1}
        async with Sender(allow_private=True) as sender:
            assert await create_messenger(restored, sender, clock).deliver() == 1
    # The message of the moments in between comes twice, with the id by which a receiver knows it.
    assert [got.id for got in receiver.received] == [sent, sent_since, sent_since]
    await assert_restricted(process_url(empty_url))


async def assert_restricted(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM credit_transactions") > 0
        if await connection.fetchval("SELECT usesuper FROM pg_user WHERE usename = current_user"):
            return  # --database-roles=superuser: one role for all
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("DELETE FROM credit_transactions")
    finally:
        await connection.close()
