"""The decisions of auto-recharge: whether, when and how much to charge. Pure."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from shared.counts import counted
from shared.money import credits_from_minor_units, plain
from shared.payments import prices
from shared.recharge.model import (
    ArmedAttempt,
    AttemptState,
    AutoRecharge,
    Card,
    Circumstances,
    RechargeState,
    Rule,
    Schedule,
    Spent,
    SuspensionReason,
    Trigger,
)

DECLINES_MAX = 3
BACKOFF = (timedelta(hours=1), timedelta(hours=6), timedelta(hours=24))
# A present customer may retry after a decline; this limit stops a client in a loop.
TOP_UP_DECLINES_MAX = 5
TOP_UP_DECLINES_WITHIN = timedelta(hours=1)
PROCESSING_LOOK = timedelta(hours=1)
DESCRIPTION_LOOK = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class ChargeAmount:
    """The price of a charge in minor units, and its credits."""

    amount_minor: int
    credits: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeDecision:
    """Charge `amount_minor` to this card, for `credits`."""

    card: Card
    currency: str
    amount_minor: int
    credits: Decimal


@dataclass(frozen=True, slots=True)
class Wait:
    """Do not charge yet: decide again at this time."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Stop:
    """Do not charge; with a reason, suspend auto-recharge.

    `due_again`: the schedule runs again once the obstacle is gone.
    """

    detail: str
    suspension: SuspensionReason | None = None
    until: datetime | None = None
    due_again: bool = False


Decision = ChargeDecision | Wait | Stop


def decide(  # noqa: PLR0913 - the inputs of the decision
    trigger: Trigger,
    auto: AutoRecharge,
    *,
    spendable: Decimal,
    currency: str,
    credits_per_unit: Decimal,
    units_max: Decimal,
    card: Card | None,
    spent: Spent,
    now: datetime,
    needed: Decimal | None = None,
    card_undescribed: bool = False,
) -> Decision:
    """Decide about an armed attempt by the current circumstances, not by those when it was armed.

    `spendable` is the balance minus holds. `needed` is the amount of a refused debit or hold: while
    less is spendable, that is a reason to charge too. `units_max` is the operator's limit for one
    charge, in units of the currency; a rule may be older than the limit. `card_undescribed`: a
    payment method can be charged once its details are read from Stripe, within seconds.
    """
    rule = auto.rule
    if auto.state is not RechargeState.ACTIVE:
        return Stop(f"auto-recharge is {auto.state}", due_again=True)
    if auto.not_before is not None and auto.not_before > now:
        return Wait(auto.not_before)
    if trigger is Trigger.THRESHOLD and not _is_low(rule, spendable, needed):
        return Stop("the spendable balance is not below the threshold any more")
    if card is None:
        return _without_card(now, undescribed=card_undescribed)
    wanted = _wanted(trigger, rule, spendable)
    if wanted is None or wanted <= 0:
        return Stop("there is nothing to buy by this rule any more")
    price = chargeable(wanted, currency, credits_per_unit, units_max)
    return _above_cap(price, rule, spent, now) or ChargeDecision(
        card=card, currency=currency, amount_minor=price.amount_minor, credits=price.credits
    )


def decide_attempt(
    attempt: ArmedAttempt,
    current: Circumstances | None,
    *,
    credits_per_unit: Decimal,
    units_max: Decimal,
    now: datetime,
) -> Decision:
    """Decide about an armed attempt by the current circumstances; None: no auto-recharge."""
    if current is None:
        return Stop("there is no auto-recharge")
    needed = None if attempt.needed is None else attempt.needed - current.overdraft_limit
    return decide(
        attempt.trigger,
        current.auto,
        spendable=current.spendable,
        needed=needed,
        currency=current.currency,
        credits_per_unit=credits_per_unit,
        units_max=units_max,
        card=current.card,
        card_undescribed=current.card_undescribed,
        spent=current.spent,
        now=now,
    )


def _without_card(now: datetime, *, undescribed: bool) -> Wait | Stop:
    if undescribed:
        return Wait(now + DESCRIPTION_LOOK)
    detail = "there is no payment method to charge"
    return Stop(detail, SuspensionReason.NO_CARD, due_again=True)


