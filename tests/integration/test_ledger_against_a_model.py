"""The ledger against a small model of it: after every step they agree, to the last decimal."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings, strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from shared.db.pool import create_pool
from shared.ledger import service, store
from shared.ledger.model import (
    InsufficientCredits,
    KeyConflict,
    PostedHold,
    PostedTransaction,
    Posting,
    PostingResult,
    SystemAccount,
)
from shared.ledger.model import PostingStatus as Status
from shared.ledger.model import TransactionType as Kind
from shared.ledger.verification import verify
from shared.organizations import service as organizations
from tests.fixtures.ledger import limit_overdraft
from tests.fixtures.profile import cases

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

T = TypeVar("T")

CONNECTIONS = 4
ORGANIZATIONS = 2
ZERO = Decimal(0)
QUANTUM = Decimal("1e-9")
# Few values of each, so that lots tie in all but one part of the order and debits end on an edge.
CREDITS = strategies.sampled_from([Decimal(n) for n in ("3", "5", "10", "12.5", "20.000000001")])
DEBITS = strategies.sampled_from(
    [Decimal(n) for n in ("0.000000001", "1", "2.5", "5", "10", "17", "30", "60")]
)
HOLDS = strategies.sampled_from([Decimal(n) for n in ("1", "2.5", "5", "10", "30")])
HOURS = strategies.sampled_from([None, 24, 48])
WHICH = strategies.integers(0, 999)
WHO = strategies.integers(0, ORGANIZATIONS - 1)
START = datetime.now(UTC)
BURNING = (Kind.USAGE, Kind.ADJUSTMENT, Kind.HOLD_CAPTURE)


Result = tuple[Status, Decimal | None, Decimal | None]


def result_of(result: PostingResult) -> Result:
    """Return a result's status, and the amount and the balance after it, where it has them."""
    match result:
        case PostedTransaction() | KeyConflict():
            return result.status, result.amount, result.balance_after
        case InsufficientCredits():
            return result.status, None, result.shortfall.balance
        case _:
            return result.status, None, None


@dataclass
class Lot:
    """A grant in the model: a list of these in the order of burning is all there is to it."""

    id: UUID
    seq: int
    left: Decimal
    priority: int
    promotional: bool
    expires_at: datetime | None
    payment: str | None
    paid_for: dict[int, Decimal] = field(default_factory=dict)

    @property
    def order(self) -> tuple[Any, ...]:
        never = datetime.max.replace(tzinfo=UTC)
        return (self.priority, self.expires_at or never, not self.promotional, self.seq)

    def pay(self, seq: int, amount: Decimal) -> Decimal:
        taken = min(self.left, amount)
        if taken:
            self.left -= taken
            self.paid_for[seq] = self.paid_for.get(seq, ZERO) + taken
        return taken


class Row(NamedTuple):
    """What the model posted."""

    posting: Posting
    seq: int
    amount: Decimal
    balance_after: Decimal


