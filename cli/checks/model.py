"""What a check of `prepaid doctor` returns: a finding, a warning, or an error with its fix."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from shared.config import Settings
from shared.errors import PrepaidError


@dataclass(frozen=True, slots=True)
class Caution:
    """A finding that the installation works with, and that an operator should know of."""

    detail: str
    fix: str | None = None


class DoctorError(PrepaidError):
    """A check failed. `fix` is the command that corrects it, where there is one."""

    def __init__(self, detail: str, fix: str | None = None) -> None:
        super().__init__(detail)
        self.fix = fix


Finding = str | Caution
Probe = Callable[[Settings], Coroutine[Any, Any, Finding]]
