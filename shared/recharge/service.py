"""An organization's auto-recharge, in the caller's transaction: on, off, suspended, due."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from shared.access import service as audit
from shared.access.model import Actor
from shared.errors import FieldError, NotFoundError, ValidationError
from shared.ids import new_id
from shared.money import plain
from shared.organizations import service as organizations
from shared.outbound import service as outbound
from shared.outbound.model import MessageType, OutboundMessage
from shared.printable import is_visible
from shared.recharge import alerts, rules, store, validation
from shared.recharge.attempts import store as attempt_store
from shared.recharge.clock import store as clock_store
from shared.recharge.model import RechargeState, Rule, SuspensionReason
from shared.recharge.recovery import link_digest
from shared.recharge.suspensions import store as suspension_store

if TYPE_CHECKING:
    from shared.db.pool import Connection

ROWS_AT_ONCE_MAX = 200
RULES_AT_ONCE_MAX = 500
FIRST = UUID(int=0)

# Another card ends these; the others need a person or time.
_ENDED_BY_A_CARD = frozenset({
    SuspensionReason.DECLINES,
    SuspensionReason.NO_CARD,
    SuspensionReason.AUTHENTICATION_EXPIRED,
})  # fmt: skip


async def lock_account(connection: Connection, organization_id: UUID) -> None:
    """Lock an organization's account, before its cards and its auto-recharge."""
    await store.lock_account(connection, organization_id)


async def suspend(
    connection: Connection,
    organization_id: UUID,
    reason: SuspensionReason,
    detail: str,
    *,
    now: datetime,
    until: datetime | None = None,
    make_id: Callable[[], UUID] = new_id,
) -> bool:
    """Suspend an organization's auto-recharge and announce it; return whether this suspended it.

    A reason of lower rank is replaced, and one of the same or a higher rank stays. While it is off,
    or before there is a rule, a reason that only a person ends is stored and applies once it is
    turned on. A live attempt still ends normally; no new one is armed.
    """
    await store.lock_account(connection, organization_id)
    suspended = await suspension_store.suspend(
        connection, organization_id, reason, detail, until=until
    )
    if suspended:
        message = OutboundMessage(
            organization_id=organization_id,
            type=MessageType.RECHARGE_SUSPENDED,
            data={"reason": str(reason), "detail": detail, "until": until},
            id=make_id(),
            at=now,
        )
        await outbound.announce(connection, [message])
    return suspended


async def card_changed(connection: Connection, organization_id: UUID) -> bool:
    """End what another card ends: a suspension, a wait after a decline, a wait for the customer.

    Call it when a new or renewed card is on file, or another one is the default. An armed attempt
    is due at once. Returns whether a suspension ended.
    """
    await store.lock_account(connection, organization_id)
    resumed = await suspension_store.resume(connection, organization_id, _ENDED_BY_A_CARD)
    await suspension_store.end_wait(connection, organization_id)
    await suspension_store.expire_links_of_other_cards(connection, organization_id)
    return resumed


async def end_inquiry(connection: Connection, organization_id: UUID) -> bool:
    """End a suspension for an inquiry that has closed, unless another one is open.

    Earlier declines still count.
    """
    if await suspension_store.has_open_inquiry(connection, organization_id):
        return False
    return await _end(connection, organization_id, SuspensionReason.INQUIRY)


async def purchased(
    connection: Connection,
    organization_id: UUID,
    *,
    now: datetime,
    make_id: Callable[[], UUID] = new_id,
) -> bool:
    """End a suspension for a refund: the customer has bought credits since.

    An open inquiry still suspends. Returns whether the suspension for the refund ended.
    """
    ended = await _end(connection, organization_id, SuspensionReason.REFUNDED)
    if ended:
        await _pause_for_inquiry(connection, organization_id, now, make_id)
    return ended


async def _pause_for_inquiry(
    connection: Connection, organization_id: UUID, now: datetime, make_id: Callable[[], UUID]
) -> bool:
    """Suspend a locked organization with an open inquiry; return whether this suspended it."""
    return await suspension_store.has_open_inquiry(connection, organization_id) and await suspend(
        connection,
        organization_id,
        SuspensionReason.INQUIRY,
        "A payment is under inquiry.",
        now=now,
        make_id=make_id,
    )


