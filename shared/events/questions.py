"""Stripe's answers that an effect needs.

No transaction waits for Stripe. An effect that lacks an answer raises QuestionError and is applied
again with the answer.
"""

from __future__ import annotations

from typing import overload

from shared.errors import PrepaidError
from shared.events.model import ApplyContext
from shared.payments.lookup import Facts, Question
from shared.payments.model import (
    CustomerQuestion,
    InvoiceFacts,
    InvoiceQuestion,
    MethodQuestion,
    PaymentFacts,
    PaymentQuestion,
    SubscriptionQuestion,
)
from shared.payments.objects import Customer, PaymentMethod, Subscription

# An answer may lead to another question, such as an invoice to its prices.
QUESTIONS_IN_ROW_MAX = 3


class QuestionsInRowError(PrepaidError):
    """Stripe's answers led to too many further questions."""

    def __init__(self, question: Question) -> None:
        super().__init__(
            f"After {QUESTIONS_IN_ROW_MAX} requests to Stripe, {question} is still not answered."
        )


class QuestionError(PrepaidError):
    """An effect needs an answer from Stripe that the context does not have."""

    def __init__(self, question: Question) -> None:
        self.question = question
        super().__init__(f"Stripe has not answered {question} yet.")


class NobodyToAskError(PrepaidError):
    """The event needs an answer from Stripe, and the Applier has no `lookup`."""


@overload
def answer(question: PaymentQuestion, context: ApplyContext) -> PaymentFacts: ...
@overload
def answer(question: InvoiceQuestion, context: ApplyContext) -> InvoiceFacts: ...
@overload
def answer(question: MethodQuestion, context: ApplyContext) -> PaymentMethod: ...
@overload
def answer(question: CustomerQuestion, context: ApplyContext) -> Customer: ...
@overload
def answer(question: SubscriptionQuestion, context: ApplyContext) -> Subscription: ...
def answer(question: Question, context: ApplyContext) -> Facts:
    """Return Stripe's answer to a question.

    Raises QuestionError if there is no answer yet, and the error in place of an answer:
    StripeFailedError, StripeMissingError or an EventError.
    """
    if context.answers is None:
        raise NobodyToAskError
    if question not in context.answers:
        raise QuestionError(question)
    facts = context.answers[question]
    if isinstance(facts, Exception):
        raise facts
    return facts
