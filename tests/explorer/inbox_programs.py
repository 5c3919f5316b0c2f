"""The product's own coroutines that the explorer runs over the inbox: drains and others."""

from __future__ import annotations

from collections.abc import Collection, Coroutine, Hashable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, cast
from unittest import mock
from uuid import UUID

from shared.errors import StripeFailedError
from shared.events.service import Applier
from shared.inbox import rules as inbox_rules
from shared.inbox import store as inbox_store
from shared.inbox.model import Delivery, EventHeader, Lane
from shared.payments.customers import bind_customers
from shared.payments.lookup import Answers, Question
from shared.payments.model import PaymentFacts, PaymentQuestion, SaleTerms
from shared.payments.objects import PaymentIntent
from shared.payments.translator import read
from tests.explorer.inbox_tables import PAYLOADS, PAYMENTS
from tests.explorer.recharge_programs import LEASE, collecting
from tests.explorer.recharge_tables import CUSTOMER, ORGANIZATION, Tables
from tests.explorer.stepping import Port, StripeCall
from worker.drainer import Drainer

TERMS = SaleTerms(Decimal(1), credit_customer_payments=True)
TOKEN = UUID(int=7)  # a token belongs to its port: that of another process does not match
UNEXPECTED = frozenset({"drainer.failed"})
ANSWERED, NOT_ANSWERED = "answered", "not answered"
_NO_ANSWER = StripeFailedError("Stripe did not answer.")

# The product's limits, lowered so that each is reached within the bounds.
ATTEMPTS_MAX, LEASES_LOST_MAX = 3, 2


class OneBatch(Drainer):
    """A drainer that applies one batch of one lane; the explorer starts the other lanes itself."""

    async def drain_batch(self, lane: Lane) -> None:
        await self._drain_batch(lane, self._applier)

    def _start(self, lane: Lane, applier: Applier | None = None) -> None:
        """Leave the lane to the explorer."""


class ModelLookup:
    """Stripe's answers about payments, as steps of a program."""

    def __init__(self, port: Port[Tables]) -> None:
        self._port = port

    async def answers(self, questions: Collection[Question]) -> Answers:
        asked = sorted(q.payment_intent_id for q in questions if isinstance(q, PaymentQuestion))
        answer = await self._port.request(StripeCall("lookup", ",".join(asked)))
        return {
            question: _facts(question) if answer == ANSWERED else _NO_ANSWER
            for question in questions
        }


def _facts(question: Question) -> PaymentFacts:
    assert isinstance(question, PaymentQuestion)
    (event_id,) = [name for name, pi in PAYMENTS.items() if pi == question.payment_intent_id]
    intent = read(PAYLOADS[event_id], PaymentIntent)
    return PaymentFacts(intent, refunded_minor=0, withdrawn_minor=0)


def applier(port: Port[Tables]) -> Applier:
    """Return the product's applier, over a port."""
    return Applier(
        pool=cast("Any", port),
        terms=TERMS,
        now=port.now,
        random=lambda: 0.5,
        make_id=port.make_id,
        lookup=ModelLookup(port),
    )


class InboxPrograms:
    """Starts programs by their names. `unexpected` collects what the product logs as a fault."""

    def __init__(self) -> None:
        self.unexpected: list[str] = []

    def start(self, program: Hashable, port: Port[Any]) -> Coroutine[Any, Any, Any]:
        name, about = cast("tuple[str, Any]", program)
        match name:
            case "drain":
                drainer = OneBatch(cast("Any", port), applier(port), lambda: TOKEN, LEASE)
                return drainer.drain_batch(about)
            case "receive":
                return _receive(port, about)
            case "replay":
                return _replay(port, about)
            case _:
                return _bind(port, about)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Write no log meanwhile, and lower the limits on attempts and on lost leases."""
        with (
            collecting(UNEXPECTED, self.unexpected),
            mock.patch.object(inbox_rules, "ATTEMPTS_MAX", ATTEMPTS_MAX),
            mock.patch.object(inbox_rules, "LEASES_LOST_MAX", LEASES_LOST_MAX),
        ):
            yield


async def _receive(port: Port[Tables], event_id: str) -> None:
    header = EventHeader(event_id, "payment_intent.succeeded", "event", created=0)
    delivery = Delivery(header, PAYLOADS[event_id], "req_1", quarantine=None)
    async with port.acquire() as connection:
        await inbox_store.receive(connection, [delivery])


async def _replay(port: Port[Tables], event_id: str) -> None:
    """Replay an event as the command does: lease it in any state, then apply it."""
    async with port.acquire() as connection:
        events = await inbox_store.claim_for_replay(
            connection, [event_id], token=TOKEN, lease=LEASE, livemode=False, accounts=()
        )
    await applier(port).apply(TOKEN, events)


async def _bind(port: Port[Tables], customer_id: str) -> None:
    async with port.acquire() as connection, connection.transaction():
        await bind_customers(connection, {ORGANIZATION: customer_id})


BIND = ("bind", CUSTOMER)
