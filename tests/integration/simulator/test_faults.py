"""Faults on request: what a caller sees, and what has happened nevertheless."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import stripe

from sandbox.stripe.process import SimulatorProcess
from tests.integration.simulator.conftest import Http, Receiver

pytestmark = pytest.mark.asyncio(loop_scope="module")

CUSTOMERS = {"method": "POST", "path": "/v1/customers"}


@pytest.fixture
def once(simulator: SimulatorProcess) -> stripe.StripeClient:
    """Stripe's client without its own repetitions."""
    return stripe.StripeClient(
        "sk_test_1", base_addresses={"api": simulator.url}, max_network_retries=0
    )


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def no_faults(http: Http, receiver: Receiver) -> AsyncIterator[None]:
    await http.sim("deliveries/flush")
    receiver.clear()
    yield
    await http.send("DELETE", "/_sim/faults", key=None)
    await http.sim("deliveries/pause", {"paused": False})


def create(client: stripe.StripeClient, email: str) -> stripe.Customer:
    """Ask with a key, as every caller must that may have to ask again."""
    options = stripe.RequestOptions(idempotency_key=f"key-{email}")
    return client.v1.customers.create({"email": email}, options)


def made(client: stripe.StripeClient, email: str) -> int:
    return len(client.v1.customers.list({"email": email}).data)


@pytest.mark.parametrize(
    ("kind", "refusal", "performed"),
    [
        ("answer_lost", stripe.APIConnectionError, 1),
        ("cut_mid_body", stripe.APIConnectionError, 1),
        ("error_500_after", stripe.APIError, 1),
        ("error_500", stripe.APIError, 0),
        ("refused", stripe.APIConnectionError, 0),
        ("rate_limited", stripe.RateLimitError, 0),
        ("conflict_409", stripe.APIError, 0),
        ("unauthorized_401", stripe.AuthenticationError, 0),
        ("forbidden_403", stripe.PermissionError, 0),
        ("bad_parameter_400", stripe.InvalidRequestError, 0),
    ],
)
async def test_a_spoilt_answer_is_an_error_once_and_then_the_same_key_finds_what_happened(
    once: stripe.StripeClient,
    http: Http,
    kind: str,
    refusal: type[stripe.StripeError],
    performed: int,
) -> None:
    email = f"{kind}@example.com"
    await http.sim("faults", {**CUSTOMERS, "fault": kind})
    with pytest.raises(refusal):
        create(once, email)
    assert made(once, email) == performed
    again = create(once, email)
    assert again.email == email
    assert made(once, email) == 1
    assert again.last_response is not None
    replayed = again.last_response.headers.get("Idempotent-Replayed")
    assert (replayed == "true") is (performed == 1)
    (fault,) = await http.data("faults")
    assert (fault["fault"], fault["used"]) == (kind, 1)


async def test_a_500_that_is_stored_comes_back_for_its_key_and_is_marked_as_replayed(
    once: stripe.StripeClient, http: Http
) -> None:
    email = "stored@example.com"
    await http.sim("faults", {**CUSTOMERS, "fault": "error_500_stored"})
    for replayed in (None, "true"):
        with pytest.raises(stripe.APIError) as failed:
            create(once, email)
        assert (failed.value.headers or {}).get("Idempotent-Replayed") == replayed
    assert made(once, email) == 0


async def test_half_of_the_body_arrives_before_the_cut(
    http: Http, simulator: SimulatorProcess
) -> None:
    await http.sim("faults", {**CUSTOMERS, "fault": "cut_mid_body"})
    host, port = simulator.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /v1/customers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test_1\r\n"
        b"Content-Length: 8\r\n\r\nname=Ada"
    )
    head, _, body = (await asyncio.wait_for(reader.read(), 10)).partition(b"\r\n\r\n")
    length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    assert b"200 OK" in head
    assert len(body) == length // 2
    writer.close()
    await writer.wait_closed()


