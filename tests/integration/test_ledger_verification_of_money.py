"""R9: one change by SQL to anything that money depends on is found, and its row is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from shared.ledger import service
from shared.ledger.keys import PAYMENT
from shared.ledger.model import SystemAccount, TransactionType
from shared.ledger.verification import verify
from tests.fixtures.ledger import (
    grant,
    hold,
    limit_overdraft,
    make_due,
    post,
    posting,
    tampering,
    usage,
)
from tests.fixtures.product import create_organization

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool
    from shared.organizations.model import Organization

BIND = """
INSERT INTO stripe_payments (payment_intent_id, organization_id, amount_minor, currency, credits)
VALUES ($1, $2, 10000, 'usd', 100)
"""
ATTEMPT = """
INSERT INTO recharge_attempts (
    organization_id, id, state, created_at, amount, amount_minor, currency, customer_id,
    payment_method_id, charged_at, settled_at, payment_intent_id
) VALUES ($1, $2, 'succeeded', now(), 100, 10000, 'usd', 'cus_1', 'pm_1', now(), now(), 'pi_2')
"""
# Move the last row a year back, with the hash and the head that fit it.
BACKDATE = """
UPDATE credit_transactions SET created_at = created_at - interval '1 year'
WHERE seq = (SELECT max(seq) FROM credit_transactions);
UPDATE credit_transactions AS t
SET hash = ledger_row_hash(
    coalesce((SELECT b.hash FROM credit_transactions AS b WHERE b.seq = t.seq - 1), ''), t
)
WHERE seq = (SELECT max(seq) FROM credit_transactions);
UPDATE accounts AS a
SET last_hash = t.hash
FROM credit_transactions AS t
WHERE t.organization_id = a.organization_id AND t.seq = a.last_seq
"""


@dataclass(frozen=True)
class Books:
    """One organization with one of everything, and another with nothing."""

    owner: Organization
    other: Organization
    ids: dict[str, UUID | str]


@pytest_asyncio.fixture
async def books(pool: Pool, organization: Organization) -> AsyncIterator[Books]:
    """Two payments (one recharged, one partly refunded), grants of each kind, a hold captured."""
    other = await create_organization(pool, "other")
    ids: dict[str, UUID | str] = {}
    for number, kind in ((1, TransactionType.PURCHASE), (2, TransactionType.RECHARGE)):
        name = f"pi_{number}"
        await pool.execute(BIND, name, organization.id)
        sold = posting(
            organization,
            kind,
            100,
            counterparty=SystemAccount.STRIPE,
            key=f"{PAYMENT}{name}",
            payment_intent_id=name,
        )
        await post(pool, sold)
    attempt = uuid4()
    await pool.execute(ATTEMPT, organization.id, attempt)
    async with pool.acquire() as connection, connection.transaction():
        await service.reverse_payment(
            connection, "pi_1", refunded=Decimal(30), withdrawn=Decimal(0), disputed=False
        )
    later = datetime.now(UTC) + timedelta(days=1)
    (lost,) = await post(pool, grant(organization, 5, expires_at=later, promotional=True))
    assert lost.id is not None
    await make_due(pool, "credit_grants", lost.id)
    (kept,) = await post(pool, grant(organization, 7, expires_at=later, priority=90))
    await post(pool, grant(organization, 3, priority=1), usage(organization, 2, category="tokens"))
    held = await hold(pool, organization, 6)
    capture = posting(organization, TransactionType.HOLD_CAPTURE, -4, hold_id=held.id)
    (captured,) = await post(pool, capture)
    await hold(pool, organization, 1)
    await limit_overdraft(pool, organization.id, 10)
    await limit_overdraft(pool, organization.id, 20)
    assert kept.id is not None
    assert captured.id is not None
    ids = {
        "pi_1": "pi_1", "pi_2": "pi_2", "pi_3": "pi_3", "lost": lost.id, "kept": kept.id,
        "hold": held.id, "capture": captured.id, "attempt": attempt,
    }  # fmt: skip
    async with pool.acquire() as connection:
        assert (await verify(connection))["problems"] == []
    yield Books(organization, other, ids)


FORGED_PAYMENT = (
    "INSERT INTO stripe_payments"
    " (payment_intent_id, organization_id, amount_minor, currency, credits)"
    " SELECT 'pi_3', organization_id, 10000, 'usd', 100 FROM stripe_payments LIMIT 1"
)
FORGED_ATTEMPT = "UPDATE recharge_attempts SET payment_intent_id = 'pi_4'"
MOVED = "UPDATE stripe_payments SET organization_id = '{other}' WHERE payment_intent_id = 'pi_1'"


# What is done, what the problem says, and whose id it names.
CHANGES = [
    (
        "UPDATE stripe_payments SET credits = 99 WHERE payment_intent_id = 'pi_2'",
        "credits of a",
        "pi_2",
    ),
    (
        "UPDATE stripe_payments SET reversed = 0 WHERE payment_intent_id = 'pi_1'",
        "reversed of",
        "pi_1",
    ),
    (
        "UPDATE stripe_payments SET reversed = 5 WHERE payment_intent_id = 'pi_2'",
        "reversed of",
        "pi_2",
    ),
    ("UPDATE stripe_payments SET reversals = 0", "reversed of", "pi_1"),
    ("UPDATE stripe_payments SET reversals = 3", "reversed of", "pi_1"),
    (MOVED, "the payment of this row is missing", "pi_1"),
    (MOVED, "no row of its organization credits a payment", "pi_1"),
    (
        "DELETE FROM stripe_payments WHERE payment_intent_id = 'pi_1'",
        "the payment of this row",
        "pi_1",
    ),
    (FORGED_PAYMENT, "no row of its organization credits a payment", "pi_3"),
    ("UPDATE accounts SET next_due_at = NULL", "next_due_at", ""),
    ("UPDATE accounts SET next_due_at = next_due_at + interval '1 h'", "next_due_at", ""),
    ("UPDATE accounts SET next_due_at = next_due_at - interval '1 s'", "next_due_at", ""),
    ("UPDATE accounts SET burning_grant_id = NULL", "burning_grant_id", ""),
    ("UPDATE accounts SET burning_grant_id = '{lost}'", "burning_grant_id", ""),
    ("UPDATE accounts SET overdraft_limit = 10 WHERE last_seq > 0", "overdraft_limit", ""),
    ("UPDATE accounts SET overdraft_limit = 0", "overdraft_limit", ""),
    ("DELETE FROM audit_log", "overdraft_limit", ""),
    ("UPDATE accounts SET closed_at = now() WHERE last_seq > 0", "closed_at", ""),
    ("UPDATE accounts SET recharge_below = 50 WHERE last_seq > 0", "recharge_below", ""),
    ("UPDATE accounts SET updated_at = updated_at - interval '1 year'", "updated_at", ""),
    ("UPDATE credit_grants SET priority = 89 WHERE id = '{kept}'", "priority", "kept"),
    ("UPDATE credit_grants SET expires_at = NULL WHERE id = '{kept}'", "priority", "kept"),
    (
        "UPDATE credit_grants SET expires_at = expires_at + interval '1 d' WHERE id = '{lost}'",
        "priority",
        "lost",
    ),
    ("UPDATE credit_grants SET promotional = TRUE WHERE id = '{kept}'", "priority", "kept"),
    ("UPDATE credit_grants SET created_at = now() WHERE id = '{kept}'", "not what the row", "kept"),
    (
        "UPDATE credit_grants SET payment_intent_id = 'pi_1' WHERE id = '{kept}'",
        "not what the row",
        "kept",
    ),
    (
        "UPDATE credit_grants SET ended_at = now() WHERE id = '{lost}'",
        "no row says that and when",
        "lost",
    ),
    (
        "UPDATE credit_grants SET ended_at = now() WHERE id = '{lost}'",
        "the grant that this row ended",
        "lost",
    ),
    (
        "UPDATE credit_grants SET ended_by = 'void' WHERE id = '{lost}'",
        "the grant that this row",
        "lost",
    ),
    (
        "UPDATE credit_grants SET ended_at = NULL, ended_by = NULL",
        "the grant that this row ended",
        "lost",
    ),
    (
        "DELETE FROM credit_grants WHERE id = '{lost}'",
        "the grant that this row opened is missing",
        "",
    ),
    (
        "DELETE FROM credit_grants WHERE id = '{kept}'",
        "the grant that this row opened is missing",
        "",
    ),
    (
        "UPDATE holds SET captured_amount = 1 WHERE id = '{hold}'",
        "the hold that this row captured",
        "hold",
    ),
    ("UPDATE holds SET captured_amount = 5 WHERE id = '{hold}'", "no row says what a hold", "hold"),
    (
        (
            "UPDATE holds SET status = 'released', captured_amount = 0, captured_by = NULL"
            " WHERE id = '{hold}'"
        ),
        "the hold that",
        "hold",
    ),
    ("DELETE FROM holds WHERE id = '{hold}'", "the hold that this row captured", "hold"),
    ("DELETE FROM holds WHERE status = 'active'", "held", ""),
    (FORGED_ATTEMPT, "no row credits a recharge attempt", "attempt"),
    (BACKDATE, "created_at goes back", ""),
    ("DELETE FROM usage_totals", "usage total", ""),
    ("UPDATE usage_totals SET quantity = 9, hour = hour - interval '1 h'", "usage total", ""),
]


async def test_r9_one_change_by_sql_is_found_and_its_row_is_named(pool: Pool, books: Books) -> None:
    missed = []
    async with tampering(pool) as connection:
        for statement, problem, names in CHANGES:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(statement.format(**books.ids, other=books.other.id))
            problems = [p["problem"] for p in (await verify(connection))["problems"]]
            await transaction.rollback()
            row = str(books.ids[names]) if names else ""
            if not any(problem in found and row in found for found in problems):
                missed.append((statement, problems))
        assert (await verify(connection))["problems"] == []
    assert missed == []


@pytest.mark.parametrize("forgotten", [False, True])
async def test_r9_a_single_row_that_is_moved_back_is_found(
    pool: Pool, organization: Organization, connection: Connection, forgotten: bool
) -> None:
    """A first row has none before it: it is younger than its organization, and was verified."""
    await post(pool, grant(organization, 1))
    assert (await verify(connection))["ok"]
    async with tampering(pool) as owner:
        await owner.execute(BACKDATE)
        if forgotten:
            await owner.execute("DELETE FROM ledger_checkpoints")
    problems = [p["problem"] for p in (await verify(connection))["problems"]]
    assert "created_at goes back" in problems


async def test_r9_a_ledger_that_was_rewritten_since_its_verification_is_found(
    pool: Pool, organization: Organization, connection: Connection
) -> None:
    await post(pool, grant(organization, 1), usage(organization, 1))
    assert (await verify(connection))["ok"]
    async with tampering(pool) as owner:
        await owner.execute(
            "UPDATE credit_transactions SET description = 'x' WHERE seq = 2;"
            "UPDATE credit_transactions AS t SET hash = ledger_row_hash(b.hash, t)"
            " FROM credit_transactions AS b WHERE t.seq = 2 AND b.seq = 1;"
            "UPDATE accounts SET last_hash = t.hash FROM credit_transactions AS t WHERE t.seq = 2"
        )
    (problem,) = (await verify(connection))["problems"]
    assert (problem["seq"], problem["problem"]) == (2, "the row has changed since it was verified")


async def test_terms_of_grants_that_an_older_release_opened_are_hashed_by_a_verification(
    pool: Pool, organization: Organization, connection: Connection
) -> None:
    await post(pool, *(grant(organization, 1, priority=n) for n in range(3)))
    await pool.execute("UPDATE credit_grants SET terms_hash = NULL")
    assert (await verify(connection))["ok"]
    await pool.execute("UPDATE credit_grants SET priority = 7 WHERE seq = 2")
    (problem,) = (await verify(connection))["problems"]
    assert (problem["organizationId"], problem["seq"]) == (str(organization.id), 2)
    assert "priority" in problem["problem"]


async def test_an_expiry_that_was_moved_by_the_year_still_verifies_what_was_spent_early(
    pool: Pool, organization: Organization, connection: Connection
) -> None:
    """`next_due_at` may be early where the grant that was to expire is spent."""
    soon = datetime.now(UTC) + timedelta(hours=1)
    await post(pool, grant(organization, 2, expires_at=soon), grant(organization, 5))
    await post(pool, usage(organization, 3))
    found: Any = await verify(connection)
    assert found["problems"] == []
