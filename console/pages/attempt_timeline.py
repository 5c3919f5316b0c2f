"""An attempt as a timeline, and who has to act on it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from shared.recharge.model import FINAL_STATES, AttemptState


class Row(Protocol):
    """A row of the database."""

    def __getitem__(self, column: str, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Moment:
    """A point of the timeline. `ahead`: it has not come yet."""

    at: datetime
    label: str
    detail: str = ""
    ahead: bool = False


def timeline(
    attempt: Row,
    *,
    deadline: datetime | None,
    ledger_row: Row | None,
    acts: Sequence[Row],
    now: datetime,
) -> list[Moment]:
    """Return the moments of an attempt, in the order of their times; it begins armed."""
    moments: list[Moment] = []
    if attempt["charged_at"] is not None:
        moments.append(Moment(attempt["charged_at"], "charging", _charge(attempt)))
    moments += [
        Moment(act["at"], act["action"], f"{act['actor']}: {act['reason'] or 'no reason'}")
        for act in acts
    ]
    if ledger_row is not None:
        moments.append(Moment(ledger_row["created_at"], "credited", "on the ledger"))
    state = AttemptState(attempt["state"])
    if state in FINAL_STATES:
        moments.append(Moment(attempt["settled_at"], state, _ending(attempt)))
    else:
        moments += _ahead(attempt, state, deadline, now)
    armed = Moment(attempt["created_at"], "armed", f"by {_trigger(attempt)}")
    return [armed, *sorted(moments, key=lambda moment: moment.at)]


def fault(attempt: Row) -> str:
    """Return who has to act, or whose answer decided, in a sentence."""
    state = AttemptState(attempt["state"])
    if attempt["blocked_by"] is not None:
        return f"This installation: Stripe refuses its requests ({attempt['blocked_by']})."
    if state is AttemptState.REQUIRES_ACTION:
        return "The customer: the bank requires authentication."
    if attempt["decline_code"] is not None:
        return "The customer's bank declined the charge."
    return _BY_STATE[state]


_BY_STATE = {
    AttemptState.ARMED: "A worker decides next.",
    AttemptState.CHARGING: "A worker asks Stripe next.",
    AttemptState.PROCESSING: "The bank has not answered yet.",
    AttemptState.UNKNOWN: "Stripe's answer was lost; a worker looks the payment up.",
    AttemptState.SUCCEEDED: "Nobody: it was captured and credited.",
    AttemptState.FAILED: "Stripe refused the charge.",
    AttemptState.CANCELED: "Nobody: nothing was charged, and nothing will be.",
}


def _ahead(
    attempt: Row, state: AttemptState, deadline: datetime | None, now: datetime
) -> list[Moment]:
    moments = []
    if state is not AttemptState.ARMED:
        moments.append(Moment(now, state))
    if attempt["lease_token"] is not None and attempt["due_at"] > now:
        moments.append(Moment(attempt["due_at"], "lease of a worker ends", ahead=True))
    else:
        moments.append(Moment(max(attempt["due_at"], now), "next look of a worker", ahead=True))
    if deadline is not None:
        moments.append(Moment(max(deadline, now), "deadline", "ends it", ahead=True))
    return moments


def _trigger(attempt: Row) -> str:
    return str(attempt["trigger"]).replace("_", "-")


def _charge(attempt: Row) -> str:
    parts = [attempt["payment_intent_id"], attempt["payment_method_id"]]
    return ", ".join(part for part in parts if part)


def _ending(attempt: Row) -> str:
    parts = [attempt["reason"], attempt["decline_code"], attempt["detail"]]
    return ": ".join(dict.fromkeys(part for part in parts if part))
