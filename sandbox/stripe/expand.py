"""`expand[]`: ids replaced by their objects. https://docs.stripe.com/api/expanding_objects."""

from typing import Any, Final

from sandbox.stripe import errors, objects
from sandbox.stripe.call import Call
from sandbox.stripe.store import Json

DEPTH_MAX: Final = 4
REFERENCES: Final = frozenset(
    (
        "charge",
        "customer",
        "invoice",
        "latest_charge",
        "latest_invoice",
        "payment_intent",
        "payment_method",
        "price",
        "product",
        "subscription",
    )
)


def expanded(call: Call, value: Json, paths: list[str]) -> Json:
    """Return `value` with every path such as `data.latest_charge.balance_transaction` expanded."""
    for path in paths:
        parts = path.split(".")
        if len(parts) > DEPTH_MAX:
            message = f"You cannot expand more than {DEPTH_MAX} levels of a property."
            raise errors.malformed(message, param="expand")
        value = _walk(call, value, parts, path)
    return value


def _walk(call: Call, node: Json, parts: list[str], path: str) -> Json:
    name, rest = parts[0], parts[1:]
    if node.get("object") == "list" and name == "data":
        if not rest:
            raise _cannot(path)
        return {**node, "data": [_walk(call, item, rest, path) for item in node["data"]]}
    child = _child(call, node, name, path)
    if rest and isinstance(child, dict):
        child = _walk(call, child, rest, path)
    return {**node, name: child}


def _child(call: Call, node: Json, name: str, path: str) -> Any:
    listed = _included_list(call, node, name)
    if listed is not None:
        return listed
    if name not in node:
        raise _cannot(path)
    value = node[name]
    if isinstance(value, str):
        found = call.store.get(value)
        if found is None and name not in REFERENCES:
            raise _cannot(path)
        # An injected object may name another that the simulator does not have: its id stays.
        return found or value
    if value is None or isinstance(value, dict):
        return value
    raise _cannot(path)


def _included_list(call: Call, node: Json, name: str) -> Json | None:
    """Fill the lists that Stripe leaves out of an object until they are expanded."""
    match (node.get("object"), name):
        case ("checkout.session", "line_items"):
            items = call.store.hidden(node["id"]).get("line_items", [])
            return objects.listed(items, f"/v1/checkout/sessions/{node['id']}/line_items")
        case ("invoice", "payments"):
            found = call.store.find("invoice_payment", 10, equal={"invoice": node["id"]})
            return objects.listed(found, f"/v1/invoice_payments?invoice={node['id']}")
        case ("charge", "refunds"):
            found = call.store.find("refund", 11, equal={"charge": node["id"]})
            url = f"/v1/charges/{node['id']}/refunds"
            return objects.listed(found[:10], url, has_more=len(found) > 10)  # noqa: PLR2004
        case _:
            return None


def _cannot(path: str) -> errors.ApiError:
    return errors.malformed(f"This property cannot be expanded ({path}).", param="expand")
