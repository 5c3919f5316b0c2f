"""Errors in the shape and with the wording that Stripe's API answers with.

https://docs.stripe.com/api/errors
"""

from dataclasses import dataclass, field
from typing import Any

from sandbox.stripe.declines import Decline

DOCS = "https://docs.stripe.com/error-codes#"


@dataclass(slots=True)
class ApiError(Exception):
    """A refusal of one API request.

    `body()` is the JSON answer. `stored` says whether an idempotency key remembers this answer:
    Stripe remembers whatever an endpoint that began to run answered, and forgets what was refused
    before. `keeps_effects` says that the rows written before the error stay, as with a declined
    card, whose failed charge exists although the request is answered 402.
    """

    status: int
    type: str
    message: str
    code: str | None = None
    param: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    stored: bool = True
    keeps_effects: bool = False

    def __str__(self) -> str:
        return self.message

    def body(self, request_log_url: str | None = None) -> dict[str, Any]:
        """Return `{"error": {...}}` without the fields that do not apply."""
        error: dict[str, Any] = {"code": self.code}
        if self.code is not None:
            error["doc_url"] = DOCS + self.code.replace("_", "-")
        error |= {
            "message": self.message,
            "param": self.param,
            "request_log_url": request_log_url,
            "type": self.type,
            **self.extra,
        }
        shown = {name: error[name] for name in sorted(error) if error[name] is not None}
        return {"error": shown}


def invalid(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """Refuse a request that an endpoint looked at and found impossible: 400."""
    return ApiError(400, "invalid_request_error", message, code, param)


def malformed(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """Refuse parameters before the endpoint begins: 400, and no idempotency key remembers it."""
    return ApiError(400, "invalid_request_error", message, code, param, stored=False)


def unknown_parameters(names: list[str]) -> ApiError:
    """Refuse parameters that the endpoint does not have."""
    plural = "s" if len(names) > 1 else ""
    message = f"Received unknown parameter{plural}: {', '.join(names)}"
    return malformed(message, param=names[0], code="parameter_unknown")


def missing_parameter(name: str) -> ApiError:
    """Refuse a request without a parameter that it needs."""
    return malformed(f"Missing required param: {name}.", param=name, code="parameter_missing")


def no_such(kind: str, object_id: str, *, param: str = "id", status: int = 404) -> ApiError:
    """Answer for an id that does not exist; 404 in the path, 400 in a cursor."""
    message = f"No such {kind}: '{object_id}'"
    return ApiError(status, "invalid_request_error", message, "resource_missing", param)


def unknown_route(method: str, path: str) -> ApiError:
    """Answer for a path that Stripe does not have (or this simulator does not)."""
    message = (
        f"Unrecognized request URL ({method}: {path}). If you are trying to list objects, remove "
        "the trailing slash. If you are trying to retrieve an object, make sure you passed a "
        "valid (non-empty) identifier in your code. Please see https://docs.stripe.com or we can "
        "help at https://support.stripe.com/."
    )
    return ApiError(404, "invalid_request_error", message, stored=False)


def unauthorized(message: str) -> ApiError:
    """Answer for a missing or unusable API key: 401."""
    return ApiError(401, "invalid_request_error", message, stored=False)


def account_invalid(account: str) -> ApiError:
    """Answer for a connected account that does not exist or has revoked access: 403."""
    message = (
        f"The provided key does not have access to account '{account}' (or that account does not "
        "exist). Application access may have been revoked."
    )
    return ApiError(403, "invalid_request_error", message, "account_invalid", stored=False)


def key_conflict(message: str) -> ApiError:
    """Answer for an idempotency key that was first used for something else: 400."""
    return ApiError(400, "idempotency_error", message, stored=False)


def key_in_use(key: str) -> ApiError:
    """Answer while the first request with the same idempotency key still runs: 409."""
    message = (
        "There is currently another in-progress request using this Idempotent Key (that probably "
        "means you submitted twice, and the other request is still going through): "
        f"{key}. Please try again later."
    )
    return ApiError(409, "idempotency_error", message, "idempotency_key_in_use", stored=False)


def rate_limited() -> ApiError:
    """Answer while too many requests come: 429. https://docs.stripe.com/rate-limits."""
    message = "Request rate limit exceeded. You can learn more about rate limits here: "
    message += "https://docs.stripe.com/rate-limits."
    return ApiError(429, "invalid_request_error", message, "rate_limit", stored=False)


def card_error(decline: Decline, **objects: Any) -> ApiError:
    """Answer 402 for a refused card; `objects` are `payment_intent`, `payment_method`, `charge`.

    What was written stays: the refused attempt is part of the account's history.
    """
    extra = {
        "decline_code": decline.decline_code,
        "advice_code": decline.advice_code,
        "network_advice_code": decline.network_advice_code,
        "network_decline_code": decline.network_decline_code,
        **objects,
    }
    return ApiError(
        402,
        "card_error",
        decline.message,
        decline.code,
        decline.param,
        extra,
        keeps_effects=True,
    )
