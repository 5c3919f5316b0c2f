"""Recharge attempts: live ones, ended ones, and one as a timeline, with what a person may do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aiohttp import web

from console.framework import filtering, paging
from console.framework.context import Visit
from console.framework.page import get, post
from console.pages import attempt_timeline
from shared.access import service as audit
from shared.db.queries import beside
from shared.errors import ConflictError, NotFoundError
from shared.http.completion import run_to_completion
from shared.ids import transaction_public_id
from shared.ledger import keys
from shared.payments.model import SaleTerms
from shared.payments.payment_intents import PaymentIntentGateway
from shared.recharge import cancellation, service, states
from shared.recharge.attempts import store
from shared.recharge.flow import Charger
from shared.recharge.model import FINAL_STATES, AttemptState, RechargeState

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__, "attempts.sql")
LIST = "/console/attempts"
SCANNED_ROWS_MAX = 2_000
ACTS_MAX = 50
RESUMABLE = frozenset({RechargeState.SUSPENDED, RechargeState.PAUSED_REQUIRES_ACTION})


async def show_list(visit: Visit) -> web.Response:
    """List the live attempts and the ended ones, or those of one organization."""
    state = filtering.choice(visit.query, "state", AttemptState)
    after = paging.decode(visit.query, datetime, UUID)
    live: list[asyncpg.Record] = []
    async with visit.reading() as connection:
        owner = visit.organization_id or await filtering.organization_id(connection, visit.query)
        if owner is not None:
            rows, column = await _of(connection, owner, state, after), "created_at"
        elif state is not None and state not in FINAL_STATES:
            rows, column = await _live(connection, state, after), "due_at"
        else:
            rows, column = await _ended(connection, state, after), "settled_at"
            if state is None and after is None:
                live = await _live(connection, None, None)
    page = paging.rows(
        rows, path=LIST, query=visit.query, position=lambda row: (row[column], row["id"])
    )
    return visit.render(
        "attempts.html",
        title="Recharge attempts",
        page=page,
        live=live[: paging.ROWS_MAX],
        more_live=len(live) > paging.ROWS_MAX,
        query=filtering.values(visit.query, "state", "organization"),
        states=list(AttemptState),
        scanned=None if state is None or column == "due_at" else SCANNED_ROWS_MAX,
        fault=attempt_timeline.fault,
    )


async def _live(
    connection: Connection, state: AttemptState | None, after: Sequence[Any] | None
) -> list[asyncpg.Record]:
    return await connection.fetch(
        QUERIES.live, state, *(after or (None, None)), paging.ROWS_MAX + 1
    )


async def _ended(
    connection: Connection, state: AttemptState | None, after: Sequence[Any] | None
) -> list[asyncpg.Record]:
    return await connection.fetch(
        QUERIES.ended, state, *(after or (None, None)), paging.ROWS_MAX + 1, SCANNED_ROWS_MAX
    )


async def _of(
    connection: Connection, owner: UUID, state: AttemptState | None, after: Sequence[Any] | None
) -> list[asyncpg.Record]:
    return await connection.fetch(
        QUERIES.of_organization,
        state,
        *(after or (None, None)),
        paging.ROWS_MAX + 1,
        owner,
        SCANNED_ROWS_MAX,
    )


async def show(visit: Visit) -> web.Response:
    """Show one attempt."""
    async with visit.reading() as connection:
        row = await _find(connection, visit)
        live = await store.live(connection, row["organization_id"])
        ledger_row = None
        if row["payment_intent_id"] is not None:
            key = f"{keys.PAYMENT}{row['payment_intent_id']}"
            ledger_row = await connection.fetchrow(QUERIES.ledger_row, row["organization_id"], key)
        acts = await audit.acts_on(connection, str(row["id"]), rows_max=ACTS_MAX)
    deadline = states.deadline(live) if live is not None and live.id == row["id"] else None
    return visit.render(
        "attempt.html",
        title=f"Recharge attempt of {row['slug']}",
        breadcrumbs=[("Recharge attempts", LIST)],
        attempt=row,
        deadline=deadline,
        fault=attempt_timeline.fault(row),
        timeline=attempt_timeline.timeline(
            row, deadline=deadline, ledger_row=ledger_row, acts=acts, now=visit.now
        ),
        ledger_row=ledger_row,
        transaction_id=ledger_row and transaction_public_id(ledger_row["id"]),
        is_live=AttemptState(row["state"]) not in FINAL_STATES,
        may_resume=row["recharge_state"] in RESUMABLE,
    )


async def cancel(visit: Visit) -> web.Response:
    """Cancel a live attempt, at Stripe first where it has a PaymentIntent."""
    reason = visit.reason()
    async with visit.reading() as connection:
        row = await _find(connection, visit)
    console = visit.console
    charger = Charger(
        console.pool,
        PaymentIntentGateway(console.stripe.charges),
        SaleTerms.of(console.settings),
        console.settings.purchase_max,
        console.settings.public_url,
    )
    # Stripe may have canceled the payment when the page's deadline passes.
    ended = await run_to_completion(
        cancellation.cancel(
            charger, row["organization_id"], row["id"], actor=visit.actor, reason=reason
        )
    )
    return visit.redirect(f"{LIST}/{row['id']}", f"The attempt is {ended['state']}.")


async def resume(visit: Visit) -> web.Response:
    """End the suspension of the attempt's organization."""
    reason = visit.reason()
    async with visit.transaction() as connection:
        row = await _find(connection, visit)
        if not await service.resume(
            connection, row["organization_id"], actor=visit.actor, reason=reason
        ):
            raise ConflictError(f"The auto-recharge of {row['slug']} is not suspended.")
    return visit.redirect(f"{LIST}/{row['id']}", f"Auto-recharge of {row['slug']} is resumed.")


async def _find(connection: Connection, visit: Visit) -> asyncpg.Record:
    row = await connection.fetchrow(QUERIES.attempt, visit.path_id("attempt"))
    if row is None:
        raise NotFoundError("There is no such attempt.")
    visit.check_organization(row["organization_id"])
    return row


PAGES = (
    get("/attempts", show_list, for_bound_keys=True),
    get("/attempts/{attempt}", show, for_bound_keys=True),
    post("/attempts/{attempt}/cancel", cancel, for_bound_keys=True),
    post("/attempts/{attempt}/resume", resume, for_bound_keys=True),
)
