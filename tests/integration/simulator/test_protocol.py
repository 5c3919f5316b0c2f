"""What holds for every request: keys, errors, idempotency."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest
import stripe

from sandbox.stripe.process import SimulatorProcess
from tests.integration.simulator.conftest import Http

JSON = {"Content-Type": "application/json"}
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("key", "wording"),
    [
        (None, "You did not provide an API key"),
        ("sk_live_abc", "test mode only"),
        ("nonsense", "Invalid API Key provided"),
    ],
)
async def test_only_test_keys_are_let_in(http: Http, key: str | None, wording: str) -> None:
    status, body, headers = await http.send("GET", "/v1/customers", key=key)
    assert status == 401
    assert wording in body["error"]["message"]
    assert body["error"]["type"] == "invalid_request_error"
    assert headers["Request-Id"].startswith("req_")


@pytest.mark.parametrize("prefix", ["sk", "rk"])
async def test_a_key_may_come_as_basic_authentication(http: Http, prefix: str) -> None:
    credentials = base64.b64encode(f"{prefix}_test_abc:".encode()).decode()
    status, _, _ = await http.send(
        "GET", "/v1/customers", key=None, headers={"Authorization": f"Basic {credentials}"}
    )
    assert status == 200


async def test_errors_have_stripes_shape(http: Http) -> None:
    status, body, headers = await http.send(
        "POST", "/v1/customers", data={"foo": "1", "address[x]": "2"}
    )
    assert status == 400
    assert body == {
        "error": {
            "code": "parameter_unknown",
            "doc_url": "https://docs.stripe.com/error-codes#parameter-unknown",
            "message": "Received unknown parameter: foo",
            "param": "foo",
            "request_log_url": body["error"]["request_log_url"],
            "type": "invalid_request_error",
        }
    }
    assert headers["Content-Type"].startswith("application/json")
    status, body, _ = await http.send("POST", "/v1/payment_intents", data={"amount": "1000"})
    assert (status, body["error"]["code"], body["error"]["param"]) == (
        400,
        "parameter_missing",
        "currency",
    )
    status, body, _ = await http.send("GET", "/v1/foo")
    assert status == 404
    assert body["error"]["message"].startswith("Unrecognized request URL (GET: /v1/foo).")


@pytest.mark.parametrize(
    ("path", "form", "code"),
    [
        ("payment_intents", {"amount": "ten", "currency": "usd"}, "parameter_invalid_integer"),
        ("payment_intents", {"amount": "", "currency": "usd"}, "parameter_invalid_empty"),
        ("payment_intents", {"amount": "500", "currency": "usd", "confirm": "maybe"}, None),
        ("customers", {"metadata[k]": "v" * 501}, None),
        ("customers", {"metadata": "text"}, None),
        ("customers", {"expand[]": "no_such_field"}, None),
        ("customers", {"[": "x"}, None),
    ],
)
async def test_values_of_the_wrong_kind_are_refused(
    http: Http, path: str, form: dict[str, str], code: str | None
) -> None:
    status, body, _ = await http.send("POST", f"/v1/{path}", data=form)
    assert (status, body["error"].get("code")) == (400, code)


async def test_a_refused_expansion_leaves_nothing_behind(http: Http) -> None:
    form = {"email": "ghost@example.com", "expand[]": "no_such_field"}
    await http.send("POST", "/v1/customers", data=form)
    _, body, _ = await http.send("GET", "/v1/customers?email=ghost@example.com")
    assert body["data"] == []


async def test_the_same_key_gives_the_first_answer_again(
    client: stripe.StripeClient, http: Http
) -> None:
    params: Any = {"email": "once@example.com"}
    options: Any = {"idempotency_key": "key-1"}
    first = client.v1.customers.create(params, options)
    second = client.v1.customers.create(params, options)
    assert first.id == second.id
    assert second.last_response is not None
    assert second.last_response.headers["Idempotent-Replayed"] == "true"
    assert second.last_response.headers["Original-Request"] == first.last_response.request_id  # type: ignore[union-attr]
    assert first.last_response is not None
    assert first.last_response.body == second.last_response.body
    assert len(client.v1.customers.list({"email": "once@example.com"}).data) == 1
    with pytest.raises(stripe.IdempotencyError, match="same parameters"):
        client.v1.customers.create({"email": "other@example.com"}, options)
    with pytest.raises(stripe.IdempotencyError, match="same endpoint"):
        client.v1.payment_intents.create({"amount": 500, "currency": "usd"}, options)
    seen = [r for r in await http.data("requests") if r["idempotency_key"] == "key-1"]
    assert [(r["status"], r["replayed"]) for r in seen] == [
        (200, False),
        (200, True),
        (400, False),
        (400, False),
    ]
    event = client.v1.events.list({"type": "customer.created", "limit": 1}).data[0]
    assert event.request is not None
    assert event.request.idempotency_key == "key-1"


async def test_a_decline_is_remembered_and_a_malformed_request_is_not(http: Http) -> None:
    form = {
        "amount": "500",
        "currency": "usd",
        "payment_method": "pm_card_chargeDeclined",
        "confirm": "true",
        "off_session": "true",
    }
    key = {"Idempotency-Key": "key-declined"}
    first = await http.send("POST", "/v1/payment_intents", data=form, headers=key)
    second = await http.send("POST", "/v1/payment_intents", data=form, headers=key)
    assert first[0] == second[0] == 402
    assert first[1] == second[1]
    assert second[2]["Idempotent-Replayed"] == "true"

    key = {"Idempotency-Key": "key-malformed"}
    wrong = await http.send("POST", "/v1/customers", data={"foo": "1"}, headers=key)
    right = await http.send("POST", "/v1/customers", data={"name": "x"}, headers=key)
    assert (wrong[0], right[0]) == (400, 200)

    key = {"Idempotency-Key": "key-missing"}
    path = "/v1/customers/cus_none"
    first = await http.send("POST", path, data={"name": "x"}, headers=key)
    second = await http.send("POST", path, data={"name": "x"}, headers=key)
    assert first[0] == second[0] == 404
    assert second[2]["Idempotent-Replayed"] == "true"


async def test_a_key_is_forgotten_after_24_hours(http: Http) -> None:
    key = {"Idempotency-Key": "key-day"}
    first = await http.send("POST", "/v1/customers", data={"name": "x"}, headers=key)
    await http.sim("clock/advance", {"seconds": 24 * 3600 + 1})
    second = await http.send("POST", "/v1/customers", data={"name": "y"}, headers=key)
    assert second[0] == 200
    assert first[1]["id"] != second[1]["id"]


async def test_a_key_in_flight_is_refused_with_409(http: Http, simulator: SimulatorProcess) -> None:
    """The first request has sent its headers and half of its body when the second one comes."""
    host, port = simulator.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /v1/customers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test_1\r\n"
        b"Idempotency-Key: key-flight\r\nContent-Length: 8\r\n\r\nname"
    )
    await writer.drain()

    async def refused() -> Any:
        while True:
            key = {"Idempotency-Key": "key-flight"}
            status, body, _ = await http.send(
                "POST", "/v1/customers", data={"foo": "1"}, headers=key
            )
            # 400 until the server has read the first request's headers: a malformed request
            # neither holds nor keeps a key.
            if status != 400:
                return status, body

    status, body = await asyncio.wait_for(refused(), 10)
    assert (status, body["error"]["code"]) == (409, "idempotency_key_in_use")
    writer.write(b"=Ada")
    await writer.drain()
    assert b"200" in await reader.readline()
    writer.close()
    await writer.wait_closed()
    key = {"Idempotency-Key": "key-flight"}
    status, body, headers = await http.send(
        "POST", "/v1/customers", data={"name": "Ada"}, headers=key
    )
    assert (status, headers["Idempotent-Replayed"]) == (200, "true")


async def test_the_client_retries_through_a_conflict(simulator: SimulatorProcess) -> None:
    client = stripe.StripeClient(
        "sk_test_1", base_addresses={"api": simulator.url}, max_network_retries=2
    )
    assert client.v1.customers.create({"name": "Retry"}).name == "Retry"


async def test_health_is_open_to_all(http: Http) -> None:
    status, body, _ = await http.send("GET", "/_sim/health", key=None)
    assert (status, body["ok"]) == (200, True)
    status, body, _ = await http.send("POST", "/_sim/clock/advance", key=None, json={})
    assert (status, body["error"]["param"]) == (400, "seconds")
    status, _, _ = await http.send("POST", "/_sim/clock/advance", key=None, data=b"{", headers=JSON)
    assert status == 400


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"Host": "rebound.example.com"}, b'{"seconds":1}', 403),
        ({"Host": "127.0.0.1.example.com:80"}, b'{"seconds":1}', 403),
        ({"Host": "[::1"}, b'{"seconds":1}', 403),
        ({"Origin": "https://elsewhere.example.com"}, b'{"seconds":1}', 403),
        ({"Origin": "null"}, b"", 403),
        ({"Content-Type": "text/plain"}, b'{"seconds":1}', 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b'{"seconds":1}', 415),
        ({"Content-Type": "multipart/form-data"}, b'{"seconds":1}', 415),
        ({"Host": "localhost"}, b'{"seconds":1}', 200),
        ({"Origin": "http://127.0.0.1:1"}, b'{"seconds":1}', 200),
    ],
)
async def test_the_control_api_takes_nothing_from_another_site(
    http: Http, headers: dict[str, str], body: bytes, expected: int
) -> None:
    status, _, _ = await http.send(
        "POST", "/_sim/clock/advance", key=None, data=body, headers=JSON | headers
    )
    assert status == expected


@pytest.mark.usefixtures("executed_processes")
async def test_the_list_of_processes_shows_no_secret(tmp_path: Path) -> None:
    simulator = SimulatorProcess(tmp_path / "stripe.sqlite", webhook_secret="whsec_simulator")
    await simulator.start()
    command = command_line(simulator.pid)
    await simulator.stop()
    assert "sandbox.stripe" in command or "checked_simulator" in command
    assert [secret for secret in simulator.webhook_secrets if secret in command] == []
    assert "whsec_" not in command


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
