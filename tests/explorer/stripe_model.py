"""A small pure model of Stripe: PaymentIntents, idempotency keys, and what may be answered.

Sources: https://docs.stripe.com/payments/paymentintents/lifecycle (which requests are accepted in
which status), https://docs.stripe.com/api/idempotent_requests (the first answer is stored once
execution has begun, errors included), https://docs.stripe.com/declines/codes. The meaning of each
error is that of the product's own table (`classify`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import stripe

from shared.payments.payment_intents import GatewayAnswer, Intent, classify
from tests.explorer.stepping import Remembered, StripeCall

AMOUNT_MINOR = 2000
CREATED, SUCCEEDED, CANCELED = "requires_confirmation", "succeeded", "canceled"
DECLINED, ACTION, PROCESSING = "requires_payment_method", "requires_action", "processing"

NO_ANSWER = classify(
    stripe.APIConnectionError("no answer"),  # type: ignore[no-untyped-call] # untyped in stripe
    "payment_intents",
)
THROTTLED = classify(stripe.RateLimitError("too many", http_status=429), "payment_intents")
UNAUTHORIZED = classify(stripe.AuthenticationError("bad key", http_status=401), "payment_intents")
SERVER_ERROR = classify(stripe.APIError("error", http_status=500), "payment_intents")
STORED_ERROR = classify(
    stripe.APIError("error", http_status=500, headers={"idempotent-replayed": "true"}),
    "payment_intents",
)
WRONG_STATE = classify(
    stripe.InvalidRequestError(  # type: ignore[no-untyped-call] # as above
        "wrong status", None, code="payment_intent_unexpected_state", http_status=400
    ),
    "payment_intents",
)

REFUSED_CODE = "amount_too_large"
CHARGE_REFUSED = classify(
    stripe.InvalidRequestError(  # type: ignore[no-untyped-call] # as above
        "too large", "amount", code=REFUSED_CODE, http_status=400
    ),
    "payment_intents",
)
DETACHED = classify(
    stripe.InvalidRequestError(  # type: ignore[no-untyped-call] # as above
        "not attached", "payment_method", http_status=400
    ),
    "payment_intents",
)

# The errors of a declined payment: (error_code, decline_code).
SOFT, HARD = ("card_declined", "insufficient_funds"), ("card_declined", "lost_card")
CHALLENGED = ("authentication_required", "authentication_required")
NOT_AUTHENTICATED = ("payment_intent_authentication_failure", None)
BANK_REFUSED = ("payment_intent_payment_attempt_failed", None)
Failure = tuple[str, str | None]


@dataclass(frozen=True)
class PaymentIntent(Remembered):
    """A PaymentIntent of an attempt. `webhooks` counts the deliveries of its success.

    `reversal_events` counts those of its refund, and of its dispute.
    """

    __hash__ = Remembered.__hash__

    number: int
    attempt: str
    status: str = CREATED
    error: Failure | None = None
    webhooks: int = 0
    refunded: bool = False
    disputed: bool = False
    reversal_events: tuple[int, int] = (0, 0)

    @property
    def id(self) -> str:
        return f"pi_{self.number}"

    def answer(self) -> Intent:
        """Return it as Stripe's response."""
        code, decline_code = self.error or (None, None)
        captured = self.status == SUCCEEDED
        return Intent(
            id=self.id,
            status=self.status,
            amount_minor=AMOUNT_MINOR,
            amount_received_minor=AMOUNT_MINOR if captured else 0,
            currency="usd",
            client_secret=None,
            charge_id=f"ch_{self.number}" if captured else None,
            error_code=code,
            decline_code=decline_code,
        )


@dataclass(frozen=True, slots=True)
class Effect:
    """One way in which Stripe may act on a request."""

    words: str
    stripe: Stripe
    answer: GatewayAnswer