@dataclass
class Account:
    """An organization in the model, written for reading and not for speed."""

    id: UUID
    overdraft: Decimal = ZERO
    balance: Decimal = ZERO
    seq: int = 0
    rows: dict[str, Row] = field(default_factory=dict)  # by key
    lots: list[Lot] = field(default_factory=list)
    holds: dict[UUID, Decimal] = field(default_factory=dict)
    closed_holds: list[UUID] = field(default_factory=list)
    debts: list[list[Any]] = field(default_factory=list)  # [seq, amount], oldest first
    payments: dict[str, list[Decimal]] = field(default_factory=dict)  # [granted, reversed]

    @property
    def held(self) -> Decimal:
        return sum(self.holds.values(), ZERO)

    @property
    def spendable(self) -> Decimal:
        return self.balance - self.held + self.overdraft

    def post(self, posting: Posting) -> Result:
        """Post; return the expected result: see `result_of`."""
        if known := self.rows.get(posting.key):
            status = Status.REPLAYED if known.posting == posting else Status.CONFLICT
            return status, known.amount, known.balance_after
        if refused := self._refusal(posting):
            return refused, None, self.balance if refused is Status.INSUFFICIENT else None
        amount = self._amount(posting)
        self.seq += 1
        self.balance += amount
        self.rows[posting.key] = Row(posting, self.seq, amount, self.balance)
        if amount > 0:
            self._credit(posting, amount)
        else:
            self._debit(posting, -amount)
        return Status.POSTED, amount, self.balance

    def lot(self, lot_id: UUID | None) -> Lot | None:
        return next((lot for lot in self.lots if lot.id == lot_id), None)

    def _amount(self, posting: Posting) -> Decimal:
        if posting.amount is not None:
            return posting.amount
        lot = self.lot(posting.grant_id)
        assert lot is not None
        return -lot.left

    def _refusal(self, posting: Posting) -> Status | None:
        if posting.type is Kind.VOID:
            lot = self.lot(posting.grant_id)
            if lot is None:
                return Status.UNKNOWN_GRANT
            return None if lot.left else Status.NOTHING_LEFT
        assert posting.amount is not None
        if posting.type is Kind.HOLD_CAPTURE:
            return self._capture_refusal(posting, -posting.amount)
        covered = -posting.amount <= self.spendable
        if posting.type in BURNING and not covered and not posting.may_overdraw:
            return Status.INSUFFICIENT if posting.amount < 0 else None
        return None

    def _capture_refusal(self, posting: Posting, amount: Decimal) -> Status | None:
        assert posting.hold_id is not None
        held = self.holds.get(posting.hold_id)
        if held is None:
            closed = posting.hold_id in self.closed_holds
            return Status.HOLD_CLOSED if closed else Status.UNKNOWN_HOLD
        if amount <= held:
            return None
        if not posting.may_overdraw:
            return Status.EXCEEDS_HOLD
        return None if amount - held <= self.spendable else Status.INSUFFICIENT

    def _credit(self, posting: Posting, amount: Decimal) -> None:
        lot = Lot(
            posting.id,
            self.seq,
            amount,
            50 if posting.priority is None else posting.priority,
            bool(posting.promotional),
            posting.expires_at,
            posting.payment_intent_id,
        )
        self.lots.append(lot)
        while self.debts and lot.left:
            debt = self.debts[0]
            debt[1] -= lot.pay(debt[0], debt[1])
            if not debt[1]:
                self.debts.pop(0)

    def _debit(self, posting: Posting, amount: Decimal) -> None:
        if posting.hold_id is not None:
            self.close(posting.hold_id)
        if posting.type is Kind.VOID:
            lot = self.lot(posting.grant_id)
            assert lot is not None
            lot.left = ZERO
            return
        if posting.type in (Kind.REFUND, Kind.DISPUTE):
            for lot in self.lots:
                if lot.payment == posting.payment_intent_id:
                    taken = min(lot.left, amount)
                    lot.left -= taken
                    amount -= taken
        for lot in sorted(self.lots, key=lambda lot: lot.order):
            amount -= lot.pay(self.seq, amount)
        if amount:
            self.debts.append([self.seq, amount])

    def close(self, hold_id: UUID) -> None:
        del self.holds[hold_id]
        self.closed_holds.append(hold_id)

    def expire(self, lot: Lot) -> None:
        self.seq += 1
        self.balance -= lot.left
        lot.left = ZERO


class Credit(NamedTuple):
    """Ask for a credit."""

    kind: Kind
    amount: Decimal
    priority: int | None
    promotional: bool
    hours: int | None


class Debit(NamedTuple):
    """Ask for a debit that burns in order."""

    kind: Kind
    amount: Decimal
    happened: bool


class Void(NamedTuple):
    """Ask to void a lot, spent or not."""

    which: int


class TakeBack(NamedTuple):
    """Ask for a refund or a dispute of a payment, among other postings."""

    which: int
    kind: Kind
    amount: Decimal


