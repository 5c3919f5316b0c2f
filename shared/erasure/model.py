"""The result of an erasure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """The rows of each table that were erased, and those that could not be, with the reason."""

    erased: Mapping[str, int]
    left: Mapping[str, tuple[int, str]]

    @property
    def changed(self) -> bool:
        """Whether anything was erased."""
        return any(self.erased.values())
