"""Reading the ledger: at a moment, page by page, by category, and where a credit went."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from shared.ids import new_id, parse_id, transaction_public_id
from shared.ledger import service, store
from shared.ledger.model import PostedTransaction, TransactionType
from tests.fixtures.commands import Command
from tests.fixtures.ledger import grant, hold, make_due, post, posting, usage
from tests.fixtures.product import create_organization, payment, receive
from worker.expirer import Expirer

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


async def explained(connection: Connection, transaction_id: UUID | None) -> list[Any]:
    """Return (amount, grant, payment) of each source of a row."""
    assert transaction_id is not None
    row = await store.find(connection, transaction_id)
    assert row is not None
    sources = await service.explain(connection, row)
    return [(s.amount, s.grant_id, s.payment_intent_id) for s in sources]


async def test_an_organization_that_is_unknown_or_new_has_owned_nothing(
    connection: Connection, organization: Organization
) -> None:
    for owner in (organization.id, new_id()):
        assert await store.balance_at(connection, owner, datetime.now(UTC)) == 0
        assert await store.history(connection, owner, before=1 << 62, limit=10) == []
    assert await store.balance(connection, new_id()) is None


async def test_the_balance_at_a_moment_is_found_in_a_long_ledger(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    """Rows of one batch share a moment: the last of them counts."""
    found = []
    for size in (1, 4, 2, 9, 1, 1, 16, 3):
        results = await post(pool, *(grant(organization, 1) for _ in range(size)))
        assert len({result.created_at for result in results}) == 1
        found.append((results[-1].created_at, results[-1].balance_after))
    before = Decimal(0)
    for moment, balance in found:
        assert moment is not None
        just_before = moment - timedelta(microseconds=1)
        assert await store.balance_at(connection, organization.id, just_before) == before
        assert await store.balance_at(connection, organization.id, moment) == balance
        assert balance is not None
        before = balance


async def test_history_is_read_to_its_end_whatever_the_size_of_a_page(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    other = await create_organization(pool, "other")
    await post(pool, *(grant(owner, 1) for _ in range(10) for owner in (organization, other)))
    for limit in (1, 3, 10, 11):
        seen: list[int] = []
        before = 1 << 62
        while page := await store.history(connection, organization.id, before=before, limit=limit):
            assert {row["organization_id"] for row in page} == {organization.id}
            seen += [row["seq"] for row in page]
            before = page[-1]["seq"]
        assert seen == list(range(10, 0, -1))


async def test_what_a_debit_took_is_explained_to_each_grant_in_the_order_of_burning(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    made = await post(pool, *(grant(organization, n) for n in (3, 4, 5)))
    first, second = await post(
        pool, usage(organization, 5), usage(organization, 10, may_overdraw=True)
    )
    grants = [result.id for result in made]
    assert await explained(connection, first.id) == [(3, grants[0], None), (2, grants[1], None)]
    assert await explained(connection, second.id) == [
        (2, grants[1], None),
        (5, grants[2], None),
        (3, None, None),
    ]
    (paying,) = await post(pool, grant(organization, 2))
    assert await explained(connection, second.id) == [
        (2, grants[1], None),
        (5, grants[2], None),
        (2, paying.id, None),
        (1, None, None),
    ]
    assert await explained(connection, paying.id) == [], "a credit has no source"


async def test_what_is_taken_from_a_grant_directly_is_explained_by_it(
    pool: Pool, connection: Connection, organization: Organization, drainer: Drainer
) -> None:
    await receive(pool, payment("1"))
    await drainer.drain()
    (purchase,) = await store.history(connection, organization.id, before=2, limit=1)
    (gift, lost) = await post(
        pool,
        grant(organization, 5),
        grant(organization, 6, expires_at=datetime.now(UTC) + HOUR),
    )
    assert lost.id is not None
    void = posting(organization, TransactionType.VOID, None, grant_id=gift.id)
    (voided,) = await post(pool, void)
    assert await explained(connection, voided.id) == [(5, gift.id, None)]
    await make_due(pool, "credit_grants", lost.id)
    await Expirer(pool).expire()
    (expired,) = await store.history(connection, organization.id, before=1 << 62, limit=1)
    assert expired["type"] == "expiration"
    assert await explained(connection, expired["id"]) == [(6, lost.id, None)]
    await post(pool, grant(organization, 2, priority=90), usage(organization, 7))
    async with connection.transaction():
        refund = await service.reverse_payment(
            connection, "pi_1", refunded=Decimal(8), withdrawn=Decimal(0), disputed=False
        )
    assert isinstance(refund, PostedTransaction)
    row = await store.find(connection, refund.id)
    assert row is not None
    # 3 were left of the purchase, 2 of the gift, and 3 are debt.
    assert [(s.amount, s.grant_type) for s in await service.explain(connection, row)] == [
        (Decimal(3), "purchase"),
        (Decimal(2), "grant"),
        (Decimal(3), None),
    ]
    assert purchase["grant_id"] == purchase["id"]


async def test_a_row_that_burned_nothing_has_no_source_of_zero_credits(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    """Its point of consumption lies inside a segment, which pays for the usage before and after."""
    _, gift = await post(pool, grant(organization, 10), grant(organization, 5, priority=90))
    void = posting(organization, TransactionType.VOID, None, grant_id=gift.id)
    _, voided, _ = await post(pool, usage(organization, 2), void, usage(organization, 1))
    assert await explained(connection, voided.id) == [(5, gift.id, None)]


async def test_uses_and_sources_tell_the_same_story(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    """Grants that come between the debits and burn first cut the usage into many segments."""
    grants = [grant(organization, 40, priority=9)]
    await post(pool, grants[0])
    for n in range(8):
        grants.append(grant(organization, 1 + n % 3, priority=8 - n))
        await post(pool, grants[-1], *(usage(organization, "2.5") for _ in range(2)))
    by_use: dict[tuple[Any, Any], Decimal] = {}
    for given in grants:
        for use in await store.uses(connection, organization.id, given.id, limit=1000):
            by_use[given.id, use.transaction_id] = use.amount
    rows = await store.history(connection, organization.id, before=1 << 62, limit=1000)
    by_source: dict[tuple[Any, Any], Decimal] = {}
    for row in rows:
        for source in await service.explain(connection, row):
            name = (source.grant_id, row["id"])
            by_source[name] = by_source.get(name, Decimal(0)) + source.amount
    assert by_source == by_use
    assert sum(by_use.values()) == 40
    assert await pool.fetchval("SELECT count(*) FROM burn_segments") > len(grants)


async def test_uses_are_limited_to_the_oldest(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    (made,) = await post(pool, grant(organization, 10))
    spent = await post(pool, *(usage(organization, 1) for _ in range(5)))
    assert made.id is not None
    uses = await store.uses(connection, organization.id, made.id, limit=2)
    assert [use.transaction_id for use in uses] == [spent[0].id, spent[1].id]
    assert await store.uses(connection, organization.id, new_id(), limit=2) == []


async def test_only_usage_and_captures_of_a_category_are_totalled(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    hour = datetime(2026, 1, 31, 12, tzinfo=UTC)
    fields = {"effective_at": hour, "category": "tokens"}
    await post(pool, grant(organization, 100, **fields))
    made = await hold(pool, organization, 5)
    capture = posting(
        organization, TransactionType.HOLD_CAPTURE, -4, hold_id=made.id, quantity=Decimal(2),
        **fields,
    )  # fmt: skip
    adjustment = posting(organization, TransactionType.ADJUSTMENT, -7, **fields)
    await post(pool, usage(organization, 1, **fields), usage(organization, 90, category=None))
    await post(pool, capture, adjustment, usage(organization, 1000, **fields))
    total = await store.usage_total(
        connection, organization.id, "tokens", start=hour, end=hour + HOUR
    )
    assert tuple(total) == (2, 5, 2)
    for start, end in ((hour - HOUR, hour), (hour + HOUR, hour + 2 * HOUR)):
        total = await store.usage_total(connection, organization.id, "tokens", start=start, end=end)
        assert tuple(total) == (0, 0, 0)


async def test_many_usages_of_one_hour_in_one_batch_and_many_are_one_total(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    await post(pool, grant(organization, 100))
    start = datetime(2026, 1, 31, 12, tzinfo=UTC)

    async def use(n: int) -> None:
        moment = start + timedelta(minutes=n)
        fields = {"category": "tokens", "quantity": Decimal("0.1"), "effective_at": moment}
        await post(pool, *(usage(organization, "0.2", **fields) for _ in range(5)))

    await asyncio.gather(*map(use, range(0, 90, 6)))
    rows = await pool.fetch("SELECT * FROM usage_totals ORDER BY hour")
    assert [(row["hour"], row["quantity"], row["cost"], row["transactions"]) for row in rows] == [
        (start, Decimal(5), Decimal(10), 50),
        (start + HOUR, Decimal("2.5"), Decimal(5), 25),
    ]
    total = await store.usage_total(
        connection, organization.id, "tokens", start=start, end=start + 2 * HOUR
    )
    assert tuple(total) == (Decimal("7.5"), 15, 75)


@pytest.mark.parametrize(
    "fields",
    [
        {"effective_at": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))},
        {"expires_at": datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12)))},
    ],
    ids=["before the first year", "after the last year"],
)
async def test_a_moment_that_was_taken_can_be_read_back(
    pool: Pool, connection: Connection, organization: Organization, fields: dict[str, Any]
) -> None:
    await post(pool, grant(organization, 1, **fields))
    await store.history(connection, organization.id, before=1 << 62, limit=10)
    await store.grants(connection, organization.id, before=1 << 62, is_open=None, limit=10)


async def test_the_command_line_explains_for_a_person(
    pool: Pool, organization: Organization, prepaid: Command, drainer: Drainer
) -> None:
    await receive(pool, payment("1"))
    await drainer.drain()
    await pool.execute("UPDATE stripe_payments SET receipt_url = 'https://receipts/1'")
    (spent,) = await post(pool, usage(organization, 12, may_overdraw=True))
    assert spent.id is not None
    public = transaction_public_id(spent.id)
    lines = (await prepaid("ledger", "explain", str(spent.id))).stdout.splitlines()
    assert lines[0].startswith(f"{public}  usage -12, row 2 of {organization.id}")
    assert "10 from purchase" in lines[1]
    assert lines[1].endswith("pi_1 ch_1 https://receipts/1")
    assert lines[2] == "  2 from no grant: debt"
    purchase = await pool.fetchval("SELECT id FROM credit_transactions WHERE seq = 1")
    lines = (await prepaid("ledger", "explain", str(purchase))).stdout.splitlines()
    assert lines[1:] == [f"  10 paid for {public} (usage, row 2)"]
