"""The local gate: refuses at once what the last refusal shows to be far too much."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from prepaid_client.errors import Insufficient

SECONDS_DEFAULT = 10.0
ORGANIZATIONS_MAX = 10_000
# A request is refused locally only if it needs more than this many times what was available.
FACTOR = 2
PAYMENT_REQUIRED = 402


@dataclass(frozen=True, slots=True)
class Need:
    """The credits that a request needs; None if a price list decides."""

    organization: str
    amount: Decimal | None


@dataclass(frozen=True, slots=True)
class _Known:
    until: float
    body: Mapping[str, Any]


class Gate:
    """Remembers an organization's last refusal for `seconds`, and refuses what needs far more.

    A request is refused if the refusal is younger than `seconds` and less than half of the amount
    was available; where a price list decides on the amount, if nothing was available. The server's
    refusal has triggered auto-recharge already, so that a local one misses nothing. A refusal
    while a recharge is in progress is not remembered. A purchase, a grant or a larger balance that
    this client sees opens the gate. `refused` counts. With 0 seconds the gate is off.
    """

    def __init__(self, seconds: float = SECONDS_DEFAULT) -> None:
        self.seconds = seconds
        self.refused = 0
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def check(self, need: Need | None, now: float) -> None:
        """Raise Insufficient where the last known balance is far below the need."""
        known = self._known.get(need.organization) if need is not None else None
        if need is None or known is None:
            return
        if known.until <= now:
            self._known.pop(need.organization, None)
            return
        available = known.body["available"]
        too_little = available <= 0 if need.amount is None else available * FACTOR < need.amount
        if too_little:
            self.refused += 1
            raise Insufficient(PAYMENT_REQUIRED, _body(known.body, need.amount), is_local=True)

    def close(self, organization: str, refusal: Insufficient, now: float) -> None:
        """Remember a refusal of the server."""
        self._known.pop(organization, None)
        if self.seconds <= 0 or refusal.available is None or refusal.recharge_in_progress:
            return
        if len(self._known) >= ORGANIZATIONS_MAX:
            self._known.popitem(last=False)  # one step, so that threads may share the gate
        self._known[organization] = _Known(now + self.seconds, refusal.body)

    def open(self, organization: str) -> None:
        """Forget the refusal of an organization: its balance may have risen."""
        self._known.pop(organization, None)


def _body(known: Mapping[str, Any], amount: Decimal | None) -> dict[str, Any]:
    body = {**known, "detail": f"{known['detail']} (the last known balance: nothing was sent)"}
    body.pop("required", None)
    if amount is not None:
        available = known["available"]
        body["required"] = amount
        body["detail"] = (
            f"This needs {amount:f} credits; {available} were available at the last request."
            " Nothing was sent."
        )
    return body
