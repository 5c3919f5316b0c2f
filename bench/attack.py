"""An attack on one web process, over loopback: every route, every kind of key, hostile values.

Nothing may answer 5xx (besides 503 with Retry-After), hold the event loop, or grow. The seed
decides what is sent; figures come from the process itself.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote
from uuid import UUID

import aiohttp

from api.endpoints import OPERATIONS
from bench import wrk
from bench.results import Ratio
from bench.setting import create_organization, resident
from sandbox.product import WebProcess
from sandbox.signed_events import payment_intent_succeeded, signature
from sandbox.stripe.process import SimulatorProcess
from shared.access import service as access
from shared.db.pool import connect
from webhooks.app import PATH as WEBHOOKS

LANES = 8
REQUEST_SECONDS_MAX = 60
LAG_SECONDS_MAX = 0.1
GROWTH_MIB_MAX = 32
FLOOD_SECONDS = 10
FLOOD_CONNECTIONS = 32
SIGNED_PER_SECOND = 100
SLOWER_MAX = 3
OTHER_ROUTES = [
    ("POST", WEBHOOKS),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/pay/{token}"),
    ("POST", "/pay/{token}"),
    ("GET", "/pay/{token}/done"),
]
SLUGS = ("attacked", "bystander")
_OPERATIONS_TOKEN = "attack-0123456789abcdef0123456789"  # noqa: S105 - of this attack alone
_LAG = re.compile(r"^prepaid_event_loop_lag_seconds (\S+)$", re.MULTILINE)


@dataclass
class Attack:
    """What the process answered, and how it fared."""

    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    lag_seconds: float = 0.0
    growth_bytes: int = 0

    @property
    def requests(self) -> int:
        return self.statuses.total()


@dataclass(frozen=True)
class Shot:
    """A request of the attack."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None

    def __str__(self) -> str:
        return f"{self.method} {self.path[:80]} {(self.body or b'')[:80]!r}"


class Shots:
    """Makes requests: a route and a kind of key in turn, with values of the seed's choice."""

    def __init__(self, keys: Mapping[str, str | None], seed: int, bait_bytes: int) -> None:
        self._random = Random(seed)  # noqa: S311 - the seed must repeat the attack
        self._keys = keys
        self._values = _values(bait_bytes)

    def every(self) -> Iterator[Shot]:
        """Yield a request for each route and kind of key."""
        routes = [(o.method, o.path, dict(o.example)) for o in OPERATIONS]
        routes += [(method, path, {"id": "evt_1"}) for method, path in OTHER_ROUTES]
        for (method, path, example), key in itertools.product(routes, self._keys.values()):
            yield self._shot(method, path, example, key)

    def _shot(self, method: str, path: str, example: dict[str, Any], key: str | None) -> Shot:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        for name in ("X-Request-Id", "Idempotency-Key", "Content-Type", "Stripe-Signature"):
            if self._random.random() < 0.3:
                headers[name] = re.sub(r"[^\x20-\x7e]", "?", str(self._value()))[:2000]
        headers.setdefault("Content-Type", "application/json")
        filled = re.sub(r"\{\w+\}", lambda _: _quoted(self._name()), path)
        if self._random.random() < 0.3:
            filled += f"?{self._random.choice(QUERIES)}={_quoted(str(self._value())[:2000])}"
        body = None if method == "GET" else self._body(example)
        return Shot(method, filled, headers, body)

    def _body(self, example: dict[str, Any]) -> bytes:
        kind = self._random.random()
        if kind < 0.1:
            return str(self._value()).encode("utf-8", "surrogatepass")
        body = {**example, "organizationId": self._name()} if kind < 0.5 else dict(example)
        for _ in range(self._random.randint(1, 3)):
            body[self._random.choice([*body, str(self._value())])] = self._value()
        return json.dumps(body).encode()

    def _name(self) -> str:
        return self._random.choice([*SLUGS, str(UUID(int=0)), str(self._value())[:1000] or "x"])

    def _value(self) -> Any:
        return self._random.choice(self._values)


