"""Which answers an idempotency key remembers: those of endpoints that began to run, whatever came.

https://docs.stripe.com/api/idempotent_requests
"""

from typing import Any

import pytest

from tests.integration.simulator.conftest import Http

GONE = "cus_gone"
PAYMENT = {"amount": "500", "currency": "usd"}
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def posted(http: Http, once: str, **options: Any) -> tuple[int, Any, bool]:
    """Create a PaymentIntent under the key `once`; return status, body and whether it replays."""
    headers = {"Idempotency-Key": once} | options.pop("headers", {})
    form = options.pop("data", PAYMENT)
    status, body, answered = await http.send(
        "POST", "/v1/payment_intents", data=form, headers=headers, **options
    )
    return status, body, answered.get("Idempotent-Replayed") == "true"


@pytest.mark.parametrize(
    ("fault", "status"), [("rate_limited", 429), ("conflict_409", 409), ("error_500", 500)]
)
async def test_a_request_that_was_not_begun_is_made_under_the_same_key(
    http: Http, fault: str, status: int
) -> None:
    await http.sim("faults", {"fault": fault, "path": "/v1/payment_intents"})
    refused, _, replayed = await posted(http, f"before-{fault}")
    assert (refused, replayed) == (status, False)
    made, body, replayed = await posted(http, f"before-{fault}")
    assert (made, body["object"], replayed) == (200, "payment_intent", False)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"key": "sk_live_x"}, 401),
        ({"headers": {"Stripe-Account": "nobody"}}, 403),
        ({"data": PAYMENT | {"colour": "red"}}, 400),
        ({"data": PAYMENT | {"amount": "much"}}, 400),
        ({"data": {"amount": "500"}}, 400),
        ({"data": PAYMENT | {"expand[]": "colour"}}, 400),
    ],
)
async def test_a_request_that_is_refused_at_the_door_leaves_its_key_free(
    http: Http, options: dict[str, Any], status: int
) -> None:
    key = f"door-{status}-{sorted(map(str, options.items()))}"[:200]
    refused, _, replayed = await posted(http, key, **options)
    assert (refused, replayed) == (status, False)
    made, _, replayed = await posted(http, key)
    assert (made, replayed) == (200, False)


async def test_a_500_of_an_endpoint_that_ran_is_the_answer_for_good(http: Http) -> None:
    await http.sim("faults", {"fault": "error_500_stored", "path": "/v1/payment_intents"})
    first = await posted(http, "broken")
    assert (first[0], first[2]) == (500, False)
    for _ in range(2):
        again = await posted(http, "broken")
        assert (again[0], again[1], again[2]) == (500, first[1], True)
    _, body, _ = await http.send("GET", "/v1/payment_intents?limit=1")
    before = body["data"][0]["id"] if body["data"] else None
    made, body, replayed = await posted(http, "another key")
    assert (made, replayed) == (200, False)
    assert body["id"] != before


async def test_a_refusal_of_an_endpoint_that_ran_is_the_answer_for_good(http: Http) -> None:
    missing = {"data": PAYMENT | {"customer": GONE}}
    first = await posted(http, "missing", **missing)
    again = await posted(http, "missing", **missing)
    assert (first[0], first[2]) == (400, False)
    assert (again[0], again[1], again[2]) == (400, first[1], True)
