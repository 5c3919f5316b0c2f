"""The SQL of auto-recharge: rules, settings, and the inputs of a decision."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.db.queries import beside
from shared.recharge.model import (
    ENDED_BY_A_PERSON,
    NO_CARD_BEFORE,
    AutoRecharge,
    Card,
    Circumstances,
    RechargeState,
    Rule,
    Schedule,
    Spent,
    SuspensionReason,
)

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)


async def lock_account(connection: Connection, organization_id: UUID) -> None:
    """Lock an organization's account, the first lock of all; the query says why."""
    await connection.execute(QUERIES.lock_account, organization_id)


async def circumstances(
    connection: Connection, organization_id: UUID, *, month_start: datetime
) -> Circumstances | None:
    """Return the inputs of a decision, under the account's lock; None: no auto-recharge."""
    row = await connection.fetchrow(QUERIES.circumstances, organization_id, month_start)
    if row is None:
        return None
    method = await connection.fetchrow(QUERIES.card, organization_id)
    assert method is not None  # noqa: S101 - it returns a row with or without a card
    card = None
    if method["id"] is not None:
        card = Card(
            id=method["id"],
            customer_id=method["customer_id"],
            type=method["type"],
            stripe_account=method["stripe_account"],
        )
    return Circumstances(
        auto=_auto_recharge(row),
        spendable=row["spendable"],
        overdraft_limit=row["overdraft_limit"],
        currency=row["currency"],
        card=card,
        card_undescribed=method["undescribed"],
        spent=Spent(row["month_credits"], row["month_count"]),
    )


async def save(
    connection: Connection,
    organization_id: UUID,
    rule: Rule,
    *,
    on: bool,
    next_run_at: datetime | None,
    consented_at: datetime | None,
    consented_by: str | None,
) -> RechargeState:
    """Save a rule; return the new state of auto-recharge."""
    return RechargeState(
        await connection.fetchval(
            QUERIES.save, organization_id, rule.threshold, rule.amount, rule.target, rule.schedule,
            rule.schedule_day, rule.schedule_amount, next_run_at, rule.monthly_cap,
            rule.monthly_count_cap, rule.pause_seconds_min, consented_at, consented_by, on,
            list(ENDED_BY_A_PERSON),
        )
    )  # fmt: skip


async def turn_off(connection: Connection, organization_id: UUID) -> bool:
    """Turn auto-recharge off; a suspension that only a person ends is stored."""
    row = await connection.fetchrow(QUERIES.turn_off, organization_id, list(ENDED_BY_A_PERSON))
    return row is not None


async def follow(connection: Connection, organization_id: UUID) -> None:
    """Copy the thresholds of the saved rule to the account: for arming, and for `credits.low`."""
    await connection.execute(QUERIES.follow, organization_id)


async def set_low_balance_threshold(
    connection: Connection, organization_id: UUID, threshold: Decimal | None
) -> None:
    """Set the balance below which `credits.low` is announced; None: the rule's threshold."""
    await connection.execute(QUERIES.set_low_balance_threshold, organization_id, threshold)
    await follow(connection, organization_id)


async def settings(
    connection: Connection,
    *,
    organization_id: UUID | None = None,
    state: RechargeState | None = None,
    rows_max: int = 1000,
) -> list[AutoRecharge]:
    """Read auto-recharges."""
    rows = await connection.fetch(QUERIES.settings, organization_id, state, rows_max)
    return [_auto_recharge(row) for row in rows]


async def overview(
    connection: Connection,
    *,
    organization_id: UUID | None,
    state: RechargeState | None,
    month_start: datetime,
    rows_max: int,
) -> list[dict[str, Any]]:
    """Read auto-recharges for display with this month's charges, the last changed first."""
    rows = await connection.fetch(QUERIES.overview, organization_id, state, rows_max)
    organizations = [row["organization_id"] for row in rows]
    charged = {
        row["organization_id"]: row
        for row in await connection.fetch(QUERIES.month_charges, organizations, month_start)
    }
    nothing = {"credits": Decimal(0), "count": 0}
    return [
        {**row, "month_credits": month["credits"], "month_count": month["count"]}
        for row in rows
        for month in [charged.get(row["organization_id"], nothing)]
    ]


async def billing(connection: Connection, organization_id: UUID) -> dict[str, Any]:
    """Read the billing settings besides the balance."""
    row = await connection.fetchrow(QUERIES.billing, organization_id)
    rule = await connection.fetchrow(QUERIES.billing_rule, organization_id)
    assert row is not None and rule is not None  # noqa: S101, PT018 - never deleted
    return {**row, **rule}


async def lock(connection: Connection, organization_id: UUID) -> None:
    """Lock an organization's settings until this transaction ends."""
    await connection.execute(QUERIES.lock, organization_id)


async def limit_overdraft(connection: Connection, organization_id: UUID, limit: Decimal) -> None:
    """Set how far an organization may go below zero."""
    await connection.execute(QUERIES.limit_overdraft, organization_id, limit)


async def dismiss_reminder(connection: Connection, organization_id: UUID, now: datetime) -> bool:
    """Store that the reminder was dismissed; False: there is no auto-recharge."""
    return await connection.fetchrow(QUERIES.dismiss_reminder, organization_id, now) is not None


def _reason(stored: str | None) -> SuspensionReason | None:
    if stored == NO_CARD_BEFORE:
        return SuspensionReason.NO_CARD
    return SuspensionReason(stored) if stored else None


def _auto_recharge(row: asyncpg.Record) -> AutoRecharge:
    rule = Rule(
        threshold=row["threshold"],
        amount=row["amount"],
        target=row["target"],
        schedule=Schedule(row["schedule"]) if row["schedule"] else None,
        schedule_day=row["schedule_day"],
        schedule_amount=row["schedule_amount"],
        monthly_cap=row["monthly_cap"],
        monthly_count_cap=row["monthly_count_cap"],
        pause_seconds_min=row["pause_seconds_min"],
    )
    return AutoRecharge(
        organization_id=row["organization_id"],
        state=RechargeState(row["state"]),
        rule=rule,
        reason=_reason(row["reason"]),
        detail=row["detail"],
        suspended_until=row["suspended_until"],
        next_run_at=row["next_run_at"],
        declines_in_row=row["declines_in_row"],
        not_before=row["not_before"],
        consented_at=row["consented_at"],
        consented_by=row["consented_by"],
    )
