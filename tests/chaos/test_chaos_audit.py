"""Each check of the chaos audit finds the violation that it is for: books, doctored one by one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.chaos.audit import CHECKS, audit
from tests.chaos.books import (
    Account,
    Attempt,
    Dispute,
    Event,
    Grant,
    Hold,
    Message,
    Payment,
    ProductBooks,
    Row,
    StripeBooks,
)
from tests.chaos.journal import Debit, GrantRecord, HoldRecord, Journal, Outcome, TopUp
from tests.chaos.records import Records

ACME = "acme"


def at(second: int) -> datetime:
    return datetime(2031, 1, 1, 0, 0, second, tzinfo=UTC)


BOUGHT = Payment("pi_1", ACME, 1190, Decimal(10), returned_minor=595, purchase="p1")
RECHARGED = Payment("pi_2", ACME, 2000, Decimal(20), attempt="a1")
AUTOMATIC = Payment("pi_4", ACME, 400, Decimal(4), attempt="a4")
PAYMENTS = [BOUGHT, RECHARGED, AUTOMATIC]
ROWS = [
    Row(ACME, 1, "purchase", Decimal(10), Decimal(10), "stripe:pi_1", payment="pi_1"),
    Row(ACME, 2, "refund", Decimal(-5), Decimal(5), "stripe:re_1", payment="pi_1"),
    Row(ACME, 3, "recharge", Decimal(20), Decimal(25), "stripe:pi_2", payment="pi_2"),
    Row(ACME, 4, "usage", Decimal(-2), Decimal(23), "use-1"),
    Row(ACME, 5, "hold_capture", Decimal(-1), Decimal(22), "hold:h1:capture", hold="h1"),
    Row(ACME, 6, "grant", Decimal(3), Decimal(25), "give-1", at=at(6)),
    Row(ACME, 7, "expiration", Decimal(-3), Decimal(22), "expiration:g1", at=at(9)),
    Row(ACME, 8, "recharge", Decimal(4), Decimal(26), "stripe:pi_4", payment="pi_4", at=at(10)),
]
HOLDS = [
    Hold(ACME, "h1", "hold-1", "captured", Decimal(3), Decimal(1)),
    Hold(ACME, "h2", "hold-2", "active", Decimal(4), Decimal(0)),
]
DEBIT = Debit(ACME, "use-1", Decimal(2), Outcome.ACCEPTED)
CAPTURED = HoldRecord(ACME, "hold-1", Decimal(3), Outcome.ACCEPTED, Decimal(1), Outcome.ACCEPTED)
ACTIVE = HoldRecord(ACME, "hold-2", Decimal(4), Outcome.ACCEPTED)
GRANT = Grant(ACME, "g1", 6, spent=True, expires_at=at(8))
GIVEN = GrantRecord(ACME, "give-1", Decimal(3), Outcome.ACCEPTED)
ATTEMPT = Attempt(ACME, "a1", "succeeded", "top_up", "pi_2")
RECHARGE = Attempt(ACME, "a4", "succeeded", "threshold", "pi_4")
DECLINED = Attempt(ACME, "a5", "failed", "threshold", "pi_5")
DISPUTE = Dispute("dp_1", is_closed=True)
TOP_UP = TopUp(ACME, "top-up-1", {"a1"}, succeeded=True)


def message(name: str, kind: str, **data: str) -> Message:
    return Message(name, kind, "delivered", ACME, data)


MESSAGES = [
    message("m1", "purchase.completed", paymentIntentId="pi_1"),
    message("m2", "purchase.completed", paymentIntentId="pi_2"),
    message("m3", "recharge.succeeded", attemptId="a4"),
    message("m4", "recharge.failed", attemptId="a5"),
    message("m5", "dispute.opened", disputeId="dp_1"),
    message("m6", "dispute.closed", disputeId="dp_1"),
    message("m7", "credits.expiring", grantId="g1"),
]


def records(**changes: Any) -> Records:
    """Return books that agree, but for the changes."""
    stripe = StripeBooks(
        {p.id: p for p in changes.get("payments", PAYMENTS)}, {DISPUTE.id: DISPUTE}
    )
    product = ProductBooks(
        changes.get("rows", ROWS),
        changes.get("accounts", [Account(ACME, Decimal(26), Decimal(4), 8)]),
        changes.get("holds", HOLDS),
        changes.get("attempts", [ATTEMPT, RECHARGE, DECLINED]),
        changes.get("events", {"evt_1": Event("evt_1", "applied")}),
        changes.get("messages", MESSAGES),
        changes.get("overdue", []),
        changes.get("grants", [GRANT]),
    )
    journal = Journal(
        changes.get("debits", [DEBIT]),
        changes.get("sent_holds", [CAPTURED, ACTIVE]),
        changes.get("top_ups", [TOP_UP]),
        {"evt_1"},
        changes.get("received", {message.id for message in MESSAGES}),
        grants=changes.get("given", [GIVEN]),
    )
    return Records(stripe, product, journal)


def without(number: int) -> list[Row]:
    return [row for row in ROWS if row.seq != number]


def other(name: str, number: int, **changes: Any) -> dict[str, list[Row]]:
    return {name: [replace(row, **changes) if row.seq == number else row for row in ROWS]}


def twice(number: int) -> list[Row]:
    return [*ROWS, ROWS[number - 1]]


DOCTORED: list[tuple[str, dict[str, Any], str]] = [
    ("acknowledged events lost", {"events": {}}, "evt_1 got a 200 and is not stored"),
    ("acknowledged events lost", {"events": {"evt_1": Event("evt_1", "dead", "why")}}, "dead: why"),
    ("double credits", {"rows": twice(3)}, "pi_2 is credited 2 times"),
    ("double credits", {"rows": without(2)}, "pi_1 has 10 credits, 5"),
    ("double credits", {"payments": [BOUGHT]}, "captured no such payment"),
    ("rows without a cause", other("rows", 1, payment=None), "row 1 of acme (purchase) names no"),
    ("rows without a cause", other("rows", 2, payment=None), "row 2 of acme (refund) names no"),
    ("rows without a cause", other("rows", 6, type="bonus"), "row 6 of acme is of the type bonus"),
    ("credits lost", {"rows": without(3)}, "pi_2 has 0 credits, 20"),
    ("credits lost", {"rows": [*ROWS, replace(ROWS[1], key="again")]}, "pi_1 has 0 credits"),
    ("credits lost", other("rows", 3, organization="other"), "credited to another organization"),
    ("double charges", {"payments": [*PAYMENTS, replace(RECHARGED, id="pi_3")]}, "a1"),
    ("double charges", {"payments": [*PAYMENTS, replace(BOUGHT, id="pi_3")]}, "p1"),
    ("double charges", {"payments": [BOUGHT, replace(RECHARGED, captures=2)]}, "2 succeeded"),
    ("double charges", {"top_ups": [replace(TOP_UP, attempts={"a1", "a2"})]}, "top-up-1"),
    ("double charges", {"top_ups": []}, "sent 0 top-ups, and 1 were made"),
    ("attempts that differ from Stripe", {"attempts": []}, "a1 captured a payment and is not"),
    ("attempts that differ from Stripe", {"payments": [BOUGHT]}, "Stripe captured nothing"),
    (
        "attempts that differ from Stripe",
        {"attempts": [Attempt(ACME, "a1", "failed", "threshold", "pi_2")]},
        "a1 is failed, and Stripe captured",
    ),
    (
        "attempts that differ from Stripe",
        {"attempts": [Attempt(ACME, "a1", "requires_action", "threshold", "pi_2")]},
        "a1 is requires_action, and Stripe captured",
    ),
    (
        "attempts that differ from Stripe",
        {"attempts": [Attempt(ACME, "a1", "unknown", "top_up", "pi_2")]},
        "was answered as succeeded",
    ),
    ("states past their deadline", {"overdue": ["the event evt_2"]}, "the event evt_2"),
    ("debits lost or doubled", {"rows": without(4)}, "accepted, and is posted 0 times"),
    ("debits lost or doubled", {"rows": twice(4)}, "accepted, and is posted 2 times"),
    ("debits lost or doubled", {"debits": [replace(DEBIT, outcome=Outcome.REFUSED)]}, "refused"),
    ("debits lost or doubled", {"debits": [replace(DEBIT, amount=Decimal(7))]}, "is of 7"),
    ("debits lost or doubled", {"debits": []}, "nobody sent it"),
    ("holds lost or doubled", {"holds": HOLDS[:1]}, "hold-2 was accepted, and is posted 0"),
    ("holds lost or doubled", {"rows": twice(5)}, "captures of ['1', '1']"),
    ("holds lost or doubled", {"sent_holds": [CAPTURED]}, "hold-2 is stored, and nobody sent"),
    ("holds lost or doubled", {"sent_holds": [ACTIVE]}, "nobody sent it"),
    (
        "holds lost or doubled",
        {"sent_holds": [replace(CAPTURED, captured=Decimal(2)), ACTIVE]},
        "2 was asked for",
    ),
    (
        "holds lost or doubled",
        {"sent_holds": [CAPTURED, replace(ACTIVE, end=Outcome.ACCEPTED)]},
        "answered as released",
    ),
    (
        "holds lost or doubled",
        {"sent_holds": [CAPTURED, replace(ACTIVE, end=Outcome.REFUSED)]},
        "its end was refused",
    ),
    ("messages lost", {"received": set()}, "is delivered, and never arrived"),
    ("messages lost", {"messages": []}, "m1 arrived, and is not stored"),
    ("messages lost", {"messages": [Message("m1", "credits.low", "dead")]}, "is dead"),
    ("grants lost or doubled", {"rows": without(6)}, "accepted, and is posted 0"),
    ("grants lost or doubled", {"rows": twice(6)}, "accepted, and is posted 2"),
    ("grants lost or doubled", {"given": []}, "give-1 is posted, and nobody sent it"),
    (
        "grants lost or doubled",
        {"given": [replace(GIVEN, amount=Decimal(9))]},
        "give-1 is of 9, and 3 is posted",
    ),
    (
        "expirations late, early or doubled",
        {"grants": [replace(GRANT, spent=False)]},
        "has credits left after its expiry",
    ),
    ("expirations late, early or doubled", {"rows": twice(7)}, "and did 2 times"),
    ("expirations late, early or doubled", {"grants": []}, "which is no grant of ours"),
    ("expirations late, early or doubled", other("rows", 7, at=at(7)), "and did 1 times"),
    *(
        ("messages that are not true", {"messages": [m for m in MESSAGES if m is not lost]}, words)
        for lost, words in zip(
            MESSAGES[:6],
            [
                "purchase.completed of pi_1 happened 1 times, announced 0",
                "purchase.completed of pi_2 happened 1 times, announced 0",
                "recharge.succeeded of a4 happened 1 times, announced 0",
                "recharge.failed of a5 happened 1 times, announced 0",
                "dispute.opened of dp_1 happened 1 times, announced 0",
                "dispute.closed of dp_1 happened 1 times, announced 0",
            ],
            strict=True,
        )
    ),
    *(
        ("messages that are not true", {"messages": [*MESSAGES, m]}, "times, announced 2 times")
        for m in MESSAGES[:6]
    ),
    (
        "messages that are not true",
        {"messages": [*MESSAGES, MESSAGES[6]]},
        "or never, is announced 2",
    ),
    ("messages that are not true", {"grants": []}, "credits.expiring of g1, which may expire once"),
    (
        "messages that are not true",
        {"payments": [BOUGHT, RECHARGED, replace(AUTOMATIC, attempt=None, invoice="in_1")]},
        "purchase.completed of in_1 happened 1 times, announced 0",
    ),
    (
        "messages that are not true",
        {"messages": [*MESSAGES, Message("m8", "credits.low", "delivered", ACME)]},
        "m8 (credits.low) has no row as its cause",
    ),
    ("accounts that do not add up", {"rows": without(4)}, "are not 1 to 8"),
    ("accounts that do not add up", other("rows", 4, balance_after=Decimal(24)), "not 23"),
    (
        "accounts that do not add up",
        {"accounts": [Account(ACME, Decimal(23), Decimal(4), 8)]},
        "has 23, its rows add up to 26",
    ),
    (
        "accounts that do not add up",
        {"accounts": [Account(ACME, Decimal(26), Decimal(0), 8)]},
        "holds 0, not 4",
    ),
]


def test_books_that_agree_have_no_violation() -> None:
    assert not any(audit(records()).values())


@pytest.mark.parametrize(("check", "changes", "words"), DOCTORED)
def test_a_doctored_book_is_found(check: str, changes: dict[str, Any], words: str) -> None:
    found = audit(records(**changes))[check]
    assert any(words in line for line in found), found


def test_every_check_has_a_doctored_book() -> None:
    assert {check for check, _, _ in DOCTORED} == CHECKS.keys()


@pytest.mark.parametrize("times", [0, 1])
def test_a_debit_without_an_answer_may_be_posted_once_or_not(times: int) -> None:
    unclear = replace(DEBIT, outcome=Outcome.UNCLEAR)
    rows = ROWS if times else without(4)
    assert audit(records(debits=[unclear], rows=rows))["debits lost or doubled"] == []
