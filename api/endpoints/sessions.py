"""Sessions: short-lived tokens for the browser of one organization's customer."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from api.framework.body_organization import body_organization
from api.framework.fields import Request, Response
from api.framework.operation import Call, Operation, Reply
from shared.access import sessions
from shared.access.model import SESSION_SCOPES, Scope
from shared.errors import NotFoundError, ValidationError


class SessionRequest(Request):
    """The organization of the browser's user."""

    organization_id: str | None = None


class SessionResponse(Response):
    """A session. Send `token` like an API key. It is returned once and cannot be renewed."""

    id: UUID
    organization_id: UUID
    token: str
    scopes: list[Scope]
    expires_at: datetime


async def create(call: Call) -> Reply:
    """Open a session for a browser: a token for one organization, valid for 15 minutes.

    The token has the scopes `read` and `purchases` for this organization only. It ends earlier if
    the key that opened it expires or is revoked. It cannot open sessions or give consent. Each
    request opens a new session; earlier ones stay valid.
    """
    async with call.api.pool.acquire() as connection:
        opened = await sessions.open_session(
            connection,
            call.api.make_id(),
            organization_id=call.owner.id,
            key_id=call.caller.key_id,
            request_id=call.request_id,
            now=call.now,
        )
    return Reply(
        SessionResponse(
            id=opened.id,
            organization_id=call.owner.id,
            token=opened.token,
            scopes=sorted(SESSION_SCOPES),
            expires_at=opened.expires_at,
        )
    )


OPERATIONS = (
    Operation(
        name="createSession",
        tag="Sessions",
        method="POST",
        path="/v1/billing/sessions",
        handle=create,
        body=SessionRequest,
        response=SessionResponse,
        # Opening a session is a decision for the organization, and a key cannot delegate scopes
        # that it lacks.
        scope=Scope.BILLING,
        and_scopes=tuple(sorted(SESSION_SCOPES)),
        organization_of=body_organization,
        errors=(ValidationError, NotFoundError),
        example={"organizationId": "acme"},
    ),
)
