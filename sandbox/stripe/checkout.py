"""Checkout Sessions in payment and setup mode. https://docs.stripe.com/api/checkout/sessions."""

from typing import Any, Final
from urllib.parse import urlsplit

from sandbox.stripe import (
    checkout_subscription,
    checkout_totals,
    customers,
    discounts,
    errors,
    events,
    lists,
    objects,
    setup_intents,
    shipping,
)
from sandbox.stripe.call import Call
from sandbox.stripe.discounts import DISCOUNTS
from sandbox.stripe.line_items import LINE_ITEM, build_items, build_rates
from sandbox.stripe.params import Choice, Kind, Params, Shape, merge_metadata
from sandbox.stripe.store import Json, Store

CREATE: Final[Shape] = {
    "adaptive_pricing": Kind.FREE,
    "after_expiration": Kind.FREE,
    "allow_promotion_codes": Kind.BOOLEAN,
    "allowed_payment_method_types": Kind.TEXTS,
    "automatic_tax": {"enabled": Kind.BOOLEAN, "liability": Kind.FREE},
    "billing_address_collection": Kind.TEXT,
    "branding_settings": Kind.FREE,
    "cancel_url": Kind.TEXT,
    "client_reference_id": Kind.TEXT,
    "consent_collection": Kind.FREE,
    "currency": Kind.TEXT,
    "custom_fields": Kind.FREE,
    "custom_text": Kind.FREE,
    "customer": Kind.TEXT,
    "customer_creation": Choice(("always", "if_required")),
    "customer_email": Kind.TEXT,
    "customer_update": Kind.FREE,
    "discounts": DISCOUNTS,
    "excluded_payment_method_types": Kind.TEXTS,
    "expand": Kind.TEXTS,
    "expires_at": Kind.INTEGER,
    "integration_identifier": Kind.TEXT,
    "invoice_creation": {"enabled": Kind.BOOLEAN, "invoice_data": Kind.FREE},
    "line_items": LINE_ITEM,
    "locale": Kind.TEXT,
    "metadata": Kind.METADATA,
    "mode": Choice(("payment", "setup", "subscription")),
    "name_collection": Kind.FREE,
    "origin_context": Kind.TEXT,
    "payment_intent_data": {
        "application_fee_amount": Kind.INTEGER,
        "capture_method": Choice(("automatic", "automatic_async", "manual")),
        "description": Kind.TEXT,
        "metadata": Kind.METADATA,
        "on_behalf_of": Kind.TEXT,
        "receipt_email": Kind.TEXT,
        "setup_future_usage": Choice(("off_session", "on_session")),
        "shipping": Kind.FREE,
        "statement_descriptor": Kind.TEXT,
        "statement_descriptor_suffix": Kind.TEXT,
        "transfer_data": Kind.FREE,
        "transfer_group": Kind.TEXT,
    },
    "payment_method_collection": Kind.TEXT,
    "payment_method_configuration": Kind.TEXT,
    "payment_method_data": Kind.FREE,
    "payment_method_options": Kind.FREE,
    "permissions": Kind.FREE,
    "phone_number_collection": Kind.FREE,
    "return_url": Kind.TEXT,
    "saved_payment_method_options": Kind.FREE,
    "setup_intent_data": {
        "description": Kind.TEXT,
        "metadata": Kind.METADATA,
        "on_behalf_of": Kind.TEXT,
    },
    "shipping_address_collection": Kind.FREE,
    "shipping_options": shipping.OPTIONS,
    "submit_type": Choice(("auto", "book", "donate", "pay", "subscribe")),
    "subscription_data": checkout_subscription.DATA,
    "success_url": Kind.TEXT,
    "tax_id_collection": Kind.FREE,
    "ui_mode": Choice(("elements", "embedded_page", "form", "hosted_page")),
    "wallet_options": Kind.FREE,
}
UPDATE: Final[Shape] = {"expand": Kind.TEXTS, "metadata": Kind.METADATA}
EXPAND: Final[Shape] = {"expand": Kind.TEXTS}
LIST: Final[Shape] = {
    **lists.SHAPE,
    "customer": Kind.TEXT,
    "payment_intent": Kind.TEXT,
    "status": Choice(("complete", "expired", "open")),
    "subscription": Kind.TEXT,
}
LIST_ITEMS: Final = lists.CURSORS
EXPIRES_MIN_SECONDS: Final = 30 * 60
EXPIRES_MAX_SECONDS: Final = 24 * 3600
_COPIED: Final = (
    "allow_promotion_codes",
    "billing_address_collection",
    "cancel_url",
    "client_reference_id",
    "customer",
    "customer_email",
    "integration_identifier",
    "locale",
    "origin_context",
    "submit_type",
    "success_url",
)


