"""Customers. https://docs.stripe.com/api/customers."""

from typing import Any, Final

from sandbox.stripe import errors, events, lists, objects
from sandbox.stripe.call import Call
from sandbox.stripe.params import Kind, Params, Shape, merge_metadata, text_or_none
from sandbox.stripe.store import Json

_FIELDS: Final[Shape] = {
    "address": Kind.FREE,
    "business_name": Kind.TEXT,
    "description": Kind.TEXT,
    "email": Kind.TEXT,
    "expand": Kind.TEXTS,
    "individual_name": Kind.TEXT,
    "invoice_prefix": Kind.TEXT,
    "invoice_settings": {
        "custom_fields": Kind.FREE,
        "default_payment_method": Kind.TEXT,
        "footer": Kind.TEXT,
        "rendering_options": Kind.FREE,
    },
    "metadata": Kind.METADATA,
    "name": Kind.TEXT,
    "next_invoice_sequence": Kind.INTEGER,
    "phone": Kind.TEXT,
    "preferred_locales": Kind.TEXTS,
    "shipping": Kind.FREE,
    "tax": Kind.FREE,
    "tax_exempt": Kind.TEXT,
    "validate": Kind.BOOLEAN,
}
CREATE: Final[Shape] = {**_FIELDS, "payment_method": Kind.TEXT, "tax_id_data": Kind.FREE}
UPDATE: Final[Shape] = {**_FIELDS, "default_source": Kind.TEXT}
LIST: Final[Shape] = {**lists.SHAPE, "email": Kind.TEXT}
_TEXTS: Final = (
    "business_name",
    "description",
    "email",
    "individual_name",
    "invoice_prefix",
    "name",
    "phone",
    "tax_exempt",
)


def load(call: Call, customer_id: str, *, param: str = "customer", status: int = 400) -> Json:
    """Read a customer that a parameter names and that still exists, or refuse."""
    customer = call.load("customer", customer_id, param=param, status=status)
    if customer.get("deleted"):
        raise errors.no_such("customer", customer_id, param=param, status=status)
    return customer


def _named(call: Call, customer_id: str, *, param: str = "customer") -> Json:
    """Read a customer that the path names and that still exists, or refuse with 404."""
    return load(call, customer_id, param=param, status=404)


def build(call: Call, values: Json) -> Json:
    """Keep a new customer and tell."""
    prefix = call.ids.text(8).upper()
    customer = objects.new(
        "customer",
        {"id": call.ids.new("cus"), "created": call.now, "invoice_prefix": prefix, **values},
    )
    call.store.add(customer)
    events.emit(call, "customer.created", customer)
    return customer


def create(call: Call, params: Params) -> Json:
    """POST /v1/customers."""
    # Imported here because attaching a payment method looks at its customer.
    from sandbox.stripe import payment_methods  # noqa: PLC0415

    values = _changes(params, {})
    metadata = {"metadata": merge_metadata({}, params.get("metadata"))}
    customer = build(call, values | metadata)
    if "payment_method" in params:
        method = payment_methods.resolve(call, params["payment_method"], customer_id=None)
        payment_methods.bind(call, method, customer["id"])
    return customer


def retrieve(call: Call, _params: Params, customer_id: str) -> Json:
    """GET /v1/customers/{id}; a deleted one answers with its remains."""
    return call.load("customer", customer_id)


def update(call: Call, params: Params, customer_id: str) -> Json:
    """POST /v1/customers/{id}."""
    customer = _named(call, customer_id, param="id")
    changes = _changes(params, customer)
    if "metadata" in params:
        changes["metadata"] = merge_metadata(customer["metadata"], params["metadata"])
    default = (params.get("invoice_settings") or {}).get("default_payment_method")
    if default:
        param = "invoice_settings[default_payment_method]"
        method = call.load("payment_method", default, name="PaymentMethod", param=param, status=400)
        if method["customer"] != customer_id:
            message = (
                f"The customer does not have a payment method with the ID {default}. The payment "
                "method must be attached to the customer."
            )
            raise errors.invalid(message, param=param, code="resource_missing")
    previous = {name: customer[name] for name in changes if customer.get(name) != changes[name]}
    customer |= changes
    call.store.save(customer)
    if previous:
        events.emit(call, "customer.updated", customer, previous)
    return customer


def delete(call: Call, _params: Params, customer_id: str) -> Json:
    """DELETE /v1/customers/{id}; its payment methods come loose, its charges stay."""
    customer = _named(call, customer_id, param="id")
    for method in call.store.find("payment_method", 100, equal={"customer": customer_id}):
        method["customer"] = None
        call.store.save(method)
        call.store.hide(method["id"], spent=True)
    # Imported here because subscriptions look at their customer.
    from sandbox.stripe import subscription_changes  # noqa: PLC0415

    subscription_changes.end_all(call, customer_id)
    events.emit(call, "customer.deleted", customer)
    return call.store.save(objects.new("deleted_customer", {"id": customer_id}))


def list_all(call: Call, params: Params) -> Json:
    """GET /v1/customers."""
    page = lists.page(
        call, params, "customer", "/v1/customers", equal=lists.filters(params, "email")
    )
    page["data"] = [customer for customer in page["data"] if not customer.get("deleted")]
    return page


def list_payment_methods(call: Call, params: Params, customer_id: str) -> Json:
    """GET /v1/customers/{id}/payment_methods."""
    _named(call, customer_id)
    return lists.page(
        call,
        params,
        "payment_method",
        f"/v1/customers/{customer_id}/payment_methods",
        equal={"customer": customer_id, **lists.filters(params, "type")},
    )


def retrieve_payment_method(call: Call, _params: Params, customer_id: str, method_id: str) -> Json:
    """GET /v1/customers/{id}/payment_methods/{id}."""
    _named(call, customer_id)
    method = call.load("payment_method", method_id, name="PaymentMethod")
    if method["customer"] != customer_id:
        raise errors.no_such("PaymentMethod", method_id)
    return method


def _changes(params: Params, current: Json) -> Json:
    changes: dict[str, Any] = {n: text_or_none(params, n) for n in _TEXTS if n in params}
    for name in ("address", "shipping", "preferred_locales", "next_invoice_sequence"):
        if name in params:
            changes[name] = params[name] or None
    if "invoice_settings" in params:
        template = current or objects.new("customer", {})
        fields = {name: value or None for name, value in params["invoice_settings"].items()}
        changes["invoice_settings"] = {**template["invoice_settings"], **fields}
    return changes
