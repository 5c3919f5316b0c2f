"""The life of a reservation's hold: opened, extended while the call runs, captured or released.

Coroutines on either transport. Every step may be repeated: a hold has one capture, whatever its
answers; what a hold that has expired leaves is posted as a debit under a key made of the hold's id.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import TypeVar

from prepaid_client import requests
from prepaid_client.caller import Caller
from prepaid_client.errors import (
    BudgetExceeded,
    Conflict,
    Forbidden,
    Insufficient,
    Invalid,
    NotFound,
    PrepaidError,
)
from prepaid_client.metering import Plan, ReservedCall, Used, extension_pause
from prepaid_client.types import CaptureResponse

T = TypeVar("T")
UNKNOWN_MEASURE = "unknown_measure"
CONFLICT = 409
log = logging.getLogger("prepaid_client")


class Lifecycle:
    """Carries out what a reservation needs of the API. `call` is set once it is open."""

    call: ReservedCall

    def __init__(self, caller: Caller, plan: Plan) -> None:
        self._caller = caller
        self._plan = plan

    async def open(self) -> ReservedCall:
        """Reserve the credits. Raises Insufficient, BudgetExceeded or Conflict."""
        plan = self._plan
        request = requests.hold(
            plan.organization,
            plan.amount,
            model=plan.model,
            meter=plan.meter,
            measures=plan.estimate or None,
            expires_in_seconds=plan.seconds,
            **plan.fields,
        )
        hold = await self._caller.call(request)
        if hold["status"] != "active":  # an earlier call with this transaction id has ended it
            detail = f"The hold {hold['id']} is {hold['status']}: reserve under another id."
            raise Conflict(CONFLICT, {"type": "conflict_error", "detail": detail})
        self.call = ReservedCall(plan, hold)
        return self.call

    async def extend_until(self, has_ended: Callable[[float], Awaitable[bool]]) -> None:
        """Extend the hold whenever it nears its expiry, until the call or its time has ended.

        `has_ended` waits for so many seconds, and returns whether the call ended by then.
        """
        plan, begun = self._plan, self._caller.clock()
        pause = extension_pause(plan, failed=False)
        while not await has_ended(pause):
            if self._caller.clock() - begun > plan.seconds_total_max:
                log.warning("hold %s is not extended any more", self.call.hold["id"])
                return
            pause = extension_pause(plan, failed=not await self._extend())

    async def _extend(self) -> bool:
        hold_id = self.call.hold["id"]
        try:
            request = requests.extend(self._plan.organization, hold_id, self._plan.seconds)
            await self._caller.call(request)
        except PrepaidError as error:
            log.warning("hold %s was not extended: %s", hold_id, error)
            return False
        return True

    async def end(self, *, failed: bool) -> None:
        """Capture what the call has used, and release the rest; release all if it used nothing."""
        used = self.call.used
        if used is None:
            if not failed:
                log.warning("hold %s: nothing was recorded", self.call.hold["id"])
            await self._release()
            return
        try:
            self.call.captured = await self._capture(used)
        except Conflict as conflict:
            await self._charge_late(used, conflict)

    async def _release(self) -> None:
        request = requests.release(self._plan.organization, self.call.hold["id"])
        try:
            await self._caller.call(request)
        except (Conflict, NotFound) as error:  # it has expired
            log.info("hold %s was not released: %s", self.call.hold["id"], error)

    async def _capture(self, used: Used) -> CaptureResponse:
        """Capture what was used, past the hold and the balance if need be: it has happened.

        Where even the overdraft limit does not cover it, what the hold still reserves is captured.
        """
        try:
            return await self._priced(used, self._capture_once)
        except (BudgetExceeded, Forbidden, Insufficient):
            left = await self._caller.call(
                requests.get_hold(self._plan.organization, self.call.hold["id"])
            )
            log.exception("hold %s: only what it reserves is captured", left["id"])
            return await self._capture_once(Used(Decimal(left["remaining"]), {}))

    async def _capture_once(self, used: Used) -> CaptureResponse:
        return await self._caller.call(
            requests.capture(
                self._plan.organization,
                self.call.hold["id"],
                used.amount,
                measures=used.measures or None,
                allow_exceed=True,
                on_insufficient="overdraft",
            )
        )

    async def _charge_late(self, used: Used, conflict: Conflict) -> None:
        """Post what was used of a hold that has expired; raise the conflict for any other."""
        organization, hold_id = self._plan.organization, self.call.hold["id"]
        hold = await self._caller.call(requests.get_hold(organization, hold_id))
        if hold["status"] != "expired":
            raise conflict
        log.warning("hold %s has expired: its use is posted as a debit", hold_id)
        await self._priced(used, self._debit_once)

    async def _debit_once(self, used: Used) -> None:
        plan = self._plan
        fields = {**plan.fields, "transaction_id": f"{self.call.hold['id']}:late"}
        if used.amount is not None:
            await self._caller.call(
                requests.debit(
                    plan.organization, used.amount, on_insufficient="overdraft", **fields
                )
            )
            return
        await self._caller.call(
            requests.usage(
                plan.organization,
                model=plan.model,
                meter=plan.meter,
                measures=used.measures,
                on_insufficient="overdraft",
                **fields,
            )
        )

    async def _priced(self, used: Used, charge: Callable[[Used], Awaitable[T]]) -> T:
        """Charge what was used, without the parts that have no price in the book.

        Tokens of a part are in `input_tokens` or `output_tokens` as well: none is left out. The
        server names one part at a time. What was estimated had a price, and is never left out.
        """
        try:
            return await charge(used)
        except Invalid as refusal:
            unpriced = {
                str(error["loc"][-1])
                for error in refusal.errors
                if error["type"] == UNKNOWN_MEASURE
            }
            rest = used.without(unpriced - self._plan.estimate.keys())
            if rest == used or not rest.measures:
                raise
            log.warning("hold %s: %s", self.call.hold["id"], refusal)
            return await self._priced(rest, charge)
