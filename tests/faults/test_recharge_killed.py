"""A real worker killed with SIGKILL at each step of an attempt: settled once, soon after.

The worker is stopped at a step by an event, never by a sleep: the simulator holds the answer, or is
frozen before it can act, or PostgreSQL holds the statement. Each organization stands at a step of
its own when the one worker that serves them all dies.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest_asyncio

from sandbox.product import WorkerProcess
from sandbox.stripe.process import SimulatorProcess
from tests.fixtures.product import create_organization, environment
from tests.fixtures.recharging import Shop

if TYPE_CHECKING:
    from shared.db.pool import Connection

SETTLED_SECONDS_MAX = 60  # Stripe says 409 while it works on a request whose asker has died
HELD_SECONDS = 20  # longer than it takes to see that the answer is held, and to kill
STOPS = 4242  # the advisory lock that statements wait for
DECLINED = "pm_card_chargeCustomerFail"

# Where an attempt stands -> the statement that waits there.
STATEMENTS = {
    "begin": "new.state = 'charging' AND old.state = 'armed'",
    "keep": "new.payment_intent_id IS NOT NULL AND old.payment_intent_id IS NULL",
    "settle": "new.settled_at IS NOT NULL",
}
STOP = """
CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE slug text;
BEGIN
    SELECT o.slug INTO slug FROM organizations AS o WHERE o.id = new.organization_id;
    IF %s THEN
        PERFORM pg_advisory_xact_lock(%s);
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER stop BEFORE UPDATE ON recharge_attempts FOR EACH ROW EXECUTE FUNCTION stop()
"""
REQUESTS = {
    "create": ("POST", "/v1/payment_intents"),
    "confirm": ("POST", "/v1/payment_intents/*/confirm"),
    "retrieve": ("GET", "/v1/payment_intents/*"),
    "cancel": ("POST", "/v1/payment_intents/*/cancel"),
}


@pytest_asyncio.fixture
async def worker(
    database_url: str, redis_url: str, stand_in: SimulatorProcess, tmp_path: Path
) -> AsyncIterator[WorkerProcess]:
    """Give a worker that is not started yet."""
    found = environment(database_url, redis_url) | {"STRIPE_API_BASE": stand_in.url}
    process = WorkerProcess(found, tmp_path / "worker.log")
    yield process
    await process.stop()


@pytest_asyncio.fixture
async def lock(shop: Shop) -> AsyncIterator[Connection]:
    """Hold the lock that the statements of STATEMENTS wait for, for organizations of that name."""
    conditions = " OR ".join(
        f"(slug = '{name}' AND {condition})" for name, condition in STATEMENTS.items()
    )
    await shop.pool.execute(STOP % (conditions, STOPS))
    async with shop.pool.acquire() as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", STOPS)
        yield connection


async def open_shop(shop: Shop, name: str) -> Shop:
    """Make an organization whose attempt is armed; its name says where it will stop."""
    opened = replace(shop, owner=await create_organization(shop.pool, name))
    await opened.open(DECLINED if name == "cancel" else "pm_card_visa")
    return opened


async def customer_of(shop: Shop) -> str:
    found: str = await shop.pool.fetchval(
        "SELECT customer_id FROM payment_methods WHERE organization_id = $1", shop.owner.id
    )
    return found


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SETTLED_SECONDS_MAX):
        while not await holds():  # noqa: ASYNC110 - another process does the work
            await asyncio.sleep(0.02)


async def statements_wait(connection: Connection) -> int:
    waiting: int = await connection.fetchval(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted",
        STOPS,
    )
    return waiting


async def restart(worker: WorkerProcess) -> float:
    """Return the moment at which the new worker was asked for."""
    started = time.monotonic()
    await worker.start()
    return started


async def are_settled_once(shops: dict[str, Shop], restarted: float) -> None:
    """Wait until every attempt is settled; then check captures and credits of each."""
    pool = next(iter(shops.values())).pool

    async def settled() -> bool:
        live = "SELECT id FROM recharge_attempts WHERE settled_at IS NULL"
        return not await pool.fetch(live)

    await until(settled)
    print(f"settled {time.monotonic() - restarted:.1f} s after the restart")  # noqa: T201
    for name, shop in shops.items():
        states = [row["state"] for row in await shop.attempts()]
        credited = await pool.fetch(
            "SELECT amount FROM credit_transactions WHERE organization_id = $1 AND type = $2",
            shop.owner.id,
            "recharge",
        )
        declined = name == "cancel"
        assert states == ["failed" if declined else "succeeded"], name
        assert await shop.captures() == ([] if declined else [2000]), name
        assert [row["amount"] for row in credited] == ([] if declined else [20]), name
    if "cancel" in shops:
        assert (await shops["cancel"].settings()).declines_in_row == 1


async def test_a_worker_killed_while_answers_and_statements_are_held_settles_each_attempt_once(
    shop: Shop, worker: WorkerProcess, lock: Connection
) -> None:
    # Whoever asks again has lost the first answer.
    shops = {"retrieve": await open_shop(shop, "retrieve")}
    await shop.sim("faults", method="POST", path=REQUESTS["confirm"][1], fault="answer_lost")
    await shop.charger.work()
    for name in (*STATEMENTS, "create", "confirm", "cancel"):
        shops[name] = await open_shop(shop, name)
    for name, (method, path) in REQUESTS.items():
        customer = await customer_of(shops[name])
        await shop.sim(
            "faults",
            method=method,
            path=path,
            customer=customer,
            fault="slow",
            seconds=HELD_SECONDS,
        )
    await shop.pool.execute("UPDATE recharge_attempts SET due_at = now()")
    await worker.start()

    async def all_stand() -> bool:
        async with shop.session.get("/_sim/faults") as answer:
            used = [fault["used"] for fault in (await answer.json())["data"]]
        return all(used) and await statements_wait(lock) == len(STATEMENTS)

    await until(all_stand)
    assert await shops["confirm"].captures() == [2000], "captured, and nobody knows"
    worker.kill()
    await worker.wait()
    await lock.execute("SELECT pg_advisory_unlock($1)", STOPS)
    await are_settled_once(shops, await restart(worker))


async def test_a_worker_killed_before_stripe_acts_settles_each_attempt_once(
    shop: Shop, worker: WorkerProcess, lock: Connection, stand_in: SimulatorProcess
) -> None:
    """Its requests are on the way: they act after its death, or never."""
    shops = {name: await open_shop(shop, name) for name in ("begin", "keep")}
    await worker.start()

    async def both_stand() -> bool:
        return await statements_wait(lock) == len(shops)

    await until(both_stand)
    os.kill(stand_in.pid, signal.SIGSTOP)
    try:
        await lock.execute("SELECT pg_advisory_unlock($1)", STOPS)

        async def both_ask() -> bool:
            rows = await shop.pool.fetch("SELECT state, payment_intent_id FROM recharge_attempts")
            kept = [row["payment_intent_id"] for row in rows if row["payment_intent_id"]]
            return {row["state"] for row in rows} == {"charging"} and len(kept) == 1

        await until(both_ask)
        worker.kill()
        await worker.wait()
    finally:
        os.kill(stand_in.pid, signal.SIGCONT)
    await are_settled_once(shops, await restart(worker))
