"""The audit at the end of a run: every guarantee, against Stripe's books and the journal. Pure.

Each check returns the violations it finds, a line each; none is the result that a run must have.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from decimal import Decimal

from tests.chaos.announcements import messages_untrue
from tests.chaos.books import CREDITS, Hold, Row
from tests.chaos.journal import HoldRecord, Outcome
from tests.chaos.records import Check, Records

# Rows of payments, and what else the traffic makes.
OF_PAYMENTS = CREDITS | {"refund", "dispute", "dispute_reversal"}
OTHERS = frozenset({"usage", "hold_capture", "grant", "expiration"})


def acknowledged_events_lost(records: Records) -> Iterable[str]:
    """Return the events that got a 200 and are not applied, or not even stored."""
    for name in sorted(records.journal.acknowledged):
        event = records.product.events.get(name)
        if event is None:
            yield f"{name} got a 200 and is not stored"
        elif event.state not in {"applied", "ignored"}:
            yield f"{name} got a 200 and is {event.state}: {event.reason}"


def double_credits(records: Records) -> Iterable[str]:
    """Return the payments that are credited more than once, or with more than is left of them."""
    for name, rows in _by_payment(records).items():
        times = Counter(row.type in CREDITS for row in rows)[True]
        payment = records.stripe.payments.get(name)
        if payment is None:
            yield f"{name} is credited, and Stripe captured no such payment"
        elif times > 1 and not _of_invoice(rows):
            yield f"{name} is credited {times} times"
        elif (level := _total(rows)) > payment.level:
            yield f"{name} has {level} credits, {payment.level} are paid for"


def credits_lost(records: Records) -> Iterable[str]:
    """Return the payments that have fewer credits than is left of them."""
    found = _by_payment(records)
    for name, payment in records.stripe.payments.items():
        level = _total(found.get(name, []))
        if level < payment.level:
            yield f"{name} has {level} credits, {payment.level} are paid for"
        elif any(row.organization != payment.organization for row in found.get(name, [])):
            yield f"{name} of {payment.organization} is credited to another organization"


def rows_unexplained(records: Records) -> Iterable[str]:
    """Return the rows that should name their payment and do not, and those of other types."""
    for row in records.product.rows:
        if row.type in OF_PAYMENTS and row.payment is None:
            yield f"row {row.seq} of {row.organization} ({row.type}) names no payment"
        elif row.type not in OF_PAYMENTS | OTHERS:
            yield f"row {row.seq} of {row.organization} is of the type {row.type}"


def double_charges(records: Records) -> Iterable[str]:
    """Return the attempts, purchases, payments and top-up keys that charged more than once."""
    for what, names in (
        ("attempt", [p.attempt for p in records.stripe.payments.values()]),
        ("purchase", [p.purchase for p in records.stripe.payments.values()]),
    ):
        for name, times in Counter(names).items():
            if name is not None and times > 1:
                yield f"the {what} {name} captured {times} payments"
    for payment in records.stripe.payments.values():
        if payment.captures != 1:
            yield f"{payment.id} has {payment.captures} succeeded charges"
    for top_up in records.journal.top_ups:
        if len(top_up.attempts) > 1:
            yield f"the key {top_up.key} made the attempts {sorted(top_up.attempts)}"
    keys = Counter(top_up.organization for top_up in records.journal.top_ups)
    made = Counter(a.organization for a in records.product.attempts if a.trigger == "top_up")
    for organization, times in made.items():
        if times > keys[organization]:
            yield f"{organization} sent {keys[organization]} top-ups, and {times} were made"


def attempts_wrong(records: Records) -> Iterable[str]:
    """Return the attempts whose final state is not what Stripe did."""
    charged = {p.attempt for p in records.stripe.payments.values() if p.attempt is not None}
    known = {attempt.id: attempt for attempt in records.product.attempts}
    for name in sorted(charged - known.keys()):
        yield f"the attempt {name} captured a payment and is not stored"
    for attempt in records.product.attempts:
        if attempt.state == "succeeded" and attempt.id not in charged:
            yield f"the attempt {attempt.id} succeeded, and Stripe captured nothing"
        if attempt.state != "succeeded" and attempt.id in charged:
            yield f"the attempt {attempt.id} is {attempt.state}, and Stripe captured its payment"
    final = {a.id for a in records.product.attempts if a.state == "succeeded"}
    for top_up in records.journal.top_ups:
        if top_up.succeeded and not top_up.attempts <= final:
            yield f"the top-up {top_up.key} was answered as succeeded, and is not"


def past_their_deadline(records: Records) -> Iterable[str]:
    """Return what waits although it is due."""
    return records.product.overdue


def debits_wrong(records: Records) -> Iterable[str]:
    """Return the debits that are missing, doubled, refused and posted, or nobody's."""
    rows: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in records.product.rows:
        if row.type == "usage":
            rows[row.organization, row.key].append(row)
    for debit in records.journal.debits:
        found = rows.pop((debit.organization, debit.key), [])
        yield from _once(f"the debit {debit.key}", debit.outcome, len(found))
        if any(row.amount != -debit.amount for row in found):
            yield f"the debit {debit.key} is of {debit.amount}, and {found[0].amount} is posted"
    for _, key in rows:
        yield f"the debit {key} is posted, and nobody sent it"