class Capture(NamedTuple):
    """Ask to capture a hold, open or closed."""

    which: int
    percent: int
    exceed: bool


class Again(NamedTuple):
    """Ask for what was posted once more, with the same request or another."""

    which: int
    changed: bool


Wish = Credit | Debit | Void | TakeBack | Capture | Again


def credit_wishes() -> strategies.SearchStrategy[Wish]:
    return strategies.builds(
        Credit,
        strategies.sampled_from([Kind.PURCHASE, Kind.RECHARGE, Kind.GRANT, Kind.BONUS]),
        CREDITS,
        strategies.sampled_from([1, 2, 2, None]),
        strategies.booleans(),
        HOURS,
    )


def debit_wishes(*happened: bool) -> strategies.SearchStrategy[Wish]:
    kinds = strategies.sampled_from([Kind.USAGE, Kind.USAGE, Kind.ADJUSTMENT])
    return strategies.builds(Debit, kinds, DEBITS, strategies.sampled_from(happened))


def capture_wishes() -> strategies.SearchStrategy[Wish]:
    percents = strategies.sampled_from([1, 50, 100, 110, 300, 1000])
    return strategies.builds(Capture, WHICH, percents, strategies.booleans())


# Each branch is made anew: the weights are how often it stands here.
WISHES = strategies.one_of(
    credit_wishes(),
    credit_wishes(),
    credit_wishes(),
    debit_wishes(False),
    debit_wishes(False),
    debit_wishes(True, False),
    strategies.builds(Void, WHICH),
    strategies.builds(
        TakeBack, WHICH, strategies.sampled_from([Kind.REFUND, Kind.DISPUTE]), DEBITS
    ),
    capture_wishes(),
    capture_wishes(),
    strategies.builds(Again, WHICH, strategies.booleans()),
)


