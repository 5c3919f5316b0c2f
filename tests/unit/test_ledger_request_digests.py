"""What makes two requests of one key the same, and the edges of what a posting may hold."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from shared.ledger import rules
from shared.ledger.model import Posting, SystemAccount, TransactionType

OWNER, ID = UUID(int=1), UUID(int=2)


def posting(**fields: Any) -> Posting:
    whole: dict[str, Any] = {
        "organization_id": OWNER,
        "id": ID,
        "type": TransactionType.USAGE,
        "counterparty": SystemAccount.REVENUE,
        "key": "k",
        "amount": Decimal(-1),
    }
    return Posting(**whole | fields)


def test_two_usages_of_one_key_are_two_requests_and_their_price_is_none_of_them() -> None:
    one, other = ({"model": "m", "tokens": count} for count in (1, 2))
    assert rules.digest(posting(), usage=one) != rules.digest(posting(), usage=other)
    dearer = posting(amount=Decimal(-2))
    assert rules.digest(posting(), usage=one) == rules.digest(dearer, usage=one)


def test_partial_requests_of_one_key_differ_by_their_other_fields_too() -> None:
    dearer = posting(amount=Decimal(-2), partial=True)
    assert rules.digest(posting(partial=True)) != rules.digest(dearer)
    assert rules.digest(posting(partial=True)) != rules.digest(posting())


def test_a_digest_does_not_depend_on_the_time_zone_of_the_process() -> None:
    found = set()
    with pytest.MonkeyPatch.context() as patch:
        for zone in ("UTC", "America/New_York"):
            patch.setenv("TZ", zone)
            time.tzset()
            found.add(rules.digest(posting(effective_at=datetime(2026, 1, 31, 12, tzinfo=UTC))))
    time.tzset()
    assert len(found) == 1


@pytest.mark.parametrize("moment", [rules.MOMENT_MIN, rules.MOMENT_MAX])
def test_the_first_and_the_last_moment_of_the_calendar_are_in_it(moment: datetime) -> None:
    second = timedelta(seconds=1)
    beyond = moment - second if moment == rules.MOMENT_MIN else moment + second
    assert rules.clock_refusal("at", moment) is None
    assert rules.clock_refusal("at", beyond) == "at: from 1970 to 9000"


@pytest.mark.parametrize(("difference", "taken"), [("0.000000001", True), ("-0.000000001", False)])
@pytest.mark.parametrize("disputed", [True, False])
def test_a_reversal_of_the_least_amount_takes_or_returns(
    difference: str, *, taken: bool, disputed: bool
) -> None:
    found = rules.reversal(
        OWNER, ID, "pi_1", difference=Decimal(difference), number=3, disputed=disputed
    )
    taking = TransactionType.DISPUTE if disputed else TransactionType.REFUND
    assert found.type is (taking if taken else TransactionType.DISPUTE_REVERSAL)
    assert (found.amount, found.payment_intent_id) == (-Decimal(difference), "pi_1")
    assert found.key.endswith("pi_1:reversal:3")