def grants_wrong(records: Records) -> Iterable[str]:
    """Return the grants that are missing, doubled or nobody's."""
    rows: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in records.product.rows:
        if row.type == "grant":
            rows[row.organization, row.key].append(row)
    for sent in records.journal.grants:
        found = rows.pop((sent.organization, sent.key), [])
        yield from _once(f"the grant {sent.key}", sent.outcome, len(found))
        if any(row.amount != sent.amount for row in found):
            yield f"the grant {sent.key} is of {sent.amount}, and {found[0].amount} is posted"
    for _, key in rows:
        yield f"the grant {key} is posted, and nobody sent it"


def expirations_wrong(records: Records) -> Iterable[str]:
    """Return the grants that did not expire, or expired early, twice, or although they never do."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in records.product.rows:
        if row.type == "expiration":
            rows[row.key.removeprefix("expiration:")].append(row)
    for grant in records.product.grants:
        ends = rows.pop(grant.id, [])
        if grant.expires_at is not None and not grant.spent:
            yield f"the grant {grant.id} has credits left after its expiry"
        early = any(grant.expires_at is None or row.at < grant.expires_at for row in ends if row.at)
        if early or len(ends) > 1:
            yield f"the grant {grant.id} expires at {grant.expires_at}, and did {len(ends)} times"
    for name in rows:
        yield f"an expiration of {name}, which is no grant of ours"


def holds_wrong(records: Records) -> Iterable[str]:
    """Return the holds that are missing, nobody's, or did not end as they were asked to."""
    holds = {(hold.organization, hold.key): hold for hold in records.product.holds}
    captures: dict[str | None, list[Row]] = defaultdict(list)
    for row in records.product.rows:
        if row.type == "hold_capture":
            captures[row.hold].append(row)
    for sent in records.journal.holds:
        hold = holds.pop((sent.organization, sent.key), None)
        yield from _once(f"the hold {sent.key}", sent.outcome, int(hold is not None))
        if hold is None:
            continue
        yield from _end_wrong(sent, hold, [-row.amount for row in captures.pop(hold.id, [])])
    for _, key in holds:
        yield f"the hold {key} is stored, and nobody sent it"
    for name in captures:
        yield f"captures of {name}, which is no hold of ours"


