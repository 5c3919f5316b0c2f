"""Types of budgets: limits on what a user, an API key, a category or a tag uses."""

from __future__ import annotations

import enum
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

EACH = "*"


class SubjectKind(enum.StrEnum):
    """The dimension of usage that a budget limits."""

    USER = "user"
    KEY = "key"
    CATEGORY = "category"
    TAG = "tag"


class WindowKind(enum.StrEnum):
    """The time after which a budget resets, in UTC; `total` never does."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    TOTAL = "total"


class BudgetAction(enum.StrEnum):
    """What happens at the limit: debits and holds are refused, or it is only announced."""

    REFUSE = "refuse"
    TELL = "tell"


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """A limit in credits on one subject, or (`*`) on each subject by itself.

    A budget that names a subject replaces the one of `*` with the same window. `thresholds` are
    percentages of the limit at which `budget.reached` is announced.
    """

    organization_id: UUID
    id: UUID
    subject_kind: SubjectKind
    subject: str
    window_kind: WindowKind
    limit: Decimal
    action: BudgetAction
    thresholds: tuple[int, ...]
    created_at: datetime
    updated_at: datetime


class SubjectState(msgspec.Struct, frozen=True, kw_only=True):
    """What a subject has used in the current window, and what its active holds have reserved."""

    subject: str
    used: Decimal
    held: Decimal


class BudgetState(msgspec.Struct, frozen=True, kw_only=True):
    """A budget in its current window.

    `subjects` are those that used or hold most: one at most, unless it is a budget of each subject.
    """

    budget: Budget
    resets_at: datetime | None
    subjects: tuple[SubjectState, ...]

    @property
    def own(self) -> SubjectState | None:
        """The state of the subject that the budget names; None for a budget of each subject."""
        if self.budget.subject == EACH:
            return None
        nothing = SubjectState(subject=self.budget.subject, used=Decimal(0), held=Decimal(0))
        return next(iter(self.subjects), nothing)

    def left(self, state: SubjectState) -> Decimal:
        """Return the credits that a subject may use until the window ends."""
        return max(self.budget.limit - state.used - state.held, Decimal(0))

    @property
    def is_spent(self) -> bool:
        """Whether a subject has reached the limit."""
        own = self.own
        subjects = self.subjects if own is None else (own,)
        return any(state.used + state.held >= self.budget.limit for state in subjects)


class NewBudget(msgspec.Struct, frozen=True, kw_only=True):
    """A budget that is requested."""

    subject_kind: SubjectKind
    subject: str
    window_kind: WindowKind
    limit: Decimal
    action: BudgetAction = BudgetAction.REFUSE
    thresholds: tuple[int, ...] = (80, 100)


class BudgetChange(msgspec.Struct, frozen=True, kw_only=True):
    """What to change of a budget; None leaves it. Subject and window never change."""

    limit: Decimal | None = None
    action: BudgetAction | None = None
    thresholds: tuple[int, ...] | None = None
