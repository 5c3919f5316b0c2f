"""Short-lived tokens for the browser of one organization."""

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
    """Whose browser it is."""

    organization_id: str | None = None


class SessionResponse(Response):
    """A session. `token` is sent as an API key is; it is shown once and cannot be renewed."""

    id: UUID
    organization_id: UUID
    token: str
    scopes: list[Scope]
    expires_at: datetime


async def create(call: Call) -> Reply:
    """Open a session for one organization's browser: a token that is valid for 15 minutes.

    The token has the scopes `read` and `purchases` for this organization alone. It ends earlier
    when the key that opened it expires or is revoked. It opens no sessions and gives no consent. A
    second request opens another session, and the first one stays valid.
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
        # Who may decide for the organization may let its people in; nobody gives rights away that
        # the key itself lacks.
        scope=Scope.BILLING,
        and_scopes=tuple(sorted(SESSION_SCOPES)),
        organization_of=body_organization,
        errors=(ValidationError, NotFoundError),
        example={"organizationId": "acme"},
    ),
)
