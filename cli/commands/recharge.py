"""prepaid recharge: list, show, set, off, suspend, resume, cancel, link."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from cli.actor import current_actor
from cli.database import database_url, transaction
from cli.environment import environment, settings
from cli.output import AsJson, cell, emit, run, table
from shared import config
from shared.db.pool import create_pool
from shared.errors import ConflictError, NotFoundError, ValidationError
from shared.organizations import service as organizations
from shared.payments.client import stripe_client
from shared.payments.model import SaleTerms
from shared.payments.payment_intents import PaymentIntentGateway
from shared.recharge import cancellation, recovery, rules, service, store
from shared.recharge.attempts import store as attempt_store
from shared.recharge.flow import Charger
from shared.recharge.model import RechargeState, Rule, Schedule

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection
    from shared.organizations.model import Organization

app = typer.Typer(no_args_is_help=True, help="Auto-recharge: what may charge, and what it did.")

ROWS_MAX = 1_000
ATTEMPTS_SHOWN = 20
LISTED = ("slug", "state", "reason", "threshold", "monthCredits", "monthlyCap", "attempt")
ATTEMPT_LISTED = ("createdAt", "state", "trigger", "amount", "currency", "reason", "detail")
# What ends each suspension, for the person who asks.
ENDS = {
    "declines": "another card, or prepaid recharge resume",
    "cap": "the next month, a higher cap, or prepaid recharge resume",
    "dispute": "prepaid recharge resume, once you trust this customer again",
    "fraud_warning": "prepaid recharge resume, once you have looked at the payment",
    "no_card": "a card on file",
    "authentication_expired": "another card, or prepaid recharge resume",
    "inquiry": "the inquiry's end, or prepaid recharge resume",
    "refunded": "the customer's next purchase, or prepaid recharge resume",
    "charge_refused": "mend what Stripe said, then prepaid recharge resume",
    "customer_deleted": "a new Stripe customer with a card, then prepaid recharge resume",
    "operator": "prepaid recharge resume",
}

Reference = Annotated[str, typer.Argument(metavar="ORGANIZATION", help="Id or slug.")]
Reason = Annotated[str, typer.Option(help="Why, for the audit log.")]
Amount = Annotated[str | None, typer.Option(help="Credits.")]


@app.command("list")
def list_(
    state: Annotated[RechargeState | None, typer.Option(help="Only in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=ROWS_MAX)] = 100,
    as_json: AsJson = False,
) -> None:
    """List the organizations that have auto-recharge, the last changed first."""

    async def work() -> list[dict[str, Any]]:
        async with transaction() as connection:
            rows = await store.overview(
                connection,
                organization_id=None,
                state=state,
                month_start=rules.month_start(datetime.now(UTC)),
                rows_max=limit,
            )
        return [_public(row) for row in rows]

    emit(
        {"autoRecharges": run(work())},
        as_json=as_json,
        human=lambda found: table(
            LISTED, [[row[c] for c in LISTED] for row in found["autoRecharges"]], empty="none"
        ),
    )


@app.command()
def show(organization: Reference, as_json: AsJson = False) -> None:
    """Show the rule, the state and what would end it, this month, and the last attempts."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            owner = await organizations.find(connection, organization)
            found = await _one(connection, owner)
            attempts = await attempt_store.attempts(connection, owner.id, rows_max=ATTEMPTS_SHOWN)
        return found | {"attempts": [_public_attempt(row) for row in attempts]}

    emit(run(work()), as_json=as_json, human=_show_human)


