"""Finding the organization of a request whose path names none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.framework import fields
from shared.access.model import Caller
from shared.organizations.model import Organization

if TYPE_CHECKING:
    from api.framework.context import Api


async def body_organization(api: Api, caller: Caller, body: Any) -> Organization:
    """Return the organization that the body names, else the one that the key is bound to.

    Raises ValidationError where neither names one.
    """
    reference: str | None = body.organization_id
    bound_to = caller.organization_id
    if reference is None and bound_to is None:
        raise fields.invalid(("body", "organizationId"), "is missing")
    named = reference if reference is not None else str(bound_to)
    return await api.organizations.find(named, caller)