async def _end(connection: Connection, organization_id: UUID, reason: SuspensionReason) -> bool:
    await store.lock_account(connection, organization_id)
    return await suspension_store.resume(
        connection, organization_id, {reason}, forget_declines=False
    )


async def refunded(
    connection: Connection,
    organization_id: UUID,
    payment_intent_id: str,
    *,
    now: datetime,
    make_id: Callable[[], UUID] = new_id,
) -> bool:
    """Suspend the rule whose charge was refunded, fully or in part; return whether this did.

    A refunded card is not charged again before the customer buys credits. Refunds of other
    payments, including top-ups, change nothing. The suspension is announced once.
    """
    await store.lock_account(connection, organization_id)
    if not await attempt_store.is_recharge(connection, organization_id, payment_intent_id):
        return False
    return await suspend(
        connection,
        organization_id,
        SuspensionReason.REFUNDED,
        f"The recharge {payment_intent_id} was refunded.",
        now=now,
        make_id=make_id,
    )


async def card_on_file(connection: Connection, organization_id: UUID) -> bool:
    """End a suspension for `no_card`; return whether there was one.

    Any card ends it, even one that was declined or removed before.
    """
    await store.lock_account(connection, organization_id)
    return await suspension_store.resume(connection, organization_id, [SuspensionReason.NO_CARD])


async def configure(  # noqa: PLR0913 - the rule, its limits and the consent
    connection: Connection,
    organization_id: UUID,
    rule: Rule,
    *,
    currency: str,
    credits_per_unit: Decimal,
    units_max: Decimal,
    consented_by: str | None,
    actor: Actor | str,
    now: datetime,
    on: bool = True,
    keep_consent: bool = False,
) -> RechargeState:
    """Turn auto-recharge on with a rule, or change the rule; return its state then.

    Opt-in only: `consented_by` names the person who consented to off-session charges; that and the
    rule go into the audit log. Without a name it cannot be turned on. `keep_consent`: it is on, and
    the stored consent applies. Not `on`: the rule is saved, auto-recharge is off. A suspension
    stays until its cause ends; when auto-recharge is turned on again, it applies again if only a
    person ends it or an inquiry is still open. Raises ValidationError with Stripe's limits and the
    operator's (`units_max` for one charge) when the rule is saved, not when it fires.
    """
    if error := validation.refusal(rule, currency, credits_per_unit, units_max=units_max, on=on):
        name, _, message = error.partition(": ")
        raise ValidationError(
            error, errors=[{"loc": ["body", name], "msg": message, "type": "value_error"}]
        )
    await store.lock_account(connection, organization_id)
    if on:
        await organizations.check_open(connection, organization_id)
    first_run = None
    if rule.schedule is not None and rule.schedule_day is not None:
        first_run = rules.next_run(rule.schedule, rule.schedule_day, now)
    before = await store.settings(connection, organization_id=organization_id)
    was_on = any(auto.state is not RechargeState.OFF for auto in before)
    consented_by = _named(consented_by)
    if on and consented_by is None and not (keep_consent and was_on):
        raise _consent_missing()
    consent: tuple[datetime | None, str | None] = (now, consented_by)
    if consented_by is None:  # the recorded one, if any
        consent = next(((auto.consented_at, auto.consented_by) for auto in before), (None, None))
    state = await store.save(
        connection,
        organization_id,
        rule,
        on=on,
        next_run_at=first_run,
        consented_at=consent[0],
        consented_by=consent[1],
    )
    await store.follow(connection, organization_id)
    if (
        on
        and not was_on
        and await _pause_for_inquiry(connection, organization_id, now, make_id=new_id)
    ):
        state = RechargeState.SUSPENDED
    await audit.record(
        connection,
        actor=actor,
        action="recharge.configure",
        subject=str(organization_id),
        organization_id=organization_id,
        details={
            "consentedBy": consented_by,
            **{name: _plain(getattr(rule, name)) for name in _RULE_FIELDS},
        },
    )
    return state


def _named(person: str | None) -> str | None:
    """Return the name of a person; None where there is nothing to see."""
    return person.strip() if person is not None and is_visible(person) else None


def _consent_missing() -> ValidationError:
    message = "name the person who agreed to be charged while away"
    error: FieldError = {"loc": ["body", "consentedBy"], "msg": message, "type": "missing"}
    return ValidationError(f"consentedBy: {message}", errors=[error])


