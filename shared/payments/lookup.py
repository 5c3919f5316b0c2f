"""Requests to Stripe for what an event does not contain.

Events can arrive in any order and more than once, so the current state is read from Stripe: before
a transaction, never inside one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from shared.errors import EventError, StripeFailedError, StripeMissingError
from shared.payments import on_file, rules
from shared.payments.invoice_objects import InvoiceLine, InvoicePayment
from shared.payments.library import stripe
from shared.payments.model import (
    InvoiceFacts,
    InvoiceQuestion,
    LinkedPayment,
    PaymentFacts,
    PaymentQuestion,
)
from shared.payments.objects import (
    Charge,
    CheckoutSession,
    Dispute,
    PaymentIntent,
    Price,
    Refund,
    reference_id,
)
from shared.payments.stripe_requests import account_options, ask
from shared.payments.translator import S, from_answer

# Together these keep a wait for Stripe well within the lease of the events.
REQUESTS_AT_ONCE_MAX = 5
ASK_SECONDS_MAX = 15
PAGE_ROWS = 100
PAGES_MAX = 10

Question = PaymentQuestion | InvoiceQuestion | on_file.OnFileQuestion
Facts = PaymentFacts | InvoiceFacts | on_file.OnFile
Answers = Mapping[Question, Facts | Exception]


class UnknownPriceError(EventError):
    """Stripe has no price of this id."""


@dataclass(frozen=True, slots=True)
class StripeLookup:
    """Reads objects from Stripe with one client; safe for concurrent use.

    `seconds_max` is the deadline of all questions that are asked together.
    """

    client: stripe.StripeClient
    seconds_max: float = ASK_SECONDS_MAX

    async def answers(self, questions: Collection[Question]) -> Answers:
        """Return Stripe's answer to each question, or an error in its place, in time.

        Raises nothing. The error is a StripeFailedError (StripeMissingError: Stripe has no such
        object), an EventError if the answer cannot be read, or any other error of this question.
        """
        distinct = list(dict.fromkeys(questions))
        slots = asyncio.Semaphore(REQUESTS_AT_ONCE_MAX)
        ends_at = asyncio.get_running_loop().time() + self.seconds_max
        answers = await asyncio.gather(*(self._answer(each, slots, ends_at) for each in distinct))
        return dict(zip(distinct, answers, strict=True))

    async def _answer(
        self, question: Question, slots: asyncio.Semaphore, ends_at: float
    ) -> Facts | Exception:
        try:
            async with asyncio.timeout_at(ends_at), slots:
                if isinstance(question, InvoiceQuestion):
                    return await self._invoice_facts(question)
                if isinstance(question, PaymentQuestion):
                    return await self._payment(question)
                return await on_file.retrieve(self.client, question)
        except TimeoutError:
            return StripeFailedError(f"Stripe did not answer for {question} in time.")
        except Exception as error:  # noqa: BLE001 - fails only the events with this question
            return error

    async def _payment(self, question: PaymentQuestion) -> PaymentFacts:
        options = account_options(question.account)
        facts = await self._reversals(question)
        if not question.origin:
            return facts
        payment_filter = {"payment_intent": question.payment_intent_id}
        session = await self._session(payment_filter, options)
        if session is not None and session.mode == "payment":
            return replace(facts, session=session)
        return replace(facts, invoice_id=await self._invoice(question.payment_intent_id, options))

    async def _reversals(self, question: PaymentQuestion) -> PaymentFacts:
        """Return a payment, its refunds and its disputes."""
        options = account_options(question.account)
        intent_id = question.payment_intent_id
        answer = await ask(
            "payment_intents.retrieve",
            self.client.v1.payment_intents.retrieve_async(
                intent_id, {"expand": ["latest_charge"]}, options
            ),
        )
        intent = from_answer(answer.to_dict(), PaymentIntent)
        payment_filter = {"payment_intent": intent_id}
        refunds: list[Refund] = []
        disputes: list[Dispute] = []
        if question.reversals or _may_be_reversed(intent):
            refunds = await self._list_all(
                "refunds", self.client.v1.refunds.list_async, payment_filter, Refund, options
            )
            disputes = await self._list_all(
                "disputes", self.client.v1.disputes.list_async, payment_filter, Dispute, options
            )
        return rules.facts(intent, refunds, disputes)

    async def _session(self, payment_filter: Any, options: Any) -> CheckoutSession | None:
        """Return the Checkout Session of a payment.

        Source: https://docs.stripe.com/api/checkout/sessions/list
        """
        page = await ask(
            "checkout.sessions.list",
            self.client.v1.checkout.sessions.list_async(payment_filter | {"limit": 1}, options),
        )
        return from_answer(page.data[0].to_dict(), CheckoutSession) if page.data else None

    async def _invoice(self, intent_id: str, options: Any) -> str | None:
        """Return the invoice of a payment; PaymentIntents have no such field since 2025-03-31.

        Source: https://docs.stripe.com/api/invoice-payment/list
        """
        params: Any = {
            "payment": {"type": "payment_intent", "payment_intent": intent_id},
            "limit": 1,
        }
        page = await ask(
            "invoice_payments.list", self.client.v1.invoice_payments.list_async(params, options)
        )
        if not page.data:
            return None
        return reference_id(from_answer(page.data[0].to_dict(), InvoicePayment).invoice)

    async def _invoice_facts(self, question: InvoiceQuestion) -> InvoiceFacts:
        lines = await self._lines(question) if question.lines else None
        line_prices = [line.priced for line in lines or ()]
        prices = {
            price_id: await self._price(price_id, question)
            for price_id in {*question.prices, *(p for p in line_prices if isinstance(p, str))}
        }
        payments = await self._invoice_payments(question) if question.payments else ()
        return InvoiceFacts(lines, prices, payments)

    async def _lines(self, question: InvoiceQuestion) -> tuple[InvoiceLine, ...] | None:
        """Return all lines with their prices; None if Stripe does not have the invoice.

        Source: https://docs.stripe.com/api/invoice-line-item/retrieve
        """
        service = self.client.v1.invoices.line_items
        expand = {"expand": ["data.pricing.price_details.price"]}
        try:
            return tuple(
                await self._list_all(
                    "invoices.line_items",
                    partial(service.list_async, question.invoice_id),
                    expand,
                    InvoiceLine,
                    account_options(question.account),
                )
            )
        except StripeMissingError:
            return None

    async def _price(self, price_id: str, question: InvoiceQuestion) -> Price:
        """Return a price. Source: https://docs.stripe.com/api/prices/retrieve."""
        service = self.client.v1.prices
        try:
            answer = await ask(
                "prices.retrieve",
                service.retrieve_async(price_id, {}, account_options(question.account)),
            )
        except StripeMissingError as error:
            raise UnknownPriceError(
                f"Stripe knows no price {price_id}, which {question.invoice_id} names."
            ) from error
        return from_answer(answer.to_dict(), Price)

    async def _invoice_payments(self, question: InvoiceQuestion) -> tuple[LinkedPayment, ...]:
        """Return the PaymentIntents that pay an invoice; none if Stripe does not have it.

        Source: https://docs.stripe.com/api/invoice-payment/list
        """
        options = account_options(question.account)
        params = {"invoice": question.invoice_id, "status": "paid"}
        list_async = self.client.v1.invoice_payments.list_async
        try:
            paid = await self._list_all(
                "invoice_payments", list_async, params, InvoicePayment, options
            )
        except StripeMissingError:
            return ()
        return tuple(
            [
                LinkedPayment(name, minor, await self._payment_if_known(question, name))
                for name, minor in rules.paid_by(paid)
            ]
        )

    async def _payment_if_known(
        self, question: InvoiceQuestion, intent_id: str
    ) -> PaymentFacts | None:
        try:
            return await self._payment(
                PaymentQuestion(question.account, intent_id, origin=question.origins)
            )
        except StripeMissingError:
            return None

    async def _list_all(
        self, name: str, list_async: Any, params: dict[str, Any], kind: type[S], options: Any
    ) -> list[S]:
        items: list[S] = []
        page_params = {**params, "limit": PAGE_ROWS}
        for _ in range(PAGES_MAX):
            page: Any = await ask(f"{name}.list", list_async(page_params, options))
            items += [from_answer(item.to_dict(), kind) for item in page.data]
            if not page.has_more:
                return items
            if not page.data:
                raise StripeFailedError(
                    f"Stripe returned an empty page of {name} of {params} with has_more."
                )
            page_params["starting_after"] = page.data[-1].id
        raise StripeFailedError(f"{params} has more than {PAGE_ROWS * PAGES_MAX} {name}.")


def _may_be_reversed(intent: PaymentIntent) -> bool:
    charge = intent.latest_charge
    return not (
        isinstance(charge, Charge) and charge.amount_refunded == 0 and charge.disputed is False
    )
