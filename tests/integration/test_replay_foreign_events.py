"""An event of another mode, or of an account that is not ours, is never replayed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from shared.inbox.admin.model import EventFilter
from shared.inbox.model import EventState
from shared.replay.model import ReplayOptions
from shared.replay.refetch import Refetcher
from shared.replay.service import Replayer
from tests.fixtures.product import balance, create_organization, event_row, receive, transactions

if TYPE_CHECKING:
    from tests.fixtures.storefront import Storefront


async def last_request(shop: Storefront) -> Any:
    """Return the last request that the simulator has answered."""
    async with shop.http.get("/_sim/requests") as answer:
        return (await answer.json())["data"][-1]


async def quarantined(shop: Storefront, **foreign: Any) -> str:
    """Receive the event of a payment that is not ours; return its id."""
    await shop.charge(2000, metadata={"organization_id": "acme"})
    (event,) = (
        event
        for event in map(json.loads, await shop.events())
        if event["type"] == "payment_intent.succeeded"
    )
    await receive(shop.pool, json.dumps(event | foreign).encode())
    await shop.pool.execute(
        "UPDATE stripe_events SET state = 'quarantined', reason = 'not ours', settled_at = now()"
    )
    event_id: str = event["id"]
    return event_id


@pytest.mark.parametrize("foreign", [{"livemode": True}, {"account": "acct_unlisted"}])
@pytest.mark.parametrize("refetch", [False, True])
@pytest.mark.parametrize("by", ["id", "state"])
async def test_a_foreign_event_is_not_replayed_and_stripe_is_not_asked_about_it(
    storefront: Storefront, foreign: dict[str, Any], by: str, *, refetch: bool
) -> None:
    shop = storefront
    await create_organization(shop.pool)
    event_id = await quarantined(shop, **foreign)
    selection = [event_id] if by == "id" else EventFilter(state=EventState.QUARANTINED)
    options = ReplayOptions(refetch=refetch)
    replayer = Replayer(shop.pool, shop.applier, uuid4, refetcher=Refetcher(shop.client))
    before, last = await event_row(shop.pool, event_id), await last_request(shop)
    for report in (
        await replayer.preview(selection, options=options),
        await replayer.replay(selection, actor="cli:test", reason=None, options=options),
    ):
        assert (report["selected"], report["applied"], report["failed"]) == (1, 0, 1)
        assert "of another mode or account" in (report["failures"][0]["error"] or "")
        assert report["diff"] == []
    assert await event_row(shop.pool, event_id) == before
    assert await last_request(shop) == last
    assert await transactions(shop.pool) == []
    assert await balance(shop.pool) == 0
