"""Stripe objects built from Stripe's own examples, so that no field of the API is missing.

The examples in `fixtures.json` fill every field, some with nonsense; `RESTING` says what a fresh
object has there. https://docs.stripe.com/api
"""

from functools import cache
from importlib.resources import files
from typing import Any, Final

import msgspec

from sandbox.stripe.store import Json

API_VERSION: Final = "2026-10-28.endive"

# Addresses inside objects are stored with this origin and shown with the real one, so that a
# restart on another port does not leave dead links behind.
ORIGIN: Final = "https://simulator.invalid"

_ADDRESS: Final = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))

RESTING: Final[dict[str, Json]] = {
    "customer": {
        "currency": None,
        "customer_account": None,
        "discount": None,
        "address": None,
        "shipping": None,
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
    },
    "payment_method": {
        "billing_details": {
            "address": _ADDRESS,
            "email": None,
            "name": None,
            "phone": None,
            "tax_id": None,
        },
        "metadata": {},
    },
    "payment_intent": {
        "allowed_payment_method_types": None,
        "automatic_payment_methods": None,
        "canceled_at": None,
        "last_payment_error": None,
        "managed_payments": None,
        "next_action": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {
            "card": {
                "installments": None,
                "mandate_options": None,
                "network": None,
                "request_three_d_secure": "automatic",
            }
        },
        "processing": None,
        "shipping": None,
        "transfer_data": None,
    },
    "charge": {
        "description": None,
        "paid": False,
        "balance_transaction": None,
        "billing_details": {
            "address": _ADDRESS,
            "email": None,
            "name": None,
            "phone": None,
            "tax_id": None,
        },
        "outcome": None,
        "shipping": None,
        "transfer_data": None,
    },
    "setup_intent": {
        "allowed_payment_method_types": None,
        "automatic_payment_methods": None,
        "customer_account": None,
        "last_setup_error": None,
        "managed_payments": None,
        "next_action": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {
            "card": {
                "mandate_options": None,
                "network": None,
                "request_three_d_secure": "automatic",
            }
        },
    },
    "refund": {"charge": None},
    "checkout.session": {
        "after_expiration": None,
        "adaptive_pricing": {"enabled": False},
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "cancel_url": None,
        "collected_information": None,
        "consent": None,
        "consent_collection": None,
        "currency_conversion": None,
        "custom_text": {
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        "customer_details": None,
        "invoice_creation": {
            "enabled": False,
            "invoice_data": {
                "account_tax_ids": None,
                "custom_fields": None,
                "description": None,
                "footer": None,
                "issuer": None,
                "metadata": {},
                "rendering_options": None,
            },
        },
        "managed_payments": {"enabled": False},
        "payment_intent": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "permissions": None,
        "saved_payment_method_options": None,
        "shipping_address_collection": None,
        "shipping_cost": None,
        "success_url": None,
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "wallet_options": None,
    },
    "price": {
        "active": False,
        "custom_unit_amount": None,
        "recurring": None,
        "transform_quantity": None,
        "type": "one_time",
    },
    "product": {
        "active": False,
        "default_price": None,
        "description": None,
        "package_dimensions": None,
    },
    "item": {"adjustable_quantity": None},
    "invoice": {
        "amount_overpaid": 0,
        "amount_paid_off_stripe": 0,
        "customer_shipping": None,
        "due_date": None,
        "customer_address": None,
        "effective_at": None,
        "from_invoice": None,
        "last_finalization_error": None,
        "next_payment_attempt": None,
        "parent": None,
        "rendering": None,
        "shipping_cost": None,
        "shipping_details": None,
        "webhooks_delivered_at": None,
    },
    "invoice_payment": {"amount_paid": None},
    "invoiceitem": {"invoice": None, "parent": None},
    "line_item": {
        "discounts": [],
        "parent": None,
        "pretax_credit_amounts": [],
        "quantity_decimal": None,
        "taxes": [],
    },
    "coupon": {"currency": None, "duration_in_months": None, "redeem_by": None},
    "discount": {"customer": None, "end": None},
    "promotion_code": {"expires_at": None},
    "subscription": {
        "billing_cycle_anchor_config": None,
        "billing_mode": {"flexible": {"proration_discounts": "included"}, "type": "flexible"},
        "billing_schedules": [],
        "billing_thresholds": None,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "ended_at": None,
        "managed_payments": None,
        "next_pending_invoice_item_invoice": None,
        "pause_collection": None,
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "pending_invoice_item_interval": None,
        "pending_update": None,
        "transfer_data": None,
        "trial_end": None,
        "trial_start": None,
    },
    "subscription_item": {"billing_thresholds": None},
    "tax_rate": {
        "country": None,
        "description": None,
        "flat_amount": None,
        "jurisdiction": None,
        "rate_type": "percentage",
        "tax_type": None,
    },
    "webhook_endpoint": {"description": None},
    "dispute": {"balance_transactions": [], "is_charge_refundable": False},
}

# Present in Stripe's examples, absent from its answers unless they are expanded.
_EXPANDABLE_ONLY: Final = {"charge": ("refunds",)}


@cache
def _templates() -> dict[str, bytes]:
    raw = files("sandbox.stripe").joinpath("fixtures.json").read_bytes()
    resources: dict[str, Json] = msgspec.json.decode(raw)["resources"]
    for kind, resting in RESTING.items():
        resources[kind].update(resting)
    for kind, names in _EXPANDABLE_ONLY.items():
        for name in names:
            del resources[kind][name]
    return {kind: msgspec.json.encode(resource) for kind, resource in resources.items()}


def new(kind: str, values: Json) -> Json:
    """Build an object: every field of its kind, `values` on top."""
    template: Json = msgspec.json.decode(_templates()[kind])
    return {**template, **values}


def example(kind: str) -> Json | None:
    """Return Stripe's example of a kind, or None for a kind that is not kept."""
    return new(kind, {}) if kind in _templates() else None


def listed(data: list[Json], url: str, *, has_more: bool = False) -> Json:
    """Wrap objects as Stripe's list object."""
    return {"object": "list", "data": data, "has_more": has_more, "url": url}


def rendered(value: Any, origin: str) -> bytes:
    """Write JSON as Stripe does, indented by 2, with the simulator's real address in it."""
    compact = msgspec.json.encode(value)
    return msgspec.json.format(compact, indent=2).replace(ORIGIN.encode(), origin.encode())
