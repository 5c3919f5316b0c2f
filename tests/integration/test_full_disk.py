"""PostgreSQL answers and cannot write: an outage, which counts against no event or request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.db.pool import UNAVAILABLE
from shared.inbox.rules import LEASES_LOST_MAX
from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient
from tests.fixtures.product import event_row, payment, receive

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from worker.drainer import Drainer

FULL = """
CREATE FUNCTION refuse_for_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'could not extend file' USING ERRCODE = '{code}';
END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON credit_transactions
FOR EACH STATEMENT EXECUTE FUNCTION refuse_for_room()
"""
ROOM = "DROP TRIGGER full_disk ON credit_transactions"


# No room, or a standby at that moment.
@pytest.mark.parametrize("code", ["disk_full", "read_only_sql_transaction"])
async def test_an_event_waits_for_room_and_nothing_is_counted_against_it(
    pool: Pool, drainer: Drainer, organization: Organization, code: str
) -> None:
    await pool.execute(FULL.format(code=code))
    await receive(pool, payment("a"))
    for _ in range(LEASES_LOST_MAX + 1):
        with pytest.raises(UNAVAILABLE):
            await drainer.drain()
    waiting = await event_row(pool, "evt_a")
    assert (waiting["state"], waiting["reason"]) == ("received", None)
    assert (waiting["attempts"], waiting["leases_lost"]) == (0, 0)
    assert await pool.fetchval("SELECT count(*) FROM event_breakers") == 0
    await pool.execute(ROOM)
    await drainer.drain()
    assert (await event_row(pool, "evt_a"))["state"] == "applied"


async def test_a_request_is_answered_503_and_succeeds_when_repeated(
    pool: Pool, api_client: ApiClient, organization: Organization
) -> None:
    body = {"organizationId": organization.slug, "amount": 5, "transactionId": "gift-1"}
    await pool.execute(FULL.format(code="disk_full"))
    refused = await api_client.post("/api/credit-transactions", body)
    assert refused.status == 503
    assert int(refused.headers["Retry-After"]) > 0
    await pool.execute(ROOM)
    assert (await api_client.post("/api/credit-transactions", body)).status == 200
