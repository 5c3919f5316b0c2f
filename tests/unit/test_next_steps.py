"""Every error that makes a dead letter says what to do next, in a section that exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import errors
from shared.events import service
from shared.payments import object_paths
from shared.replay.next_steps import NEXT_STEPS, next_step

ROOT = Path(__file__).parents[2]
SECTIONS = {
    re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
    for heading in re.findall(
        r"^## (.+)$", (ROOT / "docs/runbook.md").read_text(encoding="utf-8"), re.MULTILINE
    )
}


def classes(base: type[Exception]) -> Iterator[str]:
    for each in base.__subclasses__():
        yield each.__name__
        yield from classes(each)


def test_each_error_of_an_event_and_of_stripe_is_in_the_table() -> None:
    modules = (service, object_paths)  # with what they import, all that define one
    assert all(module.__name__.startswith("shared.") for module in modules)
    known = {*classes(errors.EventError), *classes(errors.StripeFailedError)}
    assert known - {"UnclaimedError"} <= set(NEXT_STEPS)


@pytest.mark.parametrize("error_class", [*NEXT_STEPS, "SomeBugError"])
def test_each_step_is_a_sentence_and_names_a_section_of_the_runbook(error_class: str) -> None:
    step = next_step(error_class)
    assert step is not None
    assert step.sentence.endswith(".")
    assert step.section in SECTIONS


def test_an_event_without_an_error_has_no_next_step() -> None:
    assert next_step(None) is None
