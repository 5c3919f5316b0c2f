"""What auto-recharge decides in each circumstance, and the words in which it says so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from shared.recharge import rules
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

NOW = datetime(2026, 3, 31, 12, 30, 15, 5, tzinfo=UTC)
APRIL = datetime(2026, 4, 1, tzinfo=UTC)
CARD = Card(id="pm_1", customer_id="cus_1", type="card")
RULE = Rule(threshold=Decimal(10), amount=Decimal(20))


def decide(
    rule: Rule = RULE, trigger: Trigger = Trigger.THRESHOLD, **changes: Any
) -> rules.Decision:
    """Decide at a balance of 5, with a card, nothing spent and no wait."""
    state = changes.pop("state", RechargeState.ACTIVE)
    auto = AutoRecharge(
        organization_id=UUID(int=1), rule=rule, state=state,
        not_before=changes.pop("not_before", None),
    )  # fmt: skip
    circumstances: dict[str, Any] = {
        "spendable": Decimal(5),
        "currency": "usd",
        "credits_per_unit": Decimal(1),
        "units_max": Decimal(1000),
        "card": CARD,
        "spent": Spent(Decimal(0), 0),
        "now": NOW,
    }
    return rules.decide(trigger, auto, **circumstances | changes)


def charge(minor: int) -> rules.ChargeDecision:
    return rules.ChargeDecision(
        card=CARD, currency="usd", amount_minor=minor, credits=Decimal(minor) / 100
    )


def test_a_low_balance_is_charged_for_and_a_balance_at_the_threshold_is_not() -> None:
    assert decide() == charge(2000)
    gone = rules.Stop("the spendable balance is not below the threshold any more")
    assert decide(spendable=Decimal(10)) == gone
    assert decide(Rule(amount=Decimal(20))) == gone
    assert decide(spendable=Decimal("9.99")) == charge(2000)


def test_what_a_refused_debit_needs_is_a_reason_only_while_less_is_spendable() -> None:
    assert decide(spendable=Decimal(12), needed=Decimal(13)) == charge(2000)
    assert isinstance(decide(spendable=Decimal(12), needed=Decimal(12)), rules.Stop)


@pytest.mark.parametrize("state", [RechargeState.OFF, RechargeState.SUSPENDED])
def test_a_rule_that_is_not_active_stops_and_its_schedule_runs_later(state: RechargeState) -> None:
    assert decide(state=state) == rules.Stop(f"auto-recharge is {state}", due_again=True)


def test_a_wait_ends_at_its_moment() -> None:
    later = NOW + timedelta(microseconds=1)
    assert decide(not_before=later) == rules.Wait(later)
    assert decide(not_before=NOW) == charge(2000)


def test_without_a_card_it_stops_and_without_a_description_it_waits_for_seconds() -> None:
    assert decide(card=None) == rules.Stop(
        "there is no payment method to charge", SuspensionReason.NO_CARD, due_again=True
    )
    assert decide(card=None, card_undescribed=True) == rules.Wait(NOW + timedelta(seconds=5))


def test_a_rule_that_buys_nothing_stops() -> None:
    nothing = rules.Stop("there is nothing to buy by this rule any more")
    assert decide(Rule(threshold=Decimal(10))) == nothing
    assert decide(Rule(threshold=Decimal(10), target=Decimal(5))) == nothing
    assert decide(Rule(schedule_amount=Decimal(0)), Trigger.SCHEDULE) == nothing
    assert decide(Rule(), Trigger.SCHEDULE) == nothing


def test_one_charge_ends_above_the_threshold() -> None:
    five = Rule(threshold=Decimal(20), amount=Decimal(5))
    assert decide(five) == charge(2000)  # three would end at the threshold itself
    assert decide(five, spendable=Decimal(6)) == charge(1500)
    one = Rule(threshold=Decimal(10), amount=Decimal(1))
    assert decide(one, spendable=Decimal("9.5")) == charge(100)
    assert decide(Rule(threshold=Decimal(10), target=Decimal(30))) == charge(2500)
    assert decide(Rule(schedule_amount=Decimal(7)), Trigger.SCHEDULE) == charge(700)
    assert decide(Rule(threshold=Decimal(10), amount=Decimal(2000))) == charge(100_000)


def test_a_cap_of_money_is_exact_and_says_what_would_exceed_it() -> None:
    capped = Rule(threshold=Decimal(10), amount=Decimal(20), monthly_cap=Decimal(50))
    assert decide(capped, spent=Spent(Decimal(30), 9)) == charge(2000)
    assert decide(capped, spent=Spent(Decimal("30.01"), 0)) == rules.Stop(
        "20 credits on top of 30.01 would exceed the monthly cap of 50",
        SuspensionReason.CAP,
        APRIL,
    )


def test_a_cap_of_count_is_exact_and_says_how_many_there_were() -> None:
    capped = Rule(threshold=Decimal(10), amount=Decimal(20), monthly_count_cap=2)
    assert decide(capped, spent=Spent(Decimal(0), 1)) == charge(2000)
    assert decide(capped, spent=Spent(Decimal(0), 2)) == rules.Stop(
        "2 recharges this month, and the cap is 2", SuspensionReason.CAP, APRIL
    )


def test_soft_declines_wait_one_and_six_hours_and_the_third_suspends() -> None:
    hour = timedelta(hours=1)
    found = [rules.after_decline(count, hard=False, now=NOW) for count in (0, 1, 2)]
    assert found == [
        rules.DeclineEffect(1, NOW + hour, suspended=False),
        rules.DeclineEffect(2, NOW + 6 * hour, suspended=False),
        rules.DeclineEffect(3, None, suspended=True),
    ]
    assert rules.after_decline(0, hard=True, now=NOW) == rules.DeclineEffect(
        1, None, suspended=True
    )


@pytest.mark.parametrize(("tries", "seconds"), [(1, 1), (2, 2), (9, 256), (10, 300), (99, 300)])
def test_a_request_is_repeated_after_seconds_that_double(tries: int, seconds: int) -> None:
    assert rules.retry_delay(tries, 0.5) == timedelta(seconds=seconds)
    assert rules.retry_delay(tries, 0.0) == timedelta(seconds=seconds * 0.75)
    assert rules.retry_delay(tries, 1.0) == timedelta(seconds=seconds * 1.25)


@pytest.mark.parametrize(
    ("state", "trigger", "changed", "shown"),
    [
        (AttemptState.REQUIRES_ACTION, Trigger.THRESHOLD, None, True),
        (AttemptState.REQUIRES_ACTION, Trigger.THRESHOLD, NOW, True),
        (AttemptState.REQUIRES_ACTION, Trigger.THRESHOLD, NOW + timedelta(seconds=1), False),
        (AttemptState.REQUIRES_ACTION, Trigger.SCHEDULE, None, False),
        (AttemptState.CHARGING, Trigger.THRESHOLD, None, False),
    ],
)
def test_the_threshold_of_an_attempt_is_shown_until_the_rule_changes(
    state: AttemptState, trigger: Trigger, changed: datetime | None, *, shown: bool
) -> None:
    found = rules.threshold_shown(
        Decimal(10), state=state, trigger=trigger, armed_at=NOW, rule_changed_at=changed
    )
    assert found == (Decimal(10) if shown else None)


def test_a_month_ends_at_midnight_utc() -> None:
    assert rules.month_start(NOW) == datetime(2026, 3, 1, tzinfo=UTC)
    assert rules.month_after(NOW) == APRIL
    assert rules.month_after(datetime(2026, 12, 31, 23, tzinfo=UTC)).year == 2027


CIRCUMSTANCES = Circumstances(
    auto=AutoRecharge(organization_id=UUID(int=1), rule=RULE, state=RechargeState.ACTIVE),
    spendable=Decimal(5),
    overdraft_limit=Decimal(0),
    currency="usd",
    card=CARD,
    card_undescribed=False,
    spent=Spent(Decimal(0), 0),
)
ARMED = ArmedAttempt(
    organization_id=UUID(int=1), id=UUID(int=2), trigger=Trigger.THRESHOLD, tries=1, created_at=NOW
)


def decide_attempt(
    current: Circumstances | None,
    attempt: ArmedAttempt = ARMED,
    *,
    rate: int = 1,
    most: int = 1000,
) -> rules.Decision:
    return rules.decide_attempt(
        attempt, current, credits_per_unit=Decimal(rate), units_max=Decimal(most), now=NOW
    )


def test_an_attempt_is_decided_by_the_circumstances_of_now() -> None:
    assert decide_attempt(CIRCUMSTANCES) == charge(2000)
    assert decide_attempt(CIRCUMSTANCES, rate=10) == replace(charge(2000), amount_minor=200)
    assert decide_attempt(CIRCUMSTANCES, most=7) == charge(700)
    in_euro = replace(CIRCUMSTANCES, currency="eur")
    assert decide_attempt(in_euro) == replace(charge(2000), currency="eur")
    undescribed = replace(CIRCUMSTANCES, card=None, card_undescribed=True)
    assert decide_attempt(undescribed) == rules.Wait(NOW + timedelta(seconds=5))
    assert decide_attempt(None) == rules.Stop("there is no auto-recharge")


def test_an_attempt_of_a_schedule_is_charged_for_and_counts_what_was_spent() -> None:
    rule = replace(RULE, schedule_amount=Decimal(7), monthly_count_cap=2)
    auto = replace(CIRCUMSTANCES.auto, rule=rule)
    scheduled = replace(ARMED, trigger=Trigger.SCHEDULE)
    rich = replace(CIRCUMSTANCES, auto=auto, spendable=Decimal(500))
    assert decide_attempt(rich, scheduled) == charge(700)
    capped = decide_attempt(replace(rich, spent=Spent(Decimal(0), 2)), scheduled)
    assert isinstance(capped, rules.Stop)
    assert capped.until == APRIL


@pytest.mark.parametrize(
    ("overdraft", "needed", "charged"),
    [(0, None, False), (0, 12, False), (0, 13, True), (5, 17, False), (5, 18, True)],
)
def test_what_a_refused_debit_needed_is_less_what_its_overdraft_covers(
    overdraft: int, needed: int | None, *, charged: bool
) -> None:
    current = replace(CIRCUMSTANCES, spendable=Decimal(12), overdraft_limit=Decimal(overdraft))
    attempt = replace(ARMED, needed=None if needed is None else Decimal(needed))
    decision = decide_attempt(current, attempt)
    assert isinstance(decision, rules.ChargeDecision if charged else rules.Stop)


@pytest.mark.parametrize(("currency", "least"), [("usd", 50), ("gbp", 30), ("huf", 17500)])
def test_a_charge_is_not_below_what_stripe_takes_in_its_currency(currency: str, least: int) -> None:
    tiny = Rule(threshold=Decimal(10), target=Decimal("10.01"))
    decision = decide(tiny, spendable=Decimal("9.99"), currency=currency)
    assert isinstance(decision, rules.ChargeDecision)
    assert decision.amount_minor == least


@pytest.fixture
def _far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Pacific/Kiritimati")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_far_from_utc")
def test_a_month_and_a_week_begin_in_utc_wherever_the_machine_stands() -> None:
    assert rules.month_start(NOW) == datetime(2026, 3, 1, tzinfo=UTC)
    assert rules.next_run(Schedule.MONTHLY, 1, NOW) == APRIL
    assert rules.next_run(Schedule.WEEKLY, 3, NOW) == APRIL  # a Wednesday
