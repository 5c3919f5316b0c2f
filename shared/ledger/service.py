"""Posting to the ledger, in the caller's transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from msgspec.structs import replace

from shared import metrics
from shared.ids import new_id
from shared.ledger import rules, store
from shared.ledger.model import (
    Deferral,
    InsufficientCredits,
    InvalidPosting,
    Posting,
    PostingResult,
    PostingStatus,
    Source,
)
from shared.ledger.origin import with_origin

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

EXPIRY_NOTICE = timedelta(days=7)
# The candidates of a round of expirations: it posts in the first ones that are not locked.
DUE_ORGANIZATIONS_MAX = 200


async def post(
    connection: Connection, postings: Sequence[Posting], *, now: datetime | None = None
) -> list[PostingResult]:
    """Post transfers of any mix of organizations; return a result for each, in order.

    Guarantees: a key posts at most once within its organization; `seq` has no gaps; a refused
    posting changes nothing and affects no other. Runs inside the caller's transaction and commits
    nothing: a rollback posts nothing. One round trip; one more where a grant's expiry has passed,
    and one more where credits are insufficient.
    """
    results = await _post_valid(connection, postings, now or datetime.now(UTC), store.post)
    return [result for result in results if not isinstance(result, Deferral)]


async def post_shared(
    connection: Connection,
    postings: Sequence[Posting],
    *,
    lock_milliseconds_max: int,
    grants_max: int | None,
) -> list[PostingResult | Deferral]:
    """Post like `post`, for callers that share a batch; some organizations may be deferred.

    `BUSY`: another transaction locks the account for longer than `lock_milliseconds_max`. `HEAVY`:
    the postings may read more than `grants_max` grants. Nothing of such an organization is posted.
    """
    write = partial(
        store.post_shared, lock_milliseconds_max=lock_milliseconds_max, grants_max=grants_max
    )
    return await _post_valid(connection, postings, datetime.now(UTC), write)


Result = TypeVar("Result")
Write = Callable[["Connection", Sequence[Posting]], Awaitable[Sequence[PostingResult | Deferral]]]


async def post_with(
    connection: Connection, postings: Sequence[Posting], write: Write
) -> list[PostingResult]:
    """Post like `post`, by a statement of the caller's; it gets the postings that are valid."""
    results = await _post_valid(connection, postings, datetime.now(UTC), write)
    return [result for result in results if isinstance(result, PostingResult)]


async def _post_valid(
    connection: Connection,
    postings: Sequence[Posting],
    now: datetime,
    write: Write,
) -> list[PostingResult | Deferral]:
    """Post what is valid; return an InvalidPosting in place of the rest."""
    errors = await _refusals(connection, postings, now)
    results: list[PostingResult | None] = []
    valid: list[Posting] = []
    for posting, error in zip(postings, errors, strict=True):
        if error is None:
            valid.append(_with_digest(posting))
            results.append(None)
        else:
            results.append(InvalidPosting(organization_id=posting.organization_id, error=error))
    posted = iter(await _post(connection, valid, write) if valid else ())
    merged = [next(posted) if result is None else result for result in results]
    _count(postings, merged)
    return merged


async def _post(
    connection: Connection, postings: Sequence[Posting], write: Write
) -> Sequence[PostingResult | Deferral]:
    """Post; add to each insufficient debit whether a recharge is in progress."""
    results = await write(connection, postings)
    return await with_recharges_in_progress(connection, results)


async def with_recharges_in_progress(
    connection: Connection, results: Sequence[Result]
) -> list[Result | InsufficientCredits]:
    """Return the results; the insufficient ones say whether a recharge is in progress."""
    short = {r.organization_id for r in results if isinstance(r, InsufficientCredits)}
    if not short:
        return list(results)
    seconds = await store.recharges_in_progress(connection, sorted(short))
    return [
        _with_recharge(result, seconds) if isinstance(result, InsufficientCredits) else result
        for result in results
    ]


def _with_recharge(result: InsufficientCredits, seconds: Mapping[UUID, int]) -> InsufficientCredits:
    shortfall = replace(result.shortfall, recharge_seconds=seconds.get(result.organization_id))
    return replace(result, shortfall=shortfall)


async def _refusals(
    connection: Connection, postings: Sequence[Posting], now: datetime
) -> list[str | None]:
    """Return what is wrong with each. An expired grant is valid if it was posted in time."""
    errors = [rules.refusal(posting, now=now) for posting in postings]
    late = {
        place: error
        for place, posting in enumerate(postings)
        if errors[place] is None and (error := rules.expiry_refusal(posting, now=now))
    }
    if late:
        keys = [(postings[place].organization_id, postings[place].key) for place in late]
        known = await store.are_known(connection, keys)
        for (place, error), is_known in zip(late.items(), known, strict=True):
            errors[place] = None if is_known else error
    return errors


