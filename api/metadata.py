"""What of a row's metadata is the caller's, and what the surfaces keep there for themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Names that no caller can take.
OWN = "prepaid:"


def public(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the caller's own metadata."""
    return {name: value for name, value in (metadata or {}).items() if not name.startswith(OWN)}
