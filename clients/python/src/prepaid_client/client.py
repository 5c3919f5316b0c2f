"""The two clients. Each method builds a request of `requests.py` and sends it."""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from collections.abc import Awaitable, Callable
from functools import update_wrapper
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar
from uuid import uuid4

import httpx

from prepaid_client import gate, requests, reserving
from prepaid_client.caller import Caller
from prepaid_client.gate import Gate
from prepaid_client.metering import Plan
from prepaid_client.requests import Request
from prepaid_client.reserving import AsyncReservation, Reservation
from prepaid_client.retrying import Retries
from prepaid_client.transport import AsyncTransport, BlockingTransport, Transport, run

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(
    build: Callable[P, Request[T]],
) -> Callable[Concatenate[Client, P], T]:
    """Return the method of `Client` that sends what a function builds."""

    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.send(build(*args, **kwargs))

    _describe(method, build)
    return method


def _awaited(
    build: Callable[P, Request[T]],
) -> Callable[Concatenate[AsyncClient, P], Awaitable[T]]:
    """Return the method of `AsyncClient` that sends what a function builds."""

    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.send(build(*args, **kwargs))

    _describe(method, build)
    return method


def _blocking_reservation(
    plan: Callable[P, Plan],
) -> Callable[Concatenate[Client, P], Reservation]:
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Reservation:
        return self.reservation(plan(*args, **kwargs))

    _describe(method, plan)
    return method


def _awaited_reservation(
    plan: Callable[P, Plan],
) -> Callable[Concatenate[AsyncClient, P], AsyncReservation]:
    def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> AsyncReservation:
        return self.reservation(plan(*args, **kwargs))

    _describe(method, plan)
    return method


def _describe(method: Callable[..., Any], build: Callable[..., Any]) -> None:
    """Let `help` show a method as its builder, with `self` in front."""
    update_wrapper(method, build)
    signature = inspect.signature(build)
    first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    shown = signature.replace(parameters=[first, *signature.parameters.values()])
    method.__signature__ = shown  # type: ignore[attr-defined]


def _caller(
    url: str, api_key: str, transport: Transport, retries: Retries | None, gate_seconds: float
) -> Caller:
    return Caller(
        url=url.rstrip("/"),
        api_key=api_key,
        transport=transport,
        retries=retries or Retries(),
        gate=Gate(gate_seconds),
        clock=time.monotonic,
        random=random.random,
        make_key=lambda: str(uuid4()),
    )


