"""The OpenAPI 3.1 document, made from the operations. https://spec.openapis.org/oas/v3.1.0."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Annotated, Any

import msgspec

from api.endpoints.auto_recharge import AttemptResponse
from api.framework import fields, webhook_document
from api.framework.edge import API_VERSION, IDEMPOTENCY_HEADER, VERSION_HEADER
from api.framework.operation import Operation, Retry
from shared import errors
from shared.errors import PrepaidError
from shared.http import envelope

PARAMETER = re.compile(r"\{(\w+)\}")
# The four client shapes. docs/api.md shows each by examples.
_SHAPES = {
    "(A)": "Shape A: a transaction in camelCase, one by one and in batches.",
    "(B)": "Shape B: an organization's recent transactions by slug, and their receipts.",
    "(C)": "Shape C: billing by organization, amounts as integers of 1e-7 credits.",
    "(D)": "Shape D: lists by page number, in snake_case, with filters.",
}
_ONE_KEY = "An API key, `ppk_…`. Send it here or there: one is enough."
_SCHEMES = ("bearer", "apiKey")
_SAYS_WHEN = {errors.RateLimitError.status, errors.UnavailableError.status}
_RETRY_AFTER = {
    "Retry-After": {
        "schema": {"type": "integer", "minimum": 1},
        "description": "Seconds after which to ask again.",
    }
}
_REF = "#/components/schemas/{name}"

# What any operation may answer, whatever it does.
EVERYWHERE: tuple[type[PrepaidError], ...] = (
    errors.InvalidRequestError,
    errors.AuthenticationError,
    errors.PermissionDeniedError,
    errors.UpgradeRequiredError,
    errors.RateLimitError,
    PrepaidError,
    errors.UnavailableError,
    errors.DeadlineError,
    errors.ValidationError,  # an unknown parameter
)
WITH_A_BODY: tuple[type[PrepaidError], ...] = (
    errors.RequestTimeoutError,
    errors.PayloadTooLargeError,
    errors.UnsupportedMediaTypeError,
)


class FieldErrorResponse(msgspec.Struct):
    """A rejected field: where it stands, why, and a word for programs."""

    loc: Annotated[list[str | int], msgspec.Meta(max_length=envelope.LOCATION_STEPS_MAX)]
    msg: Annotated[str, msgspec.Meta(max_length=envelope.MESSAGE_LENGTH_MAX)]
    type: str


class NextAction(msgspec.Struct):
    """What a customer can do about a payment that did not go through, and where."""

    type: str
    url: str | None


class ErrorResponse(msgspec.Struct, omit_defaults=True, rename="camel"):
    """The one error envelope: `errors` of a 422; of a 402 what helps with it.

    Where credits are wanting: `required` is what was asked for, `available` what a debit may take
    now (balance, less held, plus the overdraft limit). `rechargeInProgress`: ask again after
    `Retry-After`. Where a payment did not go through: `nextAction`, and perhaps `attempt`. What it
    repeats of a request is cut, and ends with … then.
    """

    code: int
    type: str
    detail: Annotated[str, msgspec.Meta(max_length=envelope.DETAIL_LENGTH_MAX)]
    errors: Annotated[list[FieldErrorResponse], msgspec.Meta(max_length=envelope.ERRORS_MAX)] = []
    required: fields.Number | msgspec.UnsetType = msgspec.UNSET
    available: fields.Number | msgspec.UnsetType = msgspec.UNSET
    balance: fields.Number | msgspec.UnsetType = msgspec.UNSET
    held: fields.Number | msgspec.UnsetType = msgspec.UNSET
    recharge_in_progress: bool | msgspec.UnsetType = msgspec.UNSET
    next_action: NextAction | msgspec.UnsetType = msgspec.UNSET
    attempt: AttemptResponse | msgspec.UnsetType = msgspec.UNSET


def document(operations: Sequence[Operation], *, server: str) -> dict[str, Any]:
    """Return the document of these operations, served at an address."""
    kinds = [kind for o in operations for kind in (o.body, o.response, o.query) if kind is not None]
    schemas, components = msgspec.json.schema_components([ErrorResponse, *kinds], ref_template=_REF)
    known = dict(zip([repr(ErrorResponse), *map(repr, kinds)], schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(
            operation, known, components
        )
    paths[webhook_document.PATH] = webhook_document.PATH_ITEM
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Prepaid",
            "version": API_VERSION,
            "description": "Prepaid credits on Stripe: four client shapes, one ledger.",
        },
        "servers": [{"url": server}],
        "security": [{scheme: []} for scheme in _SCHEMES],
        "tags": [
            {"name": tag, "description": _SHAPES.get(tag[-3:], "")}
            for tag in dict.fromkeys(operation.tag for operation in operations)
        ],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": _ONE_KEY},
                "apiKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "x-api-key",
                    "description": _ONE_KEY,
                },
            },
        },
    }


def possible_errors(operation: Operation) -> set[type[PrepaidError]]:
    """Return every error that an operation may answer, and none that it cannot."""
    found = {*EVERYWHERE, *operation.errors}
    if operation.body is not None:
        found |= {*WITH_A_BODY}
    if operation.organization_parameter:
        found.add(errors.NotFoundError)
    if operation.retry is not Retry.READ:
        found |= {errors.ConflictError, errors.IdempotencyError}
    return found


def _operation(
    operation: Operation, known: dict[str, Any], components: dict[str, Any]
) -> dict[str, Any]:
    summary, _, description = (inspect.getdoc(operation.handle) or "").partition("\n\n")
    found: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": summary.rstrip(".").replace("`", ""),
        "description": f"{description}\n\nNeeds a key with {_scopes_told(operation)}.".strip(),
        "security": [{scheme: [*scopes]} for scopes in operation.scope_sets for scheme in _SCHEMES],
        "parameters": [*_parameters(operation, components)],
        "responses": {
            str(int(operation.status)): _response(
                HTTPStatus(operation.status).phrase, known[repr(operation.response)]
            ),
            **_refusals(operation, known),
        },
    }
    if operation.body is not None:
        content: dict[str, Any] = {"schema": known[repr(operation.body)]}
        if operation.example:
            content["example"] = dict(operation.example)
        found["requestBody"] = {"required": True, "content": {"application/json": content}}
    return found


def _scopes_told(operation: Operation) -> str:
    """Return the scopes of which one set is needed, for people."""
    sets = [" and ".join(f"`{scope}`" for scope in scopes) for scopes in operation.scope_sets]
    return f"the scope {' or '.join(sets)}"


def _parameters(operation: Operation, components: dict[str, Any]) -> Iterable[dict[str, Any]]:
    for name in PARAMETER.findall(operation.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    if operation.query is not None:
        schema = components[operation.query.__name__]
        for name, kind in schema["properties"].items():
            yield {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "schema": _without_null(kind),
            }
    yield {
        "name": VERSION_HEADER,
        "in": "header",
        "schema": {"type": "string", "enum": [API_VERSION]},
        "description": "The version that the client was made for; another is a 426.",
    }
    if operation.retry is not Retry.READ:
        yield {
            "name": IDEMPOTENCY_HEADER,
            "in": "header",
            "schema": {"type": "string", "minLength": 1, "maxLength": 200},
            "description": "The same key and request get the first answer again.",
        }


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a query parameter: one that is absent has no value, not a null."""
    given = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    (kind,) = given if len(given) == 1 else (schema,)
    return {name: value for name, value in kind.items() if (name, value) != ("default", None)}


def _refusals(operation: Operation, known: dict[str, Any]) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for kind in sorted(possible_errors(operation), key=lambda kind: (kind.status, kind.type)):
        said = f"`{kind.type}`: {(kind.__doc__ or '').partition(chr(10))[0]}"
        by_status.setdefault(int(kind.status), []).append(said)
    return {
        str(status): _response(
            " ".join(dict.fromkeys(said)),
            known[repr(ErrorResponse)],
            says_when=status in _SAYS_WHEN,
        )
        for status, said in by_status.items()
    }


def _response(description: str, schema: Any, *, says_when: bool = False) -> dict[str, Any]:
    headers = {"X-Request-Id": {"schema": {"type": "string"}}}
    return {
        "description": description,
        "headers": headers | (_RETRY_AFTER if says_when else {}),
        "content": {"application/json": {"schema": schema}},
    }
