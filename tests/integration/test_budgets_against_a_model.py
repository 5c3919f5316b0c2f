"""Budgets against a small model of them: after every step they have counted the same."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from shared.budgets import service
from shared.budgets.model import (
    BudgetAction,
    BudgetChange,
    NewBudget,
    SubjectKind,
    WindowKind,
)
from shared.db.pool import create_pool
from shared.invariants.catalog import budget_counters
from shared.ledger.model import TransactionType
from shared.organizations import service as organizations
from tests.fixtures.budget_model import ZERO, ModelAccount, ModelBudget
from tests.fixtures.budgets import numbers, set_clock
from tests.fixtures.ledger import grant, posting, release, statuses, try_hold, usage
from tests.fixtures.profile import cases

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

    from shared.budgets.model import BudgetState
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

T = TypeVar("T")

START = datetime(2031, 1, 30, 21, 59, 59, 999999, tzinfo=UTC)
STEPS = (timedelta(microseconds=1), timedelta(hours=1), timedelta(hours=2), timedelta(days=2))
AMOUNTS = strategies.sampled_from([Decimal(n) for n in ("1", "2.5", "4", "0.000000001")])
LIMITS = strategies.sampled_from([Decimal(n) for n in ("0", "3", "6.5", "12")])
USERS = strategies.sampled_from([None, "jo", "mia"])
TAGS = strategies.sampled_from([(), ("a",), ("a", "b")])
OF = {"user": ("jo", "mia", "*"), "tag": ("a", "b", "*"), "category": ("tokens", "*")}
SUBJECTS = strategies.sampled_from([(kind, name) for kind, names in OF.items() for name in names])
WINDOWS = strategies.sampled_from([*WindowKind])
ACTIONS = strategies.sampled_from([*BudgetAction])
USES = strategies.tuples(AMOUNTS, USERS, TAGS, strategies.sampled_from([False, False, True]))


def fields_of(user: str | None, tags: tuple[str, ...]) -> dict[str, Any]:
    return {"user_id": user, "category": "tokens", "metadata": {"prepaid:tags": list(tags)}}


def subjects_of(user: str | None, tags: tuple[str, ...]) -> dict[str, Any]:
    return {"user": [user] if user else [], "category": ["tokens"], "tag": tags}


class BudgetMachine(RuleBasedStateMachine):
    """Budgets that come, change and go, while the clock advances and usage is posted."""

    pool: Pool
    runner: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        self.names = itertools.count()
        self.states: dict[UUID, BudgetState] = {}

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    @initialize()
    def open(self) -> None:
        self.owner = self.run(self._open())
        self.account = ModelAccount(START)

    async def _open(self) -> Organization:
        async with self.pool.acquire() as connection, connection.transaction():
            slug = f"m-{uuid4().hex}"
            made = await organizations.create(connection, slug=slug, name=slug)
        assert await statuses(self.pool, grant(made, 10_000)) == ["posted"]
        await set_clock(self.pool, made, START)
        return made

    @rule(of=SUBJECTS, window=WINDOWS, limit=LIMITS, action=ACTIONS)
    def set_a_budget(
        self, of: tuple[str, str], window: WindowKind, limit: Decimal, action: BudgetAction
    ) -> None:
        kind, subject = of
        new = NewBudget(
            subject_kind=SubjectKind(kind),
            subject=subject,
            window_kind=window,
            limit=limit,
            action=action,
        )
        state = self.run(self._put(new))
        self.states[state.budget.id] = state
        self.account.budgets[state.budget.id] = ModelBudget(
            kind, subject, window, limit, action is BudgetAction.REFUSE
        )
        self.compare()

    async def _put(self, new: NewBudget) -> BudgetState:
        async with self.pool.acquire() as connection, connection.transaction():
            return await service.put(
                connection, self.owner.id, new, actor="tests", now=datetime.now(UTC)
            )

    @rule(which=strategies.integers(0, 9), limit=LIMITS)
    def change_or_remove_a_budget(self, which: int, limit: Decimal) -> None:
        if not self.states:
            return
        budget_id = [*self.states][which % len(self.states)]
        self.run(self._change(budget_id, limit if which else None))
        if which:
            self.account.budgets[budget_id].limit = limit
        else:
            del self.states[budget_id], self.account.budgets[budget_id]
        self.compare()

    async def _change(self, budget_id: UUID, limit: Decimal | None) -> None:
        asked: dict[str, Any] = {"actor": "tests", "now": datetime.now(UTC)}
        async with self.pool.acquire() as connection, connection.transaction():
            if limit is None:
                await service.remove(connection, self.owner.id, budget_id, **asked)
            else:
                changes = BudgetChange(limit=limit)
                await service.change(connection, self.owner.id, budget_id, changes, **asked)

    @rule(step=strategies.sampled_from(STEPS))
    def let_time_pass(self, step: timedelta) -> None:
        self.account.now += step
        self.run(set_clock(self.pool, self.owner, self.account.now))
        self.compare()

    @rule(uses=strategies.lists(USES, min_size=1, max_size=5))
    def post_a_batch(self, uses: list[tuple[Decimal, str | None, tuple[str, ...], bool]]) -> None:
        expected, asked = [], []
        for amount, user, tags, has_happened in uses:
            subjects = subjects_of(user, tags)
            refused = not has_happened and self.account.refuses(subjects, amount)
            expected.append("budget_exceeded" if refused else "posted")
            if not refused:
                self.account.use(subjects, amount)
            fields = fields_of(user, tags)
            asked.append(usage(self.owner, amount, may_overdraw=has_happened, **fields))
        assert self.run(statuses(self.pool, *asked)) == expected
        self.compare()

    @rule(use=USES, which=strategies.integers(0, 3))
    def hold_or_release(
        self, use: tuple[Decimal, str | None, tuple[str, ...], bool], which: int
    ) -> None:
        amount, user, tags, releases = use
        if releases and self.account.holds:
            hold_id = [*self.account.holds][which % len(self.account.holds)]
            assert self.run(release(self.pool, self.owner, hold_id)) == "posted"
            del self.account.holds[hold_id]
        else:
            subjects = subjects_of(user, tags)
            refused = self.account.refuses(subjects, amount)
            made = self.run(self._hold(amount, fields_of(user, tags)))
            assert made.status == ("budget_exceeded" if refused else "posted")
            if not refused:
                self.account.holds[made.hold.id] = (subjects, amount)
        self.compare()

    async def _hold(self, amount: Decimal, fields: dict[str, Any]) -> Any:
        """Hold until after all of the times of this test."""
        made = await try_hold(self.pool, self.owner, amount, **fields)
        await self.pool.execute(
            "UPDATE holds SET expires_at = '2099-01-01' WHERE status = 'active'"
        )
        await self.pool.execute("UPDATE accounts SET next_due_at = NULL")
        return made

    @rule(use=USES, which=strategies.integers(0, 3), partial=strategies.booleans())
    def capture(
        self, use: tuple[Decimal, str | None, tuple[str, ...], bool], which: int, partial: bool
    ) -> None:
        if not self.account.holds:
            return
        hold_id = [*self.account.holds][which % len(self.account.holds)]
        of, rest = self.account.holds[hold_id]
        amount, user, tags, exceeds = use
        subjects = subjects_of(user, tags)
        expected = "posted"
        if amount > rest and not exceeds:
            expected = "exceeds_hold"
        elif amount > rest and self.account.refuses(subjects, amount, released=hold_id):
            expected = "budget_exceeded"
        asked = posting(
            self.owner, TransactionType.HOLD_CAPTURE, -amount, hold_id=hold_id, partial=partial,
            may_overdraw=exceeds, **fields_of(user, tags),
        )  # fmt: skip
        assert self.run(statuses(self.pool, asked)) == [expected]
        if expected == "posted":
            self.account.use(subjects, amount)
            self.account.holds[hold_id] = (of, max(rest - amount, ZERO))
            if not partial:
                del self.account.holds[hold_id]
        self.compare()

    def compare(self) -> None:
        for budget_id, state in self.states.items():
            found = self.run(numbers(self.pool, state))
            assert found == self.account.numbers(self.account.budgets[budget_id])
        assert self.run(self._drift()) == []

    async def _drift(self) -> list[Any]:
        async with self.pool.acquire() as connection:
            return await budget_counters(connection, [self.owner.id], 10)


@asynccontextmanager
async def _opened(database_url: str) -> AsyncIterator[Pool]:
    async with create_pool(database_url, size=2, application_name="prepaid-model") as pool:
        yield pool


@pytest.fixture
def machine(database_url: str) -> Iterator[type[BudgetMachine]]:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        opened = _opened(database_url)
        BudgetMachine.pool = runner.run(opened.__aenter__())
        BudgetMachine.runner = runner
        try:
            yield BudgetMachine
        finally:
            runner.run(opened.__aexit__(None, None, None))


@pytest.mark.timeout(300)
def test_any_history_of_usage_and_budgets_leaves_them_as_the_model(
    machine: type[BudgetMachine],
) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=cases(quick=12, thorough=60),
            stateful_step_count=15,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
