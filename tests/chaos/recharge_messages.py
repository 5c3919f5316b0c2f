"""Whether what is told of a rule or its charge was caused at Stripe: a part of the audit. Pure."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from tests.chaos.books import Message, Payment
from tests.chaos.records import Records

REQUIRES_ACTION, SUSPENDED = "recharge.requires_action", "recharge.suspended"
AUTHENTICATION_REQUIRED = "authentication_required"
_PAYMENT = re.compile(r"\bpi_\w+")


def recharge_messages_untrue(records: Records) -> Iterable[str]:
    """Return the authentications and suspensions that are untold, doubled or have no cause."""
    yield from _authentications(records)
    told: dict[str, list[Message]] = defaultdict(list)
    for message in records.product.messages:
        if message.type == SUSPENDED:
            told[message.organization].append(message)
    for organization, messages in told.items():
        yield from _without_cause(records, organization, messages)
    yield from _untold(records, told)


def _authentications(records: Records) -> Iterable[str]:
    """Each recharge whose bank asks for its customer is told once, unless it was given up.

    The bank of a top-up asks its customer on the page: Stripe has no refused charge of it.
    """
    messages = [m for m in records.product.messages if m.type == REQUIRES_ACTION]
    told = Counter(str(message.data["attemptId"]) for message in messages)
    for attempt in records.product.attempts:
        times, codes = told.pop(attempt.id, 0), records.stripe.refused.get(attempt.id, set())
        asked = AUTHENTICATION_REQUIRED in codes
        least = int(asked and attempt.state != "canceled" and attempt.trigger != "top_up")
        most = int(asked or attempt.trigger == "top_up")
        if not least <= times <= most:
            yield f"{REQUIRES_ACTION} of {attempt.id} is told {times} times, not {least} to {most}"
    for name in told:
        yield f"{REQUIRES_ACTION} is told of {name}, which is no attempt of ours"


def _without_cause(records: Records, organization: str, messages: list[Message]) -> Iterable[str]:
    """Return the suspensions that are told more often than Stripe has causes for them."""
    for (reason, name), times in Counter(map(_about, messages)).items():
        causes = _causes(records, organization, reason, name)
        if times > causes:
            about = f"{organization}, {reason}" + (f", {name}" if name else "")
            yield f"{SUSPENDED} ({about}) is told {times} times, and Stripe has {causes} causes"


def _about(message: Message) -> tuple[str, str | None]:
    """Return the reason of a suspension, and the payment that it names."""
    named = _PAYMENT.search(str(message.data["detail"]))
    return str(message.data["reason"]), named[0] if named else None


def _causes(records: Records, organization: str, reason: str, name: str | None) -> int:
    own = {p.id for p in records.stripe.payments.values() if p.organization == organization}
    if name is not None:
        own &= {name}
    disputes = [d for d in records.stripe.disputes.values() if d.payment in own]
    match reason:
        case "refunded":
            recharged = [p for p in _recharged(records) if p.id in own and p.refunds]
            return sum(payment.refunds for payment in recharged) + len(disputes) * bool(recharged)
        case "dispute":
            return sum(not dispute.is_inquiry for dispute in disputes)
        case "inquiry":
            return len(disputes)
        case "declines":
            attempts = [a for a in records.product.attempts if a.organization == organization]
            return sum(a.id in records.stripe.refused for a in attempts)
        case _:
            return 0  # the traffic does nothing that causes it


def _untold(records: Records, told: dict[str, list[Message]]) -> Iterable[str]:
    """Return the rules that are suspended, or should have been, and nobody was told.

    While a rule is off, as where there never was one, a dispute is stored without a message.
    """
    disputed = {d.payment for d in records.stripe.disputes.values() if d.takes}
    returned = {p.id for p in _recharged(records) if p.refunds}
    for rule in records.product.rules:
        reasons = {_about(message)[0] for message in told.get(rule.organization, [])}
        if rule.state == "suspended" and rule.reason not in reasons:
            yield f"{rule.organization} is suspended ({rule.reason}), and no message says so"
        if rule.state == "off":
            continue
        own = {
            p.id for p in records.stripe.payments.values() if p.organization == rule.organization
        }
        if own & disputed and "dispute" not in reasons:
            yield f"a payment of {rule.organization} is disputed, and no suspension is told"
        if own & returned and not reasons:
            yield f"a recharge of {rule.organization} is refunded, and no suspension is told"


def _recharged(records: Records) -> list[Payment]:
    """Return the payments of recharges; those of top-ups suspend nothing."""
    recharges = {a.id for a in records.product.attempts if a.trigger != "top_up"}
    return [p for p in records.stripe.payments.values() if p.attempt in recharges]
