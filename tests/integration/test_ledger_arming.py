"""Which transactions arm a recharge, and which make it wait for the next usage."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from shared.ledger import service as ledger
from shared.ledger.model import TransactionType
from tests.fixtures.arming import PAYMENT, attempts, is_armed, waits
from tests.fixtures.ledger import grant, hold, make_due, post, posting, statuses, try_hold, usage
from tests.fixtures.product import create_organization
from tests.fixtures.recharging import agree

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization


# Case -> (balance before, taken). The threshold is 10.
CROSSINGS = {
    "stays above": (30, 5),
    "reaches the threshold exactly": (30, 20),
    "goes below": (30, 25),
    "was below": (8, 5),
}
BELOW = {"goes below", "was below"}
ARMS = {"usage", "hold", "hold_capture"}
WAITS = {"refund", "dispute", "void", "expiration"}
CREDITS = {
    TransactionType.PURCHASE,
    TransactionType.RECHARGE,
    TransactionType.GRANT,
    TransactionType.BONUS,
    TransactionType.DISPUTE_REVERSAL,
}


async def take(pool: Pool, owner: Organization, kind: str, taken: int) -> None:
    """Post what takes this much from what is spendable, of a kind."""
    if kind == "hold":
        await hold(pool, owner, taken)
    elif kind == "hold_capture":
        held = await pool.fetchval("SELECT id FROM holds")
        capture = posting(
            owner, TransactionType.HOLD_CAPTURE, -taken - 1, hold_id=held, may_overdraw=True
        )
        assert await statuses(pool, capture) == ["posted"]
    elif kind == "void":
        row = await pool.fetchval("SELECT id FROM credit_grants WHERE original = $1", taken)
        void = posting(owner, TransactionType.VOID, None, grant_id=row)
        assert await statuses(pool, void) == ["posted"]
    elif kind == "expiration":
        row = await pool.fetchval("SELECT id FROM credit_grants WHERE original = $1", taken)
        await make_due(pool, "credit_grants", row)
        async with pool.acquire() as connection, connection.transaction():
            assert await ledger.post_expirations(connection) == 1
    else:
        named = {"payment_intent_id": PAYMENT} if kind in {"refund", "dispute"} else {}
        debit = posting(owner, TransactionType(kind), -taken, **named)
        assert await statuses(pool, debit) == ["posted"]


@pytest.mark.parametrize("crossing", CROSSINGS)
@pytest.mark.parametrize("kind", [*sorted(ARMS), *sorted(WAITS), "adjustment"])
async def test_what_arms_and_what_waits_by_type_and_crossing(
    pool: Pool, organization: Organization, kind: str, crossing: str
) -> None:
    """M4, M7: usage, a hold or a capture that leaves less than the threshold arms; nothing else."""
    before, taken = CROSSINGS[crossing]
    expiring = {"expires_at": datetime(2999, 1, 1, tzinfo=UTC)} if kind == "expiration" else {}
    bought = TransactionType.GRANT if expiring else TransactionType.PURCHASE
    given = posting(organization, bought, taken, payment_intent_id=PAYMENT, **expiring)
    await post(pool, given)
    await post(pool, grant(organization, before - taken, priority=60))
    if kind == "hold_capture":
        await post(pool, grant(organization, 1, priority=60))
        await hold(pool, organization, 1)
    await agree(pool, organization)
    assert not await is_armed(pool, organization)

    await take(pool, organization, kind, taken)
    assert await is_armed(pool, organization) == (kind in ARMS and crossing in BELOW)
    by_operator = kind == "adjustment" and crossing == "goes below"
    assert await waits(pool, organization) == (kind in WAITS or by_operator)


@pytest.mark.parametrize("kind", sorted(CREDITS))
async def test_a_credit_that_leaves_the_balance_below_the_threshold_arms_nothing(
    pool: Pool, organization: Organization, kind: TransactionType
) -> None:
    await agree(pool, organization)
    await post(pool, posting(organization, kind, 5))
    assert not await is_armed(pool, organization)


def test_the_tables_name_every_type() -> None:
    named = (ARMS - {"hold"}) | WAITS | CREDITS | {"adjustment"}
    assert named == set(TransactionType)


@pytest.mark.parametrize("kind", sorted(WAITS))
@pytest.mark.parametrize("next_", ["usage", "hold", "refused usage", "refused hold"])
async def test_the_next_usage_ends_the_wait_and_arms(
    pool: Pool, organization: Organization, kind: str, next_: str
) -> None:
    """M4: after credits were taken back, auto-recharge waits for the next usage."""
    far = datetime(2999, 1, 1, tzinfo=UTC) if kind == "expiration" else None
    given = posting(
        organization,
        TransactionType.GRANT if far else TransactionType.PURCHASE,
        25,
        payment_intent_id=PAYMENT,
        expires_at=far,
    )
    await post(pool, given, grant(organization, 5, priority=60))
    await agree(pool, organization)
    await take(pool, organization, kind, 25)
    assert await waits(pool, organization)
    if next_ == "usage":
        assert await statuses(pool, usage(organization, 1)) == ["posted"]
    elif next_ == "hold":
        assert (await try_hold(pool, organization, 1)).status == "posted"
    elif next_ == "refused usage":
        assert await statuses(pool, usage(organization, 50)) == ["insufficient"]
    else:
        assert (await try_hold(pool, organization, 50)).status == "insufficient"
    assert await is_armed(pool, organization)
    assert not await waits(pool, organization)


@pytest.mark.parametrize("usage_is_last", [True, False])
async def test_the_last_of_usage_and_a_refund_in_one_batch_decides(
    pool: Pool, organization: Organization, usage_is_last: bool
) -> None:
    bought = posting(organization, TransactionType.PURCHASE, 25, payment_intent_id=PAYMENT)
    await post(pool, bought, grant(organization, 5, priority=60))
    await agree(pool, organization)
    refund = posting(organization, TransactionType.REFUND, -20, payment_intent_id=PAYMENT)
    used = usage(organization, 2)
    await post(pool, *((refund, used) if usage_is_last else (used, refund)))
    assert await is_armed(pool, organization) == usage_is_last
    assert await waits(pool, organization) != usage_is_last


async def test_usage_before_an_adjustment_in_one_batch_arms_only_for_itself(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 30))
    await agree(pool, organization)
    adjusted = posting(organization, TransactionType.ADJUSTMENT, -20)
    await post(pool, usage(organization, 5), adjusted)
    assert not await is_armed(pool, organization)
    await post(pool, usage(organization, 1))
    assert await is_armed(pool, organization)


async def test_a_threshold_below_a_hold_is_seen_in_a_batch_of_plain_debits(pool: Pool) -> None:
    """M7: many organizations in one statement, one of which has most of its balance on hold."""
    owners = [await create_organization(pool, f"org-{n}") for n in range(3)]
    await post(pool, *(grant(owner, 100) for owner in owners))
    await post(pool, *(usage(owner, 1) for owner in owners))
    await hold(pool, owners[1], 80)
    for owner in owners:
        await agree(pool, owner)
    await post(pool, *(usage(owner, 10) for owner in owners))
    assert [await is_armed(pool, owner) for owner in owners] == [False, True, False]


async def test_m7_the_hold_that_leaves_too_little_arms(
    pool: Pool, organization: Organization
) -> None:
    """M7: balance 100, threshold 10; a hold of 95 leaves 5 spendable."""
    await post(pool, grant(organization, 100))
    await agree(pool, organization)
    first = await hold(pool, organization, 95)
    (attempt,) = await attempts(pool, organization)
    assert (attempt["state"], attempt["trigger"], attempt["needed"]) == ("armed", "threshold", None)
    assert attempt["id"] == first.id
    refused = await try_hold(pool, organization, 6)
    assert refused.status == "insufficient"
    (attempt,) = await attempts(pool, organization)
    assert (attempt["state"], attempt["needed"]) == ("armed", 6)


async def attempt_count(pool: Pool) -> Any:
    return await pool.fetchval("SELECT count(*) FROM recharge_attempts")


async def test_a_replayed_posting_arms_nothing(pool: Pool, organization: Organization) -> None:
    await post(pool, grant(organization, 12))
    used = usage(organization, 5)
    await post(pool, used)
    await agree(pool, organization)
    assert await statuses(pool, used) == ["replayed"]
    assert await attempt_count(pool) == 0
