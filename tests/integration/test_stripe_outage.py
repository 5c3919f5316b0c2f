"""Stripe being away is logged when it begins and when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from shared import outages
from shared.errors import StripeFailedError
from shared.payments.client import stripe_client
from shared.payments.stripe_requests import ask
from tests.fixtures.product import closed_port

if TYPE_CHECKING:
    from tests.fixtures.recharging import Shop


async def test_requests_that_stripe_does_not_answer_are_one_outage(shop: Shop) -> None:
    outages.STRIPE.succeeded()
    with capture_logs() as lines:
        async with stripe_client("sk_test_1", f"http://127.0.0.1:{closed_port()}") as nowhere:
            for _ in range(5):
                with pytest.raises(StripeFailedError):
                    await ask("events.list", nowhere.v1.events.list_async({"limit": 1}))
        await shop.client.v1.events.list_async({"limit": 1})
    assert [line["event"] for line in lines] == ["stripe.unavailable", "stripe.available"]
    assert lines[1]["failures"] == 5
