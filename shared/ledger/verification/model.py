"""A run of the verification, and its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypedDict
from uuid import UUID

PROBLEMS_MAX = 1_000
FIRST = UUID(int=0)
LAST = UUID(int=(1 << 128) - 1)


class Verification(TypedDict):
    """The result of a verification. `ok`: no problem in these organizations and transactions."""

    ok: bool
    organizations: int
    transactions: int
    problems: list[dict[str, Any]]


@dataclass
class Run:
    """The progress of a run: its phase, and the last row checked.

    `id` is None where the run is not recorded: for one organization, and on a read-only database.
    """

    id: UUID | None = None
    phase: str = "rows"
    after: tuple[UUID, int] = (FIRST, 0)
    last: UUID = LAST
    organizations: int = 0
    transactions: int = 0
    problems: list[dict[str, Any]] = field(default_factory=list)

    def result(self) -> Verification:
        """Return the result of the run as it is now."""
        return Verification(
            ok=not self.problems,
            organizations=self.organizations,
            transactions=self.transactions,
            problems=self.problems,
        )

    def add_problem(
        self,
        organization_id: Any,
        problem: str,
        *,
        seq: int | None = None,
        transaction_id: Any = None,
    ) -> None:
        """Add a problem, up to PROBLEMS_MAX."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append({
                "organizationId": None if organization_id is None else str(organization_id),
                "seq": seq,
                "transactionId": None if transaction_id is None else str(transaction_id),
                "problem": problem,
            })  # fmt: skip
