"""What a reserved call has used so far, and how its hold ends: pure decisions."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from prepaid_client.requests import Amount, exact
from prepaid_client.types import CaptureResponse, HoldResponse
from prepaid_client.usage import measures_of

SECONDS_DEFAULT = 300
SECONDS_TOTAL_MAX = 3_600
INPUT_TOKENS = "input_tokens"
OUTPUT_TOKENS = "output_tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to reserve: an amount, or an estimate of the measures of a model or meter."""

    organization: str
    amount: Decimal | None
    model: str | None
    meter: str | None
    estimate: Mapping[str, Decimal]
    seconds: int
    seconds_total_max: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Used:
    """What to charge: an amount, or measures."""

    amount: Decimal | None
    measures: Mapping[str, Decimal]

    def without(self, names: Collection[str]) -> Used:
        """Return the same without some measures."""
        left = {name: value for name, value in self.measures.items() if name not in names}
        return Used(self.amount, left)


@dataclass(slots=True)
class ReservedCall:
    """A call whose credits are reserved. Record what it uses; the rest is released at its end.

    `hold` is the reservation; `captured` is set at the end, if anything was used, unless the hold
    had expired by then.
    """

    plan: Plan
    hold: HoldResponse
    captured: CaptureResponse | None = None
    _amount: Decimal | None = None
    _measures: dict[str, Decimal] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def record(
        self, usage: object = None, /, *, amount: Amount | None = None, **measures: Amount
    ) -> None:
        """Say what the call has used until now, in total. A later total replaces an earlier one.

        `usage`: what a provider reports; `measures`: numbers by the names of a price book;
        `amount`: credits, for a call that reserved an amount.
        """
        reported = {} if usage is None else measures_of(usage)
        self._change(amount, {**reported, **measures}, is_total=True)

    def add(self, *, amount: Amount | None = None, **measures: Amount) -> None:
        """Say what the call has used since the last time, such as one more token."""
        self._change(amount, measures, is_total=False)

    def _change(
        self, amount: Amount | None, measures: Mapping[str, Amount], *, is_total: bool
    ) -> None:
        changes = {name: exact(value) for name, value in measures.items()}
        by_amount = self.plan.amount is not None
        if (changes and by_amount) or (amount is not None and not by_amount):
            kind = "an amount" if by_amount else "an estimate of measures"
            raise ValueError(f"The call reserved {kind}: record the same.")
        with self._lock:
            if amount is not None:
                before = Decimal(0) if is_total or self._amount is None else self._amount
                self._amount = before + exact(amount)
            for name, value in changes.items():
                before = Decimal(0) if is_total else self._measures.get(name, Decimal(0))
                self._measures[name] = before + value

    @property
    def used(self) -> Used | None:
        """What to charge; None if nothing was recorded.

        A call that has produced output has read its input: `input_tokens` that were never
        recorded are those of the estimate.
        """
        with self._lock:
            if self._amount is not None:
                return Used(self._amount, {}) if self._amount else None
            recorded = dict(self._measures)
        if not any(recorded.values()):
            return None
        if INPUT_TOKENS in self.plan.estimate:
            recorded.setdefault(INPUT_TOKENS, self.plan.estimate[INPUT_TOKENS])
        return Used(None, {name: value for name, value in recorded.items() if value})


def extension_pause(plan: Plan, *, failed: bool) -> float:
    """Return the seconds until a hold is extended: two thirds of its time, a tenth once failed."""
    return plan.seconds / 10 if failed else plan.seconds * 2 / 3
