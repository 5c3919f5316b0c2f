"""R19: what is kept of an event's payload, and for how long."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from shared.durations import Duration
from shared.inbox.retention import store
from shared.inbox.rules import REMOVED, without_client_secrets
from shared.replay.service import Replayer
from tests.fixtures.product import (
    Endpoint,
    balance,
    create_organization,
    event_row,
    event_states,
    payment,
    receive,
)
from worker.cleaners import PayloadCleaner
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool

SECRET = "pi_1_secret_0123456789"
RETENTION = Duration(months=1, time=timedelta(days=30))
EMAIL = "jo@acme.example"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('{"client_secret":"x"}', {"client_secret": REMOVED}),
        ('{"client_secret" \n:\t"x"}', {"client_secret": REMOVED}),
        ('{"client_secret":""}', {"client_secret": REMOVED}),
        ('{"client_secret":null}', {"client_secret": None}),
        (r'{"client_secret":"a\"b\\","a":1}', {"client_secret": REMOVED, "a": 1}),
        ('{"a":[{"b":{"client_secret":"x"}}]}', {"a": [{"b": {"client_secret": REMOVED}}]}),
        ('{"a":"client_secret","b":"c"}', {"a": "client_secret", "b": "c"}),
        (r'{"a":"\"client_secret\":\"x\""}', {"a": '"client_secret":"x"'}),
        ('{"my_client_secret":"x"}', {"my_client_secret": "x"}),
    ],
)
def test_r19_client_secrets_are_removed_and_nothing_else_changes(text: str, left: Any) -> None:
    assert json.loads(without_client_secrets(text)) == left


async def test_r19_a_client_secret_is_not_stored_at_any_depth(
    endpoint: Endpoint, pool: Pool, drainer: Drainer
) -> None:
    await create_organization(pool)
    inside = {"client_secret": SECRET, "object": "setup_intent"}
    sent = payment("1", client_secret=SECRET, last_payment_error={"setup_intent": inside})
    assert (await endpoint.deliver(sent)).status == 200
    stored = (await event_row(pool, "evt_1"))["payload"]
    assert SECRET in sent.decode()
    assert SECRET not in stored
    assert json.loads(stored) == json.loads(sent.decode().replace(SECRET, REMOVED))
    await drainer.drain()
    assert await event_states(pool) == {"evt_1": "applied"}


async def test_r19_client_secrets_of_an_older_release_are_removed_in_bounded_batches(
    pool: Pool,
) -> None:
    names = [str(number) for number in range(5)]
    await receive(pool, *(payment(name, client_secret=SECRET) for name in names))
    await pool.execute(
        "UPDATE stripe_events SET secrets_removed = FALSE, payload = replace(payload, $1, $2)",
        REMOVED, SECRET,
    )  # fmt: skip
    async with pool.acquire() as connection:
        assert await store.remove_client_secrets(connection, rows_max=2) == 2
    assert await _stored(pool, SECRET) == 3
    assert await PayloadCleaner(pool, rows_max=2).clean() == 3
    assert await _stored(pool, SECRET) == 0
    assert await _stored(pool, REMOVED) == 5
    assert await PayloadCleaner(pool).clean() == 0


async def _stored(pool: Pool, text: str) -> int:
    count: int = await pool.fetchval(
        "SELECT count(*) FROM stripe_events WHERE strpos(payload, $1) > 0", text
    )
    return count


async def test_r19_a_settled_event_loses_its_payload_after_the_retention(
    pool: Pool, drainer: Drainer, replayer: Replayer
) -> None:
    await create_organization(pool)
    names = ("applied", "ignored", "discarded", "dead", "quarantined", "waiting", "fresh", "open")
    await receive(pool, *(payment(name, receipt_email=EMAIL) for name in names))
    await pool.execute(
        "UPDATE stripe_events SET state = split_part(id, '_', 2), reason = 'because',"
        " settled_at = now() - make_interval(months => 1, days => 31)"
        " WHERE id NOT IN ('evt_waiting', 'evt_fresh', 'evt_open')"
    )
    await pool.execute(
        "UPDATE stripe_events SET state = 'ignored', reason = 'not owned', waits_for = 'cus_1',"
        " settled_at = now() - interval '1 year' WHERE id = 'evt_waiting'"
    )
    await pool.execute(
        "UPDATE stripe_events SET state = 'applied', settled_at = now() - interval '29 days'"
        " WHERE id = 'evt_fresh'"
    )
    assert await PayloadCleaner(pool).clean() == 0
    assert await PayloadCleaner(pool, retention=RETENTION, rows_max=2).clean() == 3
    kept = await pool.fetch("SELECT id FROM stripe_events WHERE strpos(payload, $1) > 0", EMAIL)
    assert {row["id"] for row in kept} == {
        "evt_dead", "evt_quarantined", "evt_waiting", "evt_fresh", "evt_open",
    }  # fmt: skip
    left = json.loads((await event_row(pool, "evt_applied"))["payload"])
    assert left == {
        "id": "evt_applied",
        "object": "event",
        "type": "payment_intent.succeeded",
        "data": {"object": {"id": "pi_applied", "object": "payment_intent"}},
    }

    report = await replayer.replay(["evt_applied", "evt_dead"], actor="cli:test", reason=None)
    (failure,) = report["failures"]
    assert failure["id"] == "evt_applied"
    assert "its payload was deleted on 20" in (failure["error"] or "")
    assert (await event_row(pool, "evt_applied"))["state"] == "applied"
    assert (report["applied"], await balance(pool)) == (1, Decimal(10))
