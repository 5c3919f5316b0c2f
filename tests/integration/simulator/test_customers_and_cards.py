import pytest
import stripe

from tests.integration.simulator.conftest import Http, Receiver, error_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_customer_lives_changes_and_dies(
    client: stripe.StripeClient, http: Http, receiver: Receiver
) -> None:
    made = client.v1.customers.create(
        {
            "email": "a@example.com",
            "name": "Ada",
            "metadata": {"organization_id": "org_1", "x": "y"},
        }
    )
    changed = client.v1.customers.update(made.id, {"name": "Bea", "metadata": {"x": ""}})
    assert (changed.name, changed.email) == ("Bea", "a@example.com")
    assert changed.metadata is not None
    assert changed.metadata.to_dict() == {"organization_id": "org_1"}
    assert client.v1.customers.retrieve(made.id).name == "Bea"

    gone = client.v1.customers.delete(made.id)
    assert gone.deleted is True
    assert client.v1.customers.retrieve(made.id).deleted is True
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.customers.update(made.id, {"name": "Cid"})
    assert refused.value.code == "resource_missing"

    await http.sim("deliveries/flush")
    assert set(receiver.types(made.id)) == {
        "customer.created",
        "customer.updated",
        "customer.deleted",
    }
    updated = next(e for e in receiver.events if e["type"] == "customer.updated")
    assert updated["data"]["previous_attributes"]["name"] == "Ada"
    assert updated["request"]["id"].startswith("req_")
    assert updated["api_version"] == stripe.api_version


async def test_lists_page_with_cursors_in_both_directions(client: stripe.StripeClient) -> None:
    email = "list@example.com"
    made = [client.v1.customers.create({"email": email}).id for _ in range(5)]
    newest_first = made[::-1]
    first = client.v1.customers.list({"email": email, "limit": 2})
    assert [c.id for c in first.data] == newest_first[:2]
    assert first.has_more is True
    second = client.v1.customers.list(
        {"email": email, "limit": 3, "starting_after": newest_first[1]}
    )
    assert [c.id for c in second.data] == newest_first[2:]
    assert second.has_more is False
    back = client.v1.customers.list({"email": email, "limit": 2, "ending_before": newest_first[3]})
    assert [c.id for c in back.data] == newest_first[1:3]
    assert back.has_more is True
    assert [c.id for c in first.auto_paging_iter()] == newest_first
    created = client.v1.customers.retrieve(made[0]).created
    assert client.v1.customers.list({"email": email, "created": {"gt": created + 60}}).data == []
    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        client.v1.customers.list({"starting_after": "cus_none"})
    with pytest.raises(stripe.InvalidRequestError, match="less than or equal to 100"):
        client.v1.customers.list({"limit": 101})


async def test_attaching_a_test_id_yields_a_fresh_card(
    client: stripe.StripeClient, http: Http, receiver: Receiver
) -> None:
    customer = client.v1.customers.create({}).id
    one = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer})
    two = client.v1.payment_methods.attach("pm_card_mastercard", {"customer": customer})
    assert one.id.startswith("pm_")
    assert one.id != "pm_card_visa"
    assert (one.card and one.card.last4, two.card and two.card.brand) == ("4242", "mastercard")
    listed = client.v1.customers.payment_methods.list(customer)
    assert [m.id for m in listed.data] == [two.id, one.id]
    same = client.v1.payment_methods.list({"customer": customer, "type": "card"})
    assert [m.id for m in same.data] == [two.id, one.id]

    client.v1.customers.update(customer, {"invoice_settings": {"default_payment_method": one.id}})
    expanded = client.v1.customers.retrieve(
        customer, {"expand": ["invoice_settings.default_payment_method"]}
    )
    default = expanded.invoice_settings and expanded.invoice_settings.default_payment_method
    assert isinstance(default, stripe.PaymentMethod)
    assert default.id == one.id

    loose = client.v1.payment_methods.detach(one.id)
    assert loose.customer is None
    with pytest.raises(stripe.InvalidRequestError, match="may not be used again"):
        client.v1.payment_methods.attach(one.id, {"customer": customer})
    with pytest.raises(stripe.InvalidRequestError, match="not attached"):
        client.v1.payment_methods.detach(one.id)
    await http.sim("deliveries/flush")
    assert sorted(receiver.types(one.id)) == [
        "customer.updated",
        "payment_method.attached",
        "payment_method.detached",
    ]


@pytest.mark.parametrize(
    ("test_id", "code", "decline_code"),
    [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
    ],
)
async def test_some_cards_are_refused_when_they_are_saved(
    client: stripe.StripeClient, test_id: str, code: str, decline_code: str
) -> None:
    customer = client.v1.customers.create({}).id
    with pytest.raises(stripe.CardError) as refused:
        client.v1.payment_methods.attach(test_id, {"customer": customer})
    assert refused.value.http_status == 402
    assert refused.value.code == code
    assert error_of(refused)["decline_code"] == decline_code


async def test_cards_come_from_numbers_and_tokens(client: stripe.StripeClient) -> None:
    number = client.v1.payment_methods.create(
        {"type": "card", "card": {"number": "4000000000000341", "exp_month": 1, "exp_year": 2031}}
    )
    assert number.card is not None
    assert (number.card.last4, number.card.exp_year) == ("0341", 2031)
    token = client.v1.payment_methods.create({"type": "card", "card": {"token": "tok_amex"}})
    assert token.card is not None
    assert token.card.brand == "amex"
    with pytest.raises(stripe.CardError, match="number is incorrect"):
        client.v1.payment_methods.create({"type": "card", "card": {"number": "4242424242424241"}})


async def test_ids_that_do_not_exist_answer_404(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="No such customer: 'cus_x'") as refused:
        client.v1.customers.retrieve("cus_x")
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")
    for missing in (
        lambda: client.v1.payment_intents.retrieve("pi_x"),
        lambda: client.v1.payment_methods.retrieve("pm_x"),
        lambda: client.v1.charges.retrieve("ch_x"),
        lambda: client.v1.refunds.retrieve("re_x"),
        lambda: client.v1.events.retrieve("evt_x"),
        lambda: client.v1.checkout.sessions.retrieve("cs_test_x"),
        lambda: client.v1.webhook_endpoints.retrieve("we_x"),
        lambda: client.v1.disputes.retrieve("dp_x"),
    ):
        with pytest.raises(stripe.InvalidRequestError, match="No such ") as refused:
            missing()
        assert refused.value.http_status == 404