_RULE_FIELDS = tuple(field.name for field in dataclasses.fields(Rule))


def _plain(value: object) -> object:
    return plain(value) if isinstance(value, Decimal) else value


async def turn_off(
    connection: Connection, organization_id: UUID, *, actor: Actor | str, reason: str | None
) -> bool:
    """Turn auto-recharge off; return whether it was on. A live attempt still ends normally.

    A suspension that only a person ends applies again when it is turned on.
    """
    await store.lock_account(connection, organization_id)
    changed = await store.turn_off(connection, organization_id)
    await store.follow(connection, organization_id)
    await _record(connection, "recharge.off", organization_id, actor, reason)
    return changed


async def suspend_by_operator(
    connection: Connection, organization_id: UUID, *, actor: Actor | str, reason: str, now: datetime
) -> None:
    """Suspend until a person resumes it, in any state: if it is off, once it is turned on.

    The operator's reason replaces any other.
    """
    await suspend(connection, organization_id, SuspensionReason.OPERATOR, reason, now=now)
    await _record(connection, "recharge.suspend", organization_id, actor, reason)


async def resume(
    connection: Connection, organization_id: UUID, *, actor: Actor | str, reason: str | None
) -> bool:
    """End a suspension for any reason and clear the declines; return whether there was one.

    If auto-recharge is off, it stays off and is not suspended when it is turned on. The monthly cap
    still applies: a charge above it suspends again.
    """
    await store.lock_account(connection, organization_id)
    changed = await suspension_store.resume(connection, organization_id, list(SuspensionReason))
    await _record(connection, "recharge.resume", organization_id, actor, reason)
    return changed


async def fresh_link(
    connection: Connection,
    organization_id: UUID,
    link: str,
    *,
    actor: Actor | str,
    reason: str | None = None,
) -> datetime:
    """Make `link` the only link to the page of the waiting attempt; return when it expires.

    The previous link ends. Raises NotFoundError if no attempt waits for its customer.
    """
    attempt = await attempt_store.waiting(connection, organization_id)
    expires_at = None
    if attempt is not None:
        expires_at = await attempt_store.renew_link(
            connection, organization_id, attempt["id"], link_digest(link)
        )
    if attempt is None or expires_at is None:
        raise NotFoundError("No recharge of this organization waits for its customer.")
    await audit.record(
        connection,
        actor=actor,
        action="recharge.link",
        subject=str(attempt["id"]),
        reason=reason,
        organization_id=organization_id,
    )
    return expires_at


async def tick(
    connection: Connection,
    *,
    now: datetime,
    after: UUID = FIRST,
    rules_max: int = RULES_AT_ONCE_MAX,
    make_id: Callable[[], UUID] = new_id,
) -> UUID:
    """Apply what is due by the clock: end caps with their month, arm schedules and missed attempts.

    Alerts without a waiting attempt end too, and top-ups that wait for their customer are canceled.

    Missed attempts are searched in one page of the rules, those of the organizations after `after`;
    returns the id after which the next page begins, FIRST after the last page.

    Safe on several workers at once, and late: accounts are locked, and a missed schedule runs once.
    Locked accounts are skipped until the next call. In the caller's transaction.
    """
    await alerts.end(connection)
    page = await clock_store.rules_after(connection, after, limit=rules_max)
    await _work_due(connection, page, now=now, make_id=make_id)
    return page[-1] if len(page) == rules_max else FIRST


async def _work_due(
    connection: Connection, page: Sequence[UUID], *, now: datetime, make_id: Callable[[], UUID]
) -> None:
    due = await clock_store.lock_due(connection, now, page, rows_max=ROWS_AT_ONCE_MAX)
    if not due:
        return
    await clock_store.end_suspensions(connection, due, now)
    for organization_id, schedule, day in await clock_store.scheduled(connection, due, now):
        after = rules.next_run(schedule, day, now)
        await clock_store.arm_scheduled(connection, organization_id, make_id(), now, after)
    await clock_store.expire_top_ups(connection, due, now)
    await attempt_store.arm_low(connection, due)


async def _record(
    connection: Connection,
    action: str,
    organization_id: UUID,
    actor: Actor | str,
    reason: str | None,
) -> None:
    await audit.record(
        connection,
        actor=actor,
        action=action,
        subject=str(organization_id),
        organization_id=organization_id,
        reason=reason,
    )
