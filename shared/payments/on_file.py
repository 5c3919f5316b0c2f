"""Retrieves payment methods, customers and subscriptions from Stripe by their ids."""

from __future__ import annotations

from typing import Any

from shared.payments.library import stripe
from shared.payments.model import CustomerQuestion, MethodQuestion, SubscriptionQuestion
from shared.payments.objects import Customer, PaymentMethod, Subscription
from shared.payments.stripe_requests import ask
from shared.payments.translator import from_answer

OnFileQuestion = MethodQuestion | CustomerQuestion | SubscriptionQuestion
OnFile = PaymentMethod | Customer | Subscription


async def retrieve(client: stripe.StripeClient, question: OnFileQuestion) -> OnFile:
    """Return an object as Stripe has it now; a deleted customer has `deleted`.

    Raises StripeFailedError (StripeMissingError: Stripe has no such object in that account) and
    MalformedEventError. Sources: https://docs.stripe.com/api/payment_methods/retrieve,
    https://docs.stripe.com/api/customers/retrieve,
    https://docs.stripe.com/api/subscriptions/retrieve
    """
    options: Any = {"stripe_account": question.account} if question.account else {}
    match question:
        case MethodQuestion(_, name):
            method = await ask(
                "payment_methods.retrieve",
                client.v1.payment_methods.retrieve_async(name, options=options),
            )
            return from_answer(method.to_dict(), PaymentMethod)
        case CustomerQuestion(_, name):
            customer = await ask(
                "customers.retrieve", client.v1.customers.retrieve_async(name, options=options)
            )
            return from_answer(customer.to_dict(), Customer)
        case SubscriptionQuestion(_, name):
            subscription = await ask(
                "subscriptions.retrieve",
                client.v1.subscriptions.retrieve_async(name, options=options),
            )
            return from_answer(subscription.to_dict(), Subscription)
