"""What auto-recharge decides: whether, when and how much, and what an answer means. Pure."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal

from shared.money import credits_from_minor_units, plain
from shared.payments import prices, sales
from shared.payments.model import Sale, SaleTerms
from shared.recharge.model import (
    Attempt,
    AttemptState,
    AutoRecharge,
    Card,
    RechargeState,
    Rule,
    Schedule,
    Spent,
    SuspensionReason,
    Trigger,
)

DECLINES_MAX = 3
BACKOFF = (timedelta(hours=1), timedelta(hours=6), timedelta(hours=24))
# A customer who is here sees a decline, and may try again; a client in a loop may not.
TOP_UP_DECLINES_MAX = 5
TOP_UP_DECLINES_WITHIN = timedelta(hours=1)
PROCESSING_LOOK = timedelta(hours=1)
# Stripe describes a new payment method within seconds, unless it is away or refuses our key.
UNDESCRIBED_LOOK = timedelta(seconds=5)

# Trying again cannot help, or the cardholder or the network asked not to.
# Source: https://docs.stripe.com/declines/codes
HARD_DECLINES = frozenset({
    "lost_card", "stolen_card", "pickup_card", "fraudulent", "merchant_blacklist",
    "restricted_card", "do_not_try_again", "revocation_of_authorization",
    "revocation_of_all_authorizations", "stop_payment_order", "invalid_account", "expired_card",
    "card_not_supported", "currency_not_supported", "transaction_not_allowed",
    "security_violation", "no_payment_method",
})  # fmt: skip
HARD_ADVICE = frozenset({"do_not_try_again", "confirm_card_data"})


@dataclass(frozen=True, slots=True)
class Go:
    """Charge this: `credits` are what `amount_minor` buys."""

    amount_minor: int
    credits: Decimal


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet: look again then."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Stop:
    """Do not charge. With a reason of suspension: and nothing more until that ends."""

    detail: str
    suspension: SuspensionReason | None = None
    until: datetime | None = None


Decision = Go | Wait | Stop


def decide(  # noqa: PLR0913 - all that a decision looks at
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
    undescribed: bool = False,
) -> Decision:
    """Decide about an armed attempt, as things are now and not as they were when it was armed.

    `spendable` is the balance less what is on hold. `needed` is the spendable amount that a refused
    debit or hold would have taken: while less is there, it is a reason to charge too. `units_max`
    is the most that the operator lets one charge cost, in units of the currency: a rule may be
    older than it. `undescribed`: without a card to charge, one is on file that Stripe has not
    described yet, which is no reason to suspend.
    """
    rule = auto.rule
    if auto.state is not RechargeState.ACTIVE:
        return Stop(f"auto-recharge is {auto.state}")
    if auto.not_before is not None and auto.not_before > now:
        return Wait(auto.not_before)
    if trigger is Trigger.THRESHOLD and not _is_low(rule, spendable, needed):
        return Stop("the spendable balance is not below the threshold any more")
    if card is None:
        no_card = Stop("there is no payment method to charge", SuspensionReason.NO_CARD)
        return Wait(now + UNDESCRIBED_LOOK) if undescribed else no_card
    wanted = _wanted(trigger, rule, spendable)
    if wanted is None or wanted <= 0:
        return Stop("there is nothing to buy by this rule any more")
    go = chargeable(wanted, currency, credits_per_unit, units_max)
    return _capped(go, rule, spent, now)


def chargeable(wanted: Decimal, currency: str, credits_per_unit: Decimal, units_max: Decimal) -> Go:
    """Return the least charge that buys these credits, within Stripe's and the operator's limits.

    The operator's most holds, whatever else does.
    """
    minor = prices.least_minor(wanted, currency, credits_per_unit)
    minor = min(max(minor, prices.minor_min(currency)), prices.minor_max(currency, units_max))
    return Go(minor, credits_from_minor_units(minor, currency, credits_per_unit))


def _is_low(rule: Rule, spendable: Decimal, needed: Decimal | None) -> bool:
    if rule.threshold is None:
        return False
    return spendable < rule.threshold or (needed is not None and spendable < needed)


def _wanted(trigger: Trigger, rule: Rule, spendable: Decimal) -> Decimal | None:
    """Return the credits to buy: one charge that closes the gap, not one for each amount in it.

    A debit that was refused above the threshold buys one amount, or up to the target: never more
    than the customer agreed to, however much it asked for.
    """
    if trigger is Trigger.SCHEDULE:
        return rule.schedule_amount
    if rule.target is not None:
        return rule.target - spendable
    if rule.amount is None or rule.threshold is None:
        return None
    gap = rule.threshold - spendable
    steps = max((gap / rule.amount).to_integral_value(ROUND_CEILING), Decimal(1))
    reached = spendable + steps * rule.amount > rule.threshold
    return rule.amount * (steps if reached else steps + 1)


def _capped(go: Go, rule: Rule, spent: Spent, now: datetime) -> Decision:
    """Hold a charge against what the month has left. Never a part of it: that would not help."""
    if rule.monthly_cap is not None and spent.credits + go.credits > rule.monthly_cap:
        detail = (
            f"{plain(go.credits)} credits on top of {plain(spent.credits)} would exceed "
            f"the monthly cap of {plain(rule.monthly_cap)}"
        )
        return Stop(detail, SuspensionReason.CAP, month_after(now))
    if rule.monthly_count_cap is not None and spent.count >= rule.monthly_count_cap:
        detail = f"{spent.count} recharges this month, and the cap is {rule.monthly_count_cap}"
        return Stop(detail, SuspensionReason.CAP, month_after(now))
    return go


def month_start(now: datetime) -> datetime:
    """Return the first moment of a calendar month in UTC."""
    moment = now.astimezone(UTC)
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def month_after(now: datetime) -> datetime:
    """Return the first moment of the next calendar month in UTC."""
    return month_start(month_start(now) + timedelta(days=32))


def next_run(schedule: Schedule, day: int, after: datetime) -> datetime:
    """Return the next scheduled moment: that day at 00:00 UTC, or the last day of a short month."""
    midnight = after.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if schedule is Schedule.WEEKLY:
        ahead = (day - midnight.isoweekday()) % 7 or 7
        return midnight + timedelta(days=ahead)
    here = _on_day(midnight, day)
    return here if here > after else _on_day(month_after(midnight), day)


def _on_day(moment: datetime, day: int) -> datetime:
    last = calendar.monthrange(moment.year, moment.month)[1]
    return moment.replace(day=min(day, last))


def refusal(
    rule: Rule,
    currency: str,
    credits_per_unit: Decimal,
    *,
    units_max: Decimal,
    on: bool = True,
) -> str | None:
    """Say why a rule cannot be saved; None when it can. Limits are told now, not when it fires.

    `units_max` is the most that the operator lets one charge cost, in units of the currency. A rule
    that is off may be without anything that fires.
    """
    return (
        (_nothing_fires(rule) if on else None)
        or _shape_refusal(rule)
        or _schedule_refusal(rule)
        or _caps_refusal(rule)
        or _stripe_refusal(rule, currency, credits_per_unit)
        or _most_refusal(rule, currency, credits_per_unit, units_max)
    )


def _nothing_fires(rule: Rule) -> str | None:
    nothing = rule.threshold is None and rule.schedule is None
    return "threshold: give a threshold, a schedule, or both" if nothing else None


def _shape_refusal(rule: Rule) -> str | None:
    if rule.threshold is not None and (rule.amount is None) == (rule.target is None):
        return "amount: give either an amount or a target beside the threshold"
    if rule.threshold is None and (rule.amount is not None or rule.target is not None):
        return "threshold: an amount or a target needs a threshold"
    if rule.threshold is not None and rule.threshold < 0:
        return "threshold: must not be negative"
    if rule.target is not None and rule.threshold is not None and rule.target <= rule.threshold:
        return "target: must be above the threshold"
    return None


def _schedule_refusal(rule: Rule) -> str | None:
    if rule.schedule is None:
        extra = rule.schedule_day is not None or rule.schedule_amount is not None
        return "schedule: is missing" if extra else None
    if rule.schedule_amount is None:
        return "schedule_amount: is missing"
    last = 7 if rule.schedule is Schedule.WEEKLY else 31
    if rule.schedule_day is None or not 1 <= rule.schedule_day <= last:
        return f"schedule_day: must be from 1 to {last}"
    return None


def _caps_refusal(rule: Rule) -> str | None:
    if rule.monthly_cap is not None and rule.monthly_cap <= 0:
        return "monthly_cap: must be positive"
    if rule.monthly_count_cap is not None and rule.monthly_count_cap < 1:
        return "monthly_count_cap: must be at least 1"
    if not 0 <= rule.pause_seconds_min <= 86_400:  # noqa: PLR2004 - a day
        return "pause_seconds_min: must be from 0 to 86400"
    return None


_ABOVE_THE_CAP = "is above the monthly cap, so that it would never charge"


def _stripe_refusal(rule: Rule, currency: str, credits_per_unit: Decimal) -> str | None:
    if rule.target is not None and rule.threshold is not None:
        # The least that a target ever charges: the balance has just gone below the threshold.
        least = rule.target - rule.threshold
        found = prices.least_refusal(least, currency, credits_per_unit)
        if found:
            return f"target: {found}"
        if rule.monthly_cap is not None and least > rule.monthly_cap:
            return f"target: {_ABOVE_THE_CAP}"
    for name, wanted in (("amount", rule.amount), ("schedule_amount", rule.schedule_amount)):
        if wanted is None:
            continue
        found = prices.charge_refusal(wanted, currency, credits_per_unit)
        if found:
            return f"{name}: {found}"
        if rule.monthly_cap is not None and wanted > rule.monthly_cap:
            return f"{name}: {_ABOVE_THE_CAP}"
    return None


def _most_refusal(
    rule: Rule, currency: str, credits_per_unit: Decimal, units_max: Decimal
) -> str | None:
    """Hold the most that a rule charges, from a balance of nothing, against what one charge may."""
    reached = None
    if rule.threshold is not None and rule.amount is not None:
        reached = rule.threshold + rule.amount
    for name, wanted in (
        ("amount", rule.amount),
        ("target", rule.target),
        ("schedule_amount", rule.schedule_amount),
        ("threshold: with the amount, it", reached),
    ):
        if wanted is None:
            continue
        found = prices.most_refusal(wanted, currency, credits_per_unit, units_max)
        if found:
            return f"{name} {found}" if ":" in name else f"{name}: {found}"
    return None


@dataclass(frozen=True, slots=True)
class Confirm:
    """It was created and never confirmed: confirm it now."""


@dataclass(frozen=True, slots=True)
class Became:
    """It came to this state, for this reason."""

    state: AttemptState
    reason: str | None = None
    hard: bool = False


_PLAIN: dict[str, Confirm | Became] = {
    "succeeded": Became(AttemptState.SUCCEEDED),
    "processing": Became(AttemptState.PROCESSING),
    "canceled": Became(AttemptState.CANCELED, "canceled at Stripe"),
    "requires_action": Became(AttemptState.REQUIRES_ACTION, "authentication_required"),
    "requires_confirmation": Confirm(),
}


def judge(
    status: str,
    *,
    was: AttemptState,
    error_code: str | None,
    decline_code: str | None,
    network_advice: str | None,
) -> Confirm | Became:
    """Say what a PaymentIntent's status means for its attempt.

    Source: https://docs.stripe.com/payments/paymentintents/lifecycle, and for the errors
    https://docs.stripe.com/error-codes
    """
    if status in _PLAIN:
        return _PLAIN[status]
    if status == "requires_payment_method" and error_code is None:
        # Never tried: Stripe does not keep a declined one without its error.
        return declined("no_payment_method", network_advice)
    if error_code == "authentication_required" or was is AttemptState.REQUIRES_ACTION:
        # The customer may try again on the page, until its link expires.
        return Became(AttemptState.REQUIRES_ACTION, "authentication_required")
    return declined(decline_code or error_code or status, network_advice)


def declined(reason: str, network_advice: str | None) -> Became:
    """Say what a decline means, whether Stripe tells of it now or it was written down before."""
    hard = reason in HARD_DECLINES or network_advice in HARD_ADVICE
    return Became(AttemptState.FAILED, reason, hard=hard)


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What a decline does to auto-recharge: a wait, or a suspension."""

    declines_in_row: int
    not_before: datetime | None
    suspended: bool


