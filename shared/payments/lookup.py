"""Asking Stripe what an event does not say.

Events tell that something has changed, in any order and more than once; what it comes to now is
Stripe's to say. It is asked before a transaction, never inside one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import stripe

from shared.errors import EventError, StripeFailedError, StripeMissingError
from shared.payments import on_file, rules
from shared.payments.invoice_objects import InvoiceLine, InvoicePayment
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
    S,
    from_answer,
    reference_id,
)
from shared.payments.stripe_requests import account_options, ask

# Together these keep what waits for Stripe well within the lease of its events.
ASKED_AT_ONCE_MAX = 5
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
    """Asks Stripe with one client; safe to share among workers' drains."""

    client: stripe.StripeClient

    async def answers(self, questions: Collection[Question]) -> Answers:
        """Return what Stripe says to each question, or why it did not, within 15 s.

        Raises nothing: a question without an answer has a StripeFailedError (StripeMissingError:
        Stripe knows no such thing), an EventError where the answer cannot be read, or whatever
        else went wrong with this question alone.
        """
        distinct = list(dict.fromkeys(questions))
        turn = asyncio.Semaphore(ASKED_AT_ONCE_MAX)
        ends_at = asyncio.get_running_loop().time() + ASK_SECONDS_MAX
        found = await asyncio.gather(*(self._one(each, turn, ends_at) for each in distinct))
        return dict(zip(distinct, found, strict=True))

    async def _one(
        self, question: Question, turn: asyncio.Semaphore, ends_at: float
    ) -> Facts | Exception:
        try:
            async with asyncio.timeout_at(ends_at), turn:
                if isinstance(question, InvoiceQuestion):
                    return await self._of_invoice(question)
                if isinstance(question, PaymentQuestion):
                    return await self._payment(question)
                return await on_file.retrieve(self.client, question)
        except TimeoutError:
            return StripeFailedError(f"Stripe did not answer for {question} in time.")
        except Exception as error:  # noqa: BLE001 - it fails the events that ask this, and no other
            return error

    async def _payment(self, question: PaymentQuestion) -> PaymentFacts:
        options = account_options(question.account)
        level = await self._level(question)
        if not question.origin:
            return level
        of_payment = {"payment_intent": question.payment_intent_id}
        session = await self._session(of_payment, options)
        if session is not None and session.mode == "payment":
            return replace(level, session=session)
        return replace(level, invoice_id=await self._invoice(question.payment_intent_id, options))

    async def _level(self, question: PaymentQuestion) -> PaymentFacts:
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
        of_payment = {"payment_intent": intent_id}
        refunds: list[Refund] = []
        disputes: list[Dispute] = []
        if question.reversals or _may_be_reversed(intent):
            refunds = await self._all(
                "refunds", self.client.v1.refunds.list_async, of_payment, Refund, options
            )
            disputes = await self._all(
                "disputes", self.client.v1.disputes.list_async, of_payment, Dispute, options
            )
        return rules.facts(intent, refunds, disputes)

    async def _session(self, of_payment: Any, options: Any) -> CheckoutSession | None:
        """Return the Checkout Session that a payment was made on.

        Source: https://docs.stripe.com/api/checkout/sessions/list
        """
        page = await ask(
            "checkout.sessions.list",
            self.client.v1.checkout.sessions.list_async(of_payment | {"limit": 1}, options),
        )
        return from_answer(page.data[0].to_dict(), CheckoutSession) if page.data else None

    async def _invoice(self, intent_id: str, options: Any) -> str | None:
        """Return the invoice that a payment pays; PaymentIntents have not said since 2025-03-31.

        Source: https://docs.stripe.com/api/invoice-payment/list
        """
        pays: Any = {
            "payment": {"type": "payment_intent", "payment_intent": intent_id},
            "limit": 1,
        }
        page = await ask(
            "invoice_payments.list", self.client.v1.invoice_payments.list_async(pays, options)
        )
        if not page.data:
            return None
        return reference_id(from_answer(page.data[0].to_dict(), InvoicePayment).invoice)

    async def _of_invoice(self, question: InvoiceQuestion) -> InvoiceFacts:
        lines = await self._lines(question) if question.lines else None
        named = [line.priced for line in lines or ()]
        prices = {
            price_id: await self._price(price_id, question)
            for price_id in {*question.prices, *(p for p in named if isinstance(p, str))}
        }
        payments = await self._payments_of(question) if question.payments else ()
        return InvoiceFacts(lines, prices, payments)

    async def _lines(self, question: InvoiceQuestion) -> tuple[InvoiceLine, ...] | None:
        """Return all lines with their prices; None where Stripe does not know the invoice.

        Source: https://docs.stripe.com/api/invoice-line-item/retrieve
        """
        service = self.client.v1.invoices.line_items
        expand = {"expand": ["data.pricing.price_details.price"]}
        try:
            return tuple(
                await self._all(
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

    async def _payments_of(self, question: InvoiceQuestion) -> tuple[LinkedPayment, ...]:
        """Return the PaymentIntents that pay an invoice; none where Stripe does not know it.

        Source: https://docs.stripe.com/api/invoice-payment/list
        """
        options = account_options(question.account)
        params = {"invoice": question.invoice_id, "status": "paid"}
        list_async = self.client.v1.invoice_payments.list_async
        try:
            found = await self._all("invoice_payments", list_async, params, InvoicePayment, options)
        except StripeMissingError:
            return ()
        return tuple(
            [
                LinkedPayment(name, minor, await self._payment_if_known(question, name))
                for name, minor in rules.paid_by(found)
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

    async def _all(
        self, name: str, list_async: Any, params: dict[str, Any], kind: type[S], options: Any
    ) -> list[S]:
        found: list[S] = []
        asked = {**params, "limit": PAGE_ROWS}
        for _ in range(PAGES_MAX):
            page: Any = await ask(f"{name}.list", list_async(asked, options))
            found += [from_answer(item.to_dict(), kind) for item in page.data]
            if not page.has_more:
                return found
            if not page.data:
                raise StripeFailedError(f"Stripe has cut the list of {name} of {params}.")
            asked["starting_after"] = page.data[-1].id
        raise StripeFailedError(f"{params} has more than {PAGE_ROWS * PAGES_MAX} {name}.")


def _may_be_reversed(intent: PaymentIntent) -> bool:
    charge = intent.latest_charge
    return not (
        isinstance(charge, Charge) and charge.amount_refunded == 0 and charge.disputed is False
    )
