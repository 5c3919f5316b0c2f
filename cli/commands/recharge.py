"""prepaid recharge: list, show, set, off, suspend, resume, cancel, link."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from cli.actor import current_actor
from cli.amounts import decimal
from cli.commands.recharge_output import (
    COLUMNS,
    attempt_document,
    recharge_document,
    show_lines,
    state_line,
)
from cli.database import database_url, transaction
from cli.environment import environment, load_settings
from cli.output import AsJson, emit, run, table
from shared import config
from shared.db.pool import create_pool
from shared.errors import ConflictError, NotFoundError
from shared.organizations import service as organizations
from shared.payments.client import stripe_client
from shared.payments.model import SaleTerms
from shared.payments.payment_intents import PaymentIntentGateway
from shared.recharge import cancellation, recovery, rules, service, store
from shared.recharge.attempts import store as attempt_store
from shared.recharge.flow import Charger
from shared.recharge.model import RechargeState, Rule, Schedule

if TYPE_CHECKING:
    from shared.db.pool import Connection
    from shared.organizations.model import Organization

app = typer.Typer(no_args_is_help=True, help="Auto-recharge: rules, suspensions and attempts.")

ROWS_MAX = 1_000
ATTEMPTS_SHOWN = 20

Reference = Annotated[str, typer.Argument(metavar="ORGANIZATION", help="Id or slug.")]
Reason = Annotated[str, typer.Option(help="The reason, for the audit log.")]
Amount = Annotated[str | None, typer.Option(help="An amount in credits.")]


@app.command("list")
def list_(
    state: Annotated[RechargeState | None, typer.Option(help="Only in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=ROWS_MAX)] = 100,
    as_json: AsJson = False,
) -> None:
    """List the organizations with auto-recharge, the last changed first."""

    async def work() -> list[dict[str, Any]]:
        async with transaction() as connection:
            rows = await store.overview(
                connection,
                organization_id=None,
                state=state,
                month_start=rules.month_start(datetime.now(UTC)),
                rows_max=limit,
            )
        return [recharge_document(row) for row in rows]

    emit(
        {"autoRecharges": run(work())},
        as_json=as_json,
        human=lambda document: table(
            COLUMNS, [[row[c] for c in COLUMNS] for row in document["autoRecharges"]], empty="none"
        ),
    )


@app.command()
def show(organization: Reference, as_json: AsJson = False) -> None:
    """Show the rule, the state and what ends it, this month's charges and the last attempts."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            owner = await organizations.find(connection, organization)
            document = await _one(connection, owner)
            attempts = await attempt_store.attempts(connection, owner.id, rows_max=ATTEMPTS_SHOWN)
        return document | {"attempts": [attempt_document(row) for row in attempts]}

    emit(run(work()), as_json=as_json, human=show_lines)


@app.command("set")
def set_(  # noqa: PLR0913, PLR0917 - one option for each part of a rule
    organization: Reference,
    consented_by: Annotated[
        str, typer.Option(help="The person who agreed to off-session charges.")
    ],
    threshold: Amount = None,
    amount: Amount = None,
    target: Amount = None,
    schedule: Annotated[
        Schedule | None, typer.Option(help="Also, or only, recharge on a schedule.")
    ] = None,
    day: Annotated[
        int | None, typer.Option(help="The weekday (1 is Monday) or the day of the month.")
    ] = None,
    schedule_amount: Amount = None,
    monthly_cap: Amount = None,
    monthly_count_cap: Annotated[
        int | None, typer.Option(help="The maximum number of charges a month.")
    ] = None,
    pause: Annotated[int, typer.Option(help="The minimum seconds between two charges.")] = 60,
    as_json: AsJson = False,
) -> None:
    """Turn auto-recharge on with a rule, or replace the rule. Amounts are in credits."""

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

    emit(run(work()), as_json=as_json, human=state_line)


@app.command()
def off(organization: Reference, reason: Reason, as_json: AsJson = False) -> None:
    """Turn auto-recharge off. An attempt in progress still finishes."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            owner = await organizations.find(connection, organization)
            await _one(connection, owner)
            await service.turn_off(
                connection, owner.id, actor=await current_actor(connection), reason=reason
            )
            return await _one(connection, owner)

    emit(run(work()), as_json=as_json, human=state_line)


@app.command()
def suspend(organization: Reference, reason: Reason, as_json: AsJson = False) -> None:
    """Suspend auto-recharge until a person resumes it, whatever its state."""

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

    emit(run(work()), as_json=as_json, human=state_line)


@app.command()
def resume(
    organization: Reference,
    reason: Annotated[str | None, typer.Option(help="The reason, for the audit log.")] = None,
    as_json: AsJson = False,
) -> None:
    """End a suspension, whatever its reason, and reset the decline count."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            owner = await organizations.find(connection, organization)
            before = await _one(connection, owner)
            if not await service.resume(
                connection, owner.id, actor=await current_actor(connection), reason=reason
            ):
                raise ConflictError(f"Nothing to resume: {state_line(before)}")
            return await _one(connection, owner)

    emit(run(work()), as_json=as_json, human=state_line)


@app.command()
def cancel(
    target: Annotated[
        str,
        typer.Argument(
            metavar="ORGANIZATION|ATTEMPT",
            help="The organization's live attempt, or an attempt id.",
        ),
    ],
    reason: Annotated[str | None, typer.Option(help="The reason, for the audit log.")] = None,
    as_json: AsJson = False,
) -> None:
    """Cancel an attempt if its payment can be canceled. The rule waits for the next usage."""

    async def work() -> dict[str, Any]:
        settings = load_settings()
        async with (
            create_pool(database_url(), size=2, application_name="prepaid-cli") as pool,
            stripe_client(settings.stripe_api_key, settings.stripe_api_base) as client,
        ):
            async with pool.acquire() as connection:
                owner_id, attempt_id = await _live_attempt(connection, target)
                actor = await current_actor(connection)
            charger = Charger(
                pool,
                PaymentIntentGateway(client),
                SaleTerms.of(settings),
                settings.purchase_max,
                settings.public_url,
            )
            row = await cancellation.cancel(
                charger, owner_id, attempt_id, actor=actor, reason=reason
            )
        return attempt_document(row)

    emit(
        run(work()),
        as_json=as_json,
        human=lambda document: f"{document['id']}: {document['state']}",
    )


async def _live_attempt(connection: Connection, target: str) -> tuple[UUID, UUID]:
    """Return the organization and the id of an attempt: the given one, or the live one."""
    with contextlib.suppress(ValueError):
        row = await attempt_store.attempt_by_id(connection, UUID(target))
        if row is not None:
            return row["organization_id"], row["id"]
    owner = await organizations.find(connection, target)
    live = await attempt_store.live(connection, owner.id)
    if live is None:
        raise NotFoundError(f"{owner.slug} has no live attempt.")
    return owner.id, live.id


@app.command()
def link(organization: Reference, as_json: AsJson = False) -> None:
    """Print a new link for the customer to authenticate a payment. The previous one ends."""

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
        human=lambda document: f"{document['url']}\nuntil {document['expiresAt']}",
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
        raise NotFoundError(
            f"{owner.slug} has no auto-recharge. Set it up with prepaid recharge set."
        )
    return recharge_document(rows[0])


def _decimal(option: str, text: str | None) -> Decimal | None:
    return None if text is None else decimal(option, text)
