"""Reserving credits, in the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from shared.errors import ConflictError
from shared.ledger.holds import rules, store
from shared.ledger.holds.model import Hold, HoldResult, HoldStatus, NewHold, PostedHold
from shared.ledger.model import InsufficientCredits, InvalidPosting, PostingStatus
from shared.ledger.service import with_recharges_in_progress

if TYPE_CHECKING:
    from shared.db.pool import Connection


async def hold(connection: Connection, new: NewHold) -> HoldResult:
    """Reserve credits for a time, so that no other debit spends them before the capture.

    Idempotent by its key within the organization. A hold that is neither captured nor released
    expires by itself, by the clock of the database: those of web processes may differ.
    """
    if error := rules.refusal(new):
        return InvalidPosting(organization_id=new.organization_id, error=error)
    result = await store.hold(connection, rules.with_origin(new), digest=rules.digest(new))
    if not isinstance(result, InsufficientCredits):
        return result
    (result,) = await with_recharges_in_progress(connection, [result])
    return result


async def replay(connection: Connection, new: NewHold) -> PostedHold | None:
    """Return the hold that the same request made before, if any, whatever its amount is now."""
    found = await store.find_replayed(connection, new.organization_id, new.key, rules.digest(new))
    return None if found is None else PostedHold(status=PostingStatus.REPLAYED, hold=found)


async def release(connection: Connection, organization_id: UUID, hold_id: UUID) -> HoldResult:
    """Release a hold: what it still reserves is available again. Repeating it changes nothing."""
    return await store.release(connection, organization_id, hold_id)


async def capture_nothing(
    connection: Connection, organization_id: UUID, hold_id: UUID
) -> HoldResult:
    """Close a hold as captured, with no row: nothing, or nothing more, was used."""
    return await store.release(connection, organization_id, hold_id, status=HoldStatus.CAPTURED)


async def extend(
    connection: Connection, organization_id: UUID, hold_id: UUID, *, seconds: int
) -> HoldResult:
    """Let a hold expire `seconds` from now, or when it would have if that is later."""
    if error := rules.seconds_refusal(seconds):
        return InvalidPosting(organization_id=organization_id, error=error)
    return await store.extend(connection, organization_id, hold_id, seconds)


async def closed_error(connection: Connection, hold: Hold) -> ConflictError:
    """Return the error of a request to a hold that has ended: how it ended, and what to do."""
    captured_by = None
    if hold.status == HoldStatus.CAPTURED:
        captured_by = await store.closing_capture(connection, hold)
    return ConflictError(rules.closed_detail(hold, captured_by))
