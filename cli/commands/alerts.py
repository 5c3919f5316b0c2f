"""prepaid alerts: set, show."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.actor import current_actor
from cli.amounts import decimal
from cli.database import transaction
from cli.output import AsJson, cell, emit, run
from cli.reasons import RequiredReason
from shared.budgets import service
from shared.budgets.store import Alerts
from shared.organizations import service as organizations

app = typer.Typer(
    no_args_is_help=True, help="Alerts: the balances below which credits.low is sent."
)

Reference = Annotated[str, typer.Argument(metavar="ORGANIZATION", help="Id or slug.")]


@app.command("set")
def set_(
    organization: Reference,
    reason: RequiredReason,
    thresholds: Annotated[
        list[str] | None,
        typer.Argument(metavar="THRESHOLDS", help="All of them, in credits; none ends the alerts."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set all thresholds of a balance."""

    async def work() -> dict[str, Any]:
        amounts = [decimal("THRESHOLDS", text) for text in thresholds or ()]
        async with transaction() as connection:
            owner = await organizations.find(connection, organization)
            actor = await current_actor(connection)
            return _document(
                await service.set_alerts(connection, owner.id, amounts, actor=actor, reason=reason)
            )

    emit(run(work()), as_json=as_json, human=_sentence)


@app.command()
def show(organization: Reference, as_json: AsJson = False) -> None:
    """Show the thresholds of a balance."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            owner = await organizations.find(connection, organization)
            return _document(await service.alerts(connection, owner.id))

    emit(run(work()), as_json=as_json, human=_sentence)


def _document(alerts: Alerts) -> dict[str, Any]:
    return {"thresholds": [*alerts.thresholds], "lowBalanceThreshold": alerts.low_below}


def _sentence(document: dict[str, Any]) -> str:
    thresholds = ", ".join(map(cell, document["thresholds"])) or "none"
    low = document["lowBalanceThreshold"]
    more = "" if low is None else f"; and {cell(low)}, of the billing settings or auto-recharge"
    return f"alerts below: {thresholds}{more}"