def create(call: Call, params: Params) -> Json:
    """POST /v1/checkout/sessions; a PaymentIntent is born when somebody pays."""
    _check(call, params)
    pays = params["mode"] != "setup"
    items = build_items(call, params["line_items"]) if pays else []
    checkout_subscription.check_items(params["mode"], items)
    checkout_subscription.bill_trial(items, params.get("subscription_data", {}))
    currency = items[0]["currency"] if pays else params.get("currency")
    session_id = call.ids.new("cs_test_a1")
    session = objects.new(
        "checkout.session",
        {
            "id": session_id,
            "created": call.now,
            "currency": currency,
            "customer_creation": _customer_creation(params),
            "customer_details": _details(call, params),
            "expires_at": _expiry(call, params),
            "metadata": merge_metadata({}, params.get("metadata")),
            "mode": params["mode"],
            "payment_status": "unpaid" if pays else "no_payment_required",
            "setup_intent": None if pays else _setup_intent(call, session_id, params),
            "url": f"{objects.ORIGIN}/c/pay/{session_id}",
            **{name: params[name] or None for name in _COPIED if name in params},
        },
    )
    session["invoice_creation"]["enabled"] = params.get("invoice_creation", {}).get(
        "enabled", False
    )
    hidden = {
        "discounts": [],
        "invoice_metadata": _invoice_metadata(params),
        "line_items": items,
        "payment_intent_data": params.get("payment_intent_data", {}),
        "subscription_data": params.get("subscription_data", {}),
        "tax_rates": build_rates(call, params.get("line_items", [])),
    }
    call.store.add(session, hidden)
    return _priced(call, session, params) if pays else session


def _invoice_metadata(params: Params) -> dict[str, str]:
    data = params.get("invoice_creation", {}).get("invoice_data", {})
    return merge_metadata({}, data.get("metadata"))


def _priced(call: Call, session: Json, params: Params) -> Json:
    """Add discounts, automatic tax and shipping, and compute what it all comes to."""
    session["automatic_tax"]["enabled"] = params.get("automatic_tax", {}).get("enabled", False)
    if params.get("discounts"):
        values = {"checkout_session": session["id"], "customer": session["customer"]}
        add_discounts(call, session, discounts.build_all(call, params["discounts"], values=values))
    if params.get("shipping_options"):
        session["shipping_options"] = shipping.options(call, params["shipping_options"])
        chosen = session["shipping_options"][0]["shipping_rate"]
        session["shipping_cost"] = {"shipping_rate": chosen}
    checkout_totals.apply(call, session)
    checkout_totals.check_minimum(session)
    return call.store.save(session)


def add_discounts(call: Call, session: Json, params: list[Json]) -> None:
    """Let discounts count for a session; the caller computes its amounts again."""
    session["discounts"] = [
        {"coupon": discount["source"]["coupon"], "promotion_code": discount["promotion_code"]}
        for discount in params
    ]
    call.store.hide(session["id"], discounts=[discount["id"] for discount in params])


def _setup_intent(call: Call, session_id: str, params: Params) -> str:
    data = params.get("setup_intent_data", {})
    intent = setup_intents.build(
        call,
        {
            "customer": params.get("customer"),
            "description": data.get("description") or None,
            "metadata": merge_metadata({}, data.get("metadata")),
        },
    )
    call.store.hide(intent["id"], checkout_session=session_id)
    intent_id: str = intent["id"]
    return intent_id


def load(call: Call, session_id: str) -> Json:
    """Read a session, or refuse with 404."""
    return call.load("checkout.session", session_id, param="session")


def retrieve(call: Call, _params: Params, session_id: str) -> Json:
    """GET /v1/checkout/sessions/{id}."""
    return load(call, session_id)


def update(call: Call, params: Params, session_id: str) -> Json:
    """POST /v1/checkout/sessions/{id}: metadata alone can change."""
    session = load(call, session_id)
    session["metadata"] = merge_metadata(session["metadata"], params.get("metadata"))
    return call.store.save(session)


