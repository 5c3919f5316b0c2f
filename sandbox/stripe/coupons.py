"""Coupons and promotion codes.

https://docs.stripe.com/api/coupons, https://docs.stripe.com/api/promotion_codes
"""

from decimal import Decimal, InvalidOperation
from typing import Final

from sandbox.stripe import currencies, errors, events, lists, objects
from sandbox.stripe.call import Call
from sandbox.stripe.params import Choice, Kind, Params, Shape, merge_metadata
from sandbox.stripe.store import Json

CREATE: Final[Shape] = {
    "amount_off": Kind.INTEGER,
    "currency": Kind.TEXT,
    "duration": Choice(("forever", "once", "repeating")),
    "duration_in_months": Kind.INTEGER,
    "expand": Kind.TEXTS,
    "id": Kind.TEXT,
    "max_redemptions": Kind.INTEGER,
    "metadata": Kind.METADATA,
    "name": Kind.TEXT,
    "percent_off": Kind.TEXT,
    "redeem_by": Kind.INTEGER,
}
UPDATE: Final[Shape] = {"expand": Kind.TEXTS, "metadata": Kind.METADATA, "name": Kind.TEXT}
CREATE_CODE: Final[Shape] = {
    "active": Kind.BOOLEAN,
    "code": Kind.TEXT,
    "customer": Kind.TEXT,
    "expand": Kind.TEXTS,
    "expires_at": Kind.INTEGER,
    "max_redemptions": Kind.INTEGER,
    "metadata": Kind.METADATA,
    "promotion": {"coupon": Kind.TEXT, "type": Choice(("coupon",))},
}
UPDATE_CODE: Final[Shape] = {
    "active": Kind.BOOLEAN,
    "expand": Kind.TEXTS,
    "metadata": Kind.METADATA,
}
LIST: Final[Shape] = lists.SHAPE
LIST_CODES: Final[Shape] = {**lists.SHAPE, "code": Kind.TEXT, "customer": Kind.TEXT}
CODE: Final = "promotion_code"


def create(call: Call, params: Params) -> Json:
    """POST /v1/coupons: a percentage or an amount off."""
    if ("percent_off" in params) == ("amount_off" in params):
        raise errors.invalid("You must pass either percent_off or amount_off.", param="percent_off")
    if "amount_off" in params and "currency" not in params:
        raise errors.invalid("You must pass currency when passing amount_off.", param="currency")
    currency = params.get("currency")
    coupon = objects.new(
        "coupon",
        {
            "id": params.get("id") or call.ids.text(8),
            "amount_off": params.get("amount_off"),
            "created": call.now,
            "currency": currency and currencies.check_currency(currency),
            "duration": params.get("duration", "once"),
            "duration_in_months": params.get("duration_in_months"),
            "max_redemptions": params.get("max_redemptions"),
            "metadata": merge_metadata({}, params.get("metadata")),
            "name": params.get("name") or None,
            "percent_off": _percent(params.get("percent_off")),
            "redeem_by": params.get("redeem_by"),
        },
    )
    if call.store.get(coupon["id"]) is not None:
        raise errors.invalid(
            f"Coupon already exists: {coupon['id']}", param="id", code="resource_already_exists"
        )
    call.store.add(coupon)
    events.emit(call, "coupon.created", coupon)
    return coupon


def retrieve(call: Call, _params: Params, coupon_id: str) -> Json:
    """GET /v1/coupons/{id}."""
    return call.load("coupon", coupon_id, param="coupon")


def update(call: Call, params: Params, coupon_id: str) -> Json:
    """POST /v1/coupons/{id}: what it takes off never changes."""
    coupon = call.load("coupon", coupon_id, param="coupon")
    coupon["metadata"] = merge_metadata(coupon["metadata"], params.get("metadata"))
    if "name" in params:
        coupon["name"] = params["name"] or None
    call.store.save(coupon)
    events.emit(call, "coupon.updated", coupon, {})
    return coupon


def delete(call: Call, _params: Params, coupon_id: str) -> Json:
    """DELETE /v1/coupons/{id}; discounts that it gave already stay."""
    coupon = call.load("coupon", coupon_id, param="coupon")
    call.store.remove(coupon_id)
    events.emit(call, "coupon.deleted", coupon)
    return objects.new("deleted_coupon", {"id": coupon_id})


def list_all(call: Call, params: Params) -> Json:
    """GET /v1/coupons."""
    return lists.page(call, params, "coupon", "/v1/coupons")


def create_code(call: Call, params: Params) -> Json:
    """POST /v1/promotion_codes: the word that a buyer enters for a coupon."""
    promotion = params["promotion"]
    if "coupon" not in promotion:
        raise errors.missing_parameter("promotion[coupon]")
    coupon = call.load("coupon", promotion["coupon"], param="promotion[coupon]", status=400)
    word = params.get("code") or call.ids.text(8).upper()
    if active_code(call, word) is not None:
        raise errors.invalid(f"An active promotion code with `code: {word}` already exists.")
    code = objects.new(
        CODE,
        {
            "id": call.ids.new("promo"),
            "active": params.get("active", True),
            "code": word,
            "created": call.now,
            "customer": params.get("customer"),
            "expires_at": params.get("expires_at"),
            "max_redemptions": params.get("max_redemptions"),
            "metadata": merge_metadata({}, params.get("metadata")),
            "promotion": {"coupon": coupon["id"], "type": "coupon"},
        },
    )
    call.store.add(code)
    events.emit(call, "promotion_code.created", code)
    return code


def retrieve_code(call: Call, _params: Params, code_id: str) -> Json:
    """GET /v1/promotion_codes/{id}."""
    return call.load(CODE, code_id, name="promotion code")


def update_code(call: Call, params: Params, code_id: str) -> Json:
    """POST /v1/promotion_codes/{id}."""
    code = retrieve_code(call, {}, code_id)
    code["active"] = params.get("active", code["active"])
    code["metadata"] = merge_metadata(code["metadata"], params.get("metadata"))
    call.store.save(code)
    events.emit(call, "promotion_code.updated", code, {})
    return code


def list_codes(call: Call, params: Params) -> Json:
    """GET /v1/promotion_codes."""
    equal = lists.filters(params, "code", "customer")
    return lists.page(call, params, CODE, "/v1/promotion_codes", equal=equal)


def active_code(call: Call, word: str) -> Json | None:
    """Find the promotion code that a buyer may enter now."""
    codes = call.store.find(CODE, lists.LIMIT_MAX, equal={"code": word})
    return next((code for code in codes if code["active"]), None)


def _percent(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        percent = Decimal(text)
    except InvalidOperation as error:
        raise errors.malformed(f"Invalid decimal: {text}", param="percent_off") from error
    if not 0 < percent <= 100:  # noqa: PLR2004  # percent
        raise errors.invalid("percent_off must be between 0 and 100.", param="percent_off")
    return float(percent)
