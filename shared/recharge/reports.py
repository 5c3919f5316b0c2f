"""Counts and logs the transitions of attempts, after their commit."""

from __future__ import annotations

from typing import Any

import structlog

from shared import metrics
from shared.recharge.model import Attempt
from shared.recharge.transitions import (
    Alert,
    Cancellation,
    Capture,
    CustomerAction,
    Decline,
    Failure,
    MissingObject,
    Transition,
    Uncredited,
)

log = structlog.get_logger()


def report(attempt: Attempt, transition: Transition) -> None:
    """Count and log the outcome of an attempt."""
    wait_seconds = None if transition.wait is None else transition.wait.total_seconds()
    match transition.effect:
        case Alert(cause):
            log.info("recharge.blocked", cause=cause, wait_seconds=wait_seconds)
        case Capture(intent):
            _count(attempt, "succeeded", payment_intent_id=intent.id)
        case Uncredited(intent):
            _count(attempt, "refused", reason=transition.reason, detail=transition.detail)
            log.error(
                "recharge.not_credited", payment_intent_id=intent.id, detail=transition.detail
            )
        case Decline():
            _count(attempt, "failed", reason=transition.reason)
        case Failure() | MissingObject():
            _count(attempt, "refused", reason=transition.reason, detail=transition.detail)
        case CustomerAction(intent):
            _count(attempt, "requires_action", payment_intent_id=intent.id)
        case None if wait_seconds is not None and transition.detail is not None:
            log.warning(
                "recharge.postponed",
                state=transition.state,
                detail=transition.detail,
                wait_seconds=wait_seconds,
            )
        case None:
            pass
        case effect:
            _count(attempt, "canceled", detail=transition.detail)
            if isinstance(effect, Cancellation) and effect.refused_by is not None:
                log.error(
                    "recharge.top_up_refused", cause=effect.refused_by, detail=transition.detail
                )


def _count(attempt: Attempt, outcome: str, **details: Any) -> None:
    metrics.RECHARGE_ATTEMPTS.labels(outcome).inc()
    log.info("recharge.outcome", outcome=outcome, tries=attempt.tries, **details)
