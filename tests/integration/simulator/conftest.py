"""A simulator process, a receiver of its webhooks and Stripe's own client, one set per module."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import stripe
from aiohttp import web

from sandbox.stripe.process import SimulatorProcess
from tests.fixtures.simulated_subscriptions import price

SECRET = "whsec_test_secret"
WAIT_SECONDS = 10


@dataclass
class Receiver:
    """A webhook endpoint: verifies every signature with Stripe's code, keeps the events.

    `answers` are the statuses it gives next; when they are used up it answers 200.
    """

    secret: str = SECRET
    answers: list[int] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)
    port: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/hook", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _take(self, request: web.Request) -> web.Response:
        raw = await request.read()
        header = request.headers["Stripe-Signature"]
        stripe.WebhookSignature.verify_header(raw.decode(), header, self.secret, tolerance=300)
        async with self._changed:
            self.events.append(json.loads(raw))
            self.bodies.append(raw)
            self.signatures.append(header)
            self._changed.notify_all()
        return web.Response(status=self.answers.pop(0) if self.answers else 200)

    async def wait_until(self, ready: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_SECONDS), self._changed:
            await self._changed.wait_for(ready)

    def types(self, about: str | None = None) -> list[str]:
        """Event types in order of arrival, all or those that mention an id."""
        return [e["type"] for e in self.events if about is None or about in json.dumps(e)]

    def clear(self) -> None:
        self.events.clear()
        self.bodies.clear()
        self.signatures.clear()


class Http:
    """Plain HTTP to a simulator, for what Stripe's client does not do."""

    def __init__(self, session: aiohttp.ClientSession, process: SimulatorProcess) -> None:
        self.session = session
        self._process = process

    async def send(
        self, method: str, path: str, *, key: str | None = "sk_test_123", **options: Any
    ) -> tuple[int, Any, Any]:
        """Return status, body (JSON where it is) and headers; redirects are not followed."""
        headers = {**({"Authorization": f"Bearer {key}"} if key else {})}
        headers |= options.pop("headers", {})
        async with self.session.request(
            method, self._process.url + path, headers=headers, allow_redirects=False, **options
        ) as answer:
            text = await answer.text()
            is_json = answer.content_type == "application/json"
            return answer.status, json.loads(text) if is_json else text, answer.headers

    async def sim(self, path: str, given: dict[str, Any] | None = None) -> Any:
        """POST to the control API."""
        status, body, _ = await self.send("POST", f"/_sim/{path}", key=None, json=given or {})
        assert status == 200, body
        return body

    async def data(self, path: str) -> list[dict[str, Any]]:
        """GET a list from the control API."""
        _, body, _ = await self.send("GET", f"/_sim/{path}", key=None)
        data: list[dict[str, Any]] = body["data"]
        return data


def error_of(refused: pytest.ExceptionInfo[stripe.StripeError]) -> dict[str, Any]:
    """Return the `error` object of a refusal's body."""
    body: Any = refused.value.json_body
    error: dict[str, Any] = body["error"]
    return error


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def simulator(
    tmp_path_factory: pytest.TempPathFactory, receiver: Receiver
) -> AsyncIterator[SimulatorProcess]:
    state: Path = tmp_path_factory.mktemp("simulator") / "stripe.sqlite"
    process = SimulatorProcess(
        state, webhook_url=receiver.url, webhook_secret=SECRET, retry_base_seconds=3600
    )
    await process.start()
    yield process
    await process.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(simulator: SimulatorProcess) -> AsyncIterator[Http]:
    async with aiohttp.ClientSession() as session:
        yield Http(session, simulator)


@pytest.fixture(scope="module")
def client(simulator: SimulatorProcess) -> stripe.StripeClient:
    return stripe.StripeClient("sk_test_123", base_addresses={"api": simulator.url})


@pytest.fixture(scope="module")
def small(client: stripe.StripeClient) -> str:
    """Return a monthly price of $10 for 250 credits."""
    return price(client, 1000, "Small", "250")


@pytest.fixture(scope="module")
def large(client: stripe.StripeClient) -> str:
    """Return a monthly price of $30 for 1,000 credits."""
    return price(client, 3000, "Large", "1000")
