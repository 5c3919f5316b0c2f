"""Stripe is asked for payment methods and customers through its own package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import StripeMissingError
from shared.payments.lookup import StripeLookup
from shared.payments.model import CustomerQuestion, MethodQuestion
from shared.payments.objects import Customer, PaymentMethod

if TYPE_CHECKING:
    import stripe


async def test_a_payment_method_and_its_customer_are_as_stripe_has_them(
    stripe_api: stripe.StripeClient,
) -> None:
    customer = await stripe_api.v1.customers.create_async({"name": "acme"})
    kept = await stripe_api.v1.payment_methods.attach_async(
        "pm_card_visa", {"customer": customer.id}
    )
    await stripe_api.v1.customers.update_async(
        customer.id, {"invoice_settings": {"default_payment_method": kept.id}}
    )
    method, owner = MethodQuestion("", kept.id), CustomerQuestion("", customer.id)
    answers = await StripeLookup(stripe_api).answers([method, owner])
    described, found = answers[method], answers[owner]
    assert isinstance(described, PaymentMethod)
    assert (described.type, described.details.last4, described.customer) == (
        "card",
        "4242",
        customer.id,
    )
    assert described.details.fingerprint is not None
    assert isinstance(found, Customer)
    assert (found.default_payment_method, found.deleted) == (kept.id, False)


async def test_what_is_gone_at_stripe_says_so(stripe_api: stripe.StripeClient) -> None:
    customer = await stripe_api.v1.customers.create_async({"name": "acme"})
    await stripe_api.v1.customers.delete_async(customer.id)
    deleted = CustomerQuestion("", customer.id)
    no_method, no_customer = MethodQuestion("", "pm_none"), CustomerQuestion("", "cus_none")
    answers = await StripeLookup(stripe_api).answers([deleted, no_method, no_customer])
    found = answers[deleted]
    assert isinstance(found, Customer)
    assert found.deleted
    assert isinstance(answers[no_method], StripeMissingError)
    assert isinstance(answers[no_customer], StripeMissingError)
