"""Reading the ledger: at a moment, page by page, by category, and where a credit went."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from shared.ids import parse_id, transaction_public_id
from shared.ledger import service, store
from tests.fixtures.ledger import grant, post, usage
from tests.fixtures.product import Command, payment, receive

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool
    from shared.organizations.model import Organization
    from worker.drainer import Drainer

HOUR = timedelta(hours=1)


async def test_the_balance_at_any_moment_is_that_of_the_last_row_until_then(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    moments = []
    for amount in range(1, 10):
        (result,) = await post(pool, grant(organization, amount))
        assert result.created_at is not None
        moments.append((result.created_at, result.balance_after))
    before = moments[0][0] - timedelta(microseconds=1)
    assert await store.balance_at(connection, organization.id, before) == 0
    for moment, expected in moments:
        assert await store.balance_at(connection, organization.id, moment) == expected
        just_before = moment - timedelta(microseconds=1)
        assert await store.balance_at(connection, organization.id, just_before) < (expected or 0)
    assert await store.balance_at(connection, organization.id, datetime.now(UTC)) == 45


async def test_created_at_never_goes_back_along_a_ledger(
    pool: Pool, organization: Organization
) -> None:
    await pool.execute("UPDATE accounts SET updated_at = now() + interval '1 hour'")
    await post(pool, grant(organization, 1))
    await post(pool, grant(organization, 1))
    rows = await pool.fetch("SELECT created_at FROM credit_transactions ORDER BY seq")
    assert rows[0]["created_at"] > datetime.now(UTC)
    assert rows[0]["created_at"] <= rows[1]["created_at"]


async def test_history_pages_are_complete_and_stable_while_rows_come(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    await post(pool, *(grant(organization, 1) for _ in range(25)))
    seen: list[int] = []
    before = 26
    while page := await store.history(connection, organization.id, before=before, limit=7):
        seen += [row["seq"] for row in page]
        before = page[-1]["seq"]
        await post(pool, grant(organization, 1))
    assert seen == list(range(25, 0, -1))


async def test_usage_is_totalled_by_category_and_hour_over_all_batches(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    await post(pool, grant(organization, 100))
    noon = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)
    for moment, category, quantity in (
        (noon, "tokens", "1.5"),
        (noon, "tokens", 2),
        (noon + HOUR, "tokens", 4),
        (noon, "images", 8),
    ):
        asked = usage(
            organization, 3, effective_at=moment, category=category, quantity=Decimal(quantity)
        )
        await post(pool, asked, asked)  # the second is a replay and counts nothing
    total = await store.usage_total(
        connection, organization.id, "tokens", start=noon - HOUR, end=noon
    )
    assert tuple(total) == (Decimal("3.5"), 6, 2)
    total = await store.usage_total(
        connection, organization.id, "tokens", start=noon - HOUR, end=noon + 2 * HOUR
    )
    assert tuple(total) == (Decimal("7.5"), 9, 3)


async def test_a_debit_is_explained_to_the_payment_and_its_charge(
    pool: Pool, connection: Connection, organization: Organization, drainer: Drainer
) -> None:
    await receive(pool, payment("1"))
    await drainer.drain()
    await pool.execute("UPDATE stripe_payments SET receipt_url = 'https://receipts/1'")
    await post(pool, grant(organization, 5, priority=0))
    (spent,) = await post(pool, usage(organization, 20, may_overdraw=True))
    assert spent.id is not None
    row = await store.find(connection, spent.id)
    assert row is not None
    sources = await service.explain(connection, row)
    assert [(s.amount, s.grant_type, s.payment_intent_id, s.charge_id) for s in sources] == [
        (Decimal(5), "grant", None, None),
        (Decimal(10), "purchase", "pi_1", "ch_1"),
        (Decimal(5), None, None, None),
    ]
    assert sources[1].receipt_url == "https://receipts/1"


async def test_a_grant_tells_what_it_paid_for(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    (made,) = await post(pool, grant(organization, 10))
    assert made.id is not None
    await post(pool, grant(organization, 10))
    spent = await post(pool, *(usage(organization, 4) for _ in range(3)))
    uses = await store.uses(connection, organization.id, made.id, limit=10)
    assert [(use.transaction_id, use.amount) for use in uses] == [
        (spent[0].id, Decimal(4)),
        (spent[1].id, Decimal(4)),
        (spent[2].id, Decimal(2)),
    ]


async def test_the_trial_balance_sums_to_zero(
    pool: Pool, connection: Connection, organization: Organization, drainer: Drainer
) -> None:
    await receive(pool, payment("1"))
    await drainer.drain()
    await post(pool, grant(organization, 5), usage(organization, 12))
    balances = await store.trial_balance(connection)
    assert balances["organizations"] == 3
    assert balances["stripe"] == -10
    assert sum(balances.values()) == 0


async def test_the_command_line_explains_a_transaction(
    pool: Pool, organization: Organization, prepaid: Command
) -> None:
    await post(pool, grant(organization, 10))
    (spent,) = await post(pool, usage(organization, "2.5"))
    assert spent.id is not None
    finished = await prepaid("ledger", "explain", transaction_public_id(spent.id), "--json")
    assert finished.code == 0
    assert finished.json["amount"] == -2.5
    assert [source["amount"] for source in finished.json["sources"]] == [2.5]
    credit = await prepaid("ledger", "explain", finished.json["sources"][0]["grantId"], "--json")
    assert [parse_id(use["id"]) for use in credit.json["uses"]] == [spent.id]
    missing = await prepaid("ledger", "explain", "ct_0", "--json")
    assert (missing.code, missing.stdout) == (1, "")