class LedgerMachine(RuleBasedStateMachine):
    """Every operation of the ledger in any order, from several connections.

    No rule has a precondition: the order in which connections come is not Hypothesis's to repeat,
    and what a rule may do must not hang on it. A rule that finds nothing to do does nothing.
    """

    pool: Pool
    runner: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        self.names = itertools.count()
        self.accounts: list[Account] = []

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    @initialize(overdrafts=strategies.permutations([ZERO, Decimal(10)]))
    def open(self, overdrafts: list[Decimal]) -> None:
        self.accounts = [
            Account(self.run(self._open(limit)), overdraft=limit) for limit in overdrafts
        ]

    async def _open(self, limit: Decimal) -> UUID:
        async with self.pool.acquire() as connection, connection.transaction():
            slug = f"m-{uuid4().hex}"
            made = await organizations.create(connection, slug=slug, name=slug)
            await limit_overdraft(connection, made.id, limit)
        return made.id

    # What is asked for

    def _posting(self, account: Account, kind: Kind, **fields: Any) -> Posting:
        return Posting(
            organization_id=account.id,
            id=uuid4(),
            type=kind,
            counterparty=SystemAccount.REVENUE,
            key=f"key-{next(self.names)}",
            **fields,
        )

    def _asked(self, account: Account, wish: Wish) -> Posting:
        if isinstance(wish, Again):
            return self._asked_again(account, wish)
        fields: dict[str, Any]
        match wish:
            case Credit(kind, amount, priority, promotional, hours):
                paid = kind in (Kind.PURCHASE, Kind.RECHARGE)
                fields = {
                    "amount": amount,
                    "priority": priority,
                    "promotional": promotional,
                    "expires_at": START + timedelta(hours=hours) if hours else None,
                    "payment_intent_id": f"pi_{uuid4().hex}" if paid else None,
                }
            case Debit(kind, amount, happened):
                fields = {"amount": -amount, "may_overdraw": happened, "category": "tokens"}
            case Void(which):
                kind = Kind.VOID
                # Every other time the lot that burns now, if there is one.
                lots = [lot for lot in account.lots if lot.left and which % 2] or account.lots
                found = sorted(lots, key=lambda lot: lot.order)
                nth = 0 if which % 2 else which % max(len(found), 1)
                fields = {"grant_id": found[nth].id if found else uuid4()}
            case TakeBack(which, kind, amount):
                payments = list(account.payments) or ["pi_unknown"]
                fields = {
                    "amount": -amount,
                    "payment_intent_id": payments[which % len(payments)],
                }
            case Capture(which, percent, exceed):
                kind = Kind.HOLD_CAPTURE
                closed = account.closed_holds[-1:] if which % 4 == 0 or not account.holds else []
                holds = [*account.holds, *closed] or [uuid4()]
                hold_id = holds[which % len(holds)]
                held = account.holds.get(hold_id, Decimal(1))
                amount = max((held * percent / 100).quantize(QUANTUM), QUANTUM)
                fields = {"amount": -amount, "hold_id": hold_id, "may_overdraw": exceed}
        return self._posting(account, kind, **fields)

    def _asked_again(self, account: Account, wish: Again) -> Posting:
        rows = list(account.rows.values())
        if not rows:
            return self._posting(account, Kind.ADJUSTMENT, amount=QUANTUM)
        posting = rows[wish.which % len(rows)].posting
        changes = {"description": "another request"} if wish.changed else {}
        return msgspec.structs.replace(posting, **changes)

    async def _post(self, postings: Sequence[Posting]) -> list[Any]:
        async with self.pool.acquire() as connection, connection.transaction():
            return await service.post(connection, postings)

    async def _bind(self, account: Account, postings: Sequence[Posting]) -> None:
        """Bind what was paid for, as the events of the payments do."""
        for posting in postings:
            payment, amount = posting.payment_intent_id, posting.amount
            new = payment is not None and payment not in account.payments
            if new and posting.type in (Kind.PURCHASE, Kind.RECHARGE):
                assert payment is not None
                assert amount is not None
                account.payments[payment] = [amount, ZERO]
                await self.pool.execute(
                    "INSERT INTO stripe_payments"
                    " (payment_intent_id, organization_id, amount_minor, currency, credits)"
                    " VALUES ($1, $2, 1, 'usd', $3)",
                    payment,
                    account.id,
                    amount,
                )

    @rule(
        who=WHO,
        wishes=strategies.lists(WISHES, min_size=3, max_size=12),
        due=strategies.sampled_from([False, False, True]),
        which=WHICH,
    )
    def post_a_batch(self, who: int, wishes: list[Wish], due: bool, which: int) -> None:
        """Post what is wished for in one batch; sometimes a lot and a hold are due before it."""
        account = self.accounts[who]
        if due:
            self._let_be_due(account, which)
        postings, expected = [], []
        for wish in wishes:
            posting = self._asked(account, wish)
            postings.append(posting)
            expected.append(account.post(posting))
        results = self.run(self._post(postings))
        answers = [result_of(result) for result in results]
        assert answers == expected
        self.run(self._bind(account, postings))
        self.run(self._compare(account))

    @rule(
        wishes=strategies.lists(
            strategies.tuples(WHO, strategies.one_of(credit_wishes(), debit_wishes(False))),
            min_size=CONNECTIONS,
            max_size=10,
        ),
        hold=HOLDS,
    )
    def post_from_several_connections(self, wishes: list[tuple[int, Wish]], hold: Decimal) -> None:
        """Post at once what surely fits, in whatever order it comes: it is told by seq."""
        room = [account.spendable for account in self.accounts]
        shares: list[list[Posting]] = [[] for _ in range(CONNECTIONS)]
        for index, (who, wish) in enumerate(wishes):
            posting = self._asked(self.accounts[who], wish)
            assert posting.amount is not None
            if posting.amount < 0 and room[who] + posting.amount < 0:
                continue
            room[who] += min(posting.amount, ZERO)
            shares[index % CONNECTIONS].append(posting)
        holding = hold <= room[0]

        async def work() -> list[list[Any]]:
            posting = asyncio.gather(*map(self._post, shares))
            if holding:
                await self._hold(self.accounts[0], hold)
            return await posting

        results = {result.id: result for part in self.run(work()) for result in part}
        assert {result.status for result in results.values()} <= {Status.POSTED}
        asked = sorted(itertools.chain(*shares), key=lambda posting: results[posting.id].seq)
        for account in self.accounts:
            own = [posting for posting in asked if posting.organization_id == account.id]
            for posting in own:
                _, _, balance_after = account.post(posting)
                assert results[posting.id].seq == account.seq
                assert results[posting.id].balance_after == balance_after
            self.run(self._bind(account, own))
            self.run(self._compare(account))

    async def _hold(self, account: Account, amount: Decimal) -> None:
        covered = amount <= account.spendable
        async with self.pool.acquire() as connection, connection.transaction():
            result = await service.hold(
                connection,
                account.id,
                amount=amount,
                seconds=3600,
                key=f"hold-{next(self.names)}",
                now=datetime.now(UTC),
            )
        assert result.status is (Status.POSTED if covered else Status.INSUFFICIENT)
        if isinstance(result, PostedHold):
            account.holds[result.hold.id] = amount

    @rule(who=WHO, amounts=strategies.lists(HOLDS, min_size=1, max_size=4))
    def hold(self, who: int, amounts: list[Decimal]) -> None:
        for amount in amounts:
            self.run(self._hold(self.accounts[who], amount))
        self.run(self._compare(self.accounts[who]))

    @rule(who=WHO, which=WHICH)
    def release(self, who: int, which: int) -> None:
        account = self.accounts[who]
        if not account.holds:
            return
        hold_id = list(account.holds)[which % len(account.holds)]

        async def work() -> Status:
            async with self.pool.acquire() as connection, connection.transaction():
                return (await store.release(connection, account.id, hold_id)).status

        assert self.run(work()) is Status.POSTED
        assert self.run(work()) is Status.REPLAYED
        account.close(hold_id)
        self.run(self._compare(account))

    @rule(who=WHO, which=WHICH)
    def settle_what_is_due(self, who: int, which: int) -> None:
        self._let_be_due(self.accounts[who], which)

        async def work() -> None:
            async with self.pool.acquire() as connection, connection.transaction():
                await service.post_expirations(connection)

        self.run(work())
        self.run(self._compare(self.accounts[who]))

    def _let_be_due(self, account: Account, which: int) -> None:
        """Let a lot and a hold expire, if there are: what comes next settles them."""
        living = [lot for lot in account.lots if lot.left]
        if living:
            lot = living[which % len(living)]
            self.run(self._make_due("credit_grants", account.id, lot.id))
            account.expire(lot)
        if account.holds:
            hold_id = list(account.holds)[which % len(account.holds)]
            self.run(self._make_due("holds", account.id, hold_id))
            account.close(hold_id)

    async def _make_due(self, table: str, organization_id: UUID, row_id: UUID) -> None:
        unhashed = ", terms_hash = NULL" if table == "credit_grants" else ""
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(
                f"UPDATE {table} SET expires_at = now() - interval '1 s'{unhashed}"  # noqa: S608
                " WHERE organization_id = $1 AND id = $2",
                organization_id,
                row_id,
            )
            await connection.execute(
                "UPDATE accounts"
                " SET next_due_at = now() - interval '1 s', expired_through = '-infinity'"
                " WHERE organization_id = $1",
                organization_id,
            )

    @rule(
        which=WHICH,
        refunded=strategies.sampled_from([0, 30, 60, 120]),
        withdrawn=strategies.sampled_from([0, 0, 50, 120]),
        disputed=strategies.booleans(),
    )
    def reverse(self, which: int, refunded: int, withdrawn: int, disputed: bool) -> None:
        pairs = [(account, name) for account in self.accounts for name in account.payments][-3:]
        if not pairs:
            return
        account, payment = pairs[which % len(pairs)]
        granted, before = account.payments[payment]
        levels = [(granted * part / 100).quantize(QUANTUM) for part in (refunded, withdrawn)]

        async def work() -> Any:
            async with self.pool.acquire() as connection, connection.transaction():
                return await service.reverse_payment(
                    connection, payment, refunded=levels[0], withdrawn=levels[1], disputed=disputed
                )

        result = self.run(work())
        target = min(granted, levels[0] + levels[1])
        account.payments[payment][1] = target
        if target == before:
            assert result is None
            return
        assert result is not None
        assert result.status is Status.POSTED
        assert result.id is not None
        taking = Kind.DISPUTE if disputed else Kind.REFUND
        posting = self._posting(
            account,
            taking if target > before else Kind.DISPUTE_REVERSAL,
            amount=before - target,
            payment_intent_id=payment,
        )
        account.post(msgspec.structs.replace(posting, id=result.id))
        # Its key is the reversal's and not the model's: it is not to be asked for again.
        del account.rows[posting.key]
        assert self.run(work()) is None, "told twice, done twice"
        self.run(self._compare(account))

    # What is held against the model

    async def _compare(self, account: Account) -> None:
        async with self.pool.acquire() as connection:
            found = await store.balance(connection, account.id)
            assert found is not None
            assert (found.balance, found.held) == (account.balance, account.held)
            assert found.last_seq == account.seq
            rows = await store.grants(
                connection, account.id, before=1 << 62, is_open=None, limit=10_000
            )
        left = {row["id"]: row["remaining"] for row in rows}
        assert left == {lot.id: lot.left for lot in account.lots}

    def teardown(self) -> None:
        for account in self.accounts:
            self.run(self._compare_what_was_paid_for(account))
        self.run(self._verify([account.id for account in self.accounts]))

    async def _compare_what_was_paid_for(self, account: Account) -> None:
        async with self.pool.acquire() as connection:
            for lot in account.lots:
                uses = await store.uses(connection, account.id, lot.id, limit=10_000)
                found = [(use.seq, use.amount) for use in uses]
                assert found == sorted(lot.paid_for.items())
            rows = await store.history(connection, account.id, before=1 << 62, limit=20)
            for row in rows:
                await _compare_sources(connection, account, row)

    async def _verify(self, organization_ids: Sequence[UUID]) -> None:
        async with self.pool.acquire() as connection:
            for organization_id in organization_ids:
                found = await verify(connection, organization_id)
                assert found["problems"] == []


