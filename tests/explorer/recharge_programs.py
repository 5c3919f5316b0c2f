"""The product's own coroutines that the explorer runs: workers, cancellations, events, clock."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Coroutine, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import UUID, uuid4

import structlog

from shared.errors import ConflictError, LeaseLostError, StripeFailedError
from shared.events.effects import apply_batch, interpret_batch
from shared.events.model import ApplyContext, Unanswered
from shared.inbox.model import ClaimedEvent, EventKey
from shared.payments.model import SaleTerms
from shared.payments.objects import ATTEMPT_METADATA, ORGANIZATION_METADATA, TRIGGER_METADATA
from shared.payments.payment_intents import ChargeRequest, GatewayAnswer, PaymentIntentGateway
from shared.recharge import cancellation, service
from shared.recharge.attempts import store as attempt_store
from shared.recharge.flow import Charger
from tests.explorer.recharge_state import Asked
from tests.explorer.recharge_tables import CUSTOMER, ORGANIZATION, Tables
from tests.explorer.reversal_events import answered, reversal_event
from tests.explorer.stepping import Port, StripeCall
from tests.explorer.stripe_model import AMOUNT_MINOR

TERMS = SaleTerms(Decimal(1))
UNITS_MAX = Decimal(10_000)
LINK = "link"
LEASE = timedelta(hours=1)  # leases end by moves of the explorer alone
UNEXPECTED = frozenset({"recharge.failed_unexpectedly", "recharge.attempt_failed"})


@dataclass(frozen=True, slots=True)
class ModelGateway:
    """The gateway's requests, as steps of a program. The model needs few of their arguments."""

    port: Port[Tables]

    async def create(self, charge: ChargeRequest, *, key: str) -> GatewayAnswer:
        return await self._request(StripeCall("create", str(charge.attempt_id), key))

    async def confirm(self, intent_id: str, *, key: str, **_others: str) -> GatewayAnswer:
        return await self._request(StripeCall("confirm", intent_id, key))

    async def confirm_with_customer(
        self, intent_id: str, *_method: str, **_others: str
    ) -> GatewayAnswer:
        return await self._request(StripeCall("confirm_with_customer", intent_id))

    async def retrieve(self, intent_id: str, **_others: str) -> GatewayAnswer:
        return await self._request(StripeCall("retrieve", intent_id))

    async def cancel(self, intent_id: str, **_others: str) -> GatewayAnswer:
        return await self._request(StripeCall("cancel", intent_id))

    async def _request(self, call: StripeCall) -> GatewayAnswer:
        answer: GatewayAnswer = await self.port.request(call)
        return answer


def charger(port: Port[Tables]) -> Charger:
    """Return the product's charger, over a port."""
    return Charger(
        pool=cast("Any", port),
        gateway=cast("PaymentIntentGateway", ModelGateway(port)),
        terms=TERMS,
        units_max=UNITS_MAX,
        public_url="https://credits.test",
        now=port.now,
        random=lambda: 0.5,
        make_id=port.make_id,
        make_link=lambda: LINK,
        lease=LEASE,
    )


class Programs:
    """Starts programs by their names. `unexpected` collects what the product logs as a fault."""

    def __init__(self) -> None:
        self.unexpected: list[str] = []

    def start(self, program: Hashable, port: Port[Any]) -> Coroutine[Any, Any, Any]:
        name, *about = cast("tuple[Any, ...]", program)
        match name:
            case "work":
                return charger(port).work()
            case "top_up":
                return _top_up(port, *about)
            case "cancel":
                return _cancel(port, *about)
            case _:
                return _in_transaction(port, name, *about)

    def running(self) -> AbstractContextManager[None]:
        """Write no log meanwhile."""
        return collecting(UNEXPECTED, self.unexpected)


@contextmanager
def collecting(names: frozenset[str], into: list[str]) -> Iterator[None]:
    """Write no log meanwhile, but collect the events with these names."""

    def collect(_logger: Any, _method: str, event: Any) -> Any:
        if event["event"] in names:
            into.append(f"{event['event']}: {event.get('error') or sys.exc_info()[1]!r}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, collect],
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)


async def _top_up(port: Port[Tables], attempt_id: UUID) -> None:
    """Carry on a top-up that is stored, as the web process does that stored it."""
    async with port.acquire() as connection:
        lease = await attempt_store.take(
            connection, ORGANIZATION, attempt_id, uuid4(), charger(port).lease
        )
    if lease is not None:
        await charger(port).on_session(LINK).carry(lease)


async def _cancel(port: Port[Tables], attempt_id: UUID) -> None:
    with contextlib.suppress(ConflictError, StripeFailedError, LeaseLostError):
        await cancellation.end(
            charger(port), ORGANIZATION, attempt_id, detail="canceled by a person", waits=True
        )


async def _in_transaction(port: Port[Tables], name: str, *about: Any) -> None:
    async with port.acquire() as connection, connection.transaction():
        match name:
            case "tick":
                await service.tick(connection, now=port.now(), make_id=port.make_id)
            case "suspend":
                await service.suspend_by_operator(
                    connection, ORGANIZATION, actor="operator", reason="a test", now=port.now()
                )
            case "card":
                await service.card_changed(connection, ORGANIZATION)
            case "reversal":
                await _reverse(port, connection, *about)
            case "event":
                context = ApplyContext(terms=TERMS, make_id=port.make_id, now=port.now())
                events = [succeeded_event(port, *about)]
                await apply_batch(connection, events, interpret_batch(events), context)


async def _reverse(port: Port[Tables], connection: Any, attempt_id: str, answer: Asked) -> None:
    """Apply the event of a refund or dispute; it must not remain open or fail."""
    context = answered(port, TERMS, _captured(answer.intent, attempt_id), answer)
    events = [reversal_event(port, answer)]
    (result,) = await apply_batch(connection, events, interpret_batch(events), context)
    assert not isinstance(result, Exception | Unanswered), result


def _captured(intent_id: str, attempt_id: str) -> dict[str, Any]:
    return {
        "id": intent_id,
        "object": "payment_intent",
        "amount": AMOUNT_MINOR,
        "amount_received": AMOUNT_MINOR,
        "currency": "usd",
        "status": "succeeded",
        "customer": CUSTOMER,
        "latest_charge": f"ch_{intent_id.removeprefix('pi_')}",
        "metadata": {
            ORGANIZATION_METADATA: str(ORGANIZATION),
            ATTEMPT_METADATA: attempt_id,
            TRIGGER_METADATA: "threshold",
        },
    }


def succeeded_event(port: Port[Tables], intent_id: str, attempt_id: str) -> ClaimedEvent:
    """Return the event of a captured PaymentIntent."""
    created = int(port.now().timestamp())
    event = {
        "id": f"evt_{intent_id}",
        "object": "event",
        "type": "payment_intent.succeeded",
        "created": created,
        "data": {"object": _captured(intent_id, attempt_id)},
    }
    return ClaimedEvent(
        key=EventKey("", livemode=False, id=f"evt_{intent_id}"),
        type="payment_intent.succeeded",
        api_version=None,
        payload=json.dumps(event),
        attempts=1,
        received_at=port.now(),
        request_id=None,
    )
