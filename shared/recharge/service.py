"""An organization's auto-recharge, in the caller's transaction: on, off, suspended, due."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from shared.access import service as audit
from shared.access.model import Actor
from shared.errors import FieldError, NotFoundError, ValidationError
from shared.ids import new_id
from shared.money import plain
from shared.outbound import service as outbound
from shared.outbound.model import MessageType, OutboundMessage
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

# Another card can end these; the others need a person, or time.
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
    fingerprint: str | None = None,
    make_id: Callable[[], UUID] = new_id,
) -> bool:
    """Suspend an organization's auto-recharge and announce it; return whether this suspended it.

    A reason of lower rank is replaced, and one of the same or a higher rank stays. While it is off,
    or before there is a rule, a reason that only a person ends is held for when it is turned on. A
    live attempt still ends normally; nothing new is armed. `fingerprint` is the card that was
    declined.
    """
    await store.lock_account(connection, organization_id)
    suspended = await suspension_store.suspend(
        connection, organization_id, reason, detail, until=until, fingerprint=fingerprint
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
    """End what another card can end: a suspension, a wait after a decline, a wait for the customer.

    Call it when another card is on file or is the default, or the same one was renewed. An armed
    attempt is due at once. Returns whether a suspension ended.
    """
    await store.lock_account(connection, organization_id)
    resumed = await suspension_store.resume(connection, organization_id, _ENDED_BY_A_CARD)
    await suspension_store.end_wait(connection, organization_id)
    await suspension_store.expire_links_of_other_cards(connection, organization_id)
    return resumed


async def end_inquiry(connection: Connection, organization_id: UUID) -> bool:
    """Resume where an inquiry was the reason: it has closed, and no other is open.

    The declines before it still count.
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
    """Resume where a refund was the reason: the customer has bought credits since.

    An inquiry that is open still pauses. Returns whether the suspension for the refund ended.
    """
    ended = await _end(connection, organization_id, SuspensionReason.REFUNDED)
    if ended:
        await _pause_for_inquiry(connection, organization_id, now, make_id)
    return ended


async def _pause_for_inquiry(
    connection: Connection, organization_id: UUID, now: datetime, make_id: Callable[[], UUID]
) -> bool:
    """Suspend a locked organization whose payment is under inquiry; return whether this did."""
    return await suspension_store.has_open_inquiry(connection, organization_id) and await suspend(
        connection,
        organization_id,
        SuspensionReason.INQUIRY,
        "A payment is under inquiry.",
        now=now,
        make_id=make_id,
    )


async def purchased_by(
    connection: Connection,
    organizations: Collection[UUID],
    *,
    now: datetime,
    make_id: Callable[[], UUID] = new_id,
) -> None:
    """Do what `purchased` does for many organizations, of which few are suspended."""
    if not organizations:
        return
    for organization_id in await suspension_store.suspended_for(
        connection, organizations, SuspensionReason.REFUNDED
    ):
        await purchased(connection, organization_id, now=now, make_id=make_id)


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
    """Suspend the rule whose charge was refunded, whole or in part; return whether this did.

    A card that was just refunded is not charged again before the customer buys. Any other payment
    changes nothing, a top-up among them. It is announced once.
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
    """End a suspension for want of a card; return whether there was one.

    Any card does, also one that was declined or removed before.
    """
    await store.lock_account(connection, organization_id)
    return await suspension_store.resume(connection, organization_id, [SuspensionReason.NO_CARD])


async def configure(  # noqa: PLR0913 - a rule, what binds it, and who agreed
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

    Opt-in only: `consented_by` names the person who agreed to be charged while away; that and the
    rule are written into the audit log. Without a name it cannot be turned on. `keep_consent`: it
    is on, and the stored consent applies. Not `on`: the rule is saved, auto-recharge is off. A
    suspension stays until what caused it ends; turned on again, it is back where only a person ends
    it, or an inquiry is still open. Raises ValidationError, which names Stripe's limits and the
    operator's (`units_max`: the most of one charge) now and not when the rule fires.
    """
    if error := validation.refusal(rule, currency, credits_per_unit, units_max=units_max, on=on):
        name, _, message = error.partition(": ")
        raise ValidationError(
            error, errors=[{"loc": ["body", name], "msg": message, "type": "value_error"}]
        )
    await store.lock_account(connection, organization_id)
    first_run = None
    if rule.schedule is not None and rule.schedule_day is not None:
        first_run = rules.next_run(rule.schedule, rule.schedule_day, now)
    before = await store.settings(connection, organization_id=organization_id)
    was_on = any(auto.state is not RechargeState.OFF for auto in before)
    consented_by = (consented_by or "").strip() or None
    if on and consented_by is None and not (keep_consent and was_on):
        raise _consent_missing()
    consent: tuple[datetime | None, str | None] = (now, consented_by)
    if consented_by is None:  # the one on record, if there is one
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

    A suspension that only a person ends is there again when it is turned on.
    """
    await store.lock_account(connection, organization_id)
    changed = await store.turn_off(connection, organization_id)
    await store.follow(connection, organization_id)
    await _record(connection, "recharge.off", organization_id, actor, reason)
    return changed


async def suspend_by_operator(
    connection: Connection, organization_id: UUID, *, actor: Actor | str, reason: str, now: datetime
) -> None:
    """Suspend until somebody resumes it, whatever its state: off, it is suspended once turned on.

    The operator's reason replaces any other.
    """
    await suspend(connection, organization_id, SuspensionReason.OPERATOR, reason, now=now)
    await _record(connection, "recharge.suspend", organization_id, actor, reason)


async def resume(
    connection: Connection, organization_id: UUID, *, actor: Actor | str, reason: str | None
) -> bool:
    """End a suspension, whatever its reason, and forget the declines; return whether there was one.

    One that is off stays off, and will not be suspended when it is turned on.
    The cap is no matter of suspension alone: what is above it suspends again.
    """
    await store.lock_account(connection, organization_id)
    changed = await suspension_store.resume(connection, organization_id, list(SuspensionReason))
    await _record(connection, "recharge.resume", organization_id, actor, reason)
    return changed


async def fresh_link(
    connection: Connection, organization_id: UUID, link: str, *, actor: Actor | str
) -> datetime:
    """Make `link` the one way to the page of the attempt that waits; return when it expires.

    The link before it ends. Raises NotFoundError where no attempt waits for its customer.
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
    """Do what is due by the clock: end caps with their month, arm schedules, arm what was missed.

    Alerts that no attempt waits for end too, and top-ups that wait for their customer are canceled.

    What was missed is looked for in a page of the rules, those of the organizations behind `after`;
    return behind which the next page begins, FIRST after the last one.

    Safe on two workers at once, and late: every account is taken under a lock, and a schedule that
    was missed runs once. An account that is locked is left for another time. In the caller's
    transaction.
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
