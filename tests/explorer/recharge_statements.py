"""A pure model of the statements that auto-recharge executes, by their names.

Each function here is one named statement of the product over the rows of one organization.
`test_modelled_statements.py` executes the same steps on PostgreSQL and compares the rows.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from shared.access import service as access
from shared.events import store as events_store
from shared.inbox import store as inbox_store
from shared.ledger import store as ledger_store
from shared.organizations import store as organizations_store
from shared.outbound import store as outbound_store
from shared.payments import store as payments_store
from shared.recharge import store as recharge_store
from shared.recharge.attempts import store as attempt_store
from shared.recharge.clock import store as clock_store
from shared.recharge.model import FINAL_STATES, AttemptState
from shared.recharge.suspensions import store as suspension_store
from tests.explorer import crediting_statements as crediting
from tests.explorer import reversal_statements as reversals
from tests.explorer.modelled import Modelled, Result, no, nothing, the_organization
from tests.explorer.recharge_tables import (
    AMOUNT,
    CUSTOMER,
    ORGANIZATION,
    THRESHOLD,
    Attempt,
    Tables,
)
from tests.explorer.stepping import Port, Row

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FENCE, STORED_INTENT, SUSPENSION_LOOK = "fence", "stored id", "suspension look"
PAUSE_SECONDS = 60


def due_attempts(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    attempt = tables.live
    if attempt is None or not attempt.can_be_leased:
        return tables, ()
    return tables, (Row(organization_id=ORGANIZATION, id=attempt.id),)


def moment(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    """Return a moment of the database's clock: a wait only has to be one."""
    return tables, (Row(now=EPOCH),)


