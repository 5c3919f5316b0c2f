"""Any order of suspensions, cards, months and persons against a tiny model of auto-recharge."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shared.db.pool import create_pool
from shared.recharge import service
from shared.recharge.model import SuspensionReason
from shared.recharge.suspensions import store as suspension_store
from tests.fixtures.product import create_organization
from tests.fixtures.profile import cases
from tests.fixtures.recharging import TOP, agree

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool
    from shared.organizations.model import Organization

BY_A_PERSON = {"dispute", "fraud_warning", "charge_refused", "customer_deleted", "operator"}
RANKS = {"inquiry": 1, "refunded": 2, **dict.fromkeys(BY_A_PERSON, 3), "operator": 4}
# What each of these ends.
ENDS = {
    "another card": {"declines", "no_card", "authentication_expired"},
    "a card": {"no_card"},
    "inquiry closed": {"inquiry"},
    "purchase": {"refunded"},
    "month": {"cap"},
}
STEPS = st.one_of(
    st.sampled_from(sorted(map(str, SuspensionReason))),
    st.sampled_from(["on", "off", "off", "resume", "pause", "unpause", "success", *ENDS]),
)
_numbers = itertools.count()


@dataclass
class Model:
    """`reason` is why it is suspended, or will be once it is turned on."""

    on: bool = False
    paused: bool = False
    reason: str | None = None

    def step(self, name: str) -> None:
        if name in set(SuspensionReason):
            self._suspend(name)
        elif name == "on":
            self.on = True
        elif name == "off":
            self.on = self.paused = False
            self.reason = self.reason if self.reason in BY_A_PERSON else None
        elif name == "resume" or self.reason in ENDS.get(name, ()):
            self.reason = None
        elif name == "pause":
            self.paused = self.on and self.reason is None
        elif name in {"unpause", "success"}:
            self.paused = False

    def _suspend(self, reason: str) -> None:
        if not self.on and reason not in BY_A_PERSON:
            return
        higher = self.reason is None or RANKS.get(reason, 0) > RANKS.get(self.reason, 0)
        if higher or reason == "operator":
            self.reason, self.paused = reason, False

    @property
    def expected(self) -> tuple[str, str | None, str | None]:
        if not self.on:
            return "off", None, self.reason
        if self.reason is not None:
            return "suspended", self.reason, None
        return ("paused_requires_action" if self.paused else "active"), None, None


async def act(connection: Connection, owner: Organization, name: str, now: datetime) -> None:
    who = owner.id
    acts: dict[str, Callable[[], Awaitable[object]]] = {
        "off": lambda: service.turn_off(connection, who, actor="test", reason=None),
        "resume": lambda: service.resume(connection, who, actor="test", reason=None),
        "another card": lambda: service.card_changed(connection, who),
        "a card": lambda: service.card_on_file(connection, who),
        "inquiry closed": lambda: service.end_inquiry(connection, who),
        "purchase": lambda: service.purchased(connection, who, now=now),
        "month": lambda: service.tick(connection, now=now),
        "pause": lambda: suspension_store.pause(connection, who),
        "unpause": lambda: suspension_store.unpause(connection, who),
        "success": lambda: suspension_store.record_success(connection, who, now),
    }
    if name in acts:
        await acts[name]()
        return
    until = now if name == "cap" else None
    await service.suspend(connection, who, SuspensionReason(name), "why", now=now, until=until)


async def follow(pool: Pool, names: list[str]) -> None:
    owner = await create_organization(pool, f"model-{next(_numbers)}")
    model, now = Model(), datetime.now(UTC)
    for number, name in enumerate(names):
        if name == "on":
            await agree(pool, owner, TOP, now=now)
        else:
            async with pool.acquire() as connection, connection.transaction():
                await act(connection, owner, name, now)
        model.step(name)
        row = await pool.fetchrow(
            "SELECT s.state, s.reason, s.held_reason, a.recharge_below FROM accounts AS a"
            " LEFT JOIN auto_recharges AS s ON a.organization_id = s.organization_id"
            " WHERE a.organization_id = $1",
            owner.id,
        )
        assert row is not None
        found = (row["state"] or "off", row["reason"], row["held_reason"])
        assert found == model.expected, names[: number + 1]
        below = TOP.threshold if found[0] == "active" else None
        assert row["recharge_below"] == below, names[: number + 1]


@asynccontextmanager
async def _opened(database_url: str) -> AsyncIterator[Pool]:
    async with create_pool(database_url, size=2, application_name="prepaid-model") as pool:
        yield pool


@pytest.fixture
def running(database_url: str) -> Iterator[tuple[asyncio.Runner, Pool]]:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        opened = _opened(database_url)
        try:
            yield runner, runner.run(opened.__aenter__())
        finally:
            runner.run(opened.__aexit__(None, None, None))


def test_no_order_of_events_ends_a_suspension_that_only_a_person_ends(
    running: tuple[asyncio.Runner, Pool],
) -> None:
    """M10, M11, M18."""
    runner, pool = running

    @settings(
        max_examples=cases(quick=40, thorough=150),
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(names=st.lists(STEPS, min_size=2, max_size=14))
    def examples(names: list[str]) -> None:
        runner.run(follow(pool, ["on", *names]))
        runner.run(follow(pool, names))

    examples()