def after_decline(declines_before: int, *, hard: bool, now: datetime) -> Aftermath:
    """Say what follows a decline: a hard one suspends at once, soft ones wait first."""
    declines = declines_before + 1
    if hard or declines >= DECLINES_MAX:
        return Aftermath(declines, None, suspended=True)
    return Aftermath(declines, now + BACKOFF[declines - 1], suspended=False)


def retry_delay(tries: int, jitter: float) -> timedelta:
    """Return how long to wait before Stripe is asked again: 1 s, doubled up to 5 minutes."""
    seconds = min(2.0 ** min(tries - 1, 9), 300)
    return timedelta(seconds=seconds * (0.75 + jitter / 2))


def sale(
    attempt: Attempt,
    terms: SaleTerms,
    *,
    payment_intent_id: str,
    gross_minor: int,
    currency: str,
    charge_id: str | None,
    now: datetime,
) -> Sale:
    """Return what a captured attempt sells: what was decided when it was begun."""
    assert attempt.amount is not None  # noqa: S101 - the schema has these from `charging` on
    assert attempt.amount_minor is not None  # noqa: S101
    offer = sales.offer_of_attempt(
        organization_id=attempt.organization_id,
        currency=currency,
        amount_minor=attempt.amount_minor,
        credits_=attempt.amount,
        top_up=attempt.trigger is Trigger.TOP_UP,
    )
    return Sale(
        payment_intent_id=payment_intent_id,
        organization_id=attempt.organization_id,
        gross_minor=gross_minor,
        net_minor=offer.net_minor,
        currency=currency,
        credits=attempt.amount,
        type=offer.type,
        description=offer.description,
        account=attempt.stripe_account,
        customer_id=attempt.customer_id,
        charge_id=charge_id,
        expires_at=sales.expiry(terms, now),
    )
