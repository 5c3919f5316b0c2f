import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
import stripe

from sandbox.stripe.process import SimulatorError, SimulatorProcess
from sandbox.stripe.webhooks import RETRY_WINDOW_SECONDS, retry_delay
from tests.integration.simulator.conftest import SECRET, Http, Receiver

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def hook(http: Http, receiver: Receiver) -> AsyncIterator[Receiver]:
    await http.sim("deliveries/flush")
    receiver.clear()
    yield receiver
    receiver.answers.clear()


async def test_an_event_is_delivered_signed_and_as_stripe_writes_it(
    client: stripe.StripeClient, http: Http, hook: Receiver
) -> None:
    customer = client.v1.customers.create({"name": "Ünïcode"})
    await http.sim("deliveries/flush")
    (body,) = hook.bodies
    event = stripe.Webhook.construct_event(body, hook.signatures[0], SECRET)
    assert event.type == "customer.created"
    assert body == json.dumps(json.loads(body), indent=2, ensure_ascii=False).encode()
    assert json.loads(body)["pending_webhooks"] == 1
    stored = client.v1.events.retrieve(event.id)
    assert stored.pending_webhooks == 0
    assert stored.data.object["id"] == customer.id


async def test_failures_are_retried_with_backoff_on_the_simulators_clock(
    client: stripe.StripeClient, http: Http, hook: Receiver
) -> None:
    hook.answers += [500, 302, 404]
    customer = client.v1.customers.create({}).id
    flushed = await http.sim("deliveries/flush")
    assert flushed["pending"] == 1
    assert hook.types(customer) == ["customer.created"]
    for expected in (2, 3, 4):
        await http.sim("clock/advance", {"seconds": 3600 * 2 ** (expected - 2) + 1})
        await http.sim("deliveries/flush")
        assert len(hook.types(customer)) == expected
    event = hook.events[0]["id"]
    (delivery,) = [d for d in await http.data("deliveries") if d["event"] == event]
    assert [a["status"] for a in delivery["attempts"]] == [500, 302, 404, 200]
    assert delivery["state"] == "delivered"
    assert {e["id"] for e in hook.events} == {event}


async def test_retries_double_and_end_after_three_days() -> None:
    assert [retry_delay(n, 0, 1.0) for n in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert retry_delay(60, 0, 1.0) == 12 * 3600
    assert retry_delay(1, RETRY_WINDOW_SECONDS, 1.0) is None


async def test_endpoints_have_their_own_events_and_secrets(
    client: stripe.StripeClient, http: Http, hook: Receiver
) -> None:
    other = Receiver()
    await other.start()
    endpoint = client.v1.webhook_endpoints.create(
        {"url": other.url, "enabled_events": ["customer.deleted"]}
    )
    assert endpoint.secret is not None
    assert endpoint.secret.startswith("whsec_")
    other.secret = endpoint.secret
    assert client.v1.webhook_endpoints.retrieve(endpoint.id).to_dict().get("secret") is None
    customer = client.v1.customers.create({}).id
    client.v1.customers.delete(customer)
    await http.sim("deliveries/flush")
    assert other.types() == ["customer.deleted"]
    assert sorted(hook.types(customer)) == ["customer.created", "customer.deleted"]

    client.v1.webhook_endpoints.update(
        endpoint.id, {"enabled_events": ["*"], "url": other.url, "description": "all"}
    )
    client.v1.customers.create({})
    await http.sim("deliveries/flush")
    assert other.types() == ["customer.deleted", "customer.created"]
    client.v1.webhook_endpoints.update(endpoint.id, {"disabled": True})
    client.v1.customers.create({})
    listed = client.v1.webhook_endpoints.list()
    assert endpoint.id in [e.id for e in listed.data]
    assert client.v1.webhook_endpoints.delete(endpoint.id).deleted is True
    await http.sim("deliveries/flush")
    assert len(other.events) == 2
    await other.stop()


async def test_injected_events_look_like_stripes(
    client: stripe.StripeClient, http: Http, hook: Receiver
) -> None:
    event = await http.sim(
        "events",
        {
            "type": "charge.dispute.created",
            "object": {"charge": "ch_1", "amount": 500},
            "created": 1_700_000_000,
            "livemode": True,
            "account": "acct_other",
        },
    )
    await http.sim("deliveries/flush")
    assert hook.events[0]["id"] == event["id"]
    subject = hook.events[0]["data"]["object"]
    assert (subject["object"], subject["charge"], subject["amount"]) == ("dispute", "ch_1", 500)
    assert (hook.events[0]["livemode"], hook.events[0]["account"]) == (True, "acct_other")
    since = client.v1.events.list(
        {"created": {"lte": 1_700_000_000}}, {"stripe_account": "acct_other"}
    )
    assert [e.id for e in since.data] == [event["id"]]
    unknown = await http.sim("events", {"type": "brand.new.thing", "object": {"id": "x_1"}})
    assert unknown["data"]["object"] == {"object": "brand.new", "id": "x_1"}
    customer = client.v1.customers.create({}).id
    snapshot = await http.sim("events", {"type": "customer.updated", "object": customer})
    assert snapshot["data"]["object"]["id"] == customer


async def test_events_are_listed_by_type_and_page(client: stripe.StripeClient, http: Http) -> None:
    for number in range(4):
        await http.sim("events", {"type": "mandate.updated", "object": {"id": f"mandate_{number}"}})
    page = client.v1.events.list({"type": "mandate.updated", "limit": 3})
    assert [e.data.object["id"] for e in page.data] == ["mandate_3", "mandate_2", "mandate_1"]
    assert page.has_more is True
    rest = client.v1.events.list(
        {"types": ["mandate.*", "no.such"], "starting_after": page.data[-1].id}
    )
    assert [e.data.object["id"] for e in rest.data] == ["mandate_0"]
    assert rest.has_more is False


async def test_a_killed_simulator_keeps_its_objects_and_undelivered_webhooks(
    tmp_path: Path,
) -> None:
    receiver = Receiver(secret="whsec_new")
    await receiver.start()
    await receiver.stop()  # nobody listens there for now
    process = SimulatorProcess(
        tmp_path / "state.sqlite",
        webhook_url=receiver.url,
        webhook_secret=["whsec_old", "whsec_new"],
        retry_base_seconds=0.05,
    )
    url = await process.start()
    client = stripe.StripeClient("sk_test_1", base_addresses={"api": url})
    options = stripe.RequestOptions(idempotency_key="before-the-crash")
    made = client.v1.customers.create({"name": "Survivor"}, options)
    async with aiohttp.ClientSession() as session:
        await Http(session, process).sim("clock/advance", {"seconds": 100})
        await process.kill()
        await receiver.start()
        assert await process.start() == url
        client = stripe.StripeClient("sk_test_1", base_addresses={"api": url})
        assert client.v1.customers.retrieve(made.id).name == "Survivor"
        again = client.v1.customers.create({"name": "Survivor"}, options)
        assert again.id == made.id
        await receiver.wait_until(lambda: bool(receiver.events))
        assert receiver.types(made.id) == ["customer.created"]
        assert "v1=" in receiver.signatures[0].partition("v1=")[2]
    await process.stop()
    await receiver.stop()
    assert set(os.listdir(tmp_path)) == {"state.sqlite", "state.log"}  # noqa: PTH208  # no I/O wait


async def test_a_simulator_that_cannot_start_says_why(tmp_path: Path) -> None:
    process = SimulatorProcess(tmp_path / "missing" / "state.sqlite")
    process.log = tmp_path / "log"
    with pytest.raises(SimulatorError, match="unable to open database file"):
        await process.start()
    await process.stop()
