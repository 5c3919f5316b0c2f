"""What providers report of a call becomes measures: each token counted once."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from prepaid_client.metering import Plan, ReservedCall
from prepaid_client.usage import measures_of

CHAT = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
RESPONSES = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 60},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5},
}
OPENAI_MEASURES = {
    "input_tokens": 100,
    "output_tokens": 20,
    "cached_input_tokens": 60,
    "reasoning_tokens": 5,
}
ANTHROPIC = {
    "input_tokens": 40,
    "cache_read_input_tokens": 50,
    "cache_creation_input_tokens": 10,
    "output_tokens": 20,
}
ANTHROPIC_MEASURES = {
    "input_tokens": 100,
    "output_tokens": 20,
    "cached_input_tokens": 50,
    "cache_write_tokens": 10,
}


@pytest.mark.parametrize(
    ("usage", "measures"),
    [
        (CHAT, OPENAI_MEASURES),
        (RESPONSES, OPENAI_MEASURES),
        (ANTHROPIC, ANTHROPIC_MEASURES),
        ({"prompt_tokens": 7, "completion_tokens": 0}, {"input_tokens": 7, "output_tokens": 0}),
        ({"prompt_tokens": 7, "total_tokens": 7}, {"input_tokens": 7}),
        ({"input_tokens": None, "output_tokens": 3}, {"output_tokens": 3}),
        (
            {"input_tokens": 7, "cache_read_input_tokens": None, "output_tokens": 1},
            {"input_tokens": 7, "output_tokens": 1},
        ),
    ],
)
def test_usage_is_read_as_a_mapping_and_as_an_object(
    usage: dict[str, Any], measures: dict[str, int]
) -> None:
    assert measures_of(usage) == measures
    assert measures_of(SimpleNamespace(**usage)) == measures


@pytest.mark.parametrize("usage", [{}, {"total_tokens": 3}, None, 5])
def test_what_has_no_token_counts_is_refused(usage: object) -> None:
    with pytest.raises(ValueError, match="input_tokens"):
        measures_of(usage)


def call(**estimate: int) -> ReservedCall:
    plan = Plan(
        organization="acme",
        amount=None,
        model="m-1",
        meter=None,
        estimate={name: Decimal(value) for name, value in estimate.items()},
        seconds=300,
        seconds_total_max=3600,
        fields={},
    )
    hold: Any = {"id": "hold"}
    return ReservedCall(plan, hold)


def used(reserved: ReservedCall) -> Mapping[str, Any] | None:
    return reserved.used.measures if reserved.used else None


def test_a_later_total_replaces_an_earlier_one() -> None:
    reserved = call(input_tokens=50, output_tokens=100)
    reserved.record(CHAT)
    reserved.record(output_tokens=25)
    assert used(reserved) == OPENAI_MEASURES | {"output_tokens": 25}


def test_a_count_that_is_not_reported_replaces_nothing() -> None:
    reserved = call(input_tokens=50, output_tokens=100)
    reserved.record(ANTHROPIC)  # a stream's first event
    reserved.record({"input_tokens": None, "output_tokens": 25})  # and its last
    assert used(reserved) == ANTHROPIC_MEASURES | {"output_tokens": 25}


def test_output_that_is_counted_bit_by_bit_brings_the_estimated_input() -> None:
    reserved = call(input_tokens=50, output_tokens=100)
    assert used(reserved) is None
    for _ in range(3):
        reserved.add(output_tokens=1)
    assert used(reserved) == {"input_tokens": 50, "output_tokens": 3}
    reserved.record(input_tokens=48)
    assert used(reserved) == {"input_tokens": 48, "output_tokens": 3}


def test_an_amount_is_not_recorded_where_measures_were_reserved() -> None:
    with pytest.raises(ValueError, match="an estimate of measures"):
        call(input_tokens=5).record(amount=1)
