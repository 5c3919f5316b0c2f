"""Whether messages say what happened, each once: a part of the audit. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from decimal import Decimal
from itertools import pairwise

from tests.chaos.books import Account, Message, Row
from tests.chaos.recharge_messages import recharge_messages_untrue
from tests.chaos.records import Records

LOW, DEPLETED, RECOVERED = "credits.low", "credits.depleted", "credits.recovered"
OF_BALANCES = frozenset({LOW, DEPLETED, RECOVERED})


def messages_untrue(records: Records) -> Iterable[str]:
    """Return what happened and was not announced once, and what was announced and did not."""
    payments, disputes = records.stripe.payments.values(), records.stripe.disputes.values()
    attempts = {attempt.id: attempt for attempt in records.product.attempts}
    recharges = {a.id for a in attempts.values() if a.trigger != "top_up"}
    happened = {
        "purchase.completed": {p.invoice or p.id for p in payments if p.attempt not in recharges},
        "recharge.succeeded": {a for a in recharges if attempts[a].state == "succeeded"},
        "recharge.failed": {a.id for a in attempts.values() if a.state == "failed"},
        "dispute.opened": {dispute.id for dispute in disputes},
        "dispute.closed": {dispute.id for dispute in disputes if dispute.is_closed},
    }
    for kind, subjects in happened.items():
        announced = Counter(_subject(m) for m in records.product.messages if m.type == kind)
        for subject in sorted(subjects | announced.keys()):
            times = int(subject in subjects)
            if announced[subject] != times:
                yield (
                    f"{kind} of {subject} happened {times} times, announced"
                    f" {announced[subject]} times"
                )
    yield from _expiring(records)
    yield from _balances(records)
    yield from recharge_messages_untrue(records)


def _subject(message: Message) -> str:
    """Return the id of what a message is about."""
    match message.type.split("."):
        case ["dispute", _]:
            return str(message.data["disputeId"])
        case ["recharge", _]:
            return str(message.data["attemptId"])
        case _:
            return str(message.data.get("invoiceId") or message.data["paymentIntentId"])


def _expiring(records: Records) -> Iterable[str]:
    """Return the announced expirations of grants that never expire, or announced before."""
    expiring = {grant.id for grant in records.product.grants if grant.expires_at is not None}
    kind = "credits.expiring"
    announced = Counter(str(m.data["grantId"]) for m in records.product.messages if m.type == kind)
    for grant, times in announced.items():
        if grant not in expiring or times > 1:
            yield f"{kind} of {grant}, which may expire once or never, is announced {times} times"


def _balances(records: Records) -> Iterable[str]:
    """Return the messages about balances that the rows of no account have caused, or lack."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in records.product.rows:
        rows[row.organization].append(row)
    caused: dict[str, dict[int, list[Message]]] = defaultdict(lambda: defaultdict(list))
    for message in records.product.messages:
        if message.type not in OF_BALANCES:
            continue
        if message.cause is None:
            yield f"the message {message.id} ({message.type}) has no row as its cause"
        else:
            caused[message.organization][message.cause].append(message)
    for account in records.product.accounts:
        own = rows[account.organization]
        yield from _of_account(account, own, caused[account.organization])


def _of_account(
    account: Account, rows: list[Row], caused: dict[int, list[Message]]
) -> Iterable[str]:
    """Walk along a ledger. Rows of one moment may be one posting: then its end is looked at.

    Since the last `credits.depleted`, were there credits after any row (`had`), and after the end
    of a posting (`kept`)?
    """
    last, had, kept = "", False, False
    for row, following in pairwise([*rows, None]):
        assert row is not None
        had = had or row.balance_after > row.amount
        where = f"row {row.seq} of {account.organization}, which leaves {row.balance_after}"
        for message in caused.get(row.seq, []):
            if not _is_true(message.type, row, account.low_below, last, had=had):
                yield f"{message.type} is announced at {where}, after {last or 'nothing'}"
            last = message.type
            had, kept = had and last != DEPLETED, kept and last != DEPLETED
        had = had or row.balance_after > 0
        if following is not None and following.at == row.at:
            continue
        if not _is_announced(row.balance_after, account.low_below, last, kept=kept):
            yield f"{last or 'nothing'} is the last announcement at {where}"
            return
        kept = kept or row.balance_after > 0


def _is_true(kind: str, row: Row, threshold: Decimal | None, last: str, *, had: bool) -> bool:
    if kind == DEPLETED:
        return row.balance_after <= 0 and had
    if threshold is None:
        return False
    if kind == LOW:
        return row.balance_after < threshold and last in {"", RECOVERED}
    return row.balance_after >= threshold and last in {LOW, DEPLETED}


def _is_announced(balance: Decimal, threshold: Decimal | None, last: str, *, kept: bool) -> bool:
    """Whether what was announced last fits a balance."""
    if balance <= 0:
        return not kept
    if threshold is None:
        return True
    return last in ({LOW, DEPLETED} if balance < threshold else {"", RECOVERED})
