"""Whether a rule of auto-recharge can be saved. Pure."""

from __future__ import annotations

from decimal import Decimal

from shared.payments import prices
from shared.recharge.model import Rule, Schedule


def refusal(
    rule: Rule,
    currency: str,
    credits_per_unit: Decimal,
    *,
    units_max: Decimal,
    on: bool = True,
) -> str | None:
    """Return why a rule cannot be saved; None: it can. Limits are checked now, not at a charge.

    `units_max` is the operator's limit for one charge, in units of the currency. A rule that is off
    may have neither a threshold nor a schedule.
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
        # The least charge of a target: the balance has just fallen below the threshold.
        least = rule.target - rule.threshold
        refused = prices.least_refusal(least, currency, credits_per_unit)
        if refused:
            return f"target: {refused}"
        if rule.monthly_cap is not None and least > rule.monthly_cap:
            return f"target: {_ABOVE_THE_CAP}"
    for name, wanted in (("amount", rule.amount), ("schedule_amount", rule.schedule_amount)):
        if wanted is None:
            continue
        refused = prices.charge_refusal(wanted, currency, credits_per_unit)
        if refused:
            return f"{name}: {refused}"
        if rule.monthly_cap is not None and wanted > rule.monthly_cap:
            return f"{name}: {_ABOVE_THE_CAP}"
    return None


def _most_refusal(
    rule: Rule, currency: str, credits_per_unit: Decimal, units_max: Decimal
) -> str | None:
    """Compare the largest charge of a rule, at a balance of 0, with the limit of one charge."""
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
        refused = prices.most_refusal(wanted, currency, credits_per_unit, units_max)
        if refused:
            return f"{name} {refused}" if ":" in name else f"{name}: {refused}"
    return None
