"""What banks do after a payment: disputes, fraud warnings, refunds that come back."""

from typing import Any

import pytest
import stripe

from tests.integration.simulator.conftest import Http, Receiver

pytestmark = pytest.mark.asyncio(loop_scope="module")


def paid(client: stripe.StripeClient) -> stripe.PaymentIntent:
    return client.v1.payment_intents.create(
        {
            "amount": 2000,
            "currency": "usd",
            "payment_method": "pm_card_visa",
            "confirm": True,
            "return_url": "https://shop.example/back",
        }
    )


def movements(client: stripe.StripeClient, dispute_id: str) -> list[int]:
    dispute = client.v1.disputes.retrieve(dispute_id)
    return [movement.amount for movement in dispute.balance_transactions]


async def told(http: Http, receiver: Receiver, object_id: str) -> list[str]:
    """Return the types of the events about an object, in the order in which they were made."""
    await http.sim("deliveries/flush")
    made: list[Any] = await http.data("deliveries")
    about = {e["id"] for e in receiver.events if e["data"]["object"]["id"] == object_id}
    return [delivery["type"] for delivery in made if delivery["event"] in about]


@pytest.mark.parametrize(
    ("outcome", "moved", "ending"),
    [
        (
            "won",
            [-2000, 2000],
            [
                "charge.dispute.updated",
                "charge.dispute.closed",
                "charge.dispute.funds_reinstated",
            ],
        ),
        ("lost", [-2000], ["charge.dispute.closed"]),
    ],
)
async def test_the_bank_decides_a_dispute(
    client: stripe.StripeClient,
    http: Http,
    receiver: Receiver,
    outcome: str,
    moved: list[int],
    ending: list[str],
) -> None:
    intent = paid(client)
    opened = await http.sim(f"charges/{intent.latest_charge}/dispute")
    assert movements(client, opened["id"]) == [-2000]
    (found,) = client.v1.disputes.list({"payment_intent": intent.id}).data
    assert found.id == opened["id"]
    closed = await http.sim(f"disputes/{opened['id']}/close", {"outcome": outcome})
    assert closed["status"] == outcome
    assert movements(client, opened["id"]) == moved
    assert await told(http, receiver, opened["id"]) == [
        "charge.dispute.created",
        "charge.dispute.funds_withdrawn",
        *ending,
    ]
    status, _, _ = await http.send(
        "POST", f"/_sim/disputes/{opened['id']}/close", key=None, json={"outcome": outcome}
    )
    assert status == 400


@pytest.mark.parametrize("escalated", [True, False])
async def test_an_inquiry_takes_no_money_until_it_escalates(
    client: stripe.StripeClient, http: Http, receiver: Receiver, *, escalated: bool
) -> None:
    intent = paid(client)
    opened = await http.sim(
        f"charges/{intent.latest_charge}/dispute", {"inquiry": True, "amount": 700}
    )
    assert (opened["status"], opened["amount"]) == ("warning_needs_response", 700)
    assert movements(client, opened["id"]) == []
    if escalated:
        await http.sim(f"disputes/{opened['id']}/escalate")
        assert movements(client, opened["id"]) == [-700]
    closed = await http.sim(f"disputes/{opened['id']}/close", {"outcome": "won"})
    assert closed["status"] == ("won" if escalated else "warning_closed")
    assert movements(client, opened["id"]) == ([-700, 700] if escalated else [])
    types = await told(http, receiver, opened["id"])
    assert ("charge.dispute.funds_withdrawn" in types) is escalated
    assert ("charge.dispute.funds_reinstated" in types) is escalated


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("charges/{}/dispute", {"amount": 2001}),
        ("charges/{}/dispute", {"amount": 0}),
        ("disputes/dp_none/close", {"outcome": "won"}),
        ("disputes/dp_none/close", {"outcome": "drawn"}),
        ("disputes/dp_none/close", {}),
    ],
)
async def test_impossible_disputes_are_refused(
    client: stripe.StripeClient, http: Http, path: str, given: dict[str, Any]
) -> None:
    address = f"/_sim/{path.format(paid(client).latest_charge)}"
    status, _, _ = await http.send("POST", address, key=None, json=given)
    assert status in {400, 404}


async def test_an_issuer_may_warn_of_fraud(
    client: stripe.StripeClient, http: Http, receiver: Receiver
) -> None:
    intent = paid(client)
    made = await http.sim(f"charges/{intent.latest_charge}/early_fraud_warning")
    assert (made["charge"], made["payment_intent"]) == (intent.latest_charge, intent.id)
    assert await told(http, receiver, made["id"]) == ["radar.early_fraud_warning.created"]
    (listed,) = client.v1.radar.early_fraud_warnings.list({"payment_intent": intent.id}).data
    assert client.v1.radar.early_fraud_warnings.retrieve(listed.id).fraud_type == (
        "made_with_stolen_card"
    )


async def test_a_refund_may_come_back_days_later(
    client: stripe.StripeClient, http: Http, receiver: Receiver
) -> None:
    intent = paid(client)
    refund = client.v1.refunds.create({"payment_intent": intent.id, "amount": 500})
    assert refund.status == "succeeded"
    await http.sim("clock/advance", {"seconds": 3 * 86_400})
    failed = await http.sim(f"refunds/{refund.id}/fail", {"reason": "lost_or_stolen_card"})
    assert (failed["status"], failed["failure_reason"]) == ("failed", "lost_or_stolen_card")
    charge = client.v1.charges.retrieve(str(intent.latest_charge))
    assert (charge.amount_refunded, charge.refunded) == (0, False)
    (listed,) = client.v1.refunds.list({"payment_intent": intent.id}).data
    assert listed.status == "failed"
    assert await told(http, receiver, refund.id) == [
        "refund.created",
        "refund.updated",
        "refund.updated",
        "refund.failed",
    ]
    assert "charge.refunded" in await told(http, receiver, charge.id)
    status, _, _ = await http.send("POST", f"/_sim/refunds/{refund.id}/fail", key=None)
    assert status == 400