@app.command("set")
def set_(  # noqa: PLR0913, PLR0917 - one option for each part of a rule
    organization: Reference,
    consented_by: Annotated[str, typer.Option(help="Who agreed to be charged while away.")],
    threshold: Amount = None,
    amount: Amount = None,
    target: Amount = None,
    schedule: Annotated[Schedule | None, typer.Option(help="Besides, or instead.")] = None,
    day: Annotated[int | None, typer.Option(help="1 is Monday, or a day of the month.")] = None,
    schedule_amount: Amount = None,
    monthly_cap: Amount = None,
    monthly_count_cap: Annotated[int | None, typer.Option(help="Charges a month.")] = None,
    pause: Annotated[int, typer.Option(help="Least seconds between two charges.")] = 60,
    as_json: AsJson = False,
) -> None:
    """Turn auto-recharge on with a rule, or change the whole rule. Amounts are credits."""

    async def work() -> dict[str, Any]:
        rule = Rule(
            threshold=_decimal("--threshold", threshold),
            amount=_decimal("--amount", amount),
            target=_decimal("--target", target),
            schedule=schedule,
            schedule_day=day,
            schedule_amount=_decimal("--schedule-amount", schedule_amount),
            monthly_cap=_decimal("--monthly-cap", monthly_cap),
            monthly_count_cap=monthly_count_cap,
            pause_seconds_min=pause,
        )
        env = environment()
        per_unit, units_max = config.credits_per_unit(env), config.purchase_max(env)
        async with transaction() as connection:
            owner = await organizations.find(connection, organization)
            await service.configure(
                connection,
                owner.id,
                rule,
                currency=owner.currency,
                credits_per_unit=per_unit,
                units_max=units_max,
                consented_by=consented_by,
                actor=await current_actor(connection),
                now=datetime.now(UTC),
            )
            return await _one(connection, owner)

    emit(run(work()), as_json=as_json, human=_state_human)


@app.command()
def off(organization: Reference, reason: Reason, as_json: AsJson = False) -> None:
    """Turn auto-recharge off. An attempt under way is settled all the same."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            owner = await organizations.find(connection, organization)
            await _one(connection, owner)
            await service.turn_off(
                connection, owner.id, actor=await current_actor(connection), reason=reason
            )
            return await _one(connection, owner)

    emit(run(work()), as_json=as_json, human=_state_human)


@app.command()
def suspend(organization: Reference, reason: Reason, as_json: AsJson = False) -> None:
    """Charge nothing more until somebody resumes it, whatever its state is now."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            owner = await organizations.find(connection, organization)
            await service.suspend_by_operator(
                connection,
                owner.id,
                actor=await current_actor(connection),
                reason=reason,
                now=datetime.now(UTC),
            )
            return await _one(connection, owner)

    emit(run(work()), as_json=as_json, human=_state_human)


