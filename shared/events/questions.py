"""What an effect needs to know of Stripe: found among the answers, or asked for.

No transaction waits for Stripe. An effect that lacks an answer raises QuestionError, and is carried
out again once the answer is there.
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


class QuestionError(PrepaidError):
    """An effect needs an answer of Stripe's that it was not given."""

    def __init__(self, question: Question) -> None:
        self.question = question
        super().__init__(f"Stripe was not asked {question}.")


class NobodyToAskError(PrepaidError):
    """This event needs Stripe's answer, and the Applier was made without `lookup` to ask."""


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

    Raises QuestionError where it was not asked yet, and what stands in place of an answer:
    StripeFailedError, StripeMissingError or an EventError.
    """
    if context.answers is None:
        raise NobodyToAskError
    if question not in context.answers:
        raise QuestionError(question)
    found = context.answers[question]
    if isinstance(found, Exception):
        raise found
    return found
