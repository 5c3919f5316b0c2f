"""What the lanes of a chaos run write down."""

from __future__ import annotations

import pytest

from tests.chaos.client import Reply
from tests.chaos.journal import Outcome
from tests.chaos.traffic import batch_outcomes

BODY = {"results": [{"status": "posted"}, {"status": "replayed"}, {"status": "insufficient"}]}


@pytest.mark.parametrize(("clear", "refused"), [(True, Outcome.REFUSED), (False, Outcome.UNCLEAR)])
def test_a_refused_row_of_a_batch_is_posted_by_no_attempt_that_was_answered(
    *, clear: bool, refused: Outcome
) -> None:
    reply = Reply(200, BODY, Outcome.ACCEPTED, clear)
    assert batch_outcomes(reply, 3) == [Outcome.ACCEPTED, Outcome.ACCEPTED, refused]


def test_the_rows_of_a_batch_without_an_answer_are_unclear() -> None:
    assert batch_outcomes(Reply(0, None, Outcome.UNCLEAR), 2) == [Outcome.UNCLEAR] * 2