@dataclass(frozen=True)
class Stripe(Remembered):
    """Stripe's own books: its PaymentIntents, and the answers stored under idempotency keys.

    `forgot`: it has dropped answers, as it may a day after them.
    """

    __hash__ = Remembered.__hash__

    intents: tuple[PaymentIntent, ...] = ()
    answers: tuple[tuple[str, GatewayAnswer], ...] = ()
    forgot: bool = False

    def effects(self, call: StripeCall, behaviours: Behaviours) -> Iterator[Effect]:
        """Yield each way in which Stripe may act on a request, with its answer."""
        stored = dict(self.answers).get(call.key or "") if behaviours.keeps_keys else None
        if stored is not None:
            yield Effect("repeats its stored answer", self, stored)
            return
        match call.method:
            case "create":
                made = PaymentIntent(len(self.intents) + 1, call.about)
                after = replace(self, intents=(*self.intents, made))
                yield self._stored("creates it", after, call, made.answer())
            case "retrieve":
                yield Effect(f"says {self[call.about].status}", self, self[call.about].answer())
            case "cancel":
                yield from self._cancel(self[call.about], behaviours)
            case _:
                on_session = call.method == "confirm_with_customer"
                yield from self._confirm(call, behaviours, on_session=on_session)

    def fails(self, call: StripeCall) -> Effect:
        """Return the effect of an error 500 that Stripe stores under the key."""
        kept = (*self.answers, (call.key or "", STORED_ERROR))
        after = replace(self, answers=kept) if call.key else self
        return Effect("fails with a 500", after, SERVER_ERROR)

    def __getitem__(self, intent_id: str) -> PaymentIntent:
        return self.intents[int(intent_id.removeprefix("pi_")) - 1]

    def having(self, intent: PaymentIntent) -> Stripe:
        """Return the books with a changed PaymentIntent."""
        changed = tuple(intent if one.number == intent.number else one for one in self.intents)
        return replace(self, intents=changed)

    def without_keys(self, unused: frozenset[str]) -> Stripe:
        """Return the books without the answers under keys that nobody can send any more."""
        kept = tuple(pair for pair in self.answers if pair[0] not in unused)
        return self if len(kept) == len(self.answers) else replace(self, answers=kept)

    def a_day_later(self) -> Stripe:
        """Return the books without any stored answer."""
        return replace(self, answers=(), forgot=True) if self.answers else self

    def _stored(self, words: str, after: Stripe, call: StripeCall, answer: GatewayAnswer) -> Effect:
        if call.key is None:
            return Effect(words, after, answer)
        return Effect(words, replace(after, answers=(*after.answers, (call.key, answer))), answer)

    def _cancel(self, intent: PaymentIntent, behaviours: Behaviours) -> Iterator[Effect]:
        if intent.status in (CREATED, DECLINED, ACTION) or (
            intent.status == PROCESSING and behaviours.cancels_processing
        ):
            canceled = replace(intent, status=CANCELED)
            yield Effect("cancels it", self.having(canceled), canceled.answer())
        if intent.status in (SUCCEEDED, CANCELED, PROCESSING):
            yield Effect(f"refuses to cancel it: {intent.status}", self, WRONG_STATE)

    def _confirm(
        self, call: StripeCall, behaviours: Behaviours, *, on_session: bool
    ) -> Iterator[Effect]:
        intent = self[call.about]
        # A declined one has no payment method any more; a customer names it again.
        if intent.status not in ((CREATED, ACTION, DECLINED) if on_session else (CREATED, ACTION)):
            yield self._stored(f"refuses: {intent.status}", self, call, WRONG_STATE)
            return
        outcomes: list[tuple[str, str, Failure | None]] = [("captures it", SUCCEEDED, None)]
        if behaviours.declines:
            outcomes.append(("declines it", DECLINED, SOFT))
        if behaviours.hard_declines:
            outcomes.append(("declines it for good", DECLINED, HARD))
        if behaviours.challenges:
            challenge = (ACTION, None) if on_session else (DECLINED, CHALLENGED)
            outcomes.append(("requires authentication", *challenge))
        if behaviours.processes:
            outcomes.append(("begins a bank debit", PROCESSING, None))
        for words, status, error in outcomes:
            changed = replace(intent, status=status, error=error)
            yield self._stored(words, self.having(changed), call, changed.answer())


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviours:
    """What Stripe, banks and cards do in a scenario. `keeps_keys`: as documented."""

    declines: bool = True
    hard_declines: bool = False
    challenges: bool = False
    processes: bool = False
    cancels_processing: bool = False
    keeps_keys: bool = True


CARD = Behaviours()
