"""The control API for tests and demonstrations, under `/_sim/`. No key is asked for.

GET  /_sim/health                          -> {"ok": true, "now": seconds, "account": "acct_…"}
POST /_sim/events                          {"type", "object"?, "created"?, "livemode"?, "account"?,
                                           "id"?, "previous_attributes"?} -> the event. `object` is
                                           laid over Stripe's example of its kind, or is the id of
                                           an object that exists. The API has the object afterwards,
                                           unless it had one of that id or `account` is another's.
POST /_sim/checkout/{cs_id}/pay            {"card"?: "4242…", "email"?, "authenticate"?: true|false,
                                           "promotion_code"?, "shipping_rate"?, "tax_percent"?}
                                           -> the session. A decline is 402 with Stripe's error
                                           body. A 3-D Secure card leaves the session open unless
                                           `authenticate` answers the challenge. Automatic tax is
                                           20 percent unless `tax_percent` says otherwise.
POST /_sim/payment_intents/{pi}/authenticate {"passed"?: true} -> the PaymentIntent, or the error
POST /_sim/setup_intents/{seti}/authenticate {"passed"?: true} -> the SetupIntent, or the error
POST /_sim/payment_intents/{pi}/settle     {"succeeded"?: true|false} -> the PaymentIntent: ends one
                                           in `processing` (bank accounts); the test account
                                           decides if nothing is said.
POST /_sim/payment_methods/{pm}/card       {"card"} -> the payment method: a saved card answers
                                           charges like that test card from now on, as when its
                                           money runs out or it is reported lost.
POST /_sim/charges/{ch}/dispute            {"reason"?: "fraudulent", "amount"?, "inquiry"?: false}
                                           -> the dispute; its money is withdrawn at once unless
                                           it is an inquiry.
POST /_sim/disputes/{dp}/escalate          -> the dispute: an inquiry becomes a chargeback and its
                                           money is withdrawn.
POST /_sim/disputes/{dp}/close             {"outcome": "won"|"lost"} -> the dispute; a won one gets
                                           its money back, an inquiry ends as `warning_closed`.
POST /_sim/charges/{ch}/early_fraud_warning {"fraud_type"?: "made_with_stolen_card"} -> the warning
POST /_sim/subscriptions/{sub}/cycle       -> the invoice of the next period, charged at once; the
                                           subscription instead if it ends with its period
POST /_sim/refunds/{re}/fail               {"reason"?: "expired_or_canceled_card"} -> the refund
POST /_sim/clock/advance                   {"seconds"} -> {"now"}
GET  /_sim/deliveries                      -> {"data": [{event, type, endpoint, state, due,
                                           attempts: [{number, at, status, error}]}]}
POST /_sim/deliveries/flush                -> {"pending": n} once nothing is due or under way
POST /_sim/deliveries/pause                {"paused"?: true|false} -> {"paused"}: nothing is sent
                                           until `false`; what piles up is what `shuffled` shuffles.
GET  /_sim/requests                        -> {"data": [{id, method, path, status, idempotency_key,
                                           stripe_account, replayed, fault, created}]}, the last
                                           1,000, oldest first. `status` is
                                           that of the act, whatever a fault
                                           made of its answer; `refused` ones are not in it.
POST /_sim/faults                          {"method"?, "path", "fault", "times"?: 1, "skip"?: 0,
                                           "seconds"?: 0, "retry_after"?} or {"event", "fault",
                                           "times"?, "skip"?, "share"?: 1, "seed"?: 0}
                                           -> {id, …, skipped, used}
                                           With "customer"? it befalls alone what is about them,
                                           with "key"? requests with that API key alone.
GET  /_sim/faults                          -> {"data": [{id, …, skipped, used}]}, oldest first
DELETE /_sim/faults                        -> {"data": []}: no further faults
DELETE /_sim/faults/{id}                   -> {"data": [the others]}

In a fault's `path` a `*` stands for one segment and `**` for any number; in `event` a `*` for any
text. The oldest fault that means a request or event and is not used up befalls it, no other.
Kinds on API answers:
`answer_lost`      performed and remembered, the connection closed without an answer
`cut_mid_body`     performed and remembered; headers and half of the body, then closed
`error_500_after`  performed and remembered, answered 500; the same key then gets the true answer
`error_500_stored` nothing performed, and the 500 remembered: the same key gets it again
`error_500`, `rate_limited` (429, `Retry-After` if set), `conflict_409` (idempotency_key_in_use)
                   nothing performed, nothing remembered
`slow`             performed, then waits `seconds` of real time, its idempotency key in use
`refused`          the connection closed before the act
Kinds on webhooks:
`webhook_first`    the API answer that made the event waits until its webhook was sent and answered
`duplicated`       sent twice
`shuffled`         pending ones are sent one by one, in an order that `seed` decides
`dropped`          in `/v1/events`, never sent
`never_generated`  not in `/v1/events` either

A body that is no JSON object, or lacks what is needed, is answered 400 in Stripe's error shape.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from sandbox.stripe import (
    after_charge,
    checkout_payment,
    disputes,
    errors,
    events,
    faults,
    injected,
    objects,
    payment_methods,
    refunds,
    settlement,
    subscription_changes,
    tax_rates,
    webhooks,
)
from sandbox.stripe.call import Call
from sandbox.stripe.pages import Pages
from sandbox.stripe.simulator import Simulator
from sandbox.stripe.store import Json

CARD_DEFAULT: Final = "4242424242424242"
KINDS_BY_EVENT: Final = {
    "charge.dispute": "dispute",
    "charge.refund": "refund",
    "customer.subscription": "subscription",
}
Act = Callable[[Json, web.Request], Awaitable[Json]]


def add_control(app: web.Application, simulator: Simulator) -> None:
    """Add the control API's routes."""
    control = Control(simulator)
    for method, path, act in (
        ("GET", "/_sim/health", control.health),
        ("POST", "/_sim/events", control.inject_event),
        ("POST", "/_sim/checkout/{id}/pay", control.pay),
        ("POST", "/_sim/payment_intents/{id}/authenticate", control.authenticate),
        ("POST", "/_sim/setup_intents/{id}/authenticate", control.authenticate),
        ("POST", "/_sim/payment_intents/{id}/settle", control.settle),
        ("POST", "/_sim/payment_methods/{id}/card", control.change_card),
        ("POST", "/_sim/charges/{id}/dispute", control.dispute),
        ("POST", "/_sim/charges/{id}/early_fraud_warning", control.warn),
        ("POST", "/_sim/disputes/{id}/escalate", control.escalate),
        ("POST", "/_sim/disputes/{id}/close", control.close_dispute),
        ("POST", "/_sim/refunds/{id}/fail", control.fail_refund),
        ("POST", "/_sim/subscriptions/{id}/cycle", control.cycle),
        ("POST", "/_sim/clock/advance", control.advance_clock),
        ("GET", "/_sim/deliveries", control.deliveries),
        ("POST", "/_sim/deliveries/flush", control.flush),
        ("POST", "/_sim/deliveries/pause", control.pause),
        ("GET", "/_sim/requests", control.requests),
        ("POST", "/_sim/faults", control.add_fault),
        ("GET", "/_sim/faults", control.faults),
        ("DELETE", "/_sim/faults", control.clear_faults),
        ("DELETE", "/_sim/faults/{id}", control.clear_fault),
    ):
        app.router.add_route(method, path, control.answering(act))


