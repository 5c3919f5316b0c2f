"""The ledger against a small model of it: after every step they agree, to the last decimal."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shared.db.pool import create_pool
from shared.ledger import service, store
from shared.ledger.model import Posting, PostingStatus, SystemAccount, TransactionType
from shared.ledger.rules import CREDITS
from shared.ledger.verification import verify
from shared.organizations import service as organizations

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

CONNECTIONS = 3
ORGANIZATIONS = 2
# Few different amounts, priorities and expiries, so that grants tie and debits cross them.
AMOUNTS = strategies.sampled_from([Decimal(n) for n in ("0.000000001", "3", "7.5", "20", "41")])
WHO = strategies.integers(0, ORGANIZATIONS - 1)
ZERO = Decimal(0)
SOON = datetime.now(UTC) + timedelta(days=1)
LATER = SOON + timedelta(days=1)
Lot = tuple[TransactionType, Decimal, int, bool, datetime | None]
LOTS: strategies.SearchStrategy[Lot] = strategies.tuples(
    strategies.sampled_from(sorted(CREDITS - {TransactionType.DISPUTE_REVERSAL})),
    AMOUNTS,
    strategies.sampled_from([49, 50]),  # 50 is also that of adjustments
    strategies.booleans(),
    strategies.sampled_from([None, SOON, LATER]),
)


@dataclass
class Grant:
    """A lot in the model: a list of these in the order of burning is all there is to it."""

    id: UUID
    seq: int
    left: Decimal
    priority: int
    promotional: bool
    expires_at: datetime | None
    payment: str | None
    paid_for: list[tuple[int, Decimal]] = field(default_factory=list)

    @property
    def order(self) -> tuple[Any, ...]:
        never = datetime.max.replace(tzinfo=UTC)
        return (self.priority, self.expires_at or never, not self.promotional, self.seq)


@dataclass
class Account:
    """An organization in the model, written for reading and not for speed."""

    id: UUID
    balance: Decimal = ZERO
    overdraft: Decimal = ZERO
    seq: int = 0
    grants: list[Grant] = field(default_factory=list)
    holds: dict[UUID, Decimal] = field(default_factory=dict)
    debts: list[list[Any]] = field(default_factory=list)  # [seq, amount], oldest first
    payments: dict[str, list[Decimal]] = field(default_factory=dict)  # [granted, reversed]

    @property
    def spendable(self) -> Decimal:
        return self.balance - sum(self.holds.values(), ZERO) + self.overdraft

    def burn(self, seq: int, amount: Decimal) -> None:
        for grant in sorted(self.grants, key=lambda grant: grant.order):
            taken = min(grant.left, amount)
            if taken:
                grant.left -= taken
                grant.paid_for.append((seq, taken))
                amount -= taken
        if amount:
            self.debts.append([seq, amount])

    def credit(self, grant: Grant, amount: Decimal) -> None:
        self.seq += 1
        self.balance += amount
        while self.debts and grant.left:
            debt = self.debts[0]
            paid = min(debt[1], grant.left)
            grant.left -= paid
            grant.paid_for.append((debt[0], paid))
            debt[1] -= paid
            if not debt[1]:
                self.debts.pop(0)
        self.grants.append(grant)

    def debit(self, amount: Decimal) -> None:
        self.seq += 1
        self.balance -= amount
        self.burn(self.seq, amount)

    def take_back(self, payment: str, amount: Decimal) -> None:
        self.seq += 1
        self.balance -= amount
        for grant in self.grants:
            if grant.payment == payment:
                taken = min(grant.left, amount)
                grant.left -= taken
                amount -= taken
        if amount:
            self.burn(self.seq, amount)

    def end(self, grant: Grant) -> None:
        self.seq += 1
        self.balance -= grant.left
        grant.left = ZERO


class LedgerMachine(RuleBasedStateMachine):
    """Every operation of the ledger in any order, from several connections."""

    pool: Pool
    runner: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        self.names = itertools.count()
        self.asked: list[Posting] = []

    @initialize(overdrafts=strategies.lists(
        strategies.sampled_from([ZERO, Decimal(10)]), min_size=ORGANIZATIONS, max_size=ORGANIZATIONS
    ))  # fmt: skip
    def open(self, overdrafts: list[Decimal]) -> None:
        self.accounts = []
        for limit in overdrafts:
            made = self.run(self._open(limit))
            self.accounts.append(Account(made, overdraft=limit))

    async def _open(self, limit: Decimal) -> UUID:
        async with self.pool.acquire() as connection, connection.transaction():
            slug = f"m-{uuid4().hex}"
            made = await organizations.create(connection, slug=slug, name=slug)
            await connection.execute(
                "UPDATE accounts SET overdraft_limit = $2 WHERE organization_id = $1",
                made.id,
                limit,
            )
        return made.id

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    def posting(self, account: Account, kind: TransactionType, **fields: Any) -> Posting:
        posting = Posting(
            organization_id=account.id,
            id=uuid4(),
            type=kind,
            counterparty=SystemAccount.REVENUE,
            key=f"key-{next(self.names)}",
            **fields,
        )
        self.asked.append(posting)
        return posting

    def post(self, *postings: Posting) -> list[str]:
        async def work() -> list[str]:
            async with self.pool.acquire() as connection, connection.transaction():
                results = await service.post(connection, postings)
            return [result.status for result in results]

        return self.run(work())  # type: ignore[no-any-return] # what work returns

    def expect(self, posting: Posting, status: PostingStatus = PostingStatus.POSTED) -> None:
        assert self.post(posting) == [status]

    @rule(who=WHO, lots=strategies.lists(LOTS, min_size=2, max_size=4))
    def grant(self, who: int, lots: list[Lot]) -> None:
        """Several at a time: what is to be seen is which of them burns first."""
        for lot in lots:
            self.grant_one(self.accounts[who], *lot)

    def grant_one(
        self, account: Account, kind: TransactionType, amount: Decimal, priority: int,
        promotional: bool, expires_at: datetime | None,
    ) -> None:  # fmt: skip
        paid = kind in (TransactionType.PURCHASE, TransactionType.RECHARGE)
        payment = f"pi_{uuid4().hex}" if paid else None
        posting = self.posting(
            account, kind, amount=amount, priority=priority, promotional=promotional,
            expires_at=expires_at, payment_intent_id=payment,
        )  # fmt: skip
        self.expect(posting)
        lot = Grant(posting.id, account.seq + 1, amount, priority, promotional, expires_at, payment)
        account.credit(lot, amount)
        if payment:
            account.payments[payment] = [amount, ZERO]
            self.run(self._bind(account.id, payment, amount))

    async def _bind(self, organization_id: UUID, payment: str, amount: Decimal) -> None:
        await self.pool.execute(
            "INSERT INTO stripe_payments"
            " (payment_intent_id, organization_id, amount_minor, currency, credits)"
            " VALUES ($1, $2, 1, 'usd', $3)",
            payment, organization_id, amount,
        )  # fmt: skip

    @rule(who=WHO, amount=AMOUNTS, happened=strategies.booleans())
    def use(self, who: int, amount: Decimal, happened: bool) -> None:
        self.use_exactly(self.accounts[who], amount, happened)

    def use_exactly(self, account: Account, amount: Decimal, happened: bool) -> None:
        posting = self.posting(
            account, TransactionType.USAGE, amount=-amount, may_overdraw=happened, category="tokens"
        )
        if amount > account.spendable and not happened:
            self.expect(posting, PostingStatus.INSUFFICIENT)
        else:
            self.expect(posting)
            account.debit(amount)

    @rule(who=WHO, happened=strategies.booleans(), percent=strategies.sampled_from([30, 90, 110]))
    def use_most_of_it(self, who: int, happened: bool, percent: int) -> None:
        """Debit beyond the grant at hand, or beyond all of them."""
        account = self.accounts[who]
        amount = (max(account.spendable, ZERO) * percent / 100).quantize(Decimal("1e-9"))
        if amount > 0:
            self.use_exactly(account, amount, happened)

    @rule(who=WHO, debt=AMOUNTS, paid=AMOUNTS)
    def fall_into_debt_and_pay_a_part(self, who: int, debt: Decimal, paid: Decimal) -> None:
        account = self.accounts[who]
        self.use_exactly(account, max(account.balance, ZERO) + debt, happened=True)
        self.grant_one(account, TransactionType.GRANT, paid, 50, False, None)

    @rule(who=WHO, amounts=strategies.lists(AMOUNTS, min_size=2, max_size=6))
    def use_in_a_batch(self, who: int, amounts: list[Decimal]) -> None:
        account = self.accounts[who]
        postings, expected = [], []
        for amount in amounts:
            postings.append(self.posting(account, TransactionType.USAGE, amount=-amount))
            if amount > account.spendable:
                expected.append(PostingStatus.INSUFFICIENT)
            else:
                expected.append(PostingStatus.POSTED)
                account.debit(amount)
        assert self.post(*postings) == expected

    @rule(amount=AMOUNTS, count=strategies.integers(2, 4))
    def adjust_all_from_several_connections(self, amount: Decimal, count: int) -> None:
        """Each connection posts its share at the same time; equal adjustments commute."""
        shares: list[list[Posting]] = [[] for _ in range(CONNECTIONS)]
        for index in range(count):
            account = self.accounts[index % ORGANIZATIONS]
            posting = self.posting(account, TransactionType.ADJUSTMENT, amount=amount)
            shares[index % CONNECTIONS].append(posting)

        async def work() -> list[Any]:
            async def share(postings: list[Posting]) -> list[Any]:
                async with self.pool.acquire() as connection, connection.transaction():
                    return await service.post(connection, postings)

            parts = await asyncio.gather(*map(share, shares))
            return [result for part in parts for result in part]

        results = self.run(work())
        assert {result.status for result in results} == {PostingStatus.POSTED}
        posted = {result.id: result for result in results}
        for posting in sorted(itertools.chain(*shares), key=lambda posting: posted[posting.id].seq):
            account = next(a for a in self.accounts if a.id == posting.organization_id)
            assert posting.amount is not None
            lot = Grant(posting.id, account.seq + 1, posting.amount, 50, False, None, None)
            account.credit(lot, posting.amount)

    @precondition(lambda self: self.asked)
    @rule(data=strategies.data())
    def replay(self, data: Any) -> None:
        posting = data.draw(strategies.sampled_from(self.asked))
        row = self.run(self._row(posting))
        if row is not None:
            self.expect(posting, PostingStatus.REPLAYED)

    @precondition(lambda self: self.asked)
    @rule(data=strategies.data())
    def conflict(self, data: Any) -> None:
        import msgspec  # noqa: PLC0415 - for this rule alone

        posting = data.draw(strategies.sampled_from(self.asked))
        row = self.run(self._row(posting))
        if row is not None:
            other = msgspec.structs.replace(posting, description="another request", digest=None)
            self.expect(other, PostingStatus.CONFLICT)

    async def _row(self, posting: Posting) -> Any:
        return await self.pool.fetchrow(
            "SELECT 1 FROM credit_transactions WHERE organization_id = $1 AND idempotency_key = $2",
            posting.organization_id, posting.key,
        )  # fmt: skip

    @rule(who=WHO, amount=AMOUNTS)
    def hold(self, who: int, amount: Decimal) -> None:
        account = self.accounts[who]

        async def work() -> Any:
            async with self.pool.acquire() as connection, connection.transaction():
                return await service.hold(
                    connection, account.id, amount=amount, seconds=3600,
                    key=f"hold-{next(self.names)}", now=datetime.now(UTC),
                )  # fmt: skip

        result = self.run(work())
        if amount > account.spendable:
            assert result.status is PostingStatus.INSUFFICIENT
        else:
            assert result.status is PostingStatus.POSTED
            account.holds[result.hold.id] = amount

    @precondition(lambda self: any(account.holds for account in self.accounts))
    @rule(data=strategies.data(), part=strategies.integers(1, 150))
    def capture(self, data: Any, part: int) -> None:
        account = data.draw(strategies.sampled_from([a for a in self.accounts if a.holds]))
        hold_id = data.draw(strategies.sampled_from(list(account.holds)))
        held = account.holds[hold_id]
        amount = max((held * part / 100).quantize(Decimal("1e-9")), Decimal("1e-9"))
        exceed = data.draw(strategies.booleans())
        posting = self.posting(
            account, TransactionType.HOLD_CAPTURE, amount=-amount, hold_id=hold_id,
            may_overdraw=exceed,
        )  # fmt: skip
        if amount > held and not exceed:
            self.expect(posting, PostingStatus.EXCEEDS_HOLD)
        elif amount > held and amount - held > account.spendable:
            self.expect(posting, PostingStatus.INSUFFICIENT)
        else:
            self.expect(posting)
            del account.holds[hold_id]
            account.debit(amount)
            again = self.posting(
                account, TransactionType.HOLD_CAPTURE, amount=-amount, hold_id=hold_id
            )
            self.expect(again, PostingStatus.HOLD_CLOSED)

    @precondition(lambda self: any(account.holds for account in self.accounts))
    @rule(data=strategies.data(), expire=strategies.booleans())
    def release_or_expire_a_hold(self, data: Any, expire: bool) -> None:
        account = data.draw(strategies.sampled_from([a for a in self.accounts if a.holds]))
        hold_id = data.draw(strategies.sampled_from(list(account.holds)))
        if expire:
            self.run(self._make_due("holds", account.id, hold_id))
            self.run(self._settle())
        else:

            async def work() -> Any:
                async with self.pool.acquire() as connection, connection.transaction():
                    return await store.release(connection, account.id, hold_id)

            assert self.run(work()).status is PostingStatus.POSTED
        del account.holds[hold_id]

    @precondition(lambda self: any(g.left for a in self.accounts for g in a.grants))
    @rule(data=strategies.data(), expire=strategies.booleans())
    def void_or_expire_a_grant(self, data: Any, expire: bool) -> None:
        living = [(a, g) for a in self.accounts for g in a.grants if g.left]
        account, lot = data.draw(strategies.sampled_from(living).map(lambda pair: pair))
        if expire:
            self.run(self._make_due("credit_grants", account.id, lot.id))
            self.run(self._settle())
        else:
            self.expect(self.posting(account, TransactionType.VOID, grant_id=lot.id))
        account.end(lot)

    async def _make_due(self, table: str, organization_id: UUID, row_id: UUID) -> None:
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(
                f"UPDATE {table} SET expires_at = now() - interval '1 s'"  # noqa: S608 - ours
                " WHERE organization_id = $1 AND id = $2",
                organization_id, row_id,
            )  # fmt: skip
            await connection.execute(
                "UPDATE accounts SET next_due_at = now() - interval '1 s'"
                " WHERE organization_id = $1",
                organization_id,
            )

    async def _settle(self) -> None:
        async with self.pool.acquire() as connection, connection.transaction():
            await service.settle_due(connection)

    @precondition(lambda self: any(a.payments for a in self.accounts))
    @rule(
        data=strategies.data(),
        refunded=strategies.integers(0, 120),
        withdrawn=strategies.integers(0, 120),
        disputed=strategies.booleans(),
    )
    def refund_dispute_or_won(
        self, data: Any, refunded: int, withdrawn: int, disputed: bool
    ) -> None:
        account = data.draw(strategies.sampled_from([a for a in self.accounts if a.payments]))
        payment = data.draw(strategies.sampled_from(list(account.payments)))
        granted, reversed_before = account.payments[payment]
        levels = [
            (granted * percent / 100).quantize(Decimal("1e-9")) for percent in (refunded, withdrawn)
        ]

        async def work() -> Any:
            async with self.pool.acquire() as connection, connection.transaction():
                return await service.reverse_payment(
                    connection, payment, refunded=levels[0], withdrawn=levels[1], disputed=disputed
                )

        result = self.run(work())
        target = min(granted, sum(levels))
        difference = target - reversed_before
        account.payments[payment][1] = target
        if difference == 0:
            assert result is None
            return
        assert result.status is PostingStatus.POSTED
        if difference > 0:
            account.take_back(payment, difference)
        else:
            lot = Grant(result.id, account.seq + 1, -difference, 50, False, None, payment)
            account.credit(lot, -difference)
        assert self.run(work()) is None, "told twice, done twice"

    @invariant()
    def the_ledger_equals_the_model(self) -> None:
        for account in getattr(self, "accounts", ()):
            self.run(self._compare(account))

    async def _compare(self, account: Account) -> None:
        async with self.pool.acquire() as connection:
            found = await store.balance(connection, account.id)
            assert found is not None
            assert found.balance == account.balance
            assert found.held == sum(account.holds.values(), ZERO)
            assert found.last_seq == account.seq
            rows = await store.grants(connection, account.id, before=1 << 62, limit=10_000)
            assert {row["id"]: row["remaining"] for row in rows} == {
                lot.id: lot.left for lot in account.grants
            }
            for lot in account.grants:
                uses = await store.uses(connection, account.id, lot.id, limit=10_000)
                assert [(use.seq, use.amount) for use in uses] == _merged(lot.paid_for)
            await _sources_add_up(connection, account)

    def teardown(self) -> None:
        if hasattr(self, "accounts"):
            self.run(self._verify())

    async def _verify(self) -> None:
        async with self.pool.acquire() as connection:
            found = await verify(connection)
            assert found["problems"] == []
            balances = await store.trial_balance(connection)
        assert sum(balances.values()) == 0


def _merged(parts: list[tuple[int, Decimal]]) -> list[tuple[int, Decimal]]:
    """Add up what a grant paid for the same row in several pieces."""
    amounts: dict[int, Decimal] = {}
    for seq, amount in parts:
        amounts[seq] = amounts.get(seq, ZERO) + amount
    return sorted(amounts.items())


async def _sources_add_up(connection: Connection, account: Account) -> None:
    for row in await store.history(connection, account.id, before=account.seq + 1, limit=3):
        sources = await service.explain(connection, row)
        if row["amount"] < 0:
            assert sum(source.amount for source in sources) == -row["amount"]


@asynccontextmanager
async def _opened(database_url: str) -> AsyncIterator[Pool]:
    async with create_pool(
        database_url, size=CONNECTIONS, application_name="prepaid-model"
    ) as pool:
        yield pool


@pytest.fixture
def machine(database_url: str) -> Iterator[type[LedgerMachine]]:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        opened = _opened(database_url)
        LedgerMachine.pool = runner.run(opened.__aenter__())
        LedgerMachine.runner = runner
        try:
            yield LedgerMachine
        finally:
            runner.run(opened.__aexit__(None, None, None))


@pytest.mark.timeout(300)
def test_any_history_of_operations_leaves_the_ledger_as_the_model(
    machine: type[LedgerMachine],
) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=80,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
