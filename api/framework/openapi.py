"""The OpenAPI 3.1 document, generated from the operations. https://spec.openapis.org/oas/v3.1.0."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from api.framework import webhook_document
from api.framework.edge import API_VERSION, IDEMPOTENCY_HEADER, VERSION_HEADER
from api.framework.operation import Operation, Retry
from shared import errors
from shared.errors import PrepaidError

PARAMETER = re.compile(r"\{(\w+)\}")
_ONE_KEY = "An API key, `ppk_…`. Send it in one of the two headers."
_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": _ONE_KEY},
    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": _ONE_KEY},
}
_SCHEMES = tuple(_SECURITY_SCHEMES)
_STATUSES_WITH_RETRY_AFTER = {errors.RateLimitError.status, errors.UnavailableError.status}
_RETRY_AFTER = {
    "Retry-After": {
        "schema": {"type": "integer", "minimum": 1},
        "description": "Seconds to wait before the next request.",
    }
}
_JSON = "application/json"
_REF = "#/components/schemas/{name}"

# The errors that every operation may return.
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


@dataclass(frozen=True, slots=True)
class Guide:
    """What the document says besides its operations: an introduction, and a line for each tag.

    `error` is the type of every error response. The tags are listed in order.
    """

    introduction: str
    tags: Mapping[str, str]
    error: type


def document(operations: Sequence[Operation], *, server: str, guide: Guide) -> dict[str, Any]:
    """Return the document of these operations, served at an address."""
    types = [kind for o in operations for kind in (o.body, o.response, o.query) if kind is not None]
    types = [guide.error, *types]
    type_schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    schemas = dict(zip(map(repr, types), type_schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = {
            **_description(operation),
            "parameters": [*_parameters(operation, components)],
            **_request_body(operation, schemas),
            "responses": _responses(operation, schemas, schemas[repr(guide.error)]),
        }
    paths[webhook_document.PATH] = webhook_document.path_item(schemas[repr(guide.error)])
    return {
        "openapi": "3.1.0",
        "info": {"title": "Prepaid", "version": API_VERSION, "description": guide.introduction},
        "servers": [{"url": server}],
        "security": [{scheme: []} for scheme in _SCHEMES],
        "tags": [{"name": name, "description": text} for name, text in guide.tags.items()],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SECURITY_SCHEMES},
    }


def possible_errors(operation: Operation) -> set[type[PrepaidError]]:
    """Return exactly the errors that an operation may return."""
    possible = {*EVERYWHERE, *operation.errors}
    if operation.body is not None:
        possible |= {*WITH_A_BODY}
    if operation.organization_parameter:
        possible.add(errors.NotFoundError)
    if operation.retry is not Retry.READ:
        possible |= {errors.ConflictError, errors.IdempotencyError}
    return possible


def _description(operation: Operation) -> dict[str, Any]:
    summary, _, description = (inspect.getdoc(operation.handle) or "").partition("\n\n")
    sets = [" and ".join(f"`{scope}`" for scope in scopes) for scopes in operation.scope_sets]
    needed = f"Requires a key with the scope {' or '.join(sets)}."
    return {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": summary.rstrip(".").replace("`", ""),
        "description": f"{description}\n\n{needed}".strip(),
        "security": [{scheme: [*scopes]} for scopes in operation.scope_sets for scheme in _SCHEMES],
    }


def _request_body(operation: Operation, schemas: Mapping[str, Any]) -> dict[str, Any]:
    if operation.body is None:
        return {}
    content: dict[str, Any] = {"schema": schemas[repr(operation.body)]}
    if operation.example:
        content["example"] = dict(operation.example)
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


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
        "description": "The API version that the client was written for. Others get a 426.",
    }
    if operation.retry is not Retry.READ:
        yield {
            "name": IDEMPOTENCY_HEADER,
            "in": "header",
            "schema": {"type": "string", "minLength": 1, "maxLength": 200},
            "description": "A repeated key with the same request returns the first response again.",
        }


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a query parameter, which is absent rather than null."""
    types = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    (kind,) = types if len(types) == 1 else (schema,)
    return {name: value for name, value in kind.items() if (name, value) != ("default", None)}


def _responses(
    operation: Operation, schemas: Mapping[str, Any], error_schema: Any
) -> dict[str, Any]:
    causes: dict[int, list[str]] = {}
    for error in sorted(possible_errors(operation), key=lambda error: (error.status, error.type)):
        cause = f"`{error.type}`: {(error.__doc__ or '').partition(chr(10))[0]}"
        causes.setdefault(int(error.status), []).append(cause)
    phrase = HTTPStatus(operation.status).phrase
    success = _response(phrase, None)
    success["content"] = {
        kind: {"schema": schemas[repr(operation.response)] if kind == _JSON else {"type": "string"}}
        for kind in operation.media
    }
    responses = {str(int(operation.status)): success}
    for status, texts in causes.items():
        text = " ".join(dict.fromkeys(texts))
        retry_after = status in _STATUSES_WITH_RETRY_AFTER
        responses[str(status)] = _response(text, error_schema, retry_after=retry_after)
    return responses


def _response(description: str, schema: Any, *, retry_after: bool = False) -> dict[str, Any]:
    headers = {"X-Request-Id": {"schema": {"type": "string"}}}
    return {
        "description": description,
        "headers": headers | (_RETRY_AFTER if retry_after else {}),
        "content": {_JSON: {"schema": schema}},
    }
