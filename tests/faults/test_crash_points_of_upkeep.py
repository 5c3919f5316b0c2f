"""A process killed while it sends, expires, replays or closes: once, or again by the same id."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from shared.finance import service as finance
from shared.months import Month
from shared.replay.service import Replayer
from tests.crash_points import steps
from tests.fixtures.crash_points import Killer
from tests.fixtures.ledger import balances, grant, hold, make_due, post
from tests.fixtures.outbound_messages import LEASE_OVER, add, announce
from tests.fixtures.product import balance, create_organization, payment, receive, until
from tests.fixtures.receiver import Receiver
from worker.expirer import Expirer
from worker.messenger import Messenger

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization


async def test_a_message_whose_worker_is_killed_arrives_under_one_id(
    killer: Killer,
    pool: Pool,
    organization: Organization,
    receiver: Receiver,
    messenger: Messenger,
) -> None:
    await add(pool, receiver.url())
    for _, step in killer.cases(steps.MESSAGE):
        receiver.received.clear()
        await announce(pool, organization)
        await killer.kill(step, "send")

        async def delivered() -> bool:
            await pool.execute(LEASE_OVER)
            await messenger.deliver()
            left: int = await pool.fetchval(
                "SELECT count(*) FROM outbound_messages WHERE state <> 'delivered'"
            )
            return left == 0

        await until(delivered)
        twice = step is steps.MESSAGE[2]  # it had arrived, and nobody knew
        assert len(receiver.received) == 1 + twice, step.name
        assert len({one.id for one in receiver.received}) == 1, step.name


async def test_an_expiration_whose_worker_is_killed_is_posted_and_announced_once(
    killer: Killer, pool: Pool
) -> None:
    await add(pool, "https://app.example.com/hooks", "credits.expiring")
    soon = datetime.now(UTC) + timedelta(days=1)
    for number, step in killer.cases(steps.EXPIRATION):
        owner = await create_organization(pool, f"acme-{number}")
        gone, _, _ = await post(
            pool,
            grant(owner, 5, expires_at=soon),
            grant(owner, 7, expires_at=soon),
            grant(owner, 3),
        )
        held = await hold(pool, owner, 2)
        await make_due(pool, "holds", held.id)
        await make_due(pool, "credit_grants", gone.id)
        await killer.kill(step, "expire")
        await Expirer(pool).run_once()
        assert await balances(pool, owner) == (10, 0), step.name
        rows = await pool.fetch(
            "SELECT amount FROM credit_transactions"
            " WHERE organization_id = $1 AND type = 'expiration'",
            owner.id,
        )
        assert [row["amount"] for row in rows] == [-5], step.name
        messages = await pool.fetch(
            "SELECT id FROM outbound_messages WHERE organization_id = $1", owner.id
        )
        assert len(messages) == 1, step.name


async def test_a_replay_that_is_killed_ends_with_exact_counts(
    killer: Killer, pool: Pool, replayer: Replayer
) -> None:
    for number, step in killer.cases(steps.REPLAY):
        slug = f"acme-{number}"
        owner = await create_organization(pool, slug)
        names = [f"evt_{number}-{each}" for each in range(3)]
        await receive(
            pool, *(payment(name.removeprefix("evt_"), organization=slug) for name in names)
        )
        await pool.execute(
            "UPDATE stripe_events SET state = 'dead', reason = 'x', settled_at = now()"
            " WHERE settled_at IS NULL"
        )
        await killer.kill(step, "replay", events=names)
        batch = await pool.fetchval(
            "SELECT id FROM replay_batches ORDER BY started_at DESC LIMIT 1"
        )
        report = await replayer.resume(batch, actor="cli:test")
        counts = [dict(report)[name] for name in ("selected", "applied", "noop", "failed")]
        assert counts == [3, 3, 0, 0], step.name
        assert await balance(pool, owner.slug) == 30, step.name


async def test_a_close_that_is_killed_is_stored_and_audited_once(
    killer: Killer, pool: Pool, organization: Organization
) -> None:
    for number, step in killer.cases(steps.CLOSE):
        month = Month(2020 + number // 12, 1 + number % 12)
        await killer.kill_command(step, "finance", "close", str(month), "--json")
        async with pool.acquire() as connection:
            await finance.close(connection, month, now=datetime.now(UTC), actor="tests")
        audited = await pool.fetchval(
            "SELECT count(*) FROM audit_log WHERE action = 'finance.close' AND subject = $1",
            str(month),
        )
        assert audited == 1, step.name
