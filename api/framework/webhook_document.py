"""The webhook endpoint in the OpenAPI document. Stripe calls it, without an API key."""

from __future__ import annotations

from typing import Any

PATH = "/v1/webhooks/stripe"
_ERRORS = {
    "400": "`invalid_request_error`: The signature, its timestamp or the body is not valid.",
    "408": "`invalid_request_error`: The body took too long to arrive.",
    "413": "`invalid_request_error`: The body is over 1 MiB.",
    "500": "`internal_error`: An unexpected error in Prepaid.",
    "503": "`internal_error`: PostgreSQL is unavailable. Stripe sends the event again.",
}
_RECEIVED = {
    "type": "object",
    "required": ["received", "eventId", "duplicate"],
    "properties": {
        "received": {"const": True},
        "eventId": {"type": "string"},
        "duplicate": {"type": "boolean"},
    },
}


def path_item(error_schema: Any) -> dict[str, Any]:
    """Return the OpenAPI Path Item of the webhook endpoint."""
    error = {"application/json": {"schema": error_schema}}
    return {
        "post": {
            "operationId": "receiveStripeEvent",
            "tags": ["Stripe"],
            "summary": "Receive a Stripe event",
            "description": (
                "Returns 200 once the event is committed to PostgreSQL. Stripe's signature takes"
                " the place of an API key: register this address at Stripe as a webhook endpoint."
            ),
            "security": [],
            "parameters": [
                {
                    "name": "Stripe-Signature",
                    "in": "header",
                    "required": True,
                    "schema": {"type": "string"},
                    "description": "A timestamp within 300 s, and an HMAC of it and the body.",
                }
            ],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
            "responses": {
                "200": {
                    "description": "The event is stored.",
                    "content": {"application/json": {"schema": _RECEIVED}},
                },
                **{
                    status: {"description": description, "content": error}
                    for status, description in _ERRORS.items()
                },
            },
        }
    }