def claim(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    attempt = tables.live
    if attempt is None or attempt.id != args[1] or not attempt.can_be_leased:
        return tables, ()
    leased = replace(attempt, lease=port.process, lease_over=False, tries=port.tries)
    return tables.having(leased), (leased.row(),)


def take(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    attempt = tables.live
    if attempt is None or attempt.id != args[1] or not attempt.can_be_leased:
        return tables, ()
    leased = replace(attempt, lease=port.process, lease_over=False)
    return tables.having(leased), (leased.row(),)


def _fenced(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Attempt | None:
    """Return the attempt that a fenced statement matches: id and token are $2 and $3."""
    for attempt in tables.attempts:
        holds = attempt.lease == port.process and port.holds(args[2])
        if attempt.id == args[1] and (holds or FENCE in port.removed):
            return attempt
    return None


def _write(port: Port[Tables], tables: Tables, attempt: Attempt) -> Result:
    """Store an attempt; a write by a process without its lease is a flaw."""
    (before,) = [one for one in tables.attempts if one.number == attempt.number]
    if before.lease != port.process:
        tables = tables.with_flaw("only the holder of a lease writes")
    return tables.having(attempt), (Row(id=attempt.id),)


def begin(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    attempt = _fenced(port, tables, args)
    if attempt is None or attempt.state is not AttemptState.ARMED:
        return tables, ()
    if tables.rule_state != "active":
        tables = tables.with_flaw("a suspended rule never charges")
    charging = replace(
        attempt, state=AttemptState.CHARGING, amount=args[3], amount_minor=args[4],
        method=args[7], charged_at=args[9],
    )  # fmt: skip
    after, _ = _write(port, tables, charging)
    return after, (charging.row(),)


def store_intent(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    attempt = _fenced(port, tables, args)
    if attempt is None or attempt.intent is not None:
        return tables, ()
    intent = None if STORED_INTENT in port.removed else args[3]
    return _write(port, tables, replace(attempt, intent=intent))


def store_decline(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    attempt = _fenced(port, tables, args)
    if attempt is None:
        return tables, ()
    return _write(port, tables, replace(attempt, reason=args[3], decline_code=args[4]))


def transition(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    attempt = _fenced(port, tables, args)
    if attempt is None:
        return tables, ()
    _, _, _, state, reason, _, decline_code, _, blocked_by, key, due_at, _, expires_at, _, _ = args
    if not attempt.is_live:
        tables = tables.with_flaw("a final state stays")
    link_expires_at = attempt.link_expires_at or expires_at
    if state not in FINAL_STATES and due_at is None and link_expires_at is None:
        tables = tables.with_flaw("every live attempt is due again")
    moved = replace(
        attempt, state=AttemptState(state), reason=reason, decline_code=decline_code,
        blocked_by=blocked_by, create_key=attempt.create_key + key,
        link_expires_at=link_expires_at, lease=None, lease_over=False, tries=0,
    )  # fmt: skip
    return _write(port, tables, moved)


def arm_low(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    return (tables.armed(port.now()) if tables.arms(port.now()) else tables), ()


def wait_for_usage(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    return replace(tables, waits=True), ()


def is_recharge(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    made = any(a.intent == args[1] and a.trigger != "top_up" for a in tables.attempts)
    return tables, (Row(exists=made),)


def detach_methods(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    return (replace(tables, method=None) if args[2] == tables.method else tables), ()


def has_method(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    return tables, (Row(exists=tables.method is not None),)


def circumstances(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    counted = [
        attempt.amount
        for attempt in tables.attempts
        if attempt.charged_at is not None
        and attempt.amount is not None
        and attempt.charged_at >= args[1]
        and attempt.trigger != "top_up"
        and attempt.state not in (AttemptState.FAILED, AttemptState.CANCELED)
    ]
    row = Row(
        **_rule(tables),
        spendable=tables.balance,
        overdraft_limit=Decimal(0),
        currency="usd",
        month_credits=sum(counted, Decimal(0)),
        month_count=len(counted),
    )
    return tables, (row,)


def card(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    method = tables.method
    row = Row(id=method, customer_id=CUSTOMER, type="card", stripe_account="", undescribed=False)
    return tables, (row,)


def _rule(tables: Tables) -> dict[str, Any]:
    return {
        "organization_id": ORGANIZATION,
        "state": tables.rule_state,
        "reason": tables.rule_reason,
        "detail": None,
        "threshold": THRESHOLD,
        "amount": AMOUNT,
        "target": None,
        "schedule": None,
        "schedule_day": None,
        "schedule_amount": None,
        "monthly_cap": tables.cap,
        "monthly_count_cap": None,
        "pause_seconds_min": PAUSE_SECONDS,
        "suspended_until": tables.suspended_until,
        "next_run_at": None,
        "declines_in_row": tables.declines,
        "not_before": tables.not_before,
        "consented_at": None,
        "consented_by": "buyer",
    }


def settings(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    rule = _rule(tables)
    if SUSPENSION_LOOK in port.removed:
        rule["state"] = "active"
    return tables, (Row(**rule, really=tables.rule_state),)


def suspend(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    _, reason, _, until, outranked, _ = args
    running = tables.rule_state in ("active", "paused_requires_action")
    if not running and tables.rule_reason not in outranked:
        return tables, ()
    after = replace(
        tables, rule_state="suspended", rule_reason=str(reason), suspended_until=until,
        arms_below=False,
    )  # fmt: skip
    return after, (Row(state="suspended"),)


def resume(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    _, reasons, forgets = args
    if tables.rule_state != "suspended" or tables.rule_reason not in reasons:
        return tables, ()
    after = replace(
        tables, rule_state="active", rule_reason=None, suspended_until=None, arms_below=True
    )
    if forgets:
        after = replace(after, declines=0, not_before=None)
    return after, (Row(organization_id=ORGANIZATION),)


def end_wait(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    if tables.rule_state in ("active", "paused_requires_action") and tables.declines > 0:
        return replace(tables, declines=0, not_before=None), ()
    return tables, ()


def expire_links_of_other_cards(
    port: Port[Tables], tables: Tables, args: tuple[Any, ...]
) -> Result:
    attempt, now = tables.live, port.now()
    if (
        attempt is None
        or attempt.state is not AttemptState.REQUIRES_ACTION
        or attempt.trigger == "top_up"
        or attempt.method == tables.method
        or attempt.link_expires_at is None
        or attempt.link_expires_at <= now
    ):
        return tables, ()
    return tables.having(replace(attempt, link_expires_at=now)), ()


def pause(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    if tables.rule_state != "active":
        return tables, ()
    return replace(tables, rule_state="paused_requires_action", arms_below=False), ()


def unpause(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    if tables.rule_state != "paused_requires_action":
        return tables, ()
    return replace(tables, rule_state="active", arms_below=True), ()


def record_success(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    paused = tables.rule_state == "paused_requires_action"
    state = "active" if paused else tables.rule_state
    after = replace(
        tables, rule_state=state, declines=0, not_before=args[1] + timedelta(seconds=PAUSE_SECONDS)
    )
    return (replace(after, arms_below=True) if state == "active" else after), ()


def record_decline(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    return replace(tables, declines=args[1], not_before=args[2]), ()


def due_by_the_clock(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    now, live = args[0], tables.live
    over = (
        tables.rule_state == "suspended"
        and tables.suspended_until is not None
        and tables.suspended_until <= now
    )
    blocked = live is not None and (
        live.trigger != "top_up"
        or live.state is not AttemptState.REQUIRES_ACTION
        or (live.link_expires_at or now) <= now
    )
    is_due = over or (tables.arms(now) and not blocked)
    return tables, ((Row(organization_id=ORGANIZATION),) if is_due else ())


def end_suspensions(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    until = tables.suspended_until
    if tables.rule_state != "suspended" or until is None or until > args[0]:
        return tables, ()
    after = replace(
        tables, rule_state="active", rule_reason=None, suspended_until=None, arms_below=True
    )
    return after, ()


def expire_top_ups(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    now, live = args[0], tables.live
    if (
        live is None
        or live.state is not AttemptState.REQUIRES_ACTION
        or live.trigger != "top_up"
        or live.link_expires_at is None
        or live.link_expires_at <= now
        or not tables.arms(now)
    ):
        return tables, ()
    return tables.having(replace(live, link_expires_at=now)), ()


_ATTEMPTS = attempt_store.QUERIES


def recharge_statements() -> Modelled:
    """Return the model of the statements that attempts, events and the clock execute."""
    return Modelled(
        {
            _ATTEMPTS: {
                "claim": claim, "take": take, "begin": begin, "store_intent": store_intent,
                "store_decline": store_decline, "transition": transition, "arm_low": arm_low,
                "wait_for_usage": wait_for_usage, "is_recharge": is_recharge, "wake": nothing,
                "detach_methods": detach_methods,
                "has_method": has_method,
                "has_undescribed_method": no,
                "alert": no, "lock_alerts": nothing, "due": due_attempts, "moment": moment,
                "notify_workers": nothing,
            },
            recharge_store.QUERIES: {
                "circumstances": circumstances, "card": card, "settings": settings,
                "lock_account": the_organization,
            },
            suspension_store.QUERIES: {
                "suspend": suspend, "resume": resume, "end_wait": end_wait,
                "expire_links_of_other_cards": expire_links_of_other_cards, "pause": pause,
                "unpause": unpause, "record_success": record_success,
                "record_decline": record_decline,
                "has_open_inquiry": no,
            },
            clock_store.QUERIES: {
                "due": due_by_the_clock, "lock": the_organization,
                "end_suspensions": end_suspensions,
                "expire_top_ups": expire_top_ups, "rules_after": the_organization,
                "scheduled": nothing, "due_again": nothing,
            },
            payments_store.QUERIES: {
                "bound_payments": crediting.bound_payments,
                "claims": crediting.claims,
                "credit": crediting.credit,
                "lock_payment": reversals.lock_payment,
                "record_level": reversals.record_level,
            },
            ledger_store.QUERIES: {
                "post": crediting.post, "lock_payment": reversals.lock_credited_payment,
                "record_reversal": reversals.record_reversal,
            },
            events_store.QUERIES: {"save_disputes": reversals.save_disputes},
            organizations_store.QUERIES: {
                "lock_without_customer": nothing, "set_customers": nothing,
            },
            inbox_store.QUERIES: {"reopen_waiting": nothing, "lock_waiting": nothing},
            outbound_store.QUERIES: {"announce": nothing},
            access.QUERIES: {"record": nothing},
        },
        tokens={_ATTEMPTS.claim: 2, _ATTEMPTS.take: 2},
    )  # fmt: skip