class Client:
    """A blocking client. It may be shared by threads; close it, or use it in a `with`."""

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        retries: Retries | None = None,
        gate_seconds: float = gate.SECONDS_DEFAULT,
        http: httpx.Client | None = None,
    ) -> None:
        """Call the installation at an address. `http`: a client of httpx with your own settings."""
        self._http = http or httpx.Client()
        self._caller = _caller(url, api_key, BlockingTransport(self._http), retries, gate_seconds)

    def send(self, request: Request[T]) -> T:
        """Send a request that a function of `prepaid_client.requests` has built."""
        return run(self._caller.call(request))

    def reservation(self, plan: Plan) -> Reservation:
        """Return the reservation of a plan, for a `with`."""
        return Reservation(self._caller, plan)

    @property
    def gate(self) -> Gate:
        """The local gate: `gate.refused` counts the requests that it refused."""
        return self._caller.gate

    create_organization = _blocking(requests.create_organization)
    organization = _blocking(requests.organization)
    create_price_book = _blocking(requests.create_price_book)
    activate_price_book = _blocking(requests.activate_price_book)
    checkout = _blocking(requests.checkout)
    complete_checkout = _blocking(requests.complete_checkout)
    portal = _blocking(requests.portal)
    top_up = _blocking(requests.top_up)
    auto_recharge = _blocking(requests.auto_recharge)
    grant = _blocking(requests.grant)
    debit = _blocking(requests.debit)
    usage = _blocking(requests.usage)
    quote = _blocking(requests.quote)
    hold = _blocking(requests.hold)
    get_hold = _blocking(requests.get_hold)
    capture = _blocking(requests.capture)
    extend = _blocking(requests.extend)
    release = _blocking(requests.release)
    balance = _blocking(requests.balance)
    history = _blocking(requests.history)
    explain = _blocking(requests.explain)
    transactions = _blocking(requests.transactions)
    receipt = _blocking(requests.receipt)
    statement = _blocking(requests.statement)
    transaction_batch = _blocking(requests.transaction_batch)
    usage_batch = _blocking(requests.usage_batch)
    usage_report = _blocking(requests.usage_report)
    usage_dimensions = _blocking(requests.usage_dimensions)
    set_usage_dimensions = _blocking(requests.set_usage_dimensions)
    create_budget = _blocking(requests.create_budget)
    budgets = _blocking(requests.budgets)
    budget = _blocking(requests.budget)
    change_budget = _blocking(requests.change_budget)
    remove_budget = _blocking(requests.remove_budget)
    alerts = _blocking(requests.alerts)
    set_alerts = _blocking(requests.set_alerts)
    reserve = _blocking_reservation(reserving.plan)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClient:
    """An asynchronous client, for one event loop. Close it, or use it in an `async with`."""

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        retries: Retries | None = None,
        gate_seconds: float = gate.SECONDS_DEFAULT,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """Call the installation at an address. `http`: a client of httpx with your own settings."""
        self._http = http or httpx.AsyncClient()
        self._endings: set[asyncio.Task[None]] = set()
        self._caller = _caller(url, api_key, AsyncTransport(self._http), retries, gate_seconds)

    async def send(self, request: Request[T]) -> T:
        """Send a request that a function of `prepaid_client.requests` has built."""
        return await self._caller.call(request)

    def reservation(self, plan: Plan) -> AsyncReservation:
        """Return the reservation of a plan, for an `async with`."""
        return AsyncReservation(self._caller, plan, self._endings)

    @property
    def gate(self) -> Gate:
        """The local gate: `gate.refused` counts the requests that it refused."""
        return self._caller.gate

    create_organization = _awaited(requests.create_organization)
    organization = _awaited(requests.organization)
    create_price_book = _awaited(requests.create_price_book)
    activate_price_book = _awaited(requests.activate_price_book)
    checkout = _awaited(requests.checkout)
    complete_checkout = _awaited(requests.complete_checkout)
    portal = _awaited(requests.portal)
    top_up = _awaited(requests.top_up)
    auto_recharge = _awaited(requests.auto_recharge)
    grant = _awaited(requests.grant)
    debit = _awaited(requests.debit)
    usage = _awaited(requests.usage)
    quote = _awaited(requests.quote)
    hold = _awaited(requests.hold)
    get_hold = _awaited(requests.get_hold)
    capture = _awaited(requests.capture)
    extend = _awaited(requests.extend)
    release = _awaited(requests.release)
    balance = _awaited(requests.balance)
    history = _awaited(requests.history)
    explain = _awaited(requests.explain)
    transactions = _awaited(requests.transactions)
    receipt = _awaited(requests.receipt)
    statement = _awaited(requests.statement)
    transaction_batch = _awaited(requests.transaction_batch)
    usage_batch = _awaited(requests.usage_batch)
    usage_report = _awaited(requests.usage_report)
    usage_dimensions = _awaited(requests.usage_dimensions)
    set_usage_dimensions = _awaited(requests.set_usage_dimensions)
    create_budget = _awaited(requests.create_budget)
    budgets = _awaited(requests.budgets)
    budget = _awaited(requests.budget)
    change_budget = _awaited(requests.change_budget)
    remove_budget = _awaited(requests.remove_budget)
    alerts = _awaited(requests.alerts)
    set_alerts = _awaited(requests.set_alerts)
    reserve = _awaited_reservation(reserving.plan)

    async def aclose(self) -> None:
        """Wait for the captures of canceled calls, then close the connections."""
        await asyncio.gather(*self._endings, return_exceptions=True)
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
