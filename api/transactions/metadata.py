"""What of a row's metadata is the caller's, and what the surfaces keep there for themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.framework import fields
from shared.ledger.origin import OWN


def public(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the caller's own metadata."""
    return {name: value for name, value in (metadata or {}).items() if not name.startswith(OWN)}


def check_names(given: Mapping[str, Any], where: tuple[str | int, ...]) -> None:
    """Refuse metadata with a name of Prepaid's own; `where` in the request it stands."""
    if any(name.startswith(OWN) for name in given):
        raise fields.invalid((*where, "metadata"), f"no name may begin with {OWN}")
