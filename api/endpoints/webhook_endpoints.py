"""/v1/webhook-endpoints: where outbound messages are sent."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from uuid import UUID

import msgspec

from api.framework.fields import Request, Response
from api.framework.operation import Call, Operation, Reply, Retry, not_found
from shared.access.model import Scope
from shared.errors import NotFoundError, PermissionDeniedError, ValidationError
from shared.ids import parse_id
from shared.outbound import service
from shared.outbound.model import MessageType, OutboundEndpoint

PATH = "/v1/webhook-endpoints"


class EndpointRequest(Request):
    """An https:// address of your app. Without types, it receives all messages."""

    url: str
    types: list[MessageType] = msgspec.field(default_factory=list)
    description: str | None = None


class EndpointResponse(Response):
    """An endpoint. The secret is returned only when it is created."""

    id: UUID
    url: str
    types: list[MessageType]
    description: str | None
    created_at: datetime
    disabled_at: datetime | None
    disabled_reason: str | None
    secret: str | None


class EndpointList(Response):
    """All endpoints, including disabled ones."""

    data: list[EndpointResponse]


class RemovedEndpointResponse(Response):
    """A removed endpoint, and the number of pending messages that were discarded."""

    id: UUID
    discarded: int


async def list_(call: Call) -> Reply:
    """List the endpoints, without their secrets."""
    _require_unbound_key(call)
    async with call.api.pool.acquire() as connection:
        endpoints = await service.list_endpoints(connection)
    return Reply(EndpointList(data=[_response(endpoint) for endpoint in endpoints]))


async def put(call: Call) -> Reply:
    """Register an endpoint, or change its message types.

    The request is idempotent. `secret` is set if the address is new or was disabled. Private
    addresses are refused unless the installation allows them.
    """
    _require_unbound_key(call)
    body: EndpointRequest = call.body
    async with call.transaction() as connection:
        endpoint, secret = await service.put_endpoint(
            connection,
            url=body.url,
            types=body.types,
            description=body.description,
            allow_private=call.api.settings.webhooks_allow_private,
        )
        await call.record(
            connection,
            "endpoints.put",
            subject=endpoint.id,
            details={"url": body.url, "types": list(endpoint.types)},
        )
    return Reply(_response(endpoint, secret))


async def remove(call: Call) -> Reply:
    """Remove an endpoint, and discard its pending messages."""
    _require_unbound_key(call)
    endpoint_id = parse_id(call.path["id"])
    if endpoint_id is None:
        raise not_found("endpoint", call.path["id"])
    async with call.transaction() as connection:
        discarded = await service.remove_endpoint(connection, endpoint_id)
        await call.record(
            connection, "endpoints.remove", subject=endpoint_id, details={"discarded": discarded}
        )
    return Reply(RemovedEndpointResponse(id=endpoint_id, discarded=discarded))


def _require_unbound_key(call: Call) -> None:
    if call.caller.organization_id is not None:
        raise PermissionDeniedError(
            "Endpoints receive messages about all organizations: use a key that is bound to none."
        )


def _response(endpoint: OutboundEndpoint, secret: str | None = None) -> EndpointResponse:
    return EndpointResponse(
        id=endpoint.id,
        url=endpoint.url,
        types=list(endpoint.types),
        description=endpoint.description,
        created_at=endpoint.created_at,
        disabled_at=endpoint.disabled_at,
        disabled_reason=endpoint.disabled_reason,
        secret=secret,
    )


_TAG = "Webhook endpoints"
OPERATIONS = (
    Operation(
        name="listWebhookEndpoints",
        tag=_TAG,
        method="GET",
        path=PATH,
        handle=list_,
        response=EndpointList,
        scope=Scope.ADMIN,
    ),
    Operation(
        name="putWebhookEndpoint",
        tag=_TAG,
        method="PUT",
        path=PATH,
        handle=put,
        body=EndpointRequest,
        response=EndpointResponse,
        scope=Scope.ADMIN,
        status=HTTPStatus.OK,
        retry=Retry.STORED,
        errors=(ValidationError,),
        example={"url": "https://app.example.com/hooks", "types": ["credits.low"]},
    ),
    Operation(
        name="removeWebhookEndpoint",
        tag=_TAG,
        method="DELETE",
        path=f"{PATH}/{{id}}",
        handle=remove,
        response=RemovedEndpointResponse,
        scope=Scope.ADMIN,
        retry=Retry.STORED,
        errors=(NotFoundError,),
    ),
)