class Control:
    """Handlers of the control API."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._pages = Pages(simulator)

    def answering(self, act: Act) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Wrap an act: JSON in, JSON out, refusals in Stripe's error shape."""

        async def handle(request: web.Request) -> web.Response:
            try:
                status, body = 200, await act(await _body(request), request)
            except errors.ApiError as error:
                status, body = error.status, error.body()
            raw = objects.rendered(body, self._simulator.origin)
            return web.Response(body=raw, status=status, content_type="application/json")

        return handle

    async def health(self, _params: Json, _request: web.Request) -> Json:
        """Tell that it runs."""
        simulator = self._simulator
        return {"ok": True, "now": simulator.clock.now(), "account": simulator.account}

    async def inject_event(self, params: Json, _request: web.Request) -> Json:
        """Make up an event and deliver it like any other."""
        event_type = _needed(params, "type", str)
        subject = params.get("object", {})
        if isinstance(subject, str):
            subject = self._existing(subject)
        else:
            subject = _filled(event_type, subject)
        with self._simulator.committed():
            call = self._simulator.call(account=self._connected(params))
            subject = injected.keep(call, subject)
            data: Json = {"object": subject}
            if "previous_attributes" in params:
                data["previous_attributes"] = params["previous_attributes"]
            values = {
                "id": params.get("id") or call.ids.new("evt"),
                "api_version": objects.API_VERSION,
                "created": params.get("created", call.now),
                "data": data,
                "livemode": params.get("livemode", False),
                "type": event_type,
            }
            if "account" in params:
                values["account"] = params["account"]
            event = events.publish(call, objects.new("event", values))
            call.store.hide(event["id"], made_up=True)
            if isinstance(params.get("object"), dict) and "id" in subject:
                call.store.hide(subject["id"], made_up=True)
        return events.with_pending(self._simulator.store, event)

    async def pay(self, params: Json, request: web.Request) -> Json:
        """Pay a session as its page would."""
        session_id = request.match_info["id"]
        form = checkout_payment.Form(
            card=params.get("card", CARD_DEFAULT),
            email=params.get("email"),
            promotion_code=params.get("promotion_code"),
            shipping_rate=params.get("shipping_rate"),
            tax_percent=str(params.get("tax_percent", tax_rates.AUTOMATIC_PERCENT)),
        )
        session = self._pages.pay(session_id, form)
        if session["status"] == "open" and "authenticate" in params:
            self._pages.authenticate(self._pages.intent_of(session), passed=params["authenticate"])
            session = self._existing(session_id)
        return session

    async def authenticate(self, params: Json, request: web.Request) -> Json:
        """Answer a 3-D Secure challenge as its page would."""
        passed = params.get("passed", True)
        return self._pages.authenticate(request.match_info["id"], passed=passed)

    async def settle(self, params: Json, request: web.Request) -> Json:
        """Let the bank answer a payment that is processing."""
        with self._simulator.committed():
            call = self._about(request)
            succeeded = params.get("succeeded")
            return settlement.settle(call, request.match_info["id"], succeeded=succeeded)

    async def change_card(self, params: Json, request: web.Request) -> Json:
        """Let a saved card behave as another test card."""
        number = _needed(params, "card", str)
        with self._simulator.committed():
            call = self._about(request)
            return payment_methods.become(call, request.match_info["id"], "".join(number.split()))

    async def dispute(self, params: Json, request: web.Request) -> Json:
        """Let the cardholder dispute a charge."""
        with self._simulator.committed():
            call = self._about(request)
            charge = call.load("charge", request.match_info["id"])
            return after_charge.dispute(
                call,
                charge,
                params.get("reason", "fraudulent"),
                amount=params.get("amount"),
                inquiry=bool(params.get("inquiry")),
            )

    async def escalate(self, _params: Json, request: web.Request) -> Json:
        """Let an inquiry become a chargeback."""
        with self._simulator.committed():
            return after_charge.escalate(self._about(request), request.match_info["id"])

    async def close_dispute(self, params: Json, request: web.Request) -> Json:
        """Let the bank decide a dispute."""
        outcome = _needed(params, "outcome", str)
        if outcome not in {"won", "lost"}:
            raise errors.malformed("Invalid outcome: must be one of won, or lost", param="outcome")
        with self._simulator.committed():
            call = self._about(request)
            return disputes.decide(call, request.match_info["id"], won=outcome == "won")

    async def warn(self, params: Json, request: web.Request) -> Json:
        """Let the issuer suspect fraud."""
        with self._simulator.committed():
            call = self._about(request)
            charge = call.load("charge", request.match_info["id"])
            return after_charge.warn(
                call, charge, params.get("fraud_type", "made_with_stolen_card")
            )

    async def fail_refund(self, params: Json, request: web.Request) -> Json:
        """Let a refund come back."""
        reason = params.get("reason", "expired_or_canceled_card")
        with self._simulator.committed():
            return refunds.fail(self._about(request), request.match_info["id"], reason)

    async def cycle(self, _params: Json, request: web.Request) -> Json:
        """Let a subscription's period end and the next begin."""
        with self._simulator.committed():
            return subscription_changes.cycle(self._about(request), request.match_info["id"])

    async def advance_clock(self, params: Json, _request: web.Request) -> Json:
        """Move the simulator's clock; what becomes due is delivered and expired."""
        seconds = _needed(params, "seconds", (int, float))
        now = self._simulator.clock.advance(seconds)
        self._simulator.deliverer.wake()
        return {"now": now}

    async def deliveries(self, _params: Json, _request: web.Request) -> Json:
        """List deliveries and their attempts."""
        return {"data": webhooks.deliveries(self._simulator.store)}

    async def flush(self, _params: Json, _request: web.Request) -> Json:
        """Wait until nothing is due."""
        await self._simulator.deliverer.flush()
        row = self._simulator.store.execute(
            "SELECT count(*) AS pending FROM deliveries WHERE state = 'pending'"
        ).fetchone()
        return {"pending": row["pending"]}

    async def requests(self, _params: Json, _request: web.Request) -> Json:
        """List the last API requests."""
        return {"data": list(self._simulator.requests)}

    async def pause(self, params: Json, _request: web.Request) -> Json:
        """Hold deliveries back, or let them go."""
        paused = bool(params.get("paused", True))
        self._simulator.deliverer.pause(paused=paused)
        return {"paused": paused}

    async def add_fault(self, params: Json, _request: web.Request) -> Json:
        """Let something go wrong."""
        return faults.add(self._simulator.store, self._simulator.ids, params)

    async def faults(self, _params: Json, _request: web.Request) -> Json:
        """List what was asked to go wrong."""
        return {"data": faults.list_all(self._simulator.store)}

    async def clear_faults(self, _params: Json, _request: web.Request) -> Json:
        """Let nothing go wrong any more."""
        faults.clear(self._simulator.store)
        return {"data": []}

    async def clear_fault(self, _params: Json, request: web.Request) -> Json:
        """Let one thing go wrong no more."""
        faults.clear(self._simulator.store, request.match_info["id"])
        return {"data": faults.list_all(self._simulator.store)}

    def _about(self, request: web.Request) -> Call:
        """Begin an act in the account of the object that the path names."""
        return self._simulator.call(about=request.match_info["id"])

    def _connected(self, params: Json) -> str:
        """Return the connected account that a body names, empty for the platform itself."""
        account: str = params.get("account") or ""
        return "" if account == self._simulator.account else account

    def _existing(self, object_id: str) -> Json:
        found = self._simulator.store.about(object_id).get(object_id)
        if found is None:
            raise errors.no_such("object", object_id, param="object")
        return found


async def _body(request: web.Request) -> Json:
    raw = await request.read()
    try:
        params = json.loads(raw or b"{}")
    except ValueError as error:
        raise errors.malformed("The body must be JSON.") from error
    if not isinstance(params, dict):
        raise errors.malformed("The body must be a JSON object.")
    return params


def _needed(params: Json, name: str, kind: type | tuple[type, ...]) -> Any:
    if name not in params:
        raise errors.missing_parameter(name)
    if not isinstance(params[name], kind):
        raise errors.malformed(f"Invalid {name}", param=name)
    return params[name]


def _filled(event_type: str, params: Json) -> Json:
    """Lay `params` over the example of the kind that events of this type are about."""
    subject, _, _ = event_type.rpartition(".")
    kind = params.get("object") or KINDS_BY_EVENT.get(subject, subject)
    return {**(objects.example(kind) or {"object": kind}), **params}
