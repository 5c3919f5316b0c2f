"""A reservation charges what its body has recorded, however the body ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from itertools import product
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from prepaid_client import AsyncClient, Client, Conflict, Insufficient, ServerError
from prepaid_client.lifecycle import Lifecycle
from prepaid_client.reserving import plan

from shared.organizations.model import Organization
from tests.client.conftest import AT_ONCE
from tests.fixtures.api import ApiClient
from tests.fixtures.faulty_proxy import Fault, FaultyProxy
from tests.fixtures.ledger import make_due

if TYPE_CHECKING:
    from shared.db.pool import Pool


class DisconnectError(Exception):
    """The reader of a stream has gone."""


async def disconnected(client: AsyncClient, *, used: int) -> None:
    """Reserve 10 credits for a call that fails after it has used so many."""
    async with client.reserve("acme", amount=10) as call:
        call.record(amount=used)
        raise DisconnectError


async def used_up(client: AsyncClient) -> None:
    async with client.reserve("acme", amount=10) as call:
        call.record(amount=10)


async def funds(client: AsyncClient) -> tuple[Any, Any]:
    """Return the balance, and what is held of it."""
    found = await client.balance("acme")
    return found["balance"], Decimal(found["reservedCreditsDecimillicents"] or 0) / 10_000_000


async def test_what_is_used_is_charged_and_the_rest_comes_back(
    prepaid_async: AsyncClient, funded: Organization
) -> None:
    async with prepaid_async.reserve(
        "acme", amount=10, transaction_id="chat-1", user_id="jo", tags=["beta"]
    ) as call:
        assert await funds(prepaid_async) == (100, 10)
        call.add(amount="1.5")
        call.add(amount="0.5")
        call.record(amount="3.25")
    assert call.captured is not None
    assert call.captured["capturedAmount"] == Decimal("3.25")
    assert await funds(prepaid_async) == (Decimal("96.75"), 0)
    assert call.hold["transactionId"] == "chat-1"
    assert (call.hold["userId"], call.hold["tags"]) == ("jo", ["beta"])


async def test_the_blocking_client_reserves_as_well(
    prepaid_blocking: Client, prepaid_async: AsyncClient, funded: Organization
) -> None:
    def fail() -> None:
        with prepaid_blocking.reserve("acme", amount=10) as call:
            call.record(amount=2)
            raise DisconnectError

    def use() -> None:
        with prepaid_blocking.reserve("acme", amount=10) as call:
            call.record(amount=4)
        with pytest.raises(DisconnectError):
            fail()
        with prepaid_blocking.reserve("acme", amount=10):
            pass

    await asyncio.to_thread(use)
    assert await funds(prepaid_async) == (94, 0)


async def test_a_call_that_used_nothing_is_released(
    prepaid_async: AsyncClient, funded: Organization, caplog: pytest.LogCaptureFixture
) -> None:
    async with prepaid_async.reserve("acme", amount=10) as call:
        pass
    assert call.captured is None
    assert "nothing was recorded" in caplog.text
    assert await funds(prepaid_async) == (100, 0)


async def test_an_error_in_the_body_charges_what_was_used_until_then(
    prepaid_async: AsyncClient, funded: Organization
) -> None:
    with pytest.raises(DisconnectError):
        await disconnected(prepaid_async, used=2)
    assert await funds(prepaid_async) == (98, 0)
    with pytest.raises(DisconnectError):
        await disconnected(prepaid_async, used=0)
    assert await funds(prepaid_async) == (98, 0)


async def test_a_canceled_body_charges_what_was_used_until_then(
    prepaid_async: AsyncClient, funded: Organization
) -> None:
    recorded = asyncio.Event()

    async def stream() -> None:
        async with prepaid_async.reserve("acme", amount=10) as call:
            call.record(amount=2)
            recorded.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(stream())
    await recorded.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await funds(prepaid_async) == (98, 0)


async def test_a_second_cancellation_leaves_the_capture_to_the_client(
    api_client: ApiClient, proxy: FaultyProxy, prepaid_async: AsyncClient, funded: Organization
) -> None:
    stop = proxy.stop("/capture")
    assert api_client.key is not None
    client = AsyncClient(proxy.url, api_client.key, retries=AT_ONCE)

    async def stream() -> None:
        async with client.reserve("acme", amount=10) as call:
            call.record(amount=2)

    task = asyncio.create_task(stream())
    await stop.arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await funds(prepaid_async) == (100, 10)
    stop.go.set()
    await client.aclose()
    assert await funds(prepaid_async) == (98, 0)


async def test_a_caller_that_is_canceled_while_it_reserves_leaves_no_hold(
    api_client: ApiClient, proxy: FaultyProxy, prepaid_async: AsyncClient, funded: Organization
) -> None:
    stop = proxy.stop("/holds")
    assert api_client.key is not None
    client = AsyncClient(proxy.url, api_client.key, retries=AT_ONCE)
    task = asyncio.create_task(client.reserve("acme", amount=10).__aenter__())
    await stop.arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stop.go.set()
    await client.aclose()
    assert len(proxy.requests("/release")) == 1
    assert await funds(prepaid_async) == (100, 0)


async def test_a_lost_answer_reserves_and_charges_once(
    prepaid_async: AsyncClient, proxy: FaultyProxy, funded: Organization
) -> None:
    cases = list(product(["/holds", "/capture"], [Fault.LOSE_REQUEST, Fault.LOSE_ANSWER]))
    for number, (step, fault) in enumerate(cases):
        before, seen = 100 - 4 * number, len(proxy.requests(step))
        proxy.fail(step, fault, fault)
        async with prepaid_async.reserve("acme", amount=10) as call:
            assert await funds(prepaid_async) == (before, 10), (step, fault)
            call.record(amount=4)
        assert len(proxy.requests(step)) - seen == 3, (step, fault)
        assert await funds(prepaid_async) == (before - 4, 0), (step, fault)


async def test_a_capture_that_fails_is_noted_on_the_error_of_the_body(
    prepaid_async: AsyncClient, proxy: FaultyProxy, funded: Organization
) -> None:
    proxy.fail("/capture", *[Fault.UNAVAILABLE] * AT_ONCE.attempts_max)
    with pytest.raises(DisconnectError) as raised:
        await disconnected(prepaid_async, used=2)
    assert raised.value.__notes__[0].startswith("Its use was not charged")
    proxy.fail("/capture", *[Fault.UNAVAILABLE] * AT_ONCE.attempts_max)
    with pytest.raises(ServerError):
        await used_up(prepaid_async)


async def test_use_beyond_the_hold_is_charged_in_full(
    prepaid_async: AsyncClient, funded: Organization
) -> None:
    async with prepaid_async.reserve("acme", amount=10) as call:
        call.record(amount=120)
    assert await funds(prepaid_async) == (-20, 0)


async def test_use_beyond_the_overdraft_limit_of_a_key_is_charged_as_far_as_it_is_reserved(
    api_client: ApiClient, proxy: FaultyProxy, prepaid_async: AsyncClient, funded: Organization
) -> None:
    key = (await api_client.make_key("usage")).key
    assert key is not None
    async with (
        AsyncClient(proxy.url, key, retries=AT_ONCE) as client,
        client.reserve("acme", amount=10) as call,
    ):
        call.record(amount=120)
    assert await funds(prepaid_async) == (90, 0)


async def test_use_of_a_hold_that_has_expired_is_charged_as_a_debit(
    prepaid_async: AsyncClient, funded: Organization, pool: Pool
) -> None:
    async with prepaid_async.reserve("acme", amount=10, user_id="jo") as call:
        call.record(amount=4)
        await make_due(pool, "holds", UUID(call.hold["id"]))
    assert call.captured is None
    assert await funds(prepaid_async) == (96, 0)
    (row, *_) = (await prepaid_async.history("acme", limit=1))["data"]
    assert row["referenceId"] == f"{call.hold['id']}:late"


async def test_a_hold_that_was_captured_elsewhere_is_not_charged_again(
    prepaid_async: AsyncClient, funded: Organization
) -> None:
    async def stream() -> None:
        async with prepaid_async.reserve("acme", amount=10) as call:
            call.record(amount=4)
            await prepaid_async.capture("acme", call.hold["id"], 3)

    with pytest.raises(Conflict):
        await stream()
    assert await funds(prepaid_async) == (97, 0)


async def test_a_hold_is_extended_while_its_call_runs(
    prepaid_async: AsyncClient,
    proxy: FaultyProxy,
    funded: Organization,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Its steps are driven here, without waiting.
    lifecycle = Lifecycle(prepaid_async._caller, plan("acme", amount=10, seconds=600))  # noqa: SLF001
    call = await lifecycle.open()
    proxy.fail("/extend", *[Fault.UNAVAILABLE] * AT_ONCE.attempts_max)
    pauses: list[float] = []

    async def has_ended(seconds: float) -> bool:
        pauses.append(seconds)
        return len(pauses) == 3

    await lifecycle.extend_until(has_ended)
    assert pauses == [400, 60, 400]
    assert "was not extended" in caplog.text
    extended = await prepaid_async.get_hold("acme", call.hold["id"])
    assert extended["expiresAt"] > call.hold["expiresAt"]


async def test_a_hold_is_not_extended_beyond_the_limit_of_its_call(
    prepaid_async: AsyncClient, proxy: FaultyProxy, funded: Organization
) -> None:
    seconds = iter(range(0, 10_000, 400))
    caller = replace(
        prepaid_async._caller,  # noqa: SLF001 - its clock is driven here
        clock=lambda: float(next(seconds)),
        retries=replace(AT_ONCE, deadline_seconds=10_000),
    )
    lifecycle = Lifecycle(caller, plan("acme", amount=10, seconds=600, seconds_total_max=800))
    await lifecycle.open()

    async def has_ended(_seconds: float) -> bool:
        return False

    await lifecycle.extend_until(has_ended)
    assert len(proxy.requests("/extend")) == 1


async def test_nothing_is_extended_once_a_call_has_ended(
    prepaid_async: AsyncClient, prepaid_blocking: Client, funded: Organization
) -> None:
    reservation = prepaid_async.reserve("acme", amount=1)
    async with reservation:
        extender = reservation._extender  # noqa: SLF001 - nothing else shows that it has ended
    assert extender is not None
    assert extender.cancelled()

    def use() -> None:
        blocking = prepaid_blocking.reserve("acme", amount=1)
        with blocking:
            thread = blocking._extender  # noqa: SLF001 - as above
        thread.join(10)
        assert not thread.is_alive()

    await asyncio.to_thread(use)


async def test_what_is_not_covered_is_refused_before_the_body_begins(
    prepaid_async: AsyncClient, proxy: FaultyProxy, funded: Organization
) -> None:
    for _ in range(2):
        with pytest.raises(Insufficient):
            await prepaid_async.reserve("acme", amount=1000).__aenter__()
    assert len(proxy.requests("/holds")) == 1  # the second time, the gate was closed


async def test_a_transaction_id_whose_hold_has_ended_is_refused_before_the_body_begins(
    prepaid_async: AsyncClient, funded: Organization
) -> None:
    async with prepaid_async.reserve("acme", amount=10, transaction_id="chat-1") as call:
        call.record(amount=2)
    with pytest.raises(Conflict, match="is captured"):
        await prepaid_async.reserve("acme", amount=10, transaction_id="chat-1").__aenter__()
    assert await funds(prepaid_async) == (98, 0)
