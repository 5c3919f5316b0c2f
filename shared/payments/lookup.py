"""Asking Stripe what an event does not say.

Events tell that something has changed, in any order and more than once; what it comes to now is
Stripe's to say. It is asked before a transaction, never inside one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import stripe

from shared.errors import EventError, StripeFailedError
from shared.payments import rules
from shared.payments.asking import ask
from shared.payments.model import PaymentFacts, PaymentQuestion
from shared.payments.objects import (
    Charge,
    CheckoutSession,
    Dispute,
    InvoicePayment,
    PaymentIntent,
    Refund,
    S,
    from_answer,
    reference_id,
)

# Together these keep what waits for Stripe well within the lease of its events.
ASKED_AT_ONCE_MAX = 5
ASK_SECONDS_MAX = 15
PAGE_ROWS = 100
PAGES_MAX = 10

Question = PaymentQuestion
Facts = PaymentFacts
Answers = Mapping[Question, Facts | Exception]


@dataclass(frozen=True, slots=True)
class StripeLookup:
    """Asks Stripe with one client; safe to share among workers' drains."""

    client: stripe.StripeClient

    async def answers(self, questions: Collection[Question]) -> Answers:
        """Return what Stripe says to each question, or why it did not, within 15 s.

        Raises nothing of Stripe's: a question without an answer has a StripeFailedError
        (StripeMissingError: Stripe knows no such thing), or an EventError where the answer cannot
        be read.
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
                return await self._payment(question)
        except (EventError, StripeFailedError) as error:
            return error
        except TimeoutError:
            return StripeFailedError(f"Stripe did not answer for {question} in time.")

    async def _payment(self, question: PaymentQuestion) -> PaymentFacts:
        options = _options(question.account)
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
                "refunds", self.client.v1.refunds, of_payment, Refund, options
            )
            disputes = await self._all(
                "disputes", self.client.v1.disputes, of_payment, Dispute, options
            )
        session = await self._session(of_payment, options) if question.origin else None
        of_invoice = question.origin and session is None
        invoice_id = await self._invoice(intent_id, options) if of_invoice else None
        return rules.facts(intent, refunds, disputes, session=session, invoice_id=invoice_id)

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

    async def _all(
        self, name: str, service: Any, params: dict[str, Any], kind: type[S], options: Any
    ) -> list[S]:
        found: list[S] = []
        asked = {**params, "limit": PAGE_ROWS}
        for _ in range(PAGES_MAX):
            page: Any = await ask(f"{name}.list", service.list_async(asked, options))
            found += [from_answer(item.to_dict(), kind) for item in page.data]
            if not page.has_more or not page.data:
                return found
            asked["starting_after"] = page.data[-1].id
        raise StripeFailedError(f"{params} has more than {PAGE_ROWS * PAGES_MAX} {name}.")


def _may_be_reversed(intent: PaymentIntent) -> bool:
    charge = intent.latest_charge
    return not (
        isinstance(charge, Charge) and charge.amount_refunded == 0 and charge.disputed is False
    )


def _options(account: str) -> Any:
    return {"stripe_account": account} if account else {}
