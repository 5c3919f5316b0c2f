"""prepaid budgets: set, list, show, remove."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.actor import current_actor
from cli.amounts import decimal
from cli.database import transaction
from cli.output import AsJson, cell, emit, run, table
from cli.reasons import RequiredReason
from shared.budgets import service
from shared.budgets.model import (
    BudgetAction,
    BudgetState,
    NewBudget,
    SubjectKind,
    SubjectState,
    WindowKind,
)
from shared.counts import counted
from shared.organizations import service as organizations

app = typer.Typer(
    no_args_is_help=True, help="Budgets: limits on what a user, a key, a category or a tag uses."
)

ROWS_MAX = 1_000
COLUMNS = (
    *("id", "subjectKind", "subject", "window", "limit", "action"),
    *("used", "held", "left", "resetsAt"),
)
SUBJECT_COLUMNS = ("subject", "used", "held", "left")

Reference = Annotated[str, typer.Argument(metavar="ORGANIZATION", help="Id or slug.")]
BudgetId = Annotated[UUID, typer.Argument(metavar="BUDGET", help="The id of the budget.")]


@app.command("set")
def set_(
    organization: Reference,
    subject: Annotated[
        str, typer.Argument(help="user:ID, key:ID, category:NAME or tag:TAG; '*' for each of them.")
    ],
    limit: Annotated[str, typer.Argument(help="The limit in credits.")],
    window: Annotated[WindowKind, typer.Option(help="When it resets, in UTC.")],
    reason: RequiredReason,
    action: Annotated[
        BudgetAction, typer.Option(help="Refuse debits at the limit, or tell your app only.")
    ] = BudgetAction.REFUSE,
    threshold: Annotated[
        list[int] | None,
        typer.Option(help="A percentage that is announced; repeatable. By default 80 and 100."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a budget, or change the one of this subject and window."""
    kind, _, name = subject.partition(":")
    if kind not in [*SubjectKind] or not name:
        raise typer.BadParameter("SUBJECT is user:ID, key:ID, category:NAME or tag:TAG")

    async def work() -> dict[str, Any]:
        budget = NewBudget(
            subject_kind=SubjectKind(kind),
            subject=name,
            window_kind=window,
            limit=decimal("LIMIT", limit),
            action=action,
            thresholds=(80, 100) if threshold is None else tuple(threshold),
        )
        async with transaction() as connection:
            owner = await organizations.find(connection, organization)
            state = await service.put(
                connection,
                owner.id,
                budget,
                actor=await current_actor(connection),
                now=datetime.now(UTC),
                reason=reason,
            )
        return _document(state)

    emit(run(work()), as_json=as_json, human=_sentence)


@app.command("list")
def list_(
    organization: Reference,
    limit: Annotated[int, typer.Option(min=1, max=ROWS_MAX)] = 100,
    as_json: AsJson = False,
) -> None:
    """List the budgets of an organization, newest first, with what is used, held and left."""

    async def work() -> list[dict[str, Any]]:
        async with transaction() as connection:
            owner = await organizations.find(connection, organization)
            states = await service.page(connection, owner.id, limit=limit)
        return [_document(state) for state in states]

    emit(
        {"budgets": run(work())},
        as_json=as_json,
        human=lambda document: table(
            COLUMNS, [[row[c] for c in COLUMNS] for row in document["budgets"]], empty="no budgets"
        ),
    )


@app.command()
def show(organization: Reference, budget: BudgetId, as_json: AsJson = False) -> None:
    """Show a budget, and the subjects that used or hold most in its current window."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            owner = await organizations.find(connection, organization)
            return _document(await service.find(connection, owner.id, budget))

    emit(
        run(work()),
        as_json=as_json,
        human=lambda document: (
            _sentence(document)
            + "\n"
            + table(
                SUBJECT_COLUMNS,
                [[row[c] for c in SUBJECT_COLUMNS] for row in document["subjects"]],
                empty="nothing used or held",
            )
        ),
    )


@app.command()
def remove(
    organization: Reference, budget: BudgetId, reason: RequiredReason, as_json: AsJson = False
) -> None:
    """Remove a budget: it limits nothing any more."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            owner = await organizations.find(connection, organization)
            await service.remove(
                connection,
                owner.id,
                budget,
                actor=await current_actor(connection),
                now=datetime.now(UTC),
                reason=reason,
            )
        return {"id": str(budget), "removed": True}

    emit(run(work()), as_json=as_json, human=lambda document: f"removed {document['id']}")


def _document(state: BudgetState) -> dict[str, Any]:
    budget, own = state.budget, state.own
    return {
        "id": str(budget.id),
        "organizationId": str(budget.organization_id),
        "subjectKind": budget.subject_kind,
        "subject": budget.subject,
        "window": budget.window_kind,
        "limit": budget.limit,
        "action": budget.action,
        "thresholds": list(budget.thresholds),
        "used": None if own is None else own.used,
        "held": None if own is None else own.held,
        "left": None if own is None else state.left(own),
        "resetsAt": state.resets_at,
        "spent": state.is_spent,
        "subjects": [_subject(state, subject) for subject in state.subjects],
    }


def _subject(state: BudgetState, subject: SubjectState) -> dict[str, Any]:
    return {
        "subject": subject.subject,
        "used": subject.used,
        "held": subject.held,
        "left": state.left(subject),
    }


def _sentence(document: dict[str, Any]) -> str:
    used = ""
    if document["used"] is not None:
        used = (
            f", used {cell(document['used'])}, held {cell(document['held'])}, left"
            f" {cell(document['left'])}"
        )
    spent = "; the limit is reached" if document["spent"] else ""
    return (
        f"budget {document['id']}: {document['subjectKind']} {document['subject']},"
        f" {counted(document['limit'], 'credit')}, {document['window']}{used}{spent}"
    )
