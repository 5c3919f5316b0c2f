"""Events that never arrived: found in Stripe's list, inserted into the inbox and applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec

from shared.events.model import ProcessedEvent
from shared.inbox import rules as inbox_rules
from shared.inbox import store as inbox
from shared.inbox.model import ClaimedEvent, Delivery, EventHeader, EventKey, EventState
from shared.payments.objects import StripeId
from shared.reconciliation import recorded, store
from shared.reconciliation.context import Comparing
from shared.reconciliation.model import Finding, FindingKind, Outcome, RunMode

LEASE = timedelta(seconds=60)


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
    """Insert events, leased, with their findings; then apply them, the oldest first.

    If this process dies in between, their lease expires, and a worker applies them.
    """
    if not missing:
        return []
    tools, token = comparing.tools, comparing.tools.make_id()
    async with tools.pool.acquire() as connection, connection.transaction():
        keys = await inbox.receive(connection, missing)
        new = {key.id for key in keys}
        inserted = [delivery for delivery in missing if delivery.header.id in new]
        findings = {d.header.id: _finding(d, Outcome.REPAIRED) for d in inserted}
        await store.save_findings(connection, comparing.run.id, list(findings.values()))
        events = await inbox.claim_for_replay(
            connection,
            list(findings),
            token=token,
            lease=LEASE,
            livemode=tools.livemode,
            accounts=tools.accounts,
        )
    created = {delivery.header.id: delivery.header.created for delivery in inserted}
    events.sort(key=lambda event: created[event.id])
    for processed in await tools.applier.apply(token, events, LEASE) if events else ():
        event_id = processed.outcome.key.id
        findings[event_id] = _after(findings[event_id], processed)
    return list(findings.values())


def _after(finding: Finding, processed: ProcessedEvent) -> Finding:
    outcome, posted = processed.outcome, processed.result
    if outcome.state is EventState.DEAD:
        detail = f"{finding.detail}: inserted, and dead: {outcome.reason}"
        return replace(finding, outcome=Outcome.REFUSED, detail=detail[:1000])
    return replace(
        finding,
        organization_id=outcome.organization_id,
        credits=posted.amount if posted is not None else None,
    )
