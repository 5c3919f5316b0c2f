"""What is personal in the columns that an erasure changes in part. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

# The fields of an audit entry's details that hold names, e-mail addresses or the users of budgets.
AUDIT_FIELDS = ("name", "email", "billingEmail", "budgetSubject")
ERASED = "[erased]"


def pseudonym(organization_id: UUID) -> str:
    """Return the name of an erased organization: the same at every erasure."""
    return f"erased {organization_id}"


def needles(organization_id: UUID, customers: Iterable[str]) -> list[str]:
    """Return the JSON strings by which a payload without an organization is recognized."""
    return [f'"{name}"' for name in (str(organization_id), *customers)]
