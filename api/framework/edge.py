"""The edge: version, API key, rate limit, scope, parsing and idempotency, before each handler."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from uuid import UUID

from aiohttp import web
from multidict import MultiDict, MultiDictProxy, istr

from api.framework import idempotency, parsing
from api.framework.context import Api
from api.framework.csv_replies import Csv, CsvStream, csv_response, prefers_csv, stream
from api.framework.operation import Call, Operation, Reply, Retry
from api.framework.shares import Tenant, act_for
from shared.access.model import Caller, scopes_text
from shared.errors import (
    AuthenticationError,
    InvalidRequestError,
    PermissionDeniedError,
    UpgradeRequiredError,
)
from shared.http.body import read_body
from shared.http.envelope import json_response
from shared.http.middleware import ANSWER_HEADERS, REQUEST_ID_KEY

API_VERSION = "2026-11-01"
VERSION_HEADER = "Prepaid-Version"
IDEMPOTENCY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotent-Replayed"
# Their lower-case form is computed once.
_VERSION, _IDEMPOTENCY = istr(VERSION_HEADER), istr(IDEMPOTENCY_HEADER)
_ID_OF_READS = UUID(int=0)
_NO_PARAMETERS: MultiDictProxy[str] = MultiDictProxy(MultiDict())
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?")


def handler(
    api: Api, operation: Operation
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return the HTTP handler of an operation."""

    async def handle(request: web.Request) -> web.StreamResponse:
        _check_version(request)
        reply = await api.deadlines.within(operation.seconds_max, _run(api, operation, request))
        if not isinstance(reply, Reply):
            return reply
        if isinstance(reply.body, Csv):
            return csv_response(reply.body)
        response = json_response(reply.body, reply.status or operation.status)
        if reply.replayed:
            response.headers[REPLAYED_HEADER] = "true"
        return response

    return handle


def _check_version(request: web.Request) -> None:
    named = request.headers.getall(_VERSION, [])
    if len(named) > 1:
        raise InvalidRequestError(f"Send {VERSION_HEADER} at most once.")
    if named and named[0] != API_VERSION:
        raise UpgradeRequiredError(
            f"{VERSION_HEADER} {named[0][:40]!r} is not supported; send {API_VERSION}."
        )


def _check_scope(caller: Caller, operation: Operation) -> None:
    if not operation.allows(caller):
        needed = " or ".join(",".join(scopes) for scopes in operation.scope_sets)
        raise PermissionDeniedError(
            f"This requires a key with the scope {needed}; yours has {scopes_text(caller.scopes)}."
        )


async def _run(api: Api, operation: Operation, request: web.Request) -> Reply | web.StreamResponse:
    caller = await _authenticate(api, request)
    _limit(api, operation, caller, request)
    _check_scope(caller, operation)
    tenant = Tenant(caller.limited_as, caller.organization_id)
    act_for(tenant)
    call = await _read(api, operation, caller, request)
    if call.organization is not None:
        tenant = Tenant(tenant.key, call.organization.id)
        act_for(tenant)
    api.requests.enter_now(tenant)
    try:
        reply = await _respond(operation, call)
        if isinstance(reply.body, CsvStream):
            return await stream(request, reply.body)
        return reply
    finally:
        api.requests.leave(tenant)


async def _authenticate(api: Api, request: web.Request) -> Caller:
    try:
        return await api.authenticator.authenticate(request)
    except AuthenticationError:
        api.limiter.take_unauthenticated()
        raise


def _limit(api: Api, operation: Operation, caller: Caller, request: web.Request) -> None:
    try:
        api.limiter.take(caller.limited_as, operation.cost)
    finally:
        request[ANSWER_HEADERS] = api.limiter.headers(caller.limited_as)


async def _read(api: Api, operation: Operation, caller: Caller, request: web.Request) -> Call:
    path = request.match_info
    named = operation.organization_parameter
    organization = await api.organizations.find(path[named], caller) if named else None
    parameters = request.query if request.query_string else _NO_PARAMETERS
    query = parsing.query(parameters, operation.query)
    body = None
    if operation.body is not None:
        raw = await read_body(request)
        if raw:  # some clients send a Content-Type with an empty body
            parsing.check_content_type(request.headers)
        body = parsing.body(raw or b"{}", operation.body)
        if operation.cost_of_body is not None:
            api.limiter.charge(caller.limited_as, operation.cost_of_body(body))
    reads = operation.retry is Retry.READ
    idempotency_key = None if reads else _idempotency_key(request)
    if operation.organization_of is not None:
        organization = await operation.organization_of(api, caller, body)
    return Call(
        api=api,
        caller=caller,
        id=_ID_OF_READS if reads else api.make_id(),
        request_id=request[REQUEST_ID_KEY],
        now=api.now(),
        path=path,
        query=query,
        body=body,
        idempotency_key=idempotency_key,
        organization=organization,
        prefers_csv=prefers_csv(request.headers),
    )


async def _respond(operation: Operation, call: Call) -> Reply:
    keyed_by = operation.keyed_by
    by_ledger = keyed_by is not None and getattr(call.body, keyed_by) is None
    if call.idempotency_key is None or by_ledger:
        return await operation.handle(call)
    return await idempotency.once(operation, call, call.idempotency_key)


def _idempotency_key(request: web.Request) -> str | None:
    values = request.headers.getall(_IDEMPOTENCY, [])
    if not values:
        return None
    if len(values) > 1 or not _IDEMPOTENCY_KEY.fullmatch(values[0]):
        raise InvalidRequestError(
            f"Send {IDEMPOTENCY_HEADER} once, with 1 to 200 printable ASCII characters."
        )
    return values[0]