def _end_wrong(sent: HoldRecord, hold: Hold, captured: list[Decimal]) -> Iterable[str]:
    what = f"the hold {sent.key} is {hold.status} with captures of {list(map(str, captured))}"
    if hold.captured != sum(captured, Decimal(0)) or len(captured) > 1:
        yield f"{what}, and says {hold.captured}"
    if sent.captured is not None and captured not in ([], [sent.captured]):
        yield f"{what}; {sent.captured} was asked for"
    expected = "released" if sent.captured is None else "captured"
    if sent.end is Outcome.ACCEPTED and hold.status != expected:
        yield f"{what}; it was answered as {expected}"
    if sent.end is Outcome.REFUSED and hold.status != "expired":
        yield f"{what}; its end was refused, and it has not expired"


def messages_wrong(records: Records) -> Iterable[str]:
    """Return the messages that never arrived, are given up, or are nobody's."""
    stored = {message.id: message for message in records.product.messages}
    for message in stored.values():
        if message.state == "dead":
            yield f"the message {message.id} ({message.type}) is dead"
        if message.state == "delivered" and message.id not in records.journal.received:
            yield f"the message {message.id} ({message.type}) is delivered, and never arrived"
    for name in sorted(records.journal.received - stored.keys()):
        yield f"the message {name} arrived, and is not stored"


def books_unbalanced(records: Records) -> Iterable[str]:
    """Return the accounts whose rows have gaps, or do not add up; and what is held of nobody."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in records.product.rows:
        rows[row.organization].append(row)
    held: dict[str, Decimal] = defaultdict(Decimal)
    for hold in records.product.holds:
        if hold.status == "active":
            held[hold.organization] += hold.amount - hold.captured
    for account in records.product.accounts:
        own = rows[account.organization]
        if [row.seq for row in own] != list(range(1, account.last_seq + 1)):
            yield f"the rows of {account.organization} are not 1 to {account.last_seq}"
        balance = Decimal(0)
        for row in own:
            balance += row.amount
            if balance != row.balance_after:
                yield f"row {row.seq} of {account.organization}: {row.balance_after}, not {balance}"
                break
        if balance != account.balance:
            yield f"{account.organization} has {account.balance}, its rows add up to {balance}"
        if held[account.organization] != account.held:
            yield f"{account.organization} holds {account.held}, not {held[account.organization]}"


CHECKS: dict[str, Check] = {
    "acknowledged events lost": acknowledged_events_lost,
    "double credits": double_credits,
    "credits lost": credits_lost,
    "rows without a cause": rows_unexplained,
    "double charges": double_charges,
    "attempts that differ from Stripe": attempts_wrong,
    "states past their deadline": past_their_deadline,
    "debits lost or doubled": debits_wrong,
    "holds lost or doubled": holds_wrong,
    "grants lost or doubled": grants_wrong,
    "expirations late, early or doubled": expirations_wrong,
    "messages lost": messages_wrong,
    "messages that are not true": messages_untrue,
    "accounts that do not add up": books_unbalanced,
}


def audit(records: Records) -> dict[str, list[str]]:
    """Return what each check finds."""
    return {name: list(check(records)) for name, check in CHECKS.items()}


def _once(what: str, outcome: Outcome, times: int) -> Iterable[str]:
    match outcome:
        case Outcome.ACCEPTED if times != 1:
            yield f"{what} was accepted, and is posted {times} times"
        case Outcome.REFUSED if times:
            yield f"{what} was refused, and is posted {times} times"
        case Outcome.UNCLEAR if times > 1:
            yield f"{what} got no answer, and is posted {times} times"
        case _:
            return


def _by_payment(records: Records) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in records.product.rows:
        if row.payment is not None:
            found[row.payment].append(row)
    return found


def _of_invoice(rows: Iterable[Row]) -> bool:
    """Whether an invoice brought them, a row for each of its portions."""
    return any(row.key.startswith("stripe-invoice:") for row in rows)


def _total(rows: Iterable[Row]) -> Decimal:
    return sum((row.amount for row in rows), Decimal(0))