QUERIES = ["limit", "cursor", "page", "page_size", "at", "category", "transaction_type", "x"]


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass")


def _values(bait_bytes: int) -> list[Any]:
    bait = ["://" + "a:" * (bait_bytes // 2), '" - at `$' * (bait_bytes // 9), "a" * bait_bytes]
    bait += ["9" * (bait_bytes // 4), "%" * (bait_bytes // 4), "\\u0000" * (bait_bytes // 6)]
    deep: Any = "x"
    for _ in range(200):
        deep = [deep]
    return [
        *bait, deep, "", " ", "\0", "a\0b", "\ud800", "\u202e\ufeff", "'; DROP TABLE accounts; --",
        "../../etc/passwd", "{}", "null", None, True, 0, -1, 1e308, -1e-320, 2**63, 10**30, 0.1,
        [], {}, [{}], {"": {}}, "2026-13-45", "sk_live_x", "evt_1", "whsec_x", "1e400",
    ]  # fmt: skip


async def measure(environment: Mapping[str, str], folder: Path) -> list[Ratio]:
    """Attack for ATTACK_SECONDS (30) with ATTACK_SEED (1); then flood the webhook endpoint."""
    seconds = float(os.environ.get("ATTACK_SECONDS", "30"))
    seed = int(os.environ.get("ATTACK_SEED", "1"))
    async with target(environment, folder) as (web, keys):
        outcome = await attack(web, keys, seed=seed, seconds=seconds, bait_bytes=32_000)
        slower = await _flood(web, environment["STRIPE_WEBHOOK_SECRETS"], folder)
    for failure in outcome.failures[:20]:
        print(failure)
    return [
        Ratio(
            f"5xx in {outcome.requests:,} hostile requests of seed {seed}",
            f"{len(outcome.failures)}",
            "",
            len(outcome.failures),
            0,
            at_most=True,
        ),
        Ratio(
            "longest stall of the event loop / 100 ms",
            f"{outcome.lag_seconds * 1e3:.0f} ms",
            f"{LAG_SECONDS_MAX * 1e3:.0f} ms",
            outcome.lag_seconds / LAG_SECONDS_MAX,
            1,
            at_most=True,
        ),
        Ratio(
            f"growth of memory / {GROWTH_MIB_MAX} MiB",
            f"{outcome.growth_bytes / 2**20:.1f} MiB",
            f"{GROWTH_MIB_MAX} MiB",
            outcome.growth_bytes / 2**20 / GROWTH_MIB_MAX,
            1,
            at_most=True,
        ),
        slower,
    ]


@asynccontextmanager
async def target(
    environment: Mapping[str, str], folder: Path
) -> AsyncIterator[tuple[WebProcess, dict[str, str | None]]]:
    """Run a web process on two organizations; give it with a key of each kind."""
    first, _ = [await create_organization(environment["DATABASE_URL"], s) for s in SLUGS]
    keys = await _keys(environment["DATABASE_URL"], UUID(first))
    async with AsyncExitStack() as stack:
        simulator = SimulatorProcess(folder / "attack-stripe.sqlite")
        stack.push_async_callback(simulator.stop)
        variables = {
            "STRIPE_API_BASE": await simulator.start(),
            "PREPAID_REQUESTS_PER_MINUTE": "0",
            "PREPAID_OPERATIONS_TOKEN": _OPERATIONS_TOKEN,
        }
        web = WebProcess({**environment, **variables}, folder / "attack.log")
        stack.push_async_callback(web.stop)
        await web.start()
        yield web, keys


async def attack(
    web: WebProcess,
    keys: Mapping[str, str | None],
    *,
    seed: int,
    seconds: float | None,
    bait_bytes: int,
) -> Attack:
    """Send a request for each route and kind of key: once, or again and again for so long."""
    outcome = Attack()
    rounds = Shots(keys, seed, bait_bytes)
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(REQUEST_SECONDS_MAX), cookie_jar=aiohttp.DummyCookieJar()
    ) as http:
        ends = time.monotonic() + (seconds or 0)
        before = 0
        while True:
            shots = rounds.every()
            await asyncio.gather(*(_lane(http, web, shots, outcome) for _ in range(LANES)))
            outcome.lag_seconds = max(outcome.lag_seconds, await _lag(http, web))
            before = before or resident(web.pid)  # after the first round everything is loaded
            if time.monotonic() >= ends:
                break
        outcome.growth_bytes = resident(web.pid) - before
    return outcome


async def _lane(
    http: aiohttp.ClientSession, web: WebProcess, shots: Iterator[Shot], outcome: Attack
) -> None:
    for shot in shots:
        try:
            async with http.request(
                shot.method, web.url + shot.path, data=shot.body, headers=shot.headers
            ) as response:
                await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            outcome.failures.append(f"{shot}: {error!r}")
            continue
        outcome.statuses[response.status] += 1
        asked_back = response.status == 503 and "Retry-After" in response.headers
        if response.status >= 500 and not asked_back:
            outcome.failures.append(f"{shot}: {response.status}")


async def _lag(http: aiohttp.ClientSession, web: WebProcess) -> float:
    headers = {"Authorization": f"Bearer {_OPERATIONS_TOKEN}"}
    async with http.get(f"{web.url}/metrics", headers=headers) as response:
        outcome = _LAG.search(await response.text())
    assert outcome is not None
    return float(outcome[1])


async def _keys(database_url: str, attacked: UUID) -> dict[str, str | None]:
    connection = await connect(database_url, application_name="prepaid-bench")
    keys: dict[str, str | None] = {"none": None, "garbage": "x" * 50, "unknown": f"ppk_{'x' * 43}"}
    for scope, owner in itertools.product(("read", "write", "admin"), (attacked, None)):
        name = f"{scope} of {'one' if owner else 'all'}"
        made = await access.create_key(connection, name=name, scope=scope, organization_id=owner)
        keys[name] = made["key"]
    made = await access.create_key(
        connection, name="revoked", scope="admin", organization_id=attacked
    )
    await access.revoke_key(connection, UUID(made["id"]))
    await connection.close()
    return {**keys, "revoked": made["key"]}


async def _flood(web: WebProcess, secret: str, folder: Path) -> Ratio:
    """Compare signed deliveries alone with those beside unsigned bodies of 1 MiB."""
    signed, unsigned = folder / "signed", folder / "unsigned"
    body = b'{"id": "evt_x", "padding": "%s"}' % (b"x" * 2**20)
    head = {"Content-Type": "application/json"}
    wrk.write_requests(unsigned, [wrk.request("POST", WEBHOOKS, head, body[: 2**20])])

    async def deliveries(name: str) -> wrk.Load:
        wrk.write_requests(signed, _signed(name, secret))
        return await wrk.run(web.url, signed, seconds=FLOOD_SECONDS, per_second=SIGNED_PER_SECOND)

    alone = await deliveries("alone")
    flood = asyncio.create_task(
        wrk.run(
            web.url,
            unsigned,
            seconds=FLOOD_SECONDS + 2,
            connections=FLOOD_CONNECTIONS,
            may_fail=True,
        )
    )
    await asyncio.sleep(1)
    beside = await deliveries("beside")
    await flood
    return Ratio(
        f"signed deliveries' p99 beside {FLOOD_CONNECTIONS} connections of unsigned 1 MiB / alone",
        f"{beside.p99_seconds * 1e3:.1f} ms",
        f"{alone.p99_seconds * 1e3:.1f} ms",
        beside.p99_seconds / alone.p99_seconds,
        SLOWER_MAX,
        at_most=True,
    )


def _signed(name: str, secret: str) -> Iterator[bytes]:
    for number in range(2 * SIGNED_PER_SECOND * FLOOD_SECONDS):
        body = payment_intent_succeeded(f"{name}{number}", organization=SLUGS[0], padded=True)
        headers = {"Content-Type": "application/json", "Stripe-Signature": signature(body, secret)}
        yield wrk.request("POST", WEBHOOKS, headers, body)