@app.command()
def resume(
    organization: Reference,
    reason: Annotated[str | None, typer.Option(help="Why, for the audit log.")] = None,
    as_json: AsJson = False,
) -> None:
    """End a suspension, whatever its reason, and forget the declines."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            owner = await organizations.find(connection, organization)
            before = await _one(connection, owner)
            if not await service.resume(
                connection, owner.id, actor=await current_actor(connection), reason=reason
            ):
                raise ConflictError(f"Nothing to resume: {_state_human(before)}")
            return await _one(connection, owner)

    emit(run(work()), as_json=as_json, human=_state_human)


@app.command()
def cancel(
    target: Annotated[
        str, typer.Argument(metavar="ORGANIZATION|ATTEMPT", help="Its live attempt, or an id.")
    ],
    reason: Annotated[str | None, typer.Option(help="Why, for the audit log.")] = None,
    as_json: AsJson = False,
) -> None:
    """Cancel an attempt, where its payment can be. The rule waits for the next usage."""

    async def work() -> dict[str, Any]:
        found = settings()
        async with (
            create_pool(database_url(), size=2, application_name="prepaid-cli") as pool,
            stripe_client(found.stripe_api_key, found.stripe_api_base) as client,
        ):
            async with pool.acquire() as connection:
                owner_id, attempt_id = await _live_attempt(connection, target)
                actor = await current_actor(connection)
            charger = Charger(
                pool,
                PaymentIntentGateway(client),
                SaleTerms.of(found),
                found.purchase_max,
                found.public_url,
            )
            row = await cancellation.cancel(
                charger, owner_id, attempt_id, actor=actor, reason=reason
            )
        return _public_attempt(row)

    emit(run(work()), as_json=as_json, human=lambda found: f"{found['id']}: {found['state']}")


async def _live_attempt(connection: Connection, target: str) -> tuple[UUID, UUID]:
    """Return the organization and the id of an attempt, or of the one that lives."""
    with contextlib.suppress(ValueError):
        row = await attempt_store.attempt_by_id(connection, UUID(target))
        if row is not None:
            return row["organization_id"], row["id"]
    owner = await organizations.find(connection, target)
    live = await attempt_store.live(connection, owner.id)
    if live is None:
        raise NotFoundError(f"{owner.slug} has no attempt that lives.")
    return owner.id, live.id


@app.command()
def link(organization: Reference, as_json: AsJson = False) -> None:
    """Print a new link at which the customer authenticates a payment. The one before ends."""

    async def work() -> dict[str, Any]:
        base = config.public_url(environment())
        token = recovery.new_link()
        async with transaction() as connection:
            owner = await organizations.find(connection, organization)
            expires_at = await service.fresh_link(
                connection, owner.id, token, actor=await current_actor(connection)
            )
        return {"url": f"{base}/pay/{token}", "expiresAt": expires_at}

    emit(
        run(work()),
        as_json=as_json,
        human=lambda found: f"{found['url']}\nuntil {found['expiresAt']}",
    )


async def _one(connection: Connection, owner: Organization) -> dict[str, Any]:
    rows = await store.overview(
        connection,
        organization_id=owner.id,
        state=None,
        month_start=rules.month_start(datetime.now(UTC)),
        rows_max=1,
    )
    if not rows:
        raise NotFoundError(f"{owner.slug} has no auto-recharge: prepaid recharge set")
    return _public(rows[0])


def _decimal(option: str, text: str | None) -> Decimal | None:
    try:
        value = None if text is None else Decimal(text)
    except InvalidOperation:
        raise ValidationError(f"{option}: a number such as 25 or 0.5") from None
    if value is not None and not value.is_finite():
        raise ValidationError(f"{option}: a number such as 25 or 0.5")
    return value


def _public(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "organizationId": str(row["organization_id"]),
        "slug": row["slug"],
        "state": row["state"],
        "reason": row["reason"],
        "detail": row["detail"],
        "endsWith": ENDS.get(row["reason"] or row["held_reason"]),
        "heldReason": row["held_reason"],
        "heldDetail": row["held_detail"],
        "suspendedUntil": row["suspended_until"],
        "balance": row["balance"],
        "currency": row["currency"],
        "threshold": row["threshold"],
        "amount": row["amount"],
        "target": row["target"],
        "schedule": row["schedule"],
        "scheduleDay": row["schedule_day"],
        "scheduleAmount": row["schedule_amount"],
        "nextRunAt": row["next_run_at"],
        "monthlyCap": row["monthly_cap"],
        "monthlyCountCap": row["monthly_count_cap"],
        "monthCredits": row["month_credits"],
        "monthCount": row["month_count"],
        "pauseSecondsMin": row["pause_seconds_min"],
        "declinesInRow": row["declines_in_row"],
        "notBefore": row["not_before"],
        "consentedBy": row["consented_by"],
        "consentedAt": row["consented_at"],
        "attempt": row["live_state"],
        "attemptId": str(row["live_id"]) if row["live_id"] else None,
    }


def _public_attempt(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "state": row["state"],
        "trigger": row["trigger"],
        "amount": row["amount"],
        "amountMinor": row["amount_minor"],
        "currency": row["currency"],
        "paymentIntentId": row["payment_intent_id"],
        "reason": row["reason"],
        "detail": row["detail"],
        "declineCode": row["decline_code"],
        "networkAdvice": row["network_advice"],
        "tries": row["tries"],
        "blockedBy": row["blocked_by"],
        "dueAt": row["due_at"],
        "createdAt": row["created_at"],
        "chargedAt": row["charged_at"],
        "settledAt": row["settled_at"],
    }


def _state_human(found: dict[str, Any]) -> str:
    line = f"{found['slug']}: {found['state']}"
    if found["reason"]:
        line += f" ({found['reason']}: {found['detail']}). Ends with {found['endsWith']}."
    elif found["heldReason"]:
        line += (
            f"; suspended when it is turned on ({found['heldReason']}: {found['heldDetail']})."
            f" Ends with {found['endsWith']}."
        )
    return line


def _show_human(found: dict[str, Any]) -> str:
    hidden = {
        "attempts",
        "slug",
        "state",
        "reason",
        "detail",
        "endsWith",
        "heldReason",
        "heldDetail",
    }
    facts = [f"  {name}: {cell(value)}" for name, value in found.items() if name not in hidden]
    attempts = table(
        ATTEMPT_LISTED,
        [[row[c] for c in ATTEMPT_LISTED] for row in found["attempts"]],
        empty="no attempts yet",
    )
    return "\n".join([_state_human(found), *facts, "", attempts])
