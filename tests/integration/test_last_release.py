"""Processes of the last release go on with this schema until their restart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from shared.ledger import service as ledger
from tests.fixtures.ledger import grant, post

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

NOW = datetime.now(UTC)


@pytest.mark.parametrize("function", ["ledger_tell_expiring", "ledger_announce_expiring"])
async def test_its_worker_and_one_of_this_release_announce_a_grant_once(
    pool: Pool, organization: Organization, function: str
) -> None:
    await post(pool, grant(organization, 5, key="soon", expires_at=NOW + timedelta(days=3)))
    await post(pool, grant(organization, 5, key="later", expires_at=NOW + timedelta(days=60)))
    statement = f"SELECT {function}($1, $2::interval, $3)"
    assert await pool.fetchval(statement, NOW, ledger.EXPIRY_NOTICE, 200) == 1
    assert await pool.fetchval(statement, NOW, ledger.EXPIRY_NOTICE, 200) == 0
    async with pool.acquire() as connection, connection.transaction():
        assert await ledger.announce_expiring(connection, now=NOW) == 0


async def test_its_console_lists_grants_in_burn_order(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 1, key="never"))
    await post(pool, grant(organization, 2, key="soon", expires_at=NOW + timedelta(days=1)))
    await post(pool, grant(organization, 3, key="first", priority=1))
    rows = await pool.fetch("SELECT remaining FROM ledger_burn_order($1, $2)", organization.id, NOW)
    assert [row["remaining"] for row in rows] == [3, 2, 1]
