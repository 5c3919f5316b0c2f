"""A request is repeated with one key: what it does happens once, whatever is lost on the way."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import aiohttp
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prepaid_client import (
    AsyncClient,
    Client,
    Insufficient,
    NoAnswer,
    RateLimited,
    Retries,
    ServerError,
)
from prepaid_client.retrying import is_retried, parse_retry_after

from shared.config import load
from shared.organizations.model import Organization
from tests.client.conftest import AT_ONCE
from tests.fixtures.api import ApiClient, serve_api
from tests.fixtures.faulty_proxy import Fault, FaultyProxy
from tests.fixtures.product import closed_port, environment
from tests.fixtures.profile import cases

DEBITS = "/api/credit-transactions"
BEFORE = (Fault.LOSE_REQUEST, Fault.UNAVAILABLE)
AFTER = (Fault.LOSE_ANSWER, Fault.BAD_GATEWAY_AFTER)


async def test_a_debit_is_posted_once_whatever_is_lost(
    prepaid_async: AsyncClient, proxy: FaultyProxy, funded: Organization
) -> None:
    for number, fault in enumerate([*BEFORE, *AFTER]):
        proxy.fail(DEBITS, fault, fault)
        left = 96 - 4 * number
        assert (await prepaid_async.debit("acme", 4))["balanceAfter"] == left, fault
        assert (await prepaid_async.balance("acme"))["balance"] == left, fault
        sent = proxy.requests(DEBITS)[3 * number :]
        keys = {seen.key for seen in sent}
        assert (len(sent), len(keys)) == (3, 1), fault
        assert None not in keys


async def test_the_blocking_client_repeats_as_well(
    prepaid_blocking: Client, proxy: FaultyProxy, funded: Organization
) -> None:
    proxy.fail(DEBITS, Fault.LOSE_ANSWER, Fault.UNAVAILABLE)
    assert (await asyncio.to_thread(prepaid_blocking.debit, "acme", 4))["balanceAfter"] == 96
    assert len({seen.key for seen in proxy.requests(DEBITS)}) == 1


async def test_two_calls_have_two_keys(
    prepaid_async: AsyncClient, proxy: FaultyProxy, funded: Organization
) -> None:
    await prepaid_async.debit("acme", 4)
    await prepaid_async.debit("acme", 4, idempotency_key="mine")
    first, second = proxy.requests(DEBITS)
    assert first.key != "mine"
    assert second.key == "mine"
    assert (await prepaid_async.balance("acme"))["balance"] == 92


async def test_no_answer_names_the_key_that_repeats_the_request(
    prepaid_async: AsyncClient, proxy: FaultyProxy, funded: Organization
) -> None:
    proxy.fail(DEBITS, *[Fault.LOSE_ANSWER] * AT_ONCE.attempts_max)
    with pytest.raises(NoAnswer) as lost:
        await prepaid_async.debit("acme", 4)
    assert str(lost.value.idempotency_key) in str(lost.value)
    again = await prepaid_async.debit("acme", 4, idempotency_key=lost.value.idempotency_key)
    assert again["balanceAfter"] == 96


async def test_a_failure_that_lasts_is_raised_as_it_is(
    prepaid_async: AsyncClient, proxy: FaultyProxy, organization: Organization
) -> None:
    proxy.fail("/credits", *[Fault.UNAVAILABLE] * AT_ONCE.attempts_max)
    with pytest.raises(ServerError) as failed:
        await prepaid_async.balance("acme")
    assert failed.value.status == 503
    assert len(proxy.requests("/credits")) == AT_ONCE.attempts_max


async def test_a_refusal_is_not_repeated(
    prepaid_async: AsyncClient, proxy: FaultyProxy, organization: Organization
) -> None:
    with pytest.raises(Insufficient):
        await prepaid_async.debit("acme", 4)
    assert len(proxy.requests(DEBITS)) == 1


async def test_a_server_that_is_away_is_no_answer() -> None:
    async with AsyncClient(f"http://127.0.0.1:{closed_port()}", "ppk", retries=AT_ONCE) as client:
        with pytest.raises(NoAnswer) as lost:
            await client.balance("acme")
    assert lost.value.idempotency_key is None


async def test_a_rate_limit_says_how_long_to_wait(
    database_url: str,
    redis_url: str,
    api_client: ApiClient,
    client: aiohttp.ClientSession,
    organization: Organization,
) -> None:
    env = environment(database_url, redis_url) | {"PREPAID_REQUESTS_PER_MINUTE": "1"}
    async with serve_api(load(env), api_client.pool, client) as limited:
        key = (await api_client.make_key("usage")).key
        assert key is not None
        once = replace(AT_ONCE, attempts_max=1)
        async with AsyncClient(limited.url, key, retries=once) as hasty:
            await hasty.balance("acme")
            with pytest.raises(RateLimited) as refused:
                await hasty.balance("acme")
            assert refused.value.retry_after
            assert 0 < refused.value.retry_after <= 60


async def test_a_retry_that_would_begin_after_the_deadline_is_not_waited_for() -> None:
    def busy(request: httpx.Request) -> httpx.Response:
        return httpx.Response(429, json={"code": 429}, headers={"Retry-After": "3600"})

    http = httpx.AsyncClient(transport=httpx.MockTransport(busy))
    async with AsyncClient("http://credits.test", "ppk", http=http) as client:
        with pytest.raises(RateLimited):
            await client.balance("acme")


async def test_an_answer_that_cannot_be_decoded_is_repeated() -> None:
    answers = iter(
        [
            httpx.Response(
                200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"broken")
            ),
            httpx.Response(200, json={"amount": -4}),
        ]
    )
    http = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: next(answers)))
    async with AsyncClient("http://credits.test", "ppk", retries=AT_ONCE, http=http) as client:
        assert (await client.debit("acme", 4))["amount"] == -4


async def test_an_answer_is_not_waited_for_beyond_the_deadline() -> None:
    seconds: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seconds.append(request.extensions["timeout"]["read"])
        return httpx.Response(200, json={"balance": 1})

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    retries = Retries(deadline_seconds=5, attempt_seconds_max=20)
    async with AsyncClient("http://credits.test", "ppk", retries=retries, http=http) as client:
        await client.balance("acme")
    assert 0 < seconds[0] <= 5


@pytest.mark.parametrize("status", [409, 429])
async def test_a_rate_limit_and_a_request_in_progress_are_waited_for(status: int) -> None:
    answers = iter(
        [
            httpx.Response(status, json={"code": status}, headers={"Retry-After": "0"}),
            httpx.Response(200, json={"amount": -4}),
        ]
    )
    http = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: next(answers)))
    async with AsyncClient("http://credits.test", "ppk", retries=AT_ONCE, http=http) as client:
        assert (await client.debit("acme", 4))["amount"] == -4


@settings(max_examples=cases(quick=30, thorough=200), deadline=None)
@given(
    st.builds(
        Retries,
        attempts_max=st.integers(1, 50),
        first_seconds=st.floats(0.001, 10),
        pause_seconds_max=st.floats(0.001, 100),
    ),
    st.integers(1, 200),
    st.floats(0, 1),
    st.none() | st.floats(0, 1000),
)
def test_a_pause_is_bounded_and_never_shorter_than_the_server_says(
    retries: Retries, failures: int, random: float, retry_after: float | None
) -> None:
    pause = retries.pause(failures, retry_after=retry_after, random=random)
    assert pause >= (retry_after or 0)
    assert 0 < pause <= max(retries.pause_seconds_max, retry_after or 0)
    assert not retries.may_repeat(retries.attempts_max, pause=pause, seconds_left=1e9)


def test_what_is_repeated() -> None:
    assert [status for status in range(200, 600) if is_retried(status, None)] == [
        429, 500, 502, 503, 504,
    ]  # fmt: skip
    assert is_retried(409, 1.0)
    assert [parse_retry_after(value) for value in ("3", "0.5", "-1", "inf", "soon", None)] == [
        3, 0.5, None, None, None, None,
    ]  # fmt: skip
