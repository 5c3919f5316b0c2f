"""The SQL of an erasure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.queries import beside
from shared.erasure.rules import AUDIT_FIELDS, ERASED

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)
# These are few for one organization, and go in one statement.
_AT_ONCE = {
    "budgets": QUERIES.delete_budgets,
    "auto_recharges": QUERIES.erase_recharge_rule,
    "api_sessions": QUERIES.delete_api_sessions,
    "console_sessions": QUERIES.delete_console_sessions,
    "console_links": QUERIES.delete_console_links,
}
_IN_BATCHES = {
    "budget_counters": QUERIES.delete_budget_counters,
    "outbound_messages": QUERIES.erase_messages,
    "recharge_attempts": QUERIES.erase_attempts,
    "payment_methods": QUERIES.erase_payment_methods,
    "idempotent_requests": QUERIES.delete_answers,
}
TABLES_AT_ONCE = (*_AT_ONCE,)
TABLES_IN_BATCHES = (*_IN_BATCHES,)


async def erase_organization(connection: Connection, organization_id: UUID, name: str) -> bool:
    """Give an organization a pseudonym and no e-mail address; return whether that changed it."""
    return await connection.fetchval(QUERIES.erase_organization, organization_id, name) is not None


async def mark_erased(connection: Connection, organization_id: UUID) -> bool:
    """Record that an organization is erased; return False, and change nothing, if it is open."""
    return await connection.fetchval(QUERIES.mark_erased, organization_id) is not None


async def customers(connection: Connection, organization_id: UUID) -> list[str]:
    """Return the Stripe customers that an organization has or had."""
    rows = await connection.fetch(QUERIES.customers, organization_id)
    return [row["customer_id"] for row in rows]


async def events_page(
    connection: Connection,
    organization_id: UUID,
    needles: Sequence[str],
    *,
    before: tuple[datetime, str] | None,
    rows_max: int,
) -> list[asyncpg.Record]:
    """Return a page of all events, newest first, with `has_data` and `finished` of each."""
    received_at, event_id = before or (None, None)
    return await connection.fetch(
        QUERIES.events_page, organization_id, needles, received_at, event_id, rows_max
    )


async def erase_at_once(connection: Connection, table: str, organization_id: UUID) -> int:
    """Erase an organization's rows of a table of TABLES_AT_ONCE; return how many."""
    count: int = await connection.fetchval(_AT_ONCE[table], organization_id)
    return count


async def erase_batch(
    connection: Connection, table: str, organization_id: UUID, *, rows_max: int
) -> int:
    """Erase some of an organization's rows of a table of TABLES_IN_BATCHES; return how many."""
    count: int = await connection.fetchval(_IN_BATCHES[table], organization_id, rows_max)
    return count


async def can_update_audit(connection: Connection) -> bool:
    """Return whether this role may change the audit log."""
    return bool(await connection.fetchval(QUERIES.can_update_audit))


async def erase_audit_batch(connection: Connection, organization_id: UUID, *, rows_max: int) -> int:
    """Erase names and e-mail addresses in some audit entries; return in how many."""
    count: int = await connection.fetchval(
        QUERIES.erase_audit_entries, organization_id, list(AUDIT_FIELDS), ERASED, rows_max
    )
    return count


async def audit_entries_left(connection: Connection, organization_id: UUID) -> int:
    """Return the number of audit entries that still have names or e-mail addresses."""
    count: int = await connection.fetchval(
        QUERIES.audit_entries_left, organization_id, list(AUDIT_FIELDS), ERASED
    )
    return count


async def messages_left(connection: Connection, organization_id: UUID) -> int:
    """Return the number of messages that are still to be sent."""
    count: int = await connection.fetchval(QUERIES.messages_left, organization_id)
    return count