def _count(postings: Sequence[Posting], results: Sequence[PostingResult | Deferral]) -> None:
    pairs = zip(postings, results, strict=True)
    counts = Counter((p.type, r.status) for p, r in pairs if not isinstance(r, Deferral))
    for (kind, status), count in counts.items():
        metrics.LEDGER_POSTINGS.labels(str(kind), status).inc(count)


def _with_digest(posting: Posting) -> Posting:
    return with_origin(posting, digest=posting.digest or rules.digest(posting))


async def due(connection: Connection) -> list[UUID]:
    """Return the organizations with expirations that are not posted yet, 200 at most."""
    return await store.due(connection, limit=DUE_ORGANIZATIONS_MAX)


async def post_expirations(
    connection: Connection,
    *,
    among: Sequence[UUID] | None = None,
    organizations_max: int = 20,
    expirations_max: int = 200,
) -> int:
    """Post a round of expirations; return the number of organizations.

    Runs in the caller's transaction, posts at most `expirations_max`, in organizations of `among`
    or in any, and skips locked accounts. Safe to run concurrently.
    """
    due = await store.due(connection, limit=DUE_ORGANIZATIONS_MAX) if among is None else among
    if not due:
        return 0
    organizations = min(len(due), organizations_max)
    return await store.post_expirations(
        connection,
        due,
        organizations_max=organizations,
        expirations_max=expirations_max // organizations,
    )


async def announce_expiring(connection: Connection, *, now: datetime, grants_max: int = 200) -> int:
    """Announce the grants that expire within a week, each once; return their number."""
    return await store.announce_expiring(connection, now, EXPIRY_NOTICE, grants_max=grants_max)


async def reverse_payment(
    connection: Connection,
    payment_intent_id: str,
    *,
    refunded: Decimal,
    withdrawn: Decimal,
    disputed: bool,
    make_id: Callable[[], UUID] = new_id,
) -> PostingResult | None:
    """Bring the reversed part of a payment to the level of its refunds and disputes.

    `refunded` and `withdrawn` are total credits, not the change since the last call. Returns None
    when the level is reached already, or the payment was never credited. The order, duplicates and
    replay of events make no difference. Credits already spent become debt.
    """
    payment = await store.lock_payment(connection, payment_intent_id)
    if payment is None or not payment["credited"]:
        return None
    target = rules.reversal_target(payment["credits"], refunded, withdrawn)
    if target == payment["reversed"]:
        return None
    posting = rules.reversal(
        payment["organization_id"],
        make_id(),
        payment_intent_id,
        difference=target - payment["reversed"],
        number=payment["reversals"] + 1,
        disputed=disputed,
    )
    (result,) = await post(connection, [posting])
    if result.status is PostingStatus.POSTED:
        await store.record_reversal(connection, payment_intent_id, target)
    return result


async def explain(
    connection: Connection, row: asyncpg.Record, *, sources_max: int | None = None
) -> list[Source]:
    """Return where the credits of a debit came from: its grants, their payments, their receipts.

    The amounts add up to the row's amount, or to less where more than `sources_max` grants paid. A
    part without a grant is unpaid debt. Derived from the burn segments that overlap the row's range
    of consumption.
    """
    organization_id: UUID = row["organization_id"]
    if row["amount"] > 0:
        return []
    lower = await store.consumed_before(connection, organization_id, row["seq"])
    upper: Decimal = row["consumed_after"]
    limit = None if sources_max is None else sources_max + 1
    found: list[Source] = []
    if lower < upper:
        found = await store.sources(
            connection, organization_id, lower=lower, upper=upper, limit=limit
        )
    sources = found[:sources_max]
    debt = (upper - lower) - sum((source.amount for source in sources), Decimal(0))
    if debt and len(sources) == len(found):
        sources.append(
            Source(
                amount=debt,
                grant_id=None,
                grant_type=None,
                payment_intent_id=None,
                charge_id=None,
                receipt_url=None,
            )
        )
    directly = -row["amount"] - (upper - lower)
    if directly and (
        source := await store.grant_source(
            connection,
            organization_id,
            row["grant_id"],
            row["payment_intent_id"],
            amount=directly,
        )
    ):
        sources.insert(0, source)
    return sources
