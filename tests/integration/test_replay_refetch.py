"""With `refetch`, a replay applies Stripe's object of today, and not the stored one."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from shared.inbox.admin import store as admin
from shared.inbox.model import EventKey
from shared.inbox.retention import store as retention
from shared.replay import rules
from shared.replay.model import ReplayOptions
from shared.replay.refetch import Refetcher
from shared.replay.service import Replayer
from tests.fixtures.product import balance, create_organization, event_row, payment, receive
from worker.drainer import Drainer

if TYPE_CHECKING:
    from tests.fixtures.storefront import Storefront

WHO = "cli:test"
TODAY = ReplayOptions(refetch=True)
SUCCEEDED = "payment_intent.succeeded"


@pytest.fixture
def replayer(storefront: Storefront) -> Replayer:
    return Replayer(
        storefront.pool,
        replace(storefront.applier, lookup=None),
        uuid4,
        refetcher=Refetcher(storefront.client),
    )


async def misnamed(shop: Storefront) -> str:
    """Let a payment die whose metadata names nobody, and correct them at Stripe; the event."""
    paid = await shop.charge(2000, metadata={"organization_id": "misspelled"})
    bodies = [body for body in await shop.events() if json.loads(body)["type"] == SUCCEEDED]
    await receive(shop.pool, *bodies)
    await Drainer(shop.pool, replace(shop.applier, lookup=None), make_token=uuid4).drain()
    await shop.client.v1.payment_intents.update_async(
        paid, {"metadata": {"organization_id": "acme"}}
    )
    event_id: str = json.loads(bodies[0])["id"]
    return event_id


async def test_an_object_that_was_corrected_at_stripe_is_applied_as_it_is_today(
    storefront: Storefront, replayer: Replayer
) -> None:
    event_id = await misnamed(storefront)
    await create_organization(storefront.pool)
    stored = (await event_row(storefront.pool, event_id))["payload"]
    assert (await replayer.replay([event_id], actor=WHO, reason=None))["failed"] == 1
    shown = await replayer.preview([event_id], options=TODAY)
    done = await replayer.replay([event_id], actor=WHO, reason=None, options=TODAY)
    assert (shown["applied"], done["applied"]) == (1, 1)
    assert await balance(storefront.pool) == 20
    assert (await event_row(storefront.pool, event_id))["payload"] == stored


@pytest.mark.parametrize("has_object", [True, False], ids=["its id is left", "nothing is left"])
async def test_an_event_whose_payload_was_deleted_is_replayed(
    storefront: Storefront, replayer: Replayer, *, has_object: bool
) -> None:
    event_id = await misnamed(storefront)
    await create_organization(storefront.pool)
    payload = json.loads((await event_row(storefront.pool, event_id))["payload"])
    about = payload["data"]["object"]
    left = {"data": {"object": {"id": about["id"], "object": about["object"]}}}
    await storefront.pool.execute(
        "UPDATE stripe_events SET payload_forgotten_at = now(), payload = $1",
        json.dumps({"id": event_id, "object": "event"} | (left if has_object else {})),
    )
    stored = await replayer.replay([event_id], actor=WHO, reason=None)
    assert "replay with --refetch" in (stored["failures"][0]["error"] or "")
    done = await replayer.replay([event_id], actor=WHO, reason=None, options=TODAY)
    assert done["applied"] == 1
    assert await balance(storefront.pool) == 20


@pytest.mark.parametrize(
    ("event_type", "throttled", "before", "after"),
    [(SUCCEEDED, "/v1/checkout/sessions", 0, 20), ("charge.refunded", "/v1/refunds", 20, 15)],
)
async def test_an_event_without_its_payload_that_was_not_finished_is_not_applied_by_a_worker(
    storefront: Storefront, event_type: str, throttled: str, before: int, after: int
) -> None:
    """Stripe throttles the replay: the event is due for a worker, which has no object to apply."""
    shop = storefront
    await create_organization(shop.pool)
    paid = await shop.charge(2000, metadata={"organization_id": "acme"})
    if event_type != SUCCEEDED:
        await shop.deliver_new()
        await shop.refund(paid, 500)
    event_id = await without_payload(shop, event_type)
    replayer = Replayer(shop.pool, shop.applier, uuid4, refetcher=Refetcher(shop.client))
    await shop.sim("faults", method="GET", path=throttled, fault="rate_limited")
    report = await replayer.replay([event_id], actor=WHO, reason=None, options=TODAY)
    assert (report["applied"], report["failed"]) == (0, 1)
    await shop.pool.execute("UPDATE stripe_events SET available_at = now()")
    await shop.deliver()
    row = await event_row(shop.pool, event_id)
    assert (row["state"], row["error_class"]) == ("dead", "PayloadDeletedError")
    assert "replay with --refetch" in row["reason"]
    assert await balance(shop.pool) == before
    again = await replayer.replay([event_id], actor=WHO, reason=None, options=TODAY)
    assert again["applied"] == 1
    assert await balance(shop.pool) == after


async def without_payload(shop: Storefront, event_type: str) -> str:
    """Receive the new event of a type, discard it and delete its payload; return its id."""
    bodies = [body for body in await shop.events() if json.loads(body)["type"] == event_type]
    event_id: str
    (event_id,) = (json.loads(body)["id"] for body in bodies)
    await receive(shop.pool, *bodies)
    async with shop.pool.acquire() as connection:
        await admin.discard(connection, [event_id], "by mistake")
        key = EventKey("", livemode=False, id=event_id)
        assert await retention.delete_payloads_of(connection, [key]) == 1
    return event_id


async def test_what_stripe_does_not_know_fails_and_leaves_the_event_as_it_is(
    storefront: Storefront, replayer: Replayer
) -> None:
    await create_organization(storefront.pool)
    await receive(storefront.pool, payment("nobody"))
    for report in (
        await replayer.preview(["evt_nobody"], options=TODAY),
        await replayer.replay(["evt_nobody"], actor=WHO, reason=None, options=TODAY),
    ):
        assert (report["selected"], report["failed"]) == (1, 1)
        assert "pi_nobody" in (report["failures"][0]["error"] or "")
    assert (await event_row(storefront.pool, "evt_nobody"))["state"] == "received"


async def test_a_dry_run_in_windows_reads_each_object_once(
    storefront: Storefront, replayer: Replayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "BATCH_ROWS_MAX", 1)
    await create_organization(storefront.pool)
    paid = [await storefront.charge(metadata={"organization_id": "acme"}) for _ in range(3)]
    bodies = [body for body in await storefront.events() if json.loads(body)["type"] == SUCCEEDED]
    await receive(storefront.pool, *bodies)
    before = await reads(storefront)
    moments = itertools.count(step=10)  # each window is over after an event
    slow = replace(replayer, clock=lambda: float(next(moments)))
    shown = await slow.preview([json.loads(body)["id"] for body in bodies], options=TODAY)
    assert shown["applied"] == 3
    read = [path for key, path in (await reads(storefront)).items() if key not in before]
    assert sorted(read) == sorted(f"/v1/payment_intents/{intent}" for intent in paid)


async def reads(shop: Storefront) -> dict[str, str]:
    """Return the paths of the last GETs that the simulator has answered, by their ids."""
    async with shop.http.get("/_sim/requests") as answer:
        requests = (await answer.json())["data"]
    return {each["id"]: each["path"] for each in requests if each["method"] == "GET"}
