"""The error envelope repeats no more of a request than its bounds allow."""

from __future__ import annotations

from shared.errors import FieldError, ValidationError
from shared.http import envelope


def test_r1_an_envelope_is_bounded_whatever_was_rejected() -> None:
    steps: list[str | int] = ["body", *["x" * 10**6] * 100]
    rejected: FieldError = {"loc": steps, "msg": "y" * 10**6, "type": "value_error"}
    shown = envelope.envelope(ValidationError("z" * 10**6, errors=[rejected] * 100))
    assert len(shown["detail"]) == envelope.DETAIL_LENGTH_MAX
    assert len(shown["errors"]) == envelope.ERRORS_MAX
    for error in shown["errors"]:
        assert len(error["loc"]) == envelope.LOCATION_STEPS_MAX
        assert max(map(len, error["loc"])) == envelope.STEP_LENGTH_MAX
        assert len(error["msg"]) == envelope.MESSAGE_LENGTH_MAX
        assert error["msg"].endswith("…")


def test_a_short_refusal_is_shown_as_it_is() -> None:
    rejected: FieldError = {"loc": ["body", 3, "amount"], "msg": "too low", "type": "value_error"}
    shown = envelope.envelope(ValidationError("amount: too low", errors=[rejected]))
    assert shown == {
        "code": 422,
        "type": "validation_error",
        "detail": "amount: too low",
        "errors": [rejected],
    }
