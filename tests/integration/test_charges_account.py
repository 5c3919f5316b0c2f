"""Every request about a charge names the Stripe account that its card belongs to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from shared.payments.client import stripe_client
from shared.payments.payment_intents import Intent, PaymentIntentGateway
from shared.recharge.model import AttemptState
from tests.fixtures.recharging import Shop

INTENT = {
    "object": "payment_intent",
    "id": "pi_1",
    "amount": 2000,
    "amount_received": 2000,
    "currency": "usd",
    "metadata": {},
}


@pytest.mark.parametrize("account", ["", "acct_of_a_customer"])
async def test_the_account_of_the_card_is_named_from_the_creation_to_the_cancellation(
    shop: Shop, account: str
) -> None:
    asked: list[tuple[str, str | None]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.path, request.headers.get("Stripe-Account")))
        status = "succeeded" if request.path.endswith("confirm") else "requires_confirmation"
        return web.json_response({**INTENT, "status": status})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    server = TestServer(app)
    await server.start_server()
    try:
        async with stripe_client("sk_test_1", str(server.make_url("")).rstrip("/")) as client:
            charges = PaymentIntentGateway(client)
            await shop.open()
            await shop.pool.execute("UPDATE payment_methods SET stripe_account = $1", account)
            await replace(shop.charger, gateway=charges).work()
            for ask in (charges.retrieve, charges.cancel):
                assert isinstance(await ask("pi_1", stripe_account=account), Intent)
            assert isinstance(
                await charges.confirm_with_customer(
                    "pi_1", "pm_1", return_url="https://a.test", stripe_account=account
                ),
                Intent,
            )
    finally:
        await server.close()
    attempt = await shop.attempt()
    assert (attempt["state"], attempt["stripe_account"]) == (AttemptState.SUCCEEDED, account)
    assert {header for _, header in asked} == {account or None}
    assert len(asked) == 5
