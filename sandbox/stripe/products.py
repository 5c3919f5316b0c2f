"""Products. https://docs.stripe.com/api/products."""

from typing import Final

from sandbox.stripe import errors, events, lists, objects
from sandbox.stripe.call import Call
from sandbox.stripe.params import Kind, Params, Shape, merge_metadata
from sandbox.stripe.store import Json

_FIELDS: Final[Shape] = {
    "active": Kind.BOOLEAN,
    "description": Kind.TEXT,
    "expand": Kind.TEXTS,
    "images": Kind.TEXTS,
    "metadata": Kind.METADATA,
    "name": Kind.TEXT,
    "statement_descriptor": Kind.TEXT,
    "tax_code": Kind.TEXT,
    "unit_label": Kind.TEXT,
    "url": Kind.TEXT,
}
CREATE: Final[Shape] = {**_FIELDS, "id": Kind.TEXT}
UPDATE: Final[Shape] = {**_FIELDS, "default_price": Kind.TEXT}
LIST: Final[Shape] = lists.SHAPE
_TEXTS: Final = ("description", "statement_descriptor", "tax_code", "unit_label", "url")


def build(call: Call, values: Json) -> Json:
    """Store a new product; one that an inline price brings is not announced."""
    product_id = values.get("id") or call.ids.new("prod")
    moments = {"created": call.now, "updated": call.now}
    return call.store.add(objects.new("product", {**moments, **values, "id": product_id}))


def create(call: Call, params: Params) -> Json:
    """POST /v1/products."""
    if "id" in params and call.store.get(params["id"]) is not None:
        raise errors.invalid("Product already exists.", param="id", code="resource_already_exists")
    metadata = merge_metadata({}, params.get("metadata"))
    product = build(call, {"active": True, **_changes(params), "metadata": metadata})
    events.emit(call, "product.created", product)
    return product


def load(call: Call, product_id: str, *, param: str = "id") -> Json:
    """Read a product that was not deleted, or refuse: with 404 for an id in the path."""
    status = 404 if param == "id" else 400
    product = call.load("product", product_id, param=param, status=status)
    if product.get("deleted"):
        raise errors.no_such("product", product_id, param=param, status=status)
    return product


def retrieve(call: Call, _params: Params, product_id: str) -> Json:
    """GET /v1/products/{id}."""
    return call.load("product", product_id)


def update(call: Call, params: Params, product_id: str) -> Json:
    """POST /v1/products/{id}."""
    product = load(call, product_id)
    product |= _changes(params)
    if "default_price" in params:
        product["default_price"] = params["default_price"] or None
    product["metadata"] = merge_metadata(product["metadata"], params.get("metadata"))
    product["updated"] = call.now
    call.store.save(product)
    events.emit(call, "product.updated", product, {})
    return product


def delete(call: Call, _params: Params, product_id: str) -> Json:
    """DELETE /v1/products/{id}; a product with prices cannot be deleted."""
    product = load(call, product_id)
    if call.store.find("price", 1, equal={"product": product_id}):
        raise errors.invalid("This product cannot be deleted because it has user-created prices.")
    events.emit(call, "product.deleted", product)
    return call.store.save(objects.new("deleted_product", {"id": product_id}))


def list_all(call: Call, params: Params) -> Json:
    """GET /v1/products."""
    page = lists.page(call, params, "product", "/v1/products")
    page["data"] = [product for product in page["data"] if not product.get("deleted")]
    return page


def _changes(params: Params) -> Json:
    changes = {name: params[name] or None for name in _TEXTS if name in params}
    return changes | {n: params[n] for n in ("active", "images", "name") if n in params}
