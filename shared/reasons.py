"""The reason that a person gives for an act, as the audit log records it."""

from __future__ import annotations

from shared.errors import ValidationError
from shared.printable import is_visible

REASON_LENGTH_MAX = 500


def check_reason(reason: str | None) -> str | None:
    """Return a reason without surrounding spaces; raise ValidationError where it is too long."""
    if reason is None:
        return None
    if len(reason) > REASON_LENGTH_MAX:
        raise ValidationError(f"reason: at most {REASON_LENGTH_MAX} characters")
    if not is_visible(reason) or "\0" in reason:
        raise ValidationError("reason: say why, in printable characters")
    return reason.strip()


def require_reason(reason: str) -> str:
    """Return a reason as `check_reason` does; raise ValidationError for an empty one too."""
    checked = check_reason(reason) if reason else None
    if checked is None:
        raise ValidationError("reason: say why")
    return checked
