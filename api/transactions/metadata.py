"""The caller's metadata of a ledger row, apart from reserved names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.framework import fields
from shared.ledger.origin import OWN


def public(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the caller's own metadata."""
    if not metadata:
        return {}
    return {name: value for name, value in metadata.items() if not name.startswith(OWN)}


def check_names(names: Mapping[str, Any], where: tuple[str | int, ...]) -> None:
    """Raise ValidationError for a reserved name in the metadata at the location `where`."""
    if any(name.startswith(OWN) for name in names):
        raise fields.invalid((*where, "metadata"), f"names must not begin with {OWN}")
