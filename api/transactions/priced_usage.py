"""Usage on its way from a request to a posting: its key, its hold, its price."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from msgspec.structs import replace

from api.framework import fields
from api.framework.operation import Call, not_found
from api.transactions import debit_fields, permissions, prices
from api.transactions.debit_fields import DebitFields, OnInsufficient
from api.transactions.posting_keys import posting_key
from api.transactions.prices import Measures, Where
from shared.errors import PrepaidError
from shared.ledger import rules as ledger_rules
from shared.ledger import store as ledger
from shared.ledger.holds import rules as hold_rules
from shared.ledger.holds import store as holds
from shared.ledger.holds.model import Hold
from shared.ledger.model import Posting, PostingStatus, RefusedPosting, TransactionType
from shared.ledger.origin import PRICING
from shared.ledger.posting_errors import posting_error
from shared.pricing.model import PricedUsage, UsageItem
from shared.pricing.record import to_record
from shared.pricing.rules import pricing_moment

if TYPE_CHECKING:
    import asyncpg


class UsageRequest(DebitFields, kw_only=True):
    """Usage of a `model` or a `meter`, by measure; the price book makes its amount.

    `transactionId` is your own id and makes the request idempotent. With `holdId` the usage is
    captured from that hold, and what exceeds it is taken from the balance; `final: false` leaves
    the hold open, and without `model` and `meter` the hold's are used.
    """

    measures: Measures
    model: str | None = None
    meter: str | None = None
    hold_id: UUID | None = None
    final: bool = True


@dataclass(frozen=True, slots=True)
class Draft:
    """Usage before its price: a posting without an amount, and what to price at which moment."""

    posting: Posting
    item: UsageItem
    at: datetime
    where: Where


@dataclass(frozen=True, slots=True)
class Priced:
    """Usage with its price. `row`: it was posted before, by the same request."""

    posting: Posting
    record: dict[str, Any]
    row: asyncpg.Record | None = None

    @property
    def is_free(self) -> bool:
        """Whether it costs nothing: the ledger has no rows of zero."""
        return self.row is None and not self.posting.amount

    @property
    def closes_hold(self) -> bool:
        """Whether it ends a hold without a row."""
        return self.is_free and self.posting.hold_id is not None and not self.posting.partial


def draft(call: Call, request: UsageRequest, hold: Hold | None, where: Where) -> Draft:
    """Return the draft of a request; raise a PrepaidError for what is wrong with it."""
    if request.transaction_id is None and call.idempotency_key is None:
        raise fields.invalid((*where, "transactionId"), "is missing: usage is posted once by it")
    if request.hold_id is None and not request.final:
        raise fields.invalid((*where, "final"), "is for usage with a holdId")
    item = item_with_hold(request.measures, request.model, request.meter, hold, where)
    at = moment_of(call, request, where)
    key = posting_key(call, request.transaction_id, where)
    overdraft = request.on_insufficient is OnInsufficient.OVERDRAFT
    posting = debit_fields.posting_of(call, request, key, where, may_overdraw=overdraft)
    if request.hold_id is not None:
        posting = replace(
            posting,
            type=TransactionType.HOLD_CAPTURE,
            hold_id=request.hold_id,
            may_overdraw=True,
            partial=not request.final,
            past_limit=overdraft,
        )
    digest = ledger_rules.digest(posting, usage=prices.requested(item))
    posting = replace(posting, digest=digest)
    if hold is not None:
        posting = hold_rules.capture_of(hold, posting)
    return Draft(posting=posting, item=item, at=at, where=where)


def moment_of(call: Call, request: DebitFields, where: Where) -> datetime:
    """Return the moment whose prices apply: when the usage happened, as far as the key may say."""
    if error := ledger_rules.clock_refusal("effectiveOn", request.effective_on):
        raise fields.invalid((*where, "effectiveOn"), error.partition(": ")[2])
    return pricing_moment(
        request.effective_on, now=call.now, is_limited=not permissions.may_choose_prices(call)
    )


def item_with_hold(
    measures: Measures, model: str | None, meter: str | None, hold: Hold | None, where: Where
) -> UsageItem:
    """Return usage as a request states it; its model or meter may be that of its hold."""
    if model is None and meter is None and hold is not None:
        estimate = (hold.metadata or {}).get(PRICING, {})
        model, meter = estimate.get("model"), estimate.get("meter")
    return prices.item_of(measures, model, meter, where)


async def holds_of(call: Call, requests: Sequence[UsageRequest]) -> dict[UUID, Hold]:
    """Return the holds that requests name, by id."""
    hold_ids = {request.hold_id for request in requests if request.hold_id is not None}
    if not hold_ids:
        return {}
    async with call.acquire() as connection:
        return await holds.find_many(connection, call.owner.id, hold_ids)


def hold_of(request: UsageRequest, known: dict[UUID, Hold]) -> Hold | None:
    """Return the hold that a request names, if any; raise NotFoundError for an unknown one."""
    if request.hold_id is None:
        return None
    if request.hold_id not in known:
        raise not_found("hold", str(request.hold_id))
    return known[request.hold_id]


async def price(call: Call, drafts: Sequence[Draft]) -> list[Priced | PrepaidError]:
    """Return each draft with its price, or the error of one that has none.

    What has no price now, or none above zero, may have been posted under an earlier price: the
    same request is answered by its row, and free usage with the id of another request is a
    conflict.
    """
    found = await prices.price_all(call, [(draft.item, draft.at) for draft in drafts])
    unposted = {
        draft.posting.key
        for draft, priced in zip(drafts, found, strict=True)
        if not isinstance(priced, PricedUsage) or not priced.total
    }
    rows: dict[str, asyncpg.Record] = {}
    if unposted:
        async with call.acquire() as connection:
            rows = await ledger.find_by_keys(connection, call.owner.id, sorted(unposted))
    results: list[Priced | PrepaidError] = []
    for draft, priced in zip(drafts, found, strict=True):
        posting, row = draft.posting, rows.get(draft.posting.key)
        if row is not None and row["digest"] == posting.digest:
            results.append(Priced(posting, row["metadata"][PRICING], row))
        elif row is not None and isinstance(priced, PricedUsage):
            results.append(conflict(posting))
        elif isinstance(priced, PricedUsage):
            record = to_record(priced)
            amount = -priced.total if priced.total else Decimal(0)
            results.append(Priced(replace(posting, amount=amount, pricing=record), record))
        else:
            results.append(prices.pricing_error(priced, draft.where))
    return results


def conflict(posting: Posting) -> PrepaidError:
    """Return the error of usage that costs nothing, whose id is that of another request's row."""
    return posting_error(
        RefusedPosting(organization_id=posting.organization_id, status=PostingStatus.CONFLICT)
    )
