"""Finding the organization of a request whose path names none."""

from __future__ import annotations

from api.framework import fields
from api.framework.operation import Call
from shared.organizations.model import Organization


async def body_organization(call: Call) -> Organization:
    """Return the organization that the body names, else the one that the key is bound to.

    Raises ValidationError where neither names one.
    """
    reference: str | None = call.body.organization_id
    bound_to = call.caller.organization_id
    if reference is None and bound_to is None:
        raise fields.invalid(("body", "organizationId"), "is missing")
    return await call.find_organization(reference if reference is not None else str(bound_to))
