"""Auto-recharge's decisions, over more rules, balances and months than anybody would write down."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shared.money import minor_unit_exponent
from shared.payments import prices
from shared.recharge import rules, validation
from shared.recharge.model import (
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
from tests.fixtures.profile import cases

NOW = datetime(2026, 3, 5, 12, tzinfo=UTC)
CARD = Card(id="pm_1", customer_id="cus_1", type="card")
MONTHS = cases(quick=1_000, thorough=5_000)
UNITS_MAX = Decimal(10) ** 12  # Stripe's own limit is what binds
CURRENCIES = ["usd", "eur", "jpy", "kwd", "huf", "gbp", "isk"]
STEPS = {"bhd": 10, "jod": 10, "kwd": 10, "omr": 10, "tnd": 10, "isk": 100, "ugx": 100}
RATES = [Decimal(1), Decimal(100), Decimal("0.5"), Decimal(3), Decimal("0.01"), Decimal(1000)]


def decimals(least: str, most: str, *, places: int) -> st.SearchStrategy[Decimal]:
    """Make decimals from whole numbers: Hypothesis makes these ten times faster than decimals."""
    least_step, most_step = (int(Decimal(bound).scaleb(places)) for bound in (least, most))
    return st.integers(least_step, most_step).map(lambda step: Decimal(step).scaleb(-places))


amounts = decimals("0.01", "200000", places=2)


@st.composite
def threshold_rules(draw: st.DrawFn) -> Rule:
    """Make a rule with a threshold, sane or not."""
    by_amount = draw(st.booleans())
    return Rule(
        threshold=draw(decimals("0", "50000", places=2)),
        amount=draw(amounts) if by_amount else None,
        target=None if by_amount else draw(amounts),
        monthly_cap=draw(st.none() | amounts),
        monthly_count_cap=draw(st.none() | st.integers(1, 9)),
    )


def auto(rule: Rule, **changes: object) -> AutoRecharge:
    fields: dict[str, object] = {"state": RechargeState.ACTIVE, "rule": rule} | changes
    return AutoRecharge(organization_id=UUID(int=1), **fields)  # type: ignore[arg-type] # of a dict


def refusal(
    rule: Rule, currency: str = "usd", rate: Decimal = Decimal(1), most: Decimal = UNITS_MAX
) -> str | None:
    return validation.refusal(rule, currency, rate, units_max=most)


def decide(
    rule: Rule,
    balance: Decimal,
    *,
    currency: str = "usd",
    rate: Decimal = Decimal(1),
    most: Decimal = UNITS_MAX,
    spent: Spent = Spent(Decimal(0), 0),  # noqa: B008 - frozen
    now: datetime = NOW,
    **changes: object,
) -> rules.Decision:
    return rules.decide(
        Trigger.THRESHOLD,
        auto(rule, **changes),
        spendable=balance,
        currency=currency,
        credits_per_unit=rate,
        units_max=most,
        card=CARD,
        spent=spent,
        now=now,
    )


@settings(max_examples=cases(quick=50, thorough=300))
@given(
    threshold_rules(),
    decimals("0.0001", "1500000", places=4),
    st.sampled_from(CURRENCIES),
    st.sampled_from(RATES),
)
def test_one_charge_ends_above_the_threshold_or_is_the_most_that_stripe_takes(
    rule: Rule, below: Decimal, currency: str, rate: Decimal
) -> None:
    assume(refusal(rule, currency, rate) is None)
    assert rule.threshold is not None
    balance = rule.threshold - below
    decision = decide(replace(rule, monthly_cap=None), balance, currency=currency, rate=rate)
    assert isinstance(decision, rules.ChargeDecision)
    ends_above = balance + decision.credits > rule.threshold
    assert ends_above or decision.amount_minor == prices.minor_max(currency, UNITS_MAX)
    assert decision.amount_minor % STEPS.get(currency, 1) == 0
    least = prices.MINOR_MIN.get(currency, prices.MINOR_MIN_DEFAULT)
    assert least <= decision.amount_minor <= prices.MINOR_MAX


@settings(max_examples=cases(quick=50, thorough=300))
@given(threshold_rules(), st.sampled_from(CURRENCIES), st.sampled_from(RATES))
def test_a_rule_that_is_saved_charges_as_soon_as_its_threshold_is_crossed(
    rule: Rule, currency: str, rate: Decimal
) -> None:
    """What could never fire is refused when it is saved, so that no refill silently fails."""
    assume(refusal(rule, currency, rate) is None)
    assert rule.threshold is not None
    one_minor = rate / 1000
    just_below = rule.threshold - min(one_minor, Decimal("0.0001"))
    decision = decide(rule, just_below, currency=currency, rate=rate)
    if isinstance(decision, rules.Stop):  # rounding up to a whole cent may be what is too much
        assert decision.suspension is SuspensionReason.CAP
        wanted = rule.amount or (rule.target or Decimal(0)) - rule.threshold
        assert rule.monthly_cap is not None
        assert wanted <= rule.monthly_cap < wanted + rate
    else:
        assert isinstance(decision, rules.ChargeDecision)


@pytest.mark.parametrize("currency", sorted(prices.MINOR_MIN))
def test_stripe_s_least_and_most_are_told_when_a_rule_is_saved(currency: str) -> None:
    exponent = minor_unit_exponent(currency)
    least, most = (
        Decimal(minor).scaleb(-exponent) for minor in (prices.MINOR_MIN[currency], prices.MINOR_MAX)
    )
    step = Decimal(1).scaleb(-exponent)
    for amount, refused in ((least, False), (least - step, True), (most, False), (most + step, 1)):
        for rule in (
            Rule(threshold=Decimal(0), amount=amount),
            Rule(schedule=Schedule.WEEKLY, schedule_day=1, schedule_amount=amount),
        ):
            assert (refusal(rule, currency) is not None) == bool(refused)


WEEKLY = Rule(schedule=Schedule.WEEKLY, schedule_day=1)
HUGE = Decimal(10) ** 18


@pytest.mark.parametrize("most", [Decimal(100), UNITS_MAX])
@pytest.mark.parametrize(
    ("field", "rule"),
    [
        ("target", Rule(threshold=Decimal(10), target=HUGE)),
        ("target", Rule(threshold=HUGE, target=HUGE + 20)),
        ("amount", Rule(threshold=Decimal(10), amount=HUGE)),
        ("threshold", Rule(threshold=HUGE, amount=Decimal(20))),
        ("schedule_amount", replace(WEEKLY, schedule_amount=HUGE)),
    ],
)
def test_what_would_charge_more_than_may_be_charged_at_once_is_refused_when_it_is_saved(
    field: str, rule: Rule, most: Decimal
) -> None:
    found = refusal(rule, most=most)
    assert found is not None
    assert found.startswith(f"{field}: ")


@pytest.mark.parametrize("currency", ["usd", "jpy", "kwd", "isk"])
def test_the_operators_most_is_the_last_that_can_be_saved(currency: str) -> None:
    most = Decimal(1000)
    for beyond in (0, 1):
        for rule in (
            Rule(threshold=Decimal(10), target=most + beyond),
            Rule(threshold=Decimal(10), amount=most - 10 + beyond),
            replace(WEEKLY, schedule_amount=most + beyond),
        ):
            assert (refusal(rule, currency, most=most) is not None) == bool(beyond)


@given(
    st.decimals(min_value="0.01", max_value=1_500_000, places=2),
    st.sampled_from(CURRENCIES),
    st.sampled_from(RATES),
)
def test_no_charge_is_above_the_operators_most_however_old_the_rule(
    below: Decimal, currency: str, rate: Decimal
) -> None:
    """The rule was saved while the operator allowed more, or the balance is deep in debt."""
    rule = Rule(threshold=HUGE, target=2 * HUGE)
    decision = decide(rule, -below, currency=currency, rate=rate, most=Decimal(250))
    assert isinstance(decision, rules.ChargeDecision)
    assert decision.amount_minor == 250 * 10 ** minor_unit_exponent(currency)


@pytest.mark.parametrize(("currency", "step"), STEPS.items())
def test_an_amount_that_stripe_would_refuse_for_its_last_digits_is_refused_by_name(
    currency: str, step: int
) -> None:
    exponent = minor_unit_exponent(currency)
    for minor, refused in ((5000, False), (5000 + step, False), (5000 + step // 2, True)):
        amount = Decimal(minor).scaleb(-exponent)
        for name, rule in (
            ("amount", Rule(threshold=Decimal(0), amount=amount)),
            (
                "schedule_amount",
                Rule(schedule=Schedule.WEEKLY, schedule_day=1, schedule_amount=amount),
            ),
        ):
            found = refusal(rule, currency)
            assert (found is not None) == refused
            assert found is None or found.startswith(f"{name}: is not a multiple of ")


@pytest.mark.parametrize(("currency", "step"), STEPS.items())
def test_what_closes_a_gap_is_rounded_up_to_what_stripe_takes(currency: str, step: int) -> None:
    exponent = minor_unit_exponent(currency)
    rule = Rule(threshold=Decimal(0), target=Decimal(50))
    balance = Decimal(-1).scaleb(-exponent)
    decision = decide(rule, balance, currency=currency)
    assert isinstance(decision, rules.ChargeDecision)
    assert decision.amount_minor == 50 * 10**exponent + step
    assert decision.credits == Decimal(decision.amount_minor).scaleb(-exponent)


def test_caps_of_money_and_count_hold_in_thousands_of_random_months() -> None:
    """Debits, declines and payments that take days, on a simulated clock; what runs counts too."""
    charged = suspended = 0
    for seed in range(MONTHS):
        went_through, was_suspended = _live_through_a_month(Random(seed))  # noqa: S311 - a seed
        charged += went_through
        suspended += was_suspended
    assert charged > MONTHS
    assert suspended > MONTHS / 10


def _live_through_a_month(random: Random) -> tuple[int, bool]:
    """Spend, recharge and decline until the month ends; check the caps after every decision."""
    rule = _capped_rule(random)
    assert rule.threshold is not None
    now = datetime(2026, random.randint(1, 12), 1, tzinfo=UTC)
    end = rules.month_after(now)
    balance, running = rule.threshold, 0
    taken: list[Decimal] = []  # captured, or in flight
    flight: list[Decimal] = []
    while (now := now + timedelta(hours=random.randint(1, 72))) < end:
        balance -= Decimal(random.randint(0, 5000)) / 100
        if flight and random.random() < 0.6:
            amount = flight.pop()
            if random.random() < 0.2:
                taken.remove(amount)  # declined: it counts no more
            else:
                balance += amount
        spent = Spent(sum(taken, Decimal(0)), len(taken))
        decision = decide(rule, balance, spent=spent, now=now)
        if isinstance(decision, rules.ChargeDecision):
            taken.append(decision.credits)
            flight.append(decision.credits)
            running += 1
        assert rule.monthly_cap is None or sum(taken) <= rule.monthly_cap
        assert rule.monthly_count_cap is None or len(taken) <= rule.monthly_count_cap
        if isinstance(decision, rules.Stop) and decision.suspension is not None:
            assert decision.suspension is SuspensionReason.CAP
            assert decision.until == end
            return running, True
    return running, False


def _capped_rule(random: Random) -> Rule:
    amount = Decimal(random.randint(50, 10_000)) / 100
    cap = amount * random.randint(1, 6) + Decimal(random.randint(0, 99)) / 100
    return Rule(
        threshold=Decimal(random.randint(0, 5000)) / 100,
        amount=amount,
        monthly_cap=random.choice([None, cap]),
        monthly_count_cap=random.choice([None, random.randint(1, 6)]),
    )


def test_soft_declines_wait_longer_each_time_and_the_third_suspends() -> None:
    waits = []
    for declines in range(rules.DECLINES_MAX):
        after = rules.after_decline(declines, hard=False, now=NOW)
        assert after.declines_in_row == declines + 1
        if after.not_before is not None:
            waits.append(after.not_before - NOW)
        assert after.suspended == (declines + 1 == rules.DECLINES_MAX)
    assert len(waits) == rules.DECLINES_MAX - 1
    assert waits == sorted(set(waits))
    assert waits[0] >= timedelta(hours=1)


@given(st.integers(0, 1000))
def test_a_hard_decline_suspends_at_once_and_no_number_of_declines_escapes(declines: int) -> None:
    assert rules.after_decline(declines, hard=True, now=NOW).suspended
    assert rules.after_decline(declines + 2, hard=False, now=NOW).suspended


@given(st.integers(1, 100_000), st.floats(0, 1))
def test_asking_again_slows_down_to_some_minutes(tries: int, jitter: float) -> None:
    delay = rules.retry_delay(tries, jitter)
    assert timedelta(seconds=0.75) <= delay <= timedelta(seconds=375)
    assert rules.retry_delay(tries + 1, jitter) >= delay


@given(st.integers(1, 10_000_000))
def test_a_wait_after_a_decline_holds_whatever_the_balance(gap: int) -> None:
    rule = Rule(threshold=Decimal(10), amount=Decimal(20))
    until = NOW + timedelta(seconds=1)
    assert decide(rule, Decimal(10) - gap, not_before=until) == rules.Wait(until)


BY_AMOUNT = Rule(threshold=Decimal(10), amount=Decimal(20))
TO_TARGET = Rule(threshold=Decimal(10), target=Decimal(50))


@pytest.mark.parametrize(
    ("rule", "spendable", "needed", "charged"),
    [
        (TO_TARGET, 12, 15, 3800),  # M6
        (BY_AMOUNT, 12, 15, 2000),
        (BY_AMOUNT, 12, 1000, 2000),  # never more than one amount above the threshold
        (BY_AMOUNT, 3, 15, 2000),
        (BY_AMOUNT, -25, 15, 4000),
        (TO_TARGET, 12, 12, None),
        (TO_TARGET, 12, None, None),
        (BY_AMOUNT, 10, None, None),
        (TO_TARGET, 50, 60, None),
        (TO_TARGET, 70, 80, None),
    ],
)
def test_a_refused_debit_is_charged_for_while_less_than_it_needed_is_spendable(
    rule: Rule, spendable: int, needed: int | None, charged: int | None
) -> None:
    decision = rules.decide(
        Trigger.THRESHOLD,
        auto(rule),
        spendable=Decimal(spendable),
        needed=None if needed is None else Decimal(needed),
        currency="usd",
        credits_per_unit=Decimal(1),
        units_max=UNITS_MAX,
        card=CARD,
        spent=Spent(Decimal(0), 0),
        now=NOW,
    )
    if charged is None:
        assert isinstance(decision, rules.Stop)
        assert decision.suspension is None
    else:
        assert isinstance(decision, rules.ChargeDecision)
        assert decision.amount_minor == charged


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, Decimal(10)),
        ({"rule_changed_at": NOW}, Decimal(10)),
        ({"rule_changed_at": NOW + timedelta(microseconds=1)}, None),
        ({"trigger": Trigger.SCHEDULE}, None),
        ({"state": AttemptState.SUCCEEDED}, None),
    ],
)
def test_a_threshold_is_shown_while_its_attempt_is_open_and_the_rule_unchanged(
    changes: dict[str, Any], shown: Decimal | None
) -> None:
    about: dict[str, Any] = {
        "state": AttemptState.REQUIRES_ACTION,
        "trigger": Trigger.THRESHOLD,
        "armed_at": NOW,
        "rule_changed_at": None,
    }
    assert rules.threshold_shown(Decimal(10), **about | changes) == shown
