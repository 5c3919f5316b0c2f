"""/v1/organizations: the customers who own credits."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from uuid import UUID

import msgspec

from api.framework import cursors, fields
from api.framework.fields import PageQuery, Request, Response
from api.framework.operation import Call, Operation, Reply, Retry
from shared.access import service as audit
from shared.access.model import Scope
from shared.errors import (
    AlreadyExistsError,
    ConflictError,
    PermissionDeniedError,
    ValidationError,
)
from shared.ids import parse_id
from shared.organizations import service, store
from shared.organizations.model import Organization

CURSOR = "organizations"


class OrganizationRequest(Request):
    """A new customer. `currency` is a lower-case ISO 4217 code and cannot be changed later."""

    slug: str
    name: str
    currency: str = "usd"
    email: str | None = None
    id: str | None = None


class OrganizationChange(Request):
    """The fields to change. An absent field keeps its value; a null email removes it."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    email: str | msgspec.UnsetType | None = msgspec.UNSET


class OrganizationResponse(Response):
    """A customer."""

    id: UUID
    slug: str
    name: str
    currency: str
    email: str | None
    stripe_customer_id: str | None
    created_at: datetime
    updated_at: datetime


class OrganizationPage(Response):
    """A page of customers, oldest first."""

    data: list[OrganizationResponse]
    next_cursor: str | None


async def create(call: Call) -> Reply:
    """Create an organization, with an account of 0 credits.

    A slug is 1 to 100 characters of `a-z`, `0-9` and `-`. The slug and the currency cannot be
    changed later. 409 if the slug or the id is taken.
    """
    if call.caller.organization_id is not None:
        raise PermissionDeniedError("A key that is bound to an organization cannot create another.")
    body: OrganizationRequest = call.body
    wanted = None if body.id is None else parse_id(body.id)
    if body.id is not None and wanted is None:
        raise fields.invalid(("body", "id"), "must be a UUID")
    async with call.transaction() as connection:
        made = await service.create(
            connection,
            slug=body.slug,
            name=body.name,
            currency=body.currency,
            email=body.email,
            organization_id=wanted or call.id,
            credits_per_unit=call.api.settings.credits_per_unit,
        )
        await audit.record(
            connection,
            actor=call.actor,
            action="organizations.create",
            subject=str(made.id),
            organization_id=made.id,
        )
    return Reply(_response(made))


async def list_(call: Call) -> Reply:
    """List organizations, oldest first. A key that is bound to one lists only that one."""
    query: PageQuery = call.query
    bound_to = call.caller.organization_id
    if bound_to is not None:
        data = [_response(await call.find_organization(str(bound_to)))]
        return Reply(OrganizationPage(data=data, next_cursor=None))
    after = cursors.decode_id(CURSOR, query.cursor)
    async with call.api.pool.acquire() as connection:
        rows = await store.list_page(connection, after=after, limit=query.limit + 1)
    page = rows[: query.limit]
    names = Organization.__struct_fields__
    return Reply(
        OrganizationPage(
            data=[_response(Organization(**{name: row[name] for name in names})) for row in page],
            next_cursor=cursors.encode(CURSOR, page[-1]["id"]) if len(rows) > len(page) else None,
        )
    )


async def retrieve(call: Call) -> Reply:
    """Return an organization by its id or slug."""
    return Reply(_response(await _fresh(call)))


async def change(call: Call) -> Reply:
    """Change an organization's name or email."""
    body: OrganizationChange = call.body
    async with call.transaction() as connection:
        changed = await service.change(
            connection,
            call.owner,
            name=body.name or "" if body.name is not msgspec.UNSET else None,
            email=body.email if body.email is not msgspec.UNSET else None,
            clear_email=body.email is None,
        )
        await call.record(connection, "organizations.change", details=msgspec.to_builtins(body))
    call.api.organizations.forget(changed)
    return Reply(_response(changed))


async def _fresh(call: Call) -> Organization:
    async with call.api.pool.acquire() as connection:
        return await service.find(connection, str(call.owner.id))


def _response(organization: Organization) -> OrganizationResponse:
    return OrganizationResponse(
        **{name: getattr(organization, name) for name in OrganizationResponse.__struct_fields__}
    )


_TAG = "Organizations"
OPERATIONS = (
    Operation(
        name="createOrganization",
        tag=_TAG,
        method="POST",
        path="/v1/organizations",
        handle=create,
        body=OrganizationRequest,
        response=OrganizationResponse,
        scope=Scope.ADMIN,
        status=HTTPStatus.CREATED,
        retry=Retry.STORED,
        errors=(ValidationError, AlreadyExistsError),
        example={"slug": "initech", "name": "Initech", "currency": "usd"},
    ),
    Operation(
        name="listOrganizations",
        tag=_TAG,
        method="GET",
        path="/v1/organizations",
        handle=list_,
        query=PageQuery,
        response=OrganizationPage,
        scope=Scope.READ,
    ),
    Operation(
        name="getOrganization",
        tag=_TAG,
        method="GET",
        path="/v1/organizations/{organizationId}",
        handle=retrieve,
        response=OrganizationResponse,
        scope=Scope.READ,
    ),
    Operation(
        name="changeOrganization",
        tag=_TAG,
        method="PATCH",
        path="/v1/organizations/{organizationId}",
        handle=change,
        body=OrganizationChange,
        response=OrganizationResponse,
        scope=Scope.BILLING,
        retry=Retry.STORED,
        errors=(ValidationError, ConflictError),
        example={"name": "Initech Ltd"},
    ),
)
