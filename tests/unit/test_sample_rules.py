"""When balances are added up, and how wide the steps of a chart are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.samples import rules

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("minute", "accounts", "sums"),
    [
        (1, 100_000, True),
        (1, 100_001, False),
        (14, 100_001, False),
        (15, 100_001, True),
        (45, 1e9, True),
        (0, 1e9, True),
    ],
)
def test_a_large_installation_adds_up_its_balances_every_fifteen_minutes(
    minute: int, accounts: float, sums: bool
) -> None:
    assert rules.sums_balances(NOON + minute * MINUTE, accounts) is sums


@pytest.mark.parametrize(
    ("minutes", "points_max", "step"),
    [(0, 100, 1), (99, 100, 1), (100, 100, 1), (101, 100, 2), (1440, 100, 15), (200, 100, 2)],
)
def test_a_step_is_the_narrowest_that_gives_so_many_points(
    minutes: int, points_max: int, step: int
) -> None:
    found = rules.step(NOON, NOON + minutes * MINUTE, points_max=points_max)
    assert found == step * MINUTE


def test_a_part_of_a_minute_needs_a_step_of_its_own() -> None:
    found = rules.step(NOON, NOON + timedelta(minutes=100, seconds=1), points_max=100)
    assert found == 2 * MINUTE
