"""Discounts: coupons as they apply to one session, subscription or invoice.

https://docs.stripe.com/api/discounts
"""

from typing import Final

from sandbox.stripe import coupons, errors, objects
from sandbox.stripe.call import Call
from sandbox.stripe.params import Items, Kind, Params
from sandbox.stripe.store import Json

DISCOUNTS: Final = Items({"coupon": Kind.TEXT, "discount": Kind.TEXT, "promotion_code": Kind.TEXT})
MONTH_SECONDS: Final = 30 * 86_400


def build_all(call: Call, params: list[Params], values: Json) -> list[Json]:
    """Store the discounts that a request's `discounts` asks for; `values` says of what."""
    return [_named(call, item, values, f"discounts[{i}]") for i, item in enumerate(params)]


def enter(call: Call, word: str, values: Json) -> Json:
    """Store the discount of a promotion code that a buyer enters, or refuse an unknown one."""
    code = coupons.active_code(call, word)
    if code is None:
        raise errors.invalid("This promotion code is invalid.", param="promotion_code")
    return _build(call, code["promotion"]["coupon"], code, values, "promotion_code")


def coupons_of(call: Call, discount_ids: list[str]) -> list[Json]:
    """Read the coupons of discounts, as they were when they were applied."""
    return [call.store.hidden(discount_id)["coupon"] for discount_id in discount_ids]


def redeem(call: Call, discount: Json) -> None:
    """Count one use of a coupon and of its promotion code, once for each discount."""
    if call.store.hidden(discount["id"]).get("redeemed"):
        return
    call.store.hide(discount["id"], redeemed=True)
    for object_id in (discount["source"]["coupon"], discount["promotion_code"]):
        found = call.store.get(object_id) if object_id else None
        if found is not None:
            found["times_redeemed"] += 1
            call.store.save(found)


def applies(call: Call, discount_id: str) -> bool:
    """Tell whether a subscription's discount still counts for an invoice of now."""
    discount = call.load("discount", discount_id)
    end = discount["end"]
    return end is None or call.now < end


def _named(call: Call, params: Params, values: Json, param: str) -> Json:
    if "discount" in params:
        return call.load("discount", params["discount"], param=f"{param}[discount]", status=400)
    if "promotion_code" in params:
        code = call.load(
            coupons.CODE,
            params["promotion_code"],
            name="promotion code",
            param=f"{param}[promotion_code]",
            status=400,
        )
        if not code["active"]:
            raise errors.invalid("This promotion code is inactive.", param=param)
        return _build(call, code["promotion"]["coupon"], code, values, param)
    if "coupon" not in params:
        raise errors.missing_parameter(f"{param}[coupon]")
    return _build(call, params["coupon"], None, values, param)


def _build(call: Call, coupon_id: str, code: Json | None, values: Json, param: str) -> Json:
    coupon = call.load("coupon", coupon_id, param=param, status=400)
    used_up = coupon["max_redemptions"] is not None and (
        coupon["times_redeemed"] >= coupon["max_redemptions"]
    )
    expired = coupon["redeem_by"] is not None and coupon["redeem_by"] <= call.now
    if used_up or expired:
        raise errors.invalid(f"Coupon expired: {coupon_id}", param=param, code="coupon_expired")
    months = coupon["duration_in_months"]
    repeating = coupon["duration"] == "repeating" and months is not None
    discount = objects.new(
        "discount",
        {
            "id": call.ids.new("di"),
            "customer": None,
            "end": call.now + months * MONTH_SECONDS if repeating else None,
            "promotion_code": None if code is None else code["id"],
            "source": {"coupon": coupon_id, "type": "coupon"},
            "start": call.now,
            **values,
        },
    )
    return call.store.add(discount, {"coupon": coupon})
