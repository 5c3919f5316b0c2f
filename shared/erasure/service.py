"""Erases an organization's personal data outside the ledger, in small transactions.

Ids, amounts and every ledger row stay. An interrupted erasure is run again; what is erased already
is not counted again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from shared.access import service as audit
from shared.erasure import rules, store
from shared.erasure.model import Erasure
from shared.errors import ConflictError
from shared.inbox.model import EventKey
from shared.inbox.retention import store as payloads

if TYPE_CHECKING:
    from uuid import UUID

    from shared.db.pool import Connection
    from shared.organizations.model import Organization

BATCH_ROWS_MAX = 500

_EVENTS_LEFT = "not finished: replay or discard them, then erase again"
_MESSAGES_LEFT = "still to be sent: erase again when they are delivered or dead"
_AUDIT_LEFT = (
    "the role of the processes cannot change the audit log: run this command with the"
    " DATABASE_URL of the owner, as `prepaid migrate`"
)


async def erase(
    connection: Connection,
    organization: Organization,
    *,
    actor: str,
    reason: str,
    rows_max: int = BATCH_ROWS_MAX,
) -> Erasure:
    """Erase an organization's personal data outside the ledger; return the rows by table.

    Commits each batch, unless the caller has a transaction open, which then holds all of them.
    Raises ConflictError for an organization that is not closed: its customer could bring new data.
    """
    erased = {"organizations": await _begin(connection, organization, actor, reason)}
    for table in store.TABLES_AT_ONCE:
        erased[table] = await store.erase_at_once(connection, table, organization.id)
    for table in store.TABLES_IN_BATCHES:

        async def batch(table: str = table) -> int:
            return await store.erase_batch(connection, table, organization.id, rows_max=rows_max)

        erased[table] = await _until_done(batch, rows_max)
    erased["stripe_events"], events_left = await _erase_events(
        connection, organization.id, rows_max
    )
    if await store.can_update_audit(connection):
        erased["audit_log"] = await _until_done(
            lambda: store.erase_audit_batch(connection, organization.id, rows_max=rows_max),
            rows_max,
        )
    left = {
        "stripe_events": (events_left, _EVENTS_LEFT),
        "outbound_messages": (
            await store.messages_left(connection, organization.id),
            _MESSAGES_LEFT,
        ),
        "audit_log": (await store.audit_entries_left(connection, organization.id), _AUDIT_LEFT),
    }
    result = Erasure(
        erased=erased, left={table: (rows, why) for table, (rows, why) in left.items() if rows}
    )
    if result.changed:
        await _record(connection, organization, actor, reason, "privacy.erased", erased)
    return result


async def _begin(
    connection: Connection, organization: Organization, actor: str, reason: str
) -> int:
    """Erase the organization's own row, with an audit entry before any other table changes.

    The account's lock orders it with a reopening: what is reopened first is not erased.
    """
    async with connection.transaction():
        changed = await store.erase_organization(
            connection, organization.id, rules.pseudonym(organization.id)
        )
        if not await store.mark_erased(connection, organization.id):
            raise ConflictError(
                f"{organization.slug} is not closed. Close it first: prepaid orgs close"
                f" {organization.slug}."
            )
        if changed:
            await _record(connection, organization, actor, reason, "privacy.erase", {})
    return int(changed)


async def _record(
    connection: Connection,
    organization: Organization,
    actor: str,
    reason: str,
    action: str,
    erased: dict[str, int],
) -> None:
    await audit.record(
        connection,
        actor=actor,
        action=action,
        subject=str(organization.id),
        organization_id=organization.id,
        reason=reason,
        details={table: rows for table, rows in erased.items() if rows},
    )


async def _until_done(batch: Callable[[], Awaitable[int]], rows_max: int) -> int:
    """Run a batch until it is not full; return the rows of all."""
    total = 0
    while True:
        count = await batch()
        total += count
        if count < rows_max:
            return total


async def _erase_events(
    connection: Connection, organization_id: UUID, rows_max: int
) -> tuple[int, int]:
    """Walk all events; reduce the organization's payloads; return how many, and how many stay.

    An ignored event about its customer has no organization: it is recognized by an id in its
    payload.
    """
    needles = rules.needles(organization_id, await store.customers(connection, organization_id))
    erased = left = 0
    before = None
    while page := await store.events_page(
        connection, organization_id, needles, before=before, rows_max=rows_max
    ):
        keys = [
            EventKey(row["account"], row["livemode"], row["id"])
            for row in page
            if row["has_data"] and row["finished"]
        ]
        if keys:
            async with connection.transaction():
                erased += await payloads.delete_payloads_of(connection, keys)
        left += sum(row["has_data"] and not row["finished"] for row in page)
        before = (page[-1]["received_at"], page[-1]["id"])
    return erased, left
