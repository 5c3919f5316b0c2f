"""Changes of plan: up and down gives no more credits than were paid for."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures.invoice_lines import brought, invoice, new, of_subscription, price

Plan = tuple[int, int]  # a price in minor units, its credits
PLANS = st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 1000)), min_size=1, max_size=4)


@given(PLANS, st.data())
def test_up_and_down_any_number_of_times_gives_no_more_than_was_paid_for(
    plans: list[Plan], data: st.DataObject
) -> None:
    """M9: a change gives the rest of one plan back and charges that of another, in any order."""
    amount, credits_ = plans[0]
    got = brought(invoice(new(amount, price(str(credits_), unit_amount=amount)), total=amount))
    worth = Fraction(got)
    now, left = plans[0], Fraction(1)
    for _ in range(data.draw(st.integers(1, 6))):
        then = data.draw(st.sampled_from(plans))
        left = left * data.draw(st.fractions(0, 1, max_denominator=30))
        back, more = round(now[0] * left), round(then[0] * left)
        lines = [
            new(-back, price(str(now[1]), unit_amount=now[0]), proration=True),
            new(more, price(str(then[1]), unit_amount=then[0]), proration=True),
        ]
        got += brought(invoice(*lines, total=more - back))
        worth += Fraction(more * then[1], then[0]) - Fraction(back * now[1], now[0])
        now = then
    assert got <= worth


@given(st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), max_size=8))
def test_a_subscriptions_credits_do_not_grow_by_changing_plans(
    changes: list[tuple[int, int]],
) -> None:
    parent = of_subscription("100")
    got = brought(invoice(new(1000, "price_1"), parent=parent))
    for back, more in changes:
        lines = [new(-back, "price_1", proration=True), new(more, "price_2", proration=True)]
        got += brought(invoice(*lines, total=more - back, parent=parent))
    assert got == 100