async def test_a_fault_begins_late_lasts_a_while_and_means_its_path_alone(
    once: stripe.StripeClient, http: Http
) -> None:
    wish = {"method": "POST", "path": "/v1/customers/*", "fault": "error_500"}
    await http.sim("faults", {**wish, "skip": 1, "times": 2})
    customer = once.v1.customers.create({}).id
    outcomes = []
    for name in ("a", "b", "c", "d"):
        try:
            outcomes.append(once.v1.customers.update(customer, {"name": name}).name)
        except stripe.APIError as error:
            outcomes.append(str(error.http_status))
    assert outcomes == ["a", "500", "500", "d"]
    seen = [r for r in await http.data("requests") if r["path"].endswith(customer)]
    assert [r["fault"] for r in seen] == [None, "error_500", "error_500", None]
    await http.sim("faults", {"path": "/v1/**", "fault": "error_500"})
    with pytest.raises(stripe.APIError):
        once.v1.customers.payment_methods.list(customer)


async def test_a_fault_may_befall_one_customer_alone(
    once: stripe.StripeClient, http: Http, receiver: Receiver
) -> None:
    one, other = (once.v1.customers.create({}).id for _ in range(2))
    await http.sim("deliveries/flush")
    receiver.clear()
    wish = {"path": "/v1/**", "fault": "error_500", "customer": one, "times": 4}
    await http.sim("faults", wish)
    await http.sim("faults", {"event": "*", "fault": "dropped", "customer": one, "times": 9})
    intent = once.v1.payment_intents.create({"amount": 100, "currency": "usd", "customer": other})
    with pytest.raises(stripe.APIError):
        once.v1.payment_intents.create({"amount": 100, "currency": "usd", "customer": one})
    with pytest.raises(stripe.APIError):
        once.v1.customers.retrieve(one)
    with pytest.raises(stripe.APIError):
        once.v1.payment_methods.attach("pm_card_visa", {"customer": one})
    assert once.v1.payment_intents.cancel(intent.id).status == "canceled"
    with pytest.raises(stripe.APIError):
        once.v1.payment_intents.create({"amount": 100, "currency": "usd", "customer": one})
    mine = once.v1.payment_intents.create({"amount": 100, "currency": "usd", "customer": one})
    once.v1.payment_intents.cancel(mine.id)
    await http.sim("deliveries/flush")
    assert receiver.types(mine.id) == []
    assert len(receiver.types(intent.id)) == 2


async def test_rate_limits_may_say_when_to_come_back(http: Http) -> None:
    await http.sim("faults", {**CUSTOMERS, "fault": "rate_limited", "retry_after": 7})
    await http.sim("faults", {**CUSTOMERS, "fault": "rate_limited"})
    answers = [await http.send("POST", "/v1/customers") for _ in range(3)]
    assert [(status, headers.get("Retry-After")) for status, _, headers in answers] == [
        (429, "7"),
        (429, None),
        (200, None),
    ]
    assert answers[0][1]["error"]["code"] == "rate_limit"


async def test_a_slow_answer_holds_its_key_meanwhile(http: Http) -> None:
    await http.sim("faults", {**CUSTOMERS, "fault": "slow", "seconds": 1})
    key = {"Idempotency-Key": "key-slow"}
    form = {"email": "slow@example.com"}
    slow = asyncio.create_task(http.send("POST", "/v1/customers", data=form, headers=key))
    while True:
        _, body, _ = await http.send("GET", "/v1/customers?email=slow@example.com")
        if body["data"]:
            break
    status, body, _ = await http.send("POST", "/v1/customers", data=form, headers=key)
    assert (status, body["error"]["code"]) == (409, "idempotency_key_in_use")
    assert not slow.done()
    assert (await slow)[0] == 200
    _, _, headers = await http.send("POST", "/v1/customers", data=form, headers=key)
    assert headers["Idempotent-Replayed"] == "true"


async def test_a_webhook_may_overtake_the_answer_that_made_it(
    once: stripe.StripeClient, http: Http, receiver: Receiver
) -> None:
    await http.sim("faults", {"event": "customer.*", "fault": "webhook_first", "times": 5})
    for _ in range(5):
        # Stripe's client blocks this thread, in which the receiver runs.
        customer = await asyncio.to_thread(once.v1.customers.create, {})
        assert receiver.types(customer.id) == ["customer.created"]
    receiver.answers.append(500)
    await http.sim("faults", {"event": "customer.*", "fault": "webhook_first"})
    customer = await asyncio.to_thread(once.v1.customers.create, {})
    assert receiver.types(customer.id) == ["customer.created"]
    await http.sim("clock/advance", {"seconds": 3601})
    assert (await http.sim("deliveries/flush"))["pending"] == 0