def expire(call: Call, _params: Params, session_id: str) -> Json:
    """POST /v1/checkout/sessions/{id}/expire."""
    session = load(call, session_id)
    if session["status"] != "open":
        raise errors.invalid(
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout '
            f"Session has a status of {session['status']}."
        )
    return _expire(call, session)


def due(store: Store, now: int) -> list[str]:
    """Find the open sessions whose time is over."""
    rows = store.execute(
        "SELECT id FROM objects WHERE object = 'checkout.session' "
        "AND json_extract(body, '$.status') = 'open' "
        "AND json_extract(body, '$.expires_at') <= ?",
        (now,),
    )
    return [row["id"] for row in rows]


def list_all(call: Call, params: Params) -> Json:
    """GET /v1/checkout/sessions."""
    equal = lists.filters(params, "customer", "payment_intent", "status", "subscription")
    return lists.page(call, params, "checkout.session", "/v1/checkout/sessions", equal=equal)


def list_line_items(call: Call, params: Params, session_id: str) -> Json:
    """GET /v1/checkout/sessions/{id}/line_items; all of them are on the first page."""
    load(call, session_id)
    items = call.store.hidden(session_id).get("line_items", [])
    limit = params.get("limit", lists.LIMIT_DEFAULT)
    url = f"/v1/checkout/sessions/{session_id}/line_items"
    return objects.listed(items[:limit], url, has_more=len(items) > limit)


def _expire(call: Call, session: Json) -> Json:
    session |= {"status": "expired", "url": None}
    call.store.save(session)
    events.emit(call, "checkout.session.expired", session)
    return session


def _check(call: Call, params: Params) -> None:
    if params.get("ui_mode", "hosted_page") != "hosted_page":
        raise errors.invalid("This simulator has `ui_mode: hosted_page` only.", param="ui_mode")
    if params["mode"] == "setup" and "line_items" in params:
        raise errors.invalid("You can not pass `line_items` in `setup` mode.", param="line_items")
    if params["mode"] != "setup" and not params.get("line_items"):
        raise errors.invalid(
            f"The `line_items` parameter is required in {params['mode']} mode.",
            param="line_items",
            code="parameter_missing",
        )
    _check_exclusive(call, params)
    for name in ("success_url", "cancel_url"):
        if name in params and urlsplit(params[name]).scheme not in {"http", "https"}:
            raise errors.invalid("Not a valid URL", param=name, code="url_invalid")


def _check_exclusive(call: Call, params: Params) -> None:
    if params.get("discounts") and params.get("allow_promotion_codes"):
        raise errors.invalid(
            "You may only specify one of these parameters: allow_promotion_codes, discounts."
        )
    if "customer" in params:
        customers.load(call, params["customer"])
        for other in ("customer_email", "customer_creation"):
            if other in params:
                raise errors.invalid(
                    f"You may only specify one of these parameters: customer, {other}."
                )


def customer_details(email: str | None, name: str | None = None, address: Any = None) -> Json:
    """Say who pays, as far as the session knows."""
    return {
        "address": address,
        "business_name": None,
        "email": email,
        "individual_name": None,
        "name": name,
        "phone": None,
        "tax_exempt": "none",
        "tax_ids": [],
    }


def _customer_creation(params: Params) -> str | None:
    if "customer" in params:
        return None
    if params["mode"] == "subscription":
        return "always"
    default = "always" if _saves_card(params) else "if_required"
    creation: str = params.get("customer_creation", default)
    return creation


def _saves_card(params: Params) -> bool:
    return "setup_future_usage" in params.get("payment_intent_data", {})


def _details(call: Call, params: Params) -> Json | None:
    email = params.get("customer_email")
    if "customer" in params:
        email = customers.load(call, params["customer"])["email"]
    return None if email is None else customer_details(email)


def _expiry(call: Call, params: Params) -> int:
    latest = call.now + EXPIRES_MAX_SECONDS
    expires_at: int = params.get("expires_at", latest)
    if expires_at < call.now + EXPIRES_MIN_SECONDS:
        raise errors.invalid(
            "The `expires_at` timestamp must be at least 30 minutes from Checkout Session "
            "creation.",
            param="expires_at",
        )
    if expires_at > latest:
        raise errors.invalid(
            "The `expires_at` timestamp must be less than 24 hours from Checkout Session creation.",
            param="expires_at",
        )
    return expires_at
