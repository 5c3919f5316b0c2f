"""Webhook endpoints. https://docs.stripe.com/api/webhook_endpoints."""

from typing import Final
from urllib.parse import urlsplit

from sandbox.stripe import errors, events, lists, objects
from sandbox.stripe.call import Call
from sandbox.stripe.params import Kind, Params, Shape, merge_metadata
from sandbox.stripe.store import Json

_FIELDS: Final[Shape] = {
    "description": Kind.TEXT,
    "enabled_events": Kind.TEXTS,
    "expand": Kind.TEXTS,
    "metadata": Kind.METADATA,
    "url": Kind.TEXT,
}
CREATE: Final[Shape] = {**_FIELDS, "api_version": Kind.TEXT, "connect": Kind.BOOLEAN}
UPDATE: Final[Shape] = {**_FIELDS, "disabled": Kind.BOOLEAN}
LIST: Final = lists.CURSORS
COMMAND_LINE_ID: Final = "we_1CommandLineCommandLine0"


def create(call: Call, params: Params) -> Json:
    """POST /v1/webhook_endpoints; the secret is shown here and never again."""
    if not params["enabled_events"]:
        raise errors.missing_parameter("enabled_events")
    secret = call.ids.new("whsec")
    endpoint = _build(call, call.ids.new("we"), _url(params["url"]), params)
    call.store.add(endpoint, {"secret": secret, "connect": params.get("connect", False)})
    return {**endpoint, "secret": secret}


def retrieve(call: Call, _params: Params, endpoint_id: str) -> Json:
    """GET /v1/webhook_endpoints/{id}."""
    return call.load("webhook_endpoint", endpoint_id, name="webhook endpoint")


def update(call: Call, params: Params, endpoint_id: str) -> Json:
    """POST /v1/webhook_endpoints/{id}."""
    endpoint = retrieve(call, {}, endpoint_id)
    if "url" in params:
        endpoint["url"] = _url(params["url"])
    if "enabled_events" in params:
        endpoint["enabled_events"] = params["enabled_events"]
    if "description" in params:
        endpoint["description"] = params["description"] or None
    if "disabled" in params:
        endpoint["status"] = "disabled" if params["disabled"] else "enabled"
    if "metadata" in params:
        endpoint["metadata"] = merge_metadata(endpoint["metadata"], params["metadata"])
    return call.store.save(endpoint)


def delete(call: Call, _params: Params, endpoint_id: str) -> Json:
    """DELETE /v1/webhook_endpoints/{id}; what it had not taken yet is dropped."""
    retrieve(call, {}, endpoint_id)
    call.store.remove(endpoint_id)
    call.store.execute(
        "UPDATE deliveries SET state = 'failed' WHERE endpoint = ? AND state = 'pending'",
        (endpoint_id,),
    )
    return objects.new("deleted_webhook_endpoint", {"id": endpoint_id})


def list_all(call: Call, params: Params) -> Json:
    """GET /v1/webhook_endpoints."""
    return lists.page(call, params, "webhook_endpoint", "/v1/webhook_endpoints")


def from_command_line(call: Call, url: str, secret: str) -> None:
    """Keep the endpoint that the process was started with; a new start may move it."""
    existing = call.store.get(COMMAND_LINE_ID)
    if existing is None:
        params = {"enabled_events": ["*"], "description": "from the command line"}
        call.store.add(_build(call, COMMAND_LINE_ID, url, params))
    else:
        call.store.save({**existing, "url": url})
    call.store.hide(COMMAND_LINE_ID, secret=secret, connect=events.BOTH)


def _build(call: Call, endpoint_id: str, url: str, params: Params) -> Json:
    return objects.new(
        "webhook_endpoint",
        {
            "id": endpoint_id,
            "api_version": params.get("api_version"),
            "created": call.now,
            "description": params.get("description") or None,
            "enabled_events": params["enabled_events"],
            "metadata": merge_metadata({}, params.get("metadata")),
            "url": url,
        },
    )


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise errors.invalid(
            "Invalid URL: An explicit scheme (such as https) must be provided.",
            param="url",
            code="url_invalid",
        )
    return text
