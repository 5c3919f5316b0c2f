"""Events: a snapshot of what changed, kept for `GET /v1/events` and queued for every endpoint.

https://docs.stripe.com/api/events
"""

from sqlite3 import Row
from typing import Final

from sandbox.stripe import faults, lists, objects
from sandbox.stripe.call import Call
from sandbox.stripe.params import Kind, Params, Shape
from sandbox.stripe.store import Json, Store

BOTH: Final = "both"
LIST: Final[Shape] = {
    **lists.SHAPE,
    "type": Kind.TEXT,
    "types": Kind.TEXTS,
    "delivery_success": Kind.BOOLEAN,
}


def emit(call: Call, event_type: str, subject: Json, previous: Json | None = None) -> Json:
    """Record that something happened and queue it; part of the caller's transaction.

    `previous` holds the former values of changed fields, as in `*.updated` events.
    """
    data: Json = {"object": subject}
    if previous is not None:
        data["previous_attributes"] = previous
    event = objects.new(
        "event",
        {
            "id": call.ids.new("evt"),
            "api_version": objects.API_VERSION,
            "created": call.now,
            "data": data,
            "livemode": False,
            "request": {"id": call.request_id, "idempotency_key": call.idempotency_key},
            "type": event_type,
        },
    )
    if call.store.account:
        event["account"] = call.store.account
    return publish(call, event)


def publish(call: Call, event: Json) -> Json:
    """Keep a finished event and queue one delivery for each endpoint that listens to its type.

    Unless a fault befalls it: then it is not kept, not queued, or queued with a mark.
    """
    about = faults.customer_of(event["data"]["object"])
    strike = faults.for_event(call.store, event["type"], about)
    kind = None if strike is None else strike.fault.fault
    if kind == "never_generated":
        return event
    call.store.add(event)
    if kind == "dropped":
        return event
    if kind == "webhook_first":
        call.awaited.append(event["id"])
    for endpoint in call.store.execute(
        "SELECT id, account, json_extract(hidden, '$.connect') AS connect, "
        "json_extract(body, '$.enabled_events') AS wanted FROM objects "
        "WHERE object = 'webhook_endpoint' AND json_extract(body, '$.status') = 'enabled'"
    ).fetchall():
        if not _hears(endpoint, event.get("account", call.account), call.account):
            continue
        if '"*"' in endpoint["wanted"] or f'"{event["type"]}"' in endpoint["wanted"]:
            delivery = call.store.execute(
                "INSERT INTO deliveries (event, endpoint, created, due) VALUES (?, ?, ?, ?) "
                "RETURNING id",
                (event["id"], endpoint["id"], call.now, call.now),
            ).fetchone()
            if strike is not None and kind in {"duplicated", "shuffled"}:
                rank = strike.rank() if kind == "shuffled" else None
                call.store.execute(
                    "INSERT INTO delivery_faults (delivery, again, rank) VALUES (?, ?, ?)",
                    (delivery["id"], kind == "duplicated", rank),
                )
    return event


def _hears(endpoint: Row, origin: str, platform: str) -> bool:
    """Tell whether an endpoint is sent what happens in an account.

    One with `connect` is sent what happens in connected accounts, one without it what happens in
    its own: https://docs.stripe.com/connect/webhooks. That of the command line is sent both.
    """
    if endpoint["connect"] == BOTH:
        return True
    if endpoint["connect"]:
        return origin != platform
    return origin == (endpoint["account"] or platform)


def with_pending(store: Store, event: Json) -> Json:
    """Show an event with the number of endpoints that have not taken it yet."""
    row = store.execute(
        "SELECT count(*) AS pending FROM deliveries WHERE event = ? AND state = 'pending'",
        (event["id"],),
    ).fetchone()
    return {**event, "pending_webhooks": row["pending"]}


def retrieve(call: Call, _params: Params, event_id: str) -> Json:
    """GET /v1/events/{id}."""
    return with_pending(call.store, call.load("event", event_id))


def list_all(call: Call, params: Params) -> Json:
    """GET /v1/events."""
    types = params.get("types") or ([params["type"]] if "type" in params else [])
    page = lists.page(call, params, "event", "/v1/events", types=types)
    page["data"] = [with_pending(call.store, event) for event in page["data"]]
    if "delivery_success" in params:
        wanted: bool = params["delivery_success"]
        page["data"] = [e for e in page["data"] if (e["pending_webhooks"] == 0) is wanted]
    return page
