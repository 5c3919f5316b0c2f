"""The webhook endpoint in the OpenAPI document. Stripe calls it; no API key is needed there."""

from __future__ import annotations

from typing import Any

PATH = "/v1/webhooks/stripe"
_ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}}
_REFUSALS = {
    "400": "`invalid_request_error`: A signature, a timestamp or a body that is not valid.",
    "408": "`invalid_request_error`: The body took too long to arrive.",
    "413": "`invalid_request_error`: The body is over 1 MiB.",
    "500": "`internal_error`: Something went wrong on our side.",
    "503": "`internal_error`: PostgreSQL is away; Stripe sends the event again.",
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
PATH_ITEM: dict[str, Any] = {
    "post": {
        "operationId": "receiveStripeEvent",
        "tags": ["Stripe"],
        "summary": "Receive an event of Stripe's",
        "description": (
            "Answers 200 once the event is committed to PostgreSQL. Stripe's signature stands in"
            " place of an API key: register this address at Stripe as a webhook endpoint."
        ),
        "security": [],
        "parameters": [
            {
                "name": "Stripe-Signature",
                "in": "header",
                "required": True,
                "schema": {"type": "string"},
                "description": "A timestamp within 300 s, and the HMAC of it and the body.",
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
                status: {"description": told, "content": _ERROR}
                for status, told in _REFUSALS.items()
            },
        },
    }
}