@pytest.mark.parametrize(
    ("kind", "sent", "listed"),
    [("duplicated", 2, 1), ("dropped", 0, 1), ("never_generated", 0, 0)],
)
async def test_a_webhook_may_come_twice_or_not_at_all(
    once: stripe.StripeClient,
    http: Http,
    receiver: Receiver,
    kind: str,
    sent: int,
    listed: int,
) -> None:
    await http.sim("faults", {"event": "customer.created", "fault": kind})
    customer, unharmed = (once.v1.customers.create({}).id for _ in range(2))
    assert (await http.sim("deliveries/flush"))["pending"] == 0
    assert receiver.types(customer) == ["customer.created"] * sent
    assert receiver.types(unharmed) == ["customer.created"]
    events = once.v1.events.list({"type": "customer.created", "limit": 2}).data
    assert [e.data.object["id"] for e in events].count(customer) == listed
    assert len({e["id"] for e in receiver.events}) == (2 if sent else 1)


async def test_a_share_of_the_events_is_lost_and_a_seed_decides_which(
    once: stripe.StripeClient, http: Http, receiver: Receiver
) -> None:
    async def arrived(seed: int) -> list[Any]:
        wish = {"event": "customer.created", "fault": "dropped", "times": 99, "share": 0.3}
        await http.sim("faults", wish | {"seed": seed})
        for number in range(40):
            once.v1.customers.create({"name": str(number)})
        await http.sim("deliveries/flush")
        await http.send("DELETE", "/_sim/faults")
        names = [int(e["data"]["object"]["name"]) for e in receiver.events]
        receiver.clear()
        return sorted(names)

    first, same, other = await arrived(1), await arrived(1), await arrived(2)
    assert first == same != other
    assert 20 < len(first) < 36


async def test_a_seed_decides_the_order_of_shuffled_webhooks(
    once: stripe.StripeClient, http: Http, receiver: Receiver
) -> None:
    async def order(seed: int) -> list[Any]:
        await http.sim("deliveries/pause")
        wish = {"event": "customer.*", "fault": "shuffled", "times": 8, "seed": seed}
        await http.sim("faults", wish)
        for number in range(8):
            once.v1.customers.create({"name": str(number)})
        assert (await http.sim("deliveries/flush"))["pending"] == 8
        assert receiver.events == []
        await http.sim("deliveries/pause", {"paused": False})
        await http.sim("deliveries/flush")
        arrived = [e["data"]["object"]["name"] for e in receiver.events]
        receiver.clear()
        return arrived

    first, same, other = await order(1), await order(1), await order(2)
    assert first == same != other
    assert sorted(first) == sorted(other) == [str(n) for n in range(8)] != first


async def test_a_key_that_stops_working_is_refused_until_its_fault_ends(
    simulator: SimulatorProcess, once: stripe.StripeClient, http: Http
) -> None:
    address: Any = {"api": simulator.url}
    other = stripe.StripeClient("sk_test_2", base_addresses=address, max_network_retries=0)
    wish = {"path": "/v1/**", "fault": "unauthorized_401", "key": "sk_test_1", "times": 99}
    fault = await http.sim("faults", wish)
    with pytest.raises(stripe.AuthenticationError):
        create(once, "revoked@example.com")
    create(other, "valid@example.com")
    await http.send("DELETE", f"/_sim/faults/{fault['id']}", key=None)
    assert await http.data("faults") == []
    create(once, "revoked@example.com")
    assert made(other, "revoked@example.com") == 1


@pytest.mark.parametrize(
    "wish",
    [
        {**CUSTOMERS, "fault": "nonsense"},
        {**CUSTOMERS, "fault": "duplicated"},
        {"event": "customer.*", "fault": "slow"},
        {**CUSTOMERS, "fault": "slow", "times": 0},
        {**CUSTOMERS, "fault": "slow", "typo": 1},
        CUSTOMERS,
    ],
)
async def test_an_impossible_fault_is_refused(http: Http, wish: dict[str, Any]) -> None:
    status, _, _ = await http.send("POST", "/_sim/faults", key=None, json=wish)
    assert status == 400
    assert await http.data("faults") == []