def chargeable(
    wanted: Decimal, currency: str, credits_per_unit: Decimal, units_max: Decimal
) -> ChargeAmount:
    """Return the least charge that buys these credits, within Stripe's and the operator's limits.

    The operator's limit always applies.
    """
    minor = prices.least_minor(wanted, currency, credits_per_unit)
    minor = min(max(minor, prices.minor_min(currency)), prices.minor_max(currency, units_max))
    return ChargeAmount(minor, credits_from_minor_units(minor, currency, credits_per_unit))


def _is_low(rule: Rule, spendable: Decimal, needed: Decimal | None) -> bool:
    if rule.threshold is None:
        return False
    return spendable < rule.threshold or (needed is not None and spendable < needed)


def _wanted(trigger: Trigger, rule: Rule, spendable: Decimal) -> Decimal | None:
    """Return the credits to buy: one charge that fills the gap, not several of one amount.

    A debit that was refused above the threshold buys one amount, or up to the target: never more
    than the customer agreed to, whatever its amount.
    """
    if trigger is Trigger.SCHEDULE:
        return rule.schedule_amount
    if rule.target is not None:
        return rule.target - spendable
    if rule.amount is None or rule.threshold is None:
        return None
    short = max(rule.threshold - spendable, Decimal(0))
    return rule.amount * (short // rule.amount + 1)  # the balance ends above the threshold


def _above_cap(price: ChargeAmount, rule: Rule, spent: Spent, now: datetime) -> Stop | None:
    """Stop a charge that exceeds the rest of the monthly cap; partial charges are not made."""
    if rule.monthly_cap is not None and spent.credits + price.credits > rule.monthly_cap:
        detail = (
            f"{counted(price.credits, 'credit')} on top of {plain(spent.credits)} would exceed "
            f"the monthly cap of {plain(rule.monthly_cap)}"
        )
        return Stop(detail, SuspensionReason.CAP, month_after(now))
    if rule.monthly_count_cap is not None and spent.count >= rule.monthly_count_cap:
        recharges = counted(spent.count, "recharge")
        detail = f"{recharges} this month, and the cap is {rule.monthly_count_cap}"
        return Stop(detail, SuspensionReason.CAP, month_after(now))
    return None


def month_start(now: datetime) -> datetime:
    """Return the start of a calendar month in UTC."""
    moment = now.astimezone(UTC)
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def month_after(now: datetime) -> datetime:
    """Return the start of the next calendar month in UTC."""
    return month_start(month_start(now) + timedelta(days=32))


def next_run(schedule: Schedule, day: int, after: datetime) -> datetime:
    """Return the next scheduled time: that day at 00:00 UTC, or the last day of a short month."""
    midnight = after.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if schedule is Schedule.WEEKLY:
        ahead = (day - midnight.isoweekday()) % 7 or 7
        return midnight + timedelta(days=ahead)
    here = _on_day(midnight, day)
    return here if here > after else _on_day(month_after(midnight), day)


def _on_day(moment: datetime, day: int) -> datetime:
    last = calendar.monthrange(moment.year, moment.month)[1]
    return moment.replace(day=min(day, last))


@dataclass(frozen=True, slots=True)
class DeclineEffect:
    """The effect of a decline on auto-recharge: a wait or a suspension."""

    declines_in_row: int
    not_before: datetime | None
    suspended: bool


def after_decline(declines_before: int, *, hard: bool, now: datetime) -> DeclineEffect:
    """Return the effect of a decline: a hard one suspends at once, soft ones wait first."""
    declines = declines_before + 1
    if hard or declines >= DECLINES_MAX:
        return DeclineEffect(declines, None, suspended=True)
    return DeclineEffect(declines, now + BACKOFF[declines - 1], suspended=False)


def retry_delay(tries: int, jitter: float) -> timedelta:
    """Return the wait before the next request to Stripe: 1 s, doubled up to 5 minutes."""
    seconds = min(2.0 ** min(tries - 1, 9), 300)
    return timedelta(seconds=seconds * (0.75 + jitter / 2))


def threshold_shown(
    threshold: Decimal | None,
    *,
    state: AttemptState,
    trigger: Trigger,
    armed_at: datetime,
    rule_changed_at: datetime | None,
) -> Decimal | None:
    """Return the threshold that armed an open attempt.

    None: it has another cause, or the rule changed since.
    """
    if state is not AttemptState.REQUIRES_ACTION or trigger is not Trigger.THRESHOLD:
        return None
    unchanged = rule_changed_at is None or rule_changed_at <= armed_at
    return threshold if unchanged else None
