"""Many grants that expire at one moment are posted in bounded rounds, and none of them is spent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import asyncpg
import pytest
from structlog.testing import capture_logs

from shared.db.pool import connect
from shared.ledger import service
from shared.ledger.model import TransactionType as Kind
from shared.ledger.verification import verify
from tests.fixtures.ledger import (
    balances,
    grant,
    hold,
    left,
    post,
    posting,
    release,
    statuses,
    try_hold,
    usage,
)
from tests.fixtures.product import create_organization, transactions
from worker.expirer import Expirer

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

SOON = datetime.now(UTC) + timedelta(days=1)
ROUND = 20  # the default of ledger_post_organization
GRANTS = 3 * ROUND


async def let_expire(pool: Pool) -> None:
    """Move every expiry into the past, as time would."""
    await pool.execute(
        "UPDATE credit_grants SET expires_at = now() - interval '1 minute', terms_hash = NULL"
        " WHERE expires_at IS NOT NULL"
    )
    await pool.execute("UPDATE accounts SET next_due_at = now() - interval '1 minute'")


async def expirations(pool: Pool) -> int:
    return sum(row["type"] == "expiration" for row in await transactions(pool))


@pytest.fixture
async def expired(pool: Pool, organization: Organization) -> Organization:
    """Give an organization that owns 5 credits and many more that have expired at one moment."""
    expiring = (grant(organization, 1, expires_at=SOON, priority=1) for _ in range(GRANTS))
    await post(pool, *expiring, grant(organization, 5))
    await let_expire(pool)
    return organization


async def test_a_debit_posts_a_round_of_what_has_expired_and_spends_none_of_it(
    pool: Pool, expired: Organization
) -> None:
    """R8, R10: today one debit posts them all."""
    (refused, paid) = await post(pool, usage(expired, 6), usage(expired, 2))
    assert refused.shortfall is not None
    assert refused.shortfall.available == refused.shortfall.balance == 5
    assert paid.status == "posted"
    assert await expirations(pool) == ROUND
    assert await balances(pool, expired) == (Decimal(3), Decimal(0))
    assert (await left(pool, expired))[-1] == 3
    async with pool.acquire() as connection:
        assert (await verify(connection))["problems"] == []


async def test_balances_are_exact_in_every_round_and_each_grant_has_its_row(
    pool: Pool, expired: Organization
) -> None:
    for posted in (ROUND, 2 * ROUND, GRANTS, GRANTS):
        assert await statuses(pool, usage(expired, 6)) == ["insufficient"]
        assert await expirations(pool) == posted
        assert await balances(pool, expired) == (5, 0)
    rows = [row for row in await transactions(pool) if row["type"] == "expiration"]
    assert len({row["grant_id"] for row in rows}) == GRANTS
    account = await pool.fetchrow("SELECT balance, expired, next_due_at FROM accounts")
    assert account is not None
    assert tuple(account) == (5, 0, None)


async def test_debt_that_arises_between_two_rounds_is_paid_by_the_next_credit(
    pool: Pool, expired: Organization
) -> None:
    assert await statuses(pool, usage(expired, 8, may_overdraw=True)) == ["posted"]
    assert await balances(pool, expired) == (-3, 0)
    async with pool.acquire() as connection:
        assert (await verify(connection))["problems"] == []
    await post(pool, grant(expired, 10))
    assert await balances(pool, expired) == (7, 0)
    assert await Expirer(pool).expire() == 1
    assert await balances(pool, expired) == (7, 0)
    assert await expirations(pool) == GRANTS
    async with pool.acquire() as connection:
        assert (await verify(connection))["problems"] == []


async def test_what_has_expired_is_neither_voided_nor_refunded_nor_held(
    pool: Pool, organization: Organization
) -> None:
    payment = {"payment_intent_id": "pi_1", "expires_at": SOON}
    many = [grant(organization, 1, expires_at=SOON) for _ in range(2 * ROUND)]
    *_, voided, bought = await post(
        pool, *many, grant(organization, 1, expires_at=SOON),
        posting(organization, Kind.PURCHASE, 10, **payment),
    )  # fmt: skip
    assert bought.status == "posted"
    await let_expire(pool)
    void = posting(organization, Kind.VOID, None, grant_id=voided.id)
    refund = posting(organization, Kind.REFUND, Decimal(-10), payment_intent_id="pi_1")
    assert await statuses(pool, void, refund) == ["nothing_left", "posted"]
    assert await balances(pool, organization) == (-10, 0)
    assert (await try_hold(pool, organization, 1)).status == "insufficient"


async def test_the_expirer_works_in_rounds_and_waits_for_no_account_that_is_locked(
    pool: Pool, expired: Organization
) -> None:
    other = await create_organization(pool, "other")
    await post(pool, *(grant(other, 1, expires_at=SOON) for _ in range(3)))
    await let_expire(pool)
    async with pool.acquire() as holder, holder.transaction():
        await holder.execute(
            "SELECT FROM accounts WHERE organization_id = $1 FOR UPDATE", expired.id
        )
        assert await Expirer(pool).expire() == 1
        assert await balances(pool, other) == (0, 0)
    async with pool.acquire() as connection, connection.transaction():
        assert await service.post_expirations(connection, expirations_max=7) == 1
    assert await expirations(pool) == 3 + 7
    assert await Expirer(pool).expire() == 1
    assert await expirations(pool) == 3 + GRANTS


async def test_many_holds_that_expire_at_once_are_closed_in_rounds_and_free_at_once(
    pool: Pool, organization: Organization
) -> None:
    """R8: the next debit closed all of them, however many."""
    holds = 4 * ROUND
    await post(pool, grant(organization, holds))
    held = [await hold(pool, organization, 1) for _ in range(holds)]
    await pool.execute(
        "UPDATE holds SET expires_at = now() - interval '1 h' + made.place * interval '1 s'"
        " FROM unnest($1::uuid []) WITH ORDINALITY AS made (id, place)"
        " WHERE holds.id = made.id",
        [made.id for made in held],
    )
    await pool.execute("UPDATE accounts SET next_due_at = now() - interval '1 h'")
    assert await balances(pool, organization) == (holds, 0)
    still_open = "SELECT count(*) FROM holds WHERE status = 'active'"
    for spent in (1, 2):
        assert await statuses(pool, usage(organization, 1)) == ["posted"]
        assert await pool.fetchval(still_open) == holds - spent * ROUND
        assert await balances(pool, organization) == (holds - spent, 0)
        async with pool.acquire() as connection:
            assert (await verify(connection))["problems"] == []

    assert await release(pool, organization, held[-1].id) == "hold_closed"
    assert await pool.fetchval(still_open) == ROUND
    late = posting(organization, Kind.HOLD_CAPTURE, Decimal(-1), hold_id=held[-1].id)
    assert await statuses(pool, late) == ["hold_closed"]
    assert await balances(pool, organization) == (holds - 2, 0)
    assert await pool.fetchval("SELECT next_due_at FROM accounts") is None


async def expire_holds(pool: Pool) -> None:
    await pool.execute("UPDATE holds SET expires_at = now() - interval '1 minute'")
    await pool.execute("UPDATE accounts SET next_due_at = now() - interval '1 minute'")


async def test_an_expired_hold_is_not_captured_or_released_before_its_round(
    pool: Pool, organization: Organization
) -> None:
    holds = 2 * ROUND
    await post(pool, grant(organization, holds))
    held = [await hold(pool, organization, 1) for _ in range(holds)]
    await expire_holds(pool)
    captures = [
        posting(organization, Kind.HOLD_CAPTURE, Decimal(-1), hold_id=made.id) for made in held
    ]
    assert set(await statuses(pool, *captures)) == {"hold_closed"}
    assert await pool.fetchval("SELECT count(*) FROM holds WHERE status = 'active'") == ROUND
    assert await balances(pool, organization) == (holds, 0)


async def test_releasing_all_holds_leaves_those_that_have_expired(
    pool: Pool, organization: Organization
) -> None:
    holds = 3 * ROUND  # the hold and the release close a round each
    await post(pool, grant(organization, 2 * holds))
    for _ in range(holds):
        await hold(pool, organization, 1)
    await expire_holds(pool)
    await hold(pool, organization, 1)
    assert await pool.fetchval("SELECT ledger_release_all($1)", organization.id) == 1
    assert await balances(pool, organization) == (2 * holds, 0)


async def test_a_hold_ends_after_what_has_expired_already(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 10))
    await pool.execute("UPDATE accounts SET expired_through = now() + interval '1 day'")
    made = await hold(pool, organization, 1)
    assert await release(pool, organization, made.id) == "posted"
    assert await balances(pool, organization) == (10, 0)


async def test_the_expirer_closes_holds_that_have_expired_in_rounds(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 10))
    for _ in range(10):
        await hold(pool, organization, 1)
    await expire_holds(pool)
    async with pool.acquire() as connection, connection.transaction():
        assert await service.post_expirations(connection, expirations_max=7) == 1
    assert await pool.fetchval("SELECT count(*) FROM holds WHERE status = 'active'") == 3
    assert await balances(pool, organization) == (10, 0)
    assert await Expirer(pool).expire() == 1
    assert await pool.fetchval("SELECT count(*) FROM holds WHERE status = 'active'") == 0


async def test_a_round_takes_organizations_behind_those_that_are_locked(
    pool: Pool, expired: Organization
) -> None:
    other = await create_organization(pool, "other")
    await post(pool, grant(other, 1, expires_at=SOON))
    await let_expire(pool)
    async with pool.acquire() as holder, holder.transaction():
        await holder.execute(
            "SELECT FROM accounts WHERE organization_id = $1 FOR UPDATE", expired.id
        )
        async with pool.acquire() as connection, connection.transaction():
            assert await service.post_expirations(connection, organizations_max=1) == 1
        assert await balances(pool, other) == (0, 0)


@pytest.mark.parametrize("error_code", ["check_violation", "lock_not_available", "query_canceled"])
async def test_an_organization_whose_expirations_fail_stops_no_other(
    pool: Pool, superuser_url: str, expired: Organization, error_code: str
) -> None:
    """Neither a corrupted row nor a timeout of one organization ends the rounds of all."""
    other = await create_organization(pool, "other")
    await post(pool, grant(other, 1, expires_at=SOON))
    await let_expire(pool)
    owner = await connect(superuser_url, application_name="test")
    try:
        await owner.execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" RAISE EXCEPTION USING ERRCODE = '{error_code}'; END $$;"
            " CREATE TRIGGER fail BEFORE INSERT ON credit_transactions FOR EACH ROW"
            f" WHEN (NEW.organization_id = '{expired.id}') EXECUTE FUNCTION fail()"
        )
        expirer = Expirer(pool)
        with capture_logs() as logs, pytest.raises(asyncpg.PostgresError):
            await expirer.expire()
        with pytest.raises(asyncpg.PostgresError):
            await expirer.run_once()
        failing = [entry for entry in logs if entry["event"] == "expirer.failed"]
        assert [entry["organization_id"] for entry in failing] == [str(expired.id)]
        assert await expirations(pool) == 1
        assert await balances(pool, other) == (0, 0)
        await owner.execute("DROP TRIGGER fail ON credit_transactions")
        assert await expirer.expire() > 0
        assert await expirations(pool) == GRANTS + 1
    finally:
        await owner.close()
