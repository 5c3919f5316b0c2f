"""Each tenant has its share, and waits for its own requests alone."""

from __future__ import annotations

import asyncio

from api.framework.shares import (
    FairShare,
    Limits,
    Tenant,
    act_for,
    acting_for_all,
    current_tenant,
)
from shared.errors import UnavailableError


class Door:
    """Tenants that go in and stay until they are let out; `inside` has their names in order."""

    def __init__(self, limits: Limits) -> None:
        self.share = FairShare(limits)
        self.inside: list[str] = []
        self.out: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def ask(self, *names: str) -> None:
        """Ask for turns; the first letter is the key, the second the organization."""
        for name in names:
            self.out[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._go(name))
        await turns()

    async def _go(self, name: str) -> None:
        act_for(Tenant(name[0], name[1]))
        async with self.share.turn():
            self.inside.append(name)
            await self.out[name].wait()

    async def let_out(self, *names: str) -> None:
        for name in names:
            self.out[name].set()
        await turns()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_organization_waits_for_itself_and_no_other_for_it() -> None:
    door = Door(Limits(at_once_max=4, of_key_max=4, of_organization_max=2))
    await door.ask("ka1", "ka2", "ka3", "kb1", "kc1")
    assert door.inside == ["ka1", "ka2", "kb1", "kc1"]
    await door.let_out("kb1")
    assert "ka3" not in door.inside
    await door.let_out("ka1")
    assert door.inside[-1] == "ka3"


async def test_a_key_waits_for_itself_and_no_other_for_it() -> None:
    door = Door(Limits(at_once_max=3, of_key_max=2, of_organization_max=3))
    await door.ask("ka1", "kb1", "kc1", "la1")
    assert door.inside == ["ka1", "kb1", "la1"]


async def test_those_who_wait_take_turns_by_tenant() -> None:
    door = Door(Limits(at_once_max=1, of_key_max=1, of_organization_max=1))
    await door.ask("ka0", "ka1", "ka2", "ka3", "kb1", "kb2")
    for name in ("ka0", "ka1", "kb1", "ka2", "kb2"):
        await door.let_out(name)
    assert door.inside == ["ka0", "ka1", "kb1", "ka2", "kb2", "ka3"]


async def test_one_that_goes_away_while_it_waits_leaves_its_place_to_the_next() -> None:
    door = Door(Limits(at_once_max=1, of_key_max=1, of_organization_max=1))
    await door.ask("ka0", "ka1", "ka2")
    door.tasks["ka1"].cancel()
    await turns()
    await door.let_out("ka0")
    assert door.inside == ["ka0", "ka2"]


async def test_one_that_goes_away_as_it_is_let_in_leaves_its_place_to_the_next() -> None:
    door = Door(Limits(at_once_max=1, of_key_max=1, of_organization_max=1))
    await door.ask("ka0", "ka1", "ka2")
    door.out["ka0"].set()
    await asyncio.sleep(0)  # `ka0` leaves, and lets `ka1` in, which has not run yet
    door.tasks["ka1"].cancel()
    await turns()
    assert door.inside == ["ka0", "ka2"]


async def test_one_that_goes_away_before_it_is_let_in_leaves_its_place_to_the_next() -> None:
    door = Door(Limits(at_once_max=1, of_key_max=1, of_organization_max=1))
    await door.ask("ka0", "ka1", "ka2")
    door.out["ka0"].set()
    door.tasks["ka1"].cancel()  # before `ka0` has run, which would let it in
    await turns()
    assert door.tasks["ka0"].exception() is None
    assert door.inside == ["ka0", "ka2"]
    await door.let_out("ka2")
    await door.ask("ka3")
    assert door.inside[-1] == "ka3"


async def test_more_than_may_wait_are_refused_and_told_when_to_come_back() -> None:
    limits = Limits(
        at_once_max=1,
        of_key_max=1,
        of_organization_max=1,
        waiting_of_key_max=3,
        waiting_of_organization_max=2,
    )
    door = Door(limits)
    await door.ask("ka0", "ka1", "ka2", "ka3", "kb1", "kc1", "la1", "lb1")
    refused = {name: task.exception() for name, task in door.tasks.items() if task.done()}
    assert set(refused) == {"ka3", "kc1", "la1"}
    for error in refused.values():
        assert isinstance(error, UnavailableError)
        assert error.retry_after_seconds == 1
    await door.let_out(*set(door.tasks) - set(refused))
    assert set(door.inside) == set(door.tasks) - set(refused)


async def test_nothing_is_remembered_of_those_who_have_left() -> None:
    door = Door(Limits(at_once_max=2, of_key_max=2, of_organization_max=1))
    await door.ask("ka1", "ka2", "lb1")
    await door.let_out("ka1", "ka2", "lb1")
    left = [value for name, value in vars(door.share).items() if name != "_limits"]
    assert not any(left)


async def test_no_place_is_lost_when_all_are_cancelled_at_once() -> None:
    """As when one look at the clock ends all that are over their time."""
    door = Door(Limits(at_once_max=2, of_key_max=2, of_organization_max=2))
    await door.ask("ka1", "ka2", "ka3", "ka4", "lb1")
    for task in door.tasks.values():
        task.cancel()
    ended = await asyncio.gather(*door.tasks.values(), return_exceptions=True)
    assert {type(end) for end in ended} == {asyncio.CancelledError}
    door.inside.clear()
    await door.ask("ka5", "lb2", "ka6")
    assert door.inside == ["ka5", "lb2"]
    await door.let_out("lb2")
    assert door.inside == ["ka5", "lb2", "ka6"]


def test_what_several_keys_of_an_organization_share_counts_for_the_organization_alone() -> None:
    with acting_for_all([Tenant("a", "acme"), Tenant("a", "acme")]):
        assert current_tenant() == Tenant("a", "acme")
    with acting_for_all([Tenant("a", "acme"), Tenant("b", "acme")]):
        assert current_tenant() == Tenant(None, "acme")
    assert current_tenant() == Tenant(None)
