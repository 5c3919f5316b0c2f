"""The ledger against a small model of it: after every step they agree, to the last decimal."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from shared.db.pool import create_pool
from shared.ids import new_id
from shared.ledger import service
from shared.ledger.holds import service as holds
from shared.ledger.holds.model import NewHold, PostedHold
from shared.ledger.model import Posting, SystemAccount
from shared.ledger.model import PostingStatus as Status
from shared.ledger.model import TransactionType as Kind
from shared.ledger.verification import verify
from shared.organizations import service as organizations
from tests.fixtures.ledger import limit_overdraft
from tests.fixtures.ledger_model import ZERO, Account, compare, compare_what_was_paid_for, result_of
from tests.fixtures.profile import cases
from tests.fixtures.random_postings import (
    HOLDS,
    QUANTUM,
    WHICH,
    WHO,
    WISHES,
    Again,
    Wish,
    credit_wishes,
    debit_wishes,
    fields_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence

    from shared.db.pool import Pool


T = TypeVar("T")

CONNECTIONS = 4


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
        kind, fields = fields_of(account, wish)
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
        """Post what is wished for in one batch; sometimes a grant and a hold are due before it."""
        account = self.accounts[who]
        if due:
            self._let_be_due(account, which)
        self._post_in_order(account, wishes)

    @rule(
        who=WHO,
        wishes=strategies.lists(credit_wishes(), min_size=3, max_size=8),
        again=strategies.lists(strategies.builds(Again, WHICH, strategies.booleans()), max_size=3),
    )
    def post_credits(self, who: int, wishes: list[Wish], again: list[Wish]) -> None:
        """Post credits alone, among them some that were posted before."""
        self._post_in_order(self.accounts[who], [*wishes[:1], *again, *wishes[1:]])

    def _post_in_order(self, account: Account, wishes: Sequence[Wish]) -> None:
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
            new = NewHold(
                organization_id=account.id,
                id=new_id(),
                amount=amount,
                seconds=3600,
                key=f"hold-{next(self.names)}",
            )
            result = await holds.hold(connection, new)
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
                return (await holds.release(connection, account.id, hold_id)).status

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
        """Let a grant and a hold expire, if there are: what comes next settles them."""
        living = [grant for grant in account.grants if grant.left]
        if living:
            grant = living[which % len(living)]
            self.run(self._make_due("credit_grants", account.id, grant.id))
            account.expire(grant)
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
            await compare(connection, account)

    def teardown(self) -> None:
        for account in self.accounts:
            self.run(self._compare_what_was_paid_for(account))
        self.run(self._verify([account.id for account in self.accounts]))

    async def _compare_what_was_paid_for(self, account: Account) -> None:
        async with self.pool.acquire() as connection:
            await compare_what_was_paid_for(connection, account)

    async def _verify(self, organization_ids: Sequence[UUID]) -> None:
        async with self.pool.acquire() as connection:
            for organization_id in organization_ids:
                found = await verify(connection, organization_id)
                assert found["problems"] == []


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
