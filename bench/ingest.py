"""Durable ingest at full load, against the same server doing nothing and doing it row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from bench import wrk
from bench.results import Ratio, rates
from bench.setting import baseline_server, create_organization, reuse_wal
from sandbox.product import WebProcess
from sandbox.signed_events import payment_intent_succeeded, signature
from webhooks.app import PATH

SECONDS = 6
REQUESTS = 120_000


async def measure(environment: Mapping[str, str], folder: Path) -> list[Ratio]:
    """Run the three servers one after the other under the same load."""
    secret = environment["STRIPE_WEBHOOK_SECRETS"]
    organization = await create_organization(environment["DATABASE_URL"], "ingest")
    await reuse_wal(environment["DATABASE_URL"])
    requests = folder / "requests"
    loads: dict[str, wrk.Load] = {}
    for name in ("noop", "single"):
        wrk.write_requests(
            requests,
            deliveries(REQUESTS // 2, name=name, organization=organization, secret=secret),
        )
        async with baseline_server(name, environment, folder) as url:
            loads[name] = await wrk.run(url + PATH, requests, seconds=SECONDS)
    wrk.write_requests(
        requests, deliveries(REQUESTS, name="durable", organization=organization, secret=secret)
    )
    web = WebProcess(environment, folder / "web.log")
    await web.start()
    try:
        loads["durable"] = await wrk.run(web.url + PATH, requests, seconds=SECONDS)
    finally:
        await web.stop()
    requests.unlink()
    durable, noop, single = loads["durable"], loads["noop"], loads["single"]
    return [
        rates("durable ingest / no-op", durable.per_second, noop.per_second, 0.5),
        rates("durable ingest / one INSERT per request", durable.per_second, single.per_second, 3),
        Ratio(
            "durable ingest p99 / no-op p99",
            f"{durable.p99_seconds * 1e3:.1f} ms",
            f"{noop.p99_seconds * 1e3:.1f} ms",
            durable.p99_seconds / noop.p99_seconds,
            3,
            at_most=True,
        ),
    ]


def deliveries(count: int, *, name: str, organization: str, secret: str) -> Iterator[bytes]:
    """Return so many signed deliveries, each of an event of its own."""
    for index in range(count):
        body = payment_intent_succeeded(f"{name}{index}", organization=organization, padded=True)
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": signature(body, secret),
        }
        yield wrk.request("POST", PATH, headers, body)
