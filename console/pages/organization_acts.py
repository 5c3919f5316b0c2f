"""Acts on an organization: its auto-recharge, and manual postings."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from aiohttp import web
from msgspec.structs import replace

from console.framework import filtering, formatting
from console.framework.context import Visit
from console.framework.page import post
from console.pages import organization as overview
from shared import manual_postings
from shared.counts import is_or_are, of_number
from shared.errors import ConflictError, NotFoundError, ValidationError
from shared.ledger import keys
from shared.ledger import store as ledger_store
from shared.ledger.model import (
    PostedTransaction,
    Posting,
    PostingStatus,
    SystemAccount,
    TransactionType,
)
from shared.recharge import service as recharge

if TYPE_CHECKING:
    from shared.db.pool import Connection

# No exponent: a short text would be a number of a billion digits.
NUMBER = re.compile(r"[+-]?[0-9]{1,25}(?:\.[0-9]{1,25})?")
SENT_BEFORE = "This form was sent before. Nothing was posted again."


async def resume(visit: Visit) -> web.Response:
    """End a suspension, whatever its reason."""
    reason = visit.reason()
    async with visit.transaction() as connection:
        found = await overview.find(visit, connection)
        state = await _state(connection, found.id, visit.now)
        if not await recharge.resume(connection, found.id, actor=visit.actor, reason=reason):
            raise ConflictError(f"Nothing to resume: auto-recharge is {state}.")
    return _to_recharge(visit, found.id, "Auto-recharge is resumed.")


async def suspend(visit: Visit) -> web.Response:
    """Suspend auto-recharge until a person resumes it."""
    reason = visit.reason()
    async with visit.transaction() as connection:
        found = await overview.find(visit, connection)
        await _state(connection, found.id, visit.now)
        await recharge.suspend_by_operator(
            connection, found.id, actor=visit.actor, reason=reason, now=visit.now
        )
    return _to_recharge(visit, found.id, "Auto-recharge is suspended.")


async def turn_off(visit: Visit) -> web.Response:
    """Turn auto-recharge off."""
    reason = visit.reason()
    async with visit.transaction() as connection:
        found = await overview.find(visit, connection)
        await _state(connection, found.id, visit.now)
        await recharge.turn_off(connection, found.id, actor=visit.actor, reason=reason)
    return _to_recharge(visit, found.id, "Auto-recharge is off.")


async def _state(connection: Connection, organization_id: UUID, now: datetime) -> str:
    row = await overview.auto_recharge(connection, organization_id, now)
    if row is None:
        raise NotFoundError("This organization has no auto-recharge.")
    return str(row["state"])


def _to_recharge(visit: Visit, organization_id: UUID, message: str) -> web.Response:
    return visit.redirect(f"{overview.LIST}/{organization_id}/recharge", message)


async def give(visit: Visit) -> web.Response:
    """Give a promotional grant."""
    amount = number(visit, "amount", "the amount")
    priority = number(visit, "priority", "the priority")
    if priority != int(priority):
        raise ValidationError("Write the priority as a whole number from 0 to 100.")
    expires_on = filtering.day(visit.form, "expires_on")

    def posting(organization_id: UUID) -> Posting:
        return Posting(
            organization_id=organization_id,
            id=visit.console.make_id(),
            type=TransactionType.GRANT,
            counterparty=SystemAccount.PROMOTIONS,
            key=_key(visit, "grant"),
            amount=amount,
            description=visit.reason(),
            priority=int(priority),
            promotional=True,
            expires_at=_end(expires_on),
        )

    return await _post(visit, posting, "grants.create", "{} {} {} granted.")


async def adjust(visit: Visit) -> web.Response:
    """Adjust the balance, up or down."""
    amount = number(visit, "adjustment", "the amount")

    def posting(organization_id: UUID) -> Posting:
        return Posting(
            organization_id=organization_id,
            id=visit.console.make_id(),
            type=TransactionType.ADJUSTMENT,
            counterparty=SystemAccount.ADJUSTMENTS,
            key=_key(visit, "adjustment"),
            amount=amount,
            description=visit.reason(),
        )

    return await _post(visit, posting, "transactions.post", "The balance is adjusted by {}.")


async def void(visit: Visit) -> web.Response:
    """Take back what is left of a grant."""
    grant_id, reason = visit.path_id("grant"), visit.reason()
    async with visit.transaction() as connection:
        found = await overview.find(visit, connection)
        grant = await ledger_store.find_grant(connection, found.id, grant_id)
        if grant is None:
            raise NotFoundError("There is no such grant.")
        posting = manual_postings.void_posting(grant, visit.console.make_id(), description=reason)
        result = await _posted(visit, connection, posting, "grants.void", subject=grant_id)
    return visit.redirect(
        f"{overview.LIST}/{found.id}/grants",
        _message(result, "{} {} of the grant {} taken back."),
    )


async def _post(
    visit: Visit, posting: Callable[[UUID], Posting], action: str, message: str
) -> web.Response:
    """Post once for each form, with its audit entry, and return to the organization."""
    async with visit.transaction() as connection:
        found = await overview.find(visit, connection)
        result = await _posted(visit, connection, posting(found.id), action)
    return visit.redirect(f"{overview.LIST}/{found.id}", _message(result, message))


async def _posted(
    visit: Visit,
    connection: Connection,
    posting: Posting,
    action: str,
    *,
    subject: UUID | None = None,
) -> PostedTransaction:
    """Post with the origin of the visit; raise the error of a refusal."""
    identity = visit.session.identity
    posting = replace(posting, key_id=identity.key_id, request_id=visit.request_id)
    of_grant = posting.type is TransactionType.GRANT
    return await manual_postings.post(
        connection,
        posting,
        actor=visit.actor,
        action=action,
        subject=subject or (None if of_grant else posting.organization_id),
        now=visit.now,
    )


def _message(result: PostedTransaction, message: str) -> str:
    if result.status is PostingStatus.REPLAYED:
        return SENT_BEFORE
    amount = result.amount if "adjusted" in message else abs(result.amount)
    return message.format(formatting.amount(amount), of_number("credit", amount), is_or_are(amount))


def _key(visit: Visit, kind: str) -> str:
    """Return the ledger key of a form: sending it twice posts once."""
    try:
        form_id = UUID(visit.form.get("key", ""))
    except ValueError:
        raise ValidationError("This form has no key. Reload its page and send it again.") from None
    return f"{keys.REQUEST}console:{kind}:{form_id}"


def _end(last_day: date | None) -> datetime | None:
    return None if last_day is None else filtering.end_of(last_day)


def number(visit: Visit, name: str, label: str) -> Decimal:
    """Return a number of the form; raise ValidationError where it is none."""
    text = visit.form.get(name, "").strip()
    if not NUMBER.fullmatch(text):
        raise ValidationError(f"Write {label} as a number such as 25 or 0.5.")
    return Decimal(text)


_ONE = "/organizations/{organization}"
PAGES = (
    post(f"{_ONE}/recharge/resume", resume, for_bound_keys=True),
    post(f"{_ONE}/recharge/suspend", suspend, for_bound_keys=True),
    post(f"{_ONE}/recharge/off", turn_off, for_bound_keys=True),
    post(f"{_ONE}/grants", give, for_bound_keys=True),
    post(f"{_ONE}/adjustments", adjust, for_bound_keys=True),
    post(f"{_ONE}/grants/{{grant}}/void", void, for_bound_keys=True),
)
