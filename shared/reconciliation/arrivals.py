"""Events that never arrived: found in Stripe's list, inserted into the inbox and applied."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from shared.errors import LeaseLostError
from shared.events.model import ProcessedEvent
from shared.inbox import rules as inbox_rules
from shared.inbox import store as inbox
from shared.inbox.model import ClaimedEvent, Delivery, EventHeader, EventKey, EventState
from shared.payments.objects import StripeId
from shared.reconciliation import recorded, store
from shared.reconciliation.context import (
    CANDIDATES_AT_ONCE_MAX,
    LOOKUP_SECONDS_MAX,
    Comparing,
)
from shared.reconciliation.model import Finding, FindingKind, Outcome, RunMode

if TYPE_CHECKING:
    from shared.db.pool import Connection

# Longer than Stripe's answers may take: each question renews the lease before it is asked.
LEASE = timedelta(seconds=LOOKUP_SECONDS_MAX + 30)
TRIED_AGAIN = "inserted, and tried again"


class _Subject(msgspec.Struct, frozen=True):
    id: StripeId | None = None


class _Data(msgspec.Struct, frozen=True):
    object: _Subject = _Subject()


class _Event(msgspec.Struct, frozen=True):
    data: _Data = _Data()


async def compare(comparing: Comparing, objects: Sequence[bytes]) -> list[Finding]:
    """Return the events of a page that are not in the inbox; insert and apply them in repairs."""
    read = [inbox_rules.read_header(each) for each in objects]
    tools = comparing.tools
    async with tools.pool.acquire() as connection:
        stored = await recorded.stored_events(connection, [header.id for header, _ in read])
    missing = [
        _delivery(comparing, header, text) for header, text in read if header.id not in stored
    ]
    if comparing.run.mode in (RunMode.EVENTS, RunMode.REPAIR):
        return await _insert(comparing, missing)
    findings = [_finding(delivery, comparing.unrepaired) for delivery in missing]
    if comparing.run.mode is RunMode.REPORT:
        return findings
    return await comparing.each(
        (finding.object_id, _preview(comparing, finding, delivery))
        for finding, delivery in zip(findings, missing, strict=True)
    )


def _delivery(comparing: Comparing, header: EventHeader, text: str) -> Delivery:
    """Return an event as its webhook would have brought it; lists may leave out the account."""
    if comparing.account and header.account is None:
        header = msgspec.structs.replace(header, account=comparing.account)
    reason = inbox_rules.quarantine_reason(
        header, livemode=comparing.tools.livemode, accounts=comparing.tools.accounts
    )
    return Delivery(header, text, f"reconciliation:{comparing.run.id}", reason)


def _finding(delivery: Delivery, outcome: Outcome) -> Finding:
    header = delivery.header
    created = datetime.fromtimestamp(header.created, UTC)
    subject = msgspec.json.decode(delivery.payload, type=_Event).data.object.id
    return Finding(
        kind=FindingKind.MISSING_EVENT,
        object_id=header.id,
        outcome=outcome,
        detail=f"{header.type} of {created:%Y-%m-%d %H:%M:%S} UTC about {subject}",
        account=header.account or "",
    )


async def _preview(comparing: Comparing, finding: Finding, delivery: Delivery) -> Finding:
    header = delivery.header
    event = ClaimedEvent(
        key=EventKey(header.account or "", header.livemode, header.id),
        type=header.type,
        api_version=header.api_version,
        payload=delivery.payload,
        attempts=1,
        received_at=comparing.tools.now(),
        request_id=delivery.request_id,
    )
    applied = await comparing.apply(finding, event, always=True)
    return finding if applied is None else applied


async def _insert(comparing: Comparing, missing: Sequence[Delivery]) -> list[Finding]:
    """Insert and apply events, the oldest first, a few at once.

    Each few have their answers from Stripe within their lease, at the rate of the client.
    """
    oldest_first = sorted(missing, key=lambda delivery: delivery.header.created)
    findings: list[Finding] = []
    for start in range(0, len(oldest_first), CANDIDATES_AT_ONCE_MAX):
        few = oldest_first[start : start + CANDIDATES_AT_ONCE_MAX]
        findings += await _insert_few(comparing, few)
    return findings


async def _insert_few(comparing: Comparing, missing: Sequence[Delivery]) -> list[Finding]:
    """Insert events, leased, with their findings; then apply them.

    If this process dies in between, their lease expires, and a worker applies them.
    """
    tools, token = comparing.tools, comparing.tools.make_id()
    async with tools.pool.acquire() as connection, connection.transaction():
        keys = await inbox.receive(connection, missing)
        new = {key.id for key in keys}
        inserted = [delivery for delivery in missing if delivery.header.id in new]
        findings = {d.header.id: _inserted(d) for d in inserted}
        await store.save_findings(connection, comparing.run.id, list(findings.values()))
        events = await inbox.claim_for_replay(
            connection,
            [d.header.id for d in inserted if d.quarantine is None],
            token=token,
            lease=LEASE,
            livemode=tools.livemode,
            accounts=tools.accounts,
        )
    order = {delivery.header.id: place for place, delivery in enumerate(inserted)}
    events.sort(key=lambda event: order[event.id])

    async def record(connection: Connection, processed: Sequence[ProcessedEvent]) -> None:
        decided = {p.outcome.key.id: _after(findings[p.outcome.key.id], p) for p in processed}
        await store.save_findings(connection, comparing.run.id, list(decided.values()))
        findings.update(decided)

    with suppress(LeaseLostError):  # a worker has taken over: it applies them
        await replace(tools.applier, on_finish=record).apply(token, events, LEASE)
    return list(findings.values())


def _inserted(delivery: Delivery) -> Finding:
    """Return the finding of an event that is stored and not applied yet."""
    finding = _finding(delivery, Outcome.FOUND)
    if delivery.quarantine is None:
        return replace(finding, detail=f"{finding.detail}: {TRIED_AGAIN}")
    detail = f"{finding.detail}: inserted, and quarantined: {delivery.quarantine}"
    return replace(finding, outcome=Outcome.REFUSED, detail=detail[:1000])


def _after(finding: Finding, processed: ProcessedEvent) -> Finding:
    outcome, posted = processed.outcome, processed.result
    if outcome.state is EventState.DEAD:
        detail = finding.detail.replace(TRIED_AGAIN, f"inserted, and dead: {outcome.reason}")
        return replace(finding, outcome=Outcome.REFUSED, detail=detail[:1000])
    if outcome.state not in (EventState.APPLIED, EventState.IGNORED):
        return finding
    return replace(
        finding,
        outcome=Outcome.REPAIRED,
        detail=finding.detail.removesuffix(f": {TRIED_AGAIN}"),
        organization_id=outcome.organization_id,
        credits=posted.amount if posted is not None else None,
    )
