"""Which endpoints the simulator has: method, path, function, parameters."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from sandbox.stripe import (
    after_charge,
    billing_portal,
    charges,
    checkout,
    coupons,
    customer_balance,
    customers,
    disputes,
    events,
    invoice_items,
    invoice_lines,
    invoice_payments,
    invoices,
    payment_intents,
    payment_methods,
    prices,
    products,
    refunds,
    setup_intents,
    shipping,
    subscription_changes,
    subscription_items,
    subscriptions,
    tax_rates,
    webhook_endpoints,
)
from sandbox.stripe.params import Kind, Shape
from sandbox.stripe.store import Json

EXPAND: Final[Shape] = {"expand": Kind.TEXTS}
NOTHING: Final[Shape] = {}


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint; `{id}` parts of the path are handed to `act` in order."""

    method: str
    path: str
    act: Callable[..., Json]
    shape: Shape = field(default_factory=lambda: EXPAND)
    required: tuple[str, ...] = ()


ROUTES: Final = (
    Route("POST", "/v1/customers", customers.create, customers.CREATE),
    Route("GET", "/v1/customers", customers.list_all, customers.LIST),
    Route("GET", "/v1/customers/{id}", customers.retrieve),
    Route("POST", "/v1/customers/{id}", customers.update, customers.UPDATE),
    Route("DELETE", "/v1/customers/{id}", customers.delete),
    Route(
        "GET",
        "/v1/customers/{id}/payment_methods",
        customers.list_payment_methods,
        payment_methods.LIST_OF_CUSTOMER,
    ),
    Route("GET", "/v1/customers/{id}/payment_methods/{method}", customers.retrieve_payment_method),
    Route(
        "POST",
        "/v1/payment_methods",
        payment_methods.create,
        payment_methods.CREATE,
        ("type",),
    ),
    Route("GET", "/v1/payment_methods", payment_methods.list_all, payment_methods.LIST),
    Route("GET", "/v1/payment_methods/{id}", payment_methods.retrieve),
    Route("POST", "/v1/payment_methods/{id}", payment_methods.update, payment_methods.UPDATE),
    Route(
        "POST",
        "/v1/payment_methods/{id}/attach",
        payment_methods.attach,
        payment_methods.ATTACH,
        ("customer",),
    ),
    Route("POST", "/v1/payment_methods/{id}/detach", payment_methods.detach),
    Route(
        "POST",
        "/v1/payment_intents",
        payment_intents.create,
        payment_intents.CREATE,
        ("amount", "currency"),
    ),
    Route("GET", "/v1/payment_intents", payment_intents.list_all, payment_intents.LIST),
    Route("GET", "/v1/payment_intents/{id}", payment_intents.retrieve),
    Route("POST", "/v1/payment_intents/{id}", payment_intents.update, payment_intents.UPDATE),
    Route(
        "POST",
        "/v1/payment_intents/{id}/confirm",
        payment_intents.confirm,
        payment_intents.CONFIRM,
    ),
    Route(
        "POST", "/v1/payment_intents/{id}/cancel", payment_intents.cancel, payment_intents.CANCEL
    ),
    Route(
        "POST",
        "/v1/payment_intents/{id}/capture",
        payment_intents.capture,
        payment_intents.CAPTURE,
    ),
    Route("POST", "/v1/setup_intents", setup_intents.create, setup_intents.CREATE),
    Route("GET", "/v1/setup_intents", setup_intents.list_all, setup_intents.LIST),
    Route("GET", "/v1/setup_intents/{id}", setup_intents.retrieve),
    Route("POST", "/v1/setup_intents/{id}/confirm", setup_intents.confirm, setup_intents.CONFIRM),
    Route("POST", "/v1/setup_intents/{id}/cancel", setup_intents.cancel, setup_intents.CANCEL),
    Route("GET", "/v1/charges", charges.list_all, charges.LIST),
    Route("GET", "/v1/charges/{id}", charges.retrieve),
    Route("POST", "/v1/charges/{id}", charges.update, charges.UPDATE),
    Route("GET", "/v1/balance_transactions/{id}", charges.retrieve_balance_transaction),
    Route("POST", "/v1/refunds", refunds.create, refunds.CREATE),
    Route("GET", "/v1/refunds", refunds.list_all, refunds.LIST),
    Route("GET", "/v1/refunds/{id}", refunds.retrieve),
    Route("POST", "/v1/refunds/{id}", refunds.update, refunds.UPDATE),
    Route("GET", "/v1/disputes", disputes.list_all, disputes.LIST),
    Route("GET", "/v1/disputes/{id}", disputes.retrieve),
    Route("POST", "/v1/disputes/{id}", disputes.update, disputes.UPDATE),
    Route("POST", "/v1/disputes/{id}/close", disputes.close),
    Route(
        "GET",
        "/v1/radar/early_fraud_warnings",
        after_charge.list_warnings,
        after_charge.LIST_WARNINGS,
    ),
    Route("GET", "/v1/radar/early_fraud_warnings/{id}", after_charge.retrieve_warning),
    Route(
        "POST", "/v1/checkout/sessions", checkout.create, checkout.CREATE, ("mode", "success_url")
    ),
    Route("GET", "/v1/checkout/sessions", checkout.list_all, checkout.LIST),
    Route("GET", "/v1/checkout/sessions/{id}", checkout.retrieve),
    Route("POST", "/v1/checkout/sessions/{id}", checkout.update, checkout.UPDATE),
    Route("POST", "/v1/checkout/sessions/{id}/expire", checkout.expire),
    Route(
        "GET",
        "/v1/checkout/sessions/{id}/line_items",
        checkout.list_line_items,
        checkout.LIST_ITEMS,
    ),
    Route("POST", "/v1/products", products.create, products.CREATE, ("name",)),
    Route("GET", "/v1/products", products.list_all, products.LIST),
    Route("GET", "/v1/products/{id}", products.retrieve),
    Route("POST", "/v1/products/{id}", products.update, products.UPDATE),
    Route("DELETE", "/v1/products/{id}", products.delete, NOTHING),
    Route("POST", "/v1/prices", prices.create, prices.CREATE, ("currency",)),
    Route("GET", "/v1/prices", prices.list_all, prices.LIST),
    Route("GET", "/v1/prices/{id}", prices.retrieve),
    Route("POST", "/v1/prices/{id}", prices.update, prices.UPDATE),
    Route("POST", "/v1/coupons", coupons.create, coupons.CREATE),
    Route("GET", "/v1/coupons", coupons.list_all, coupons.LIST),
    Route("GET", "/v1/coupons/{id}", coupons.retrieve),
    Route("POST", "/v1/coupons/{id}", coupons.update, coupons.UPDATE),
    Route("DELETE", "/v1/coupons/{id}", coupons.delete, NOTHING),
    Route("POST", "/v1/promotion_codes", coupons.create_code, coupons.CREATE_CODE, ("promotion",)),
    Route("GET", "/v1/promotion_codes", coupons.list_codes, coupons.LIST_CODES),
    Route("GET", "/v1/promotion_codes/{id}", coupons.retrieve_code),
    Route("POST", "/v1/promotion_codes/{id}", coupons.update_code, coupons.UPDATE_CODE),
    Route(
        "POST",
        "/v1/tax_rates",
        tax_rates.create,
        tax_rates.CREATE,
        ("display_name", "inclusive", "percentage"),
    ),
    Route("GET", "/v1/tax_rates", tax_rates.list_all, tax_rates.LIST),
    Route("GET", "/v1/tax_rates/{id}", tax_rates.retrieve),
    Route("POST", "/v1/shipping_rates", shipping.create, shipping.CREATE, ("display_name",)),
    Route("GET", "/v1/shipping_rates", shipping.list_all, shipping.LIST),
    Route("GET", "/v1/shipping_rates/{id}", shipping.retrieve),
    Route(
        "POST",
        "/v1/billing_portal/sessions",
        billing_portal.create,
        billing_portal.CREATE,
        ("customer",),
    ),
    Route("GET", "/v1/events", events.list_all, events.LIST),
    Route("GET", "/v1/events/{id}", events.retrieve),
    Route("POST", "/v1/subscriptions", subscriptions.create, subscriptions.CREATE),
    Route("GET", "/v1/subscriptions", subscriptions.list_all, subscriptions.LIST),
    Route("GET", "/v1/subscriptions/{id}", subscriptions.retrieve),
    Route("POST", "/v1/subscriptions/{id}", subscription_changes.update, subscriptions.UPDATE),
    Route("DELETE", "/v1/subscriptions/{id}", subscription_changes.cancel, subscriptions.CANCEL),
    Route(
        "POST",
        "/v1/subscription_items",
        subscription_changes.create_item,
        subscription_items.CREATE,
        ("subscription",),
    ),
    Route("GET", "/v1/subscription_items", subscription_items.list_all, subscription_items.LIST),
    Route("GET", "/v1/subscription_items/{id}", subscription_items.retrieve),
    Route(
        "POST",
        "/v1/subscription_items/{id}",
        subscription_changes.update_item,
        subscription_items.UPDATE,
    ),
    Route(
        "DELETE",
        "/v1/subscription_items/{id}",
        subscription_changes.delete_item,
        subscription_items.DELETE,
    ),
    Route("POST", "/v1/invoices", invoices.create, invoices.CREATE),
    Route("GET", "/v1/invoices", invoices.list_all, invoices.LIST),
    Route("GET", "/v1/invoices/{id}", invoices.retrieve),
    Route("POST", "/v1/invoices/{id}", invoices.update, invoices.UPDATE),
    Route("DELETE", "/v1/invoices/{id}", invoices.delete, NOTHING),
    Route(
        "POST", "/v1/invoices/{id}/add_lines", invoices.add_lines, invoices.ADD_LINES, ("lines",)
    ),
    Route("POST", "/v1/invoices/{id}/finalize", invoices.finalize, invoices.FINALIZE),
    Route("POST", "/v1/invoices/{id}/pay", invoices.pay, invoices.PAY),
    Route("POST", "/v1/invoices/{id}/void", invoices.void),
    Route("POST", "/v1/invoices/{id}/mark_uncollectible", invoices.mark_uncollectible),
    Route("GET", "/v1/invoices/{id}/lines", invoice_lines.list_all, invoice_lines.LIST),
    Route("POST", "/v1/invoiceitems", invoice_items.create, invoice_items.CREATE),
    Route("GET", "/v1/invoiceitems", invoice_items.list_all, invoice_items.LIST),
    Route("GET", "/v1/invoiceitems/{id}", invoice_items.retrieve),
    Route("DELETE", "/v1/invoiceitems/{id}", invoice_items.delete, NOTHING),
    Route("GET", "/v1/invoice_payments", invoice_payments.list_all, invoice_payments.LIST),
    Route("GET", "/v1/invoice_payments/{id}", invoice_payments.retrieve),
    Route(
        "POST",
        "/v1/customers/{id}/balance_transactions",
        customer_balance.create,
        customer_balance.CREATE,
        ("amount", "currency"),
    ),
    Route(
        "GET",
        "/v1/customers/{id}/balance_transactions",
        customer_balance.list_all,
        customer_balance.LIST,
    ),
    Route(
        "POST",
        "/v1/webhook_endpoints",
        webhook_endpoints.create,
        webhook_endpoints.CREATE,
        ("enabled_events", "url"),
    ),
    Route("GET", "/v1/webhook_endpoints", webhook_endpoints.list_all, webhook_endpoints.LIST),
    Route("GET", "/v1/webhook_endpoints/{id}", webhook_endpoints.retrieve),
    Route("POST", "/v1/webhook_endpoints/{id}", webhook_endpoints.update, webhook_endpoints.UPDATE),
    Route("DELETE", "/v1/webhook_endpoints/{id}", webhook_endpoints.delete),
)