async def _compare_sources(connection: Connection, account: Account, row: Any) -> None:
    sources = await service.explain(connection, row)
    if row["amount"] > 0:
        assert sources == []
        return
    assert sum(source.amount for source in sources) == -row["amount"]
    if row["type"] in BURNING:
        seq = row["seq"]
        found = {source.grant_id: source.amount for source in sources}
        expected: dict[UUID | None, Decimal] = {
            lot.id: lot.paid_for[seq] for lot in account.lots if seq in lot.paid_for
        }
        debt = sum(amount for debtor, amount in account.debts if debtor == seq)
        if debt:
            expected[None] = debt
        assert found == expected


@asynccontextmanager
async def _opened(database_url: str) -> AsyncIterator[Pool]:
    async with create_pool(
        database_url, size=CONNECTIONS + 1, application_name="prepaid-model"
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


@pytest.mark.timeout(300)  # some thousand transactions
@pytest.mark.parametrize(
    ("histories", "steps"),
    [(cases(quick=15, thorough=40), 5), (cases(quick=15, thorough=50), 25)],
    ids=["short", "long"],
)
def test_any_history_of_operations_leaves_the_ledger_as_the_model(
    machine: type[LedgerMachine], histories: int, steps: int
) -> None:
    """Short histories come first, since a failure is not shrunk: that would take minutes."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=histories,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
