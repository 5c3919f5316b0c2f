"""The named steps at which a process is killed: before or after a function of the code returns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class When(StrEnum):
    """Where a step is: before the function begins, or after it has returned."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True)
class Step:
    """A step of the code: its place in the `nth` call of a function.

    `target` is a module and an attribute. A transaction that is open at a step is rolled back.
    """

    name: str
    when: When
    target: str
    nth: int = 1


def before(name: str, target: str, nth: int = 1) -> Step:
    return Step(name, When.BEFORE, target, nth)


def after(name: str, target: str, nth: int = 1) -> Step:
    return Step(name, When.AFTER, target, nth)


INBOX = "shared.inbox.store"
APPLIER = "shared.events.service:Applier"
ATTEMPTS = "shared.recharge.attempts.store"
GATEWAY = "shared.payments.payment_intents:PaymentIntentGateway"
HOLDS = "shared.ledger.holds.store"
KEYS = "shared.idempotency.store"
LOOKUP = "shared.payments.lookup:StripeLookup"
ONCE = "api.framework.idempotency:once"
REPLAYS = "shared.replay.store"
RUNS = "shared.reconciliation.store"

DELIVERY = (
    before("delivery: before its insert", f"{INBOX}:receive"),
    after("delivery: committed, before the wakeup", f"{INBOX}:receive"),
    after("delivery: after the wakeup, before the answer", "shared.inbox.service:Inbox._store"),
)
EVENTS = (
    after("events: claimed", f"{INBOX}:claim"),
    before("events: before their effects", "shared.events.service:apply_batch"),
    after("events: effects, before the outcome", "shared.events.service:apply_batch"),
    after("events: outcome, before the commit", f"{INBOX}:finish"),
    after("events: committed", f"{APPLIER}._commit"),
    after("events: in the middle of a drain", f"{APPLIER}._commit", nth=2),
)
REFUND = (
    before("refund: before Stripe is asked", f"{LOOKUP}.answers"),
    after("refund: answered", f"{LOOKUP}.answers"),
    after("refund: posted, before the outcome", "shared.events.reversals:apply_level"),
    after("refund: outcome, before the commit", f"{INBOX}:finish"),
)
DISPUTE = (
    before("dispute: before Stripe is asked", f"{LOOKUP}.answers"),
    after("dispute: answered", f"{LOOKUP}.answers"),
    after("dispute: announced, before its row", "shared.events.disputes:announce"),
    after("dispute: posted, before the outcome", "shared.events.reversals:apply_level"),
    after("dispute: outcome, before the commit", f"{INBOX}:finish"),
)
INVOICE = (
    before("invoice: before Stripe is asked", f"{LOOKUP}.answers"),
    after("invoice: answered", f"{LOOKUP}.answers"),
    after("invoice: its payments bound", "shared.payments.store:bind_payments"),
    after("invoice: itself bound, before its row", "shared.payments.store:bind_invoice"),
    after("invoice: posted, before its message", "shared.events.invoices:_post"),
    after("invoice: announced, before the outcome", "shared.outbound.service:announce"),
    after("invoice: outcome, before the commit", f"{INBOX}:finish"),
)
RECHARGE = (
    after("recharge: claimed", f"{ATTEMPTS}:claim"),
    after("recharge: decided, before the commit", f"{ATTEMPTS}:begin"),
    before("recharge: before the PaymentIntent is created", f"{GATEWAY}.create"),
    after("recharge: created, its id not stored", f"{GATEWAY}.create"),
    after("recharge: its id stored", f"{ATTEMPTS}:store_intent"),
    after("recharge: confirmed, nothing stored", f"{GATEWAY}.confirm"),
    before("recharge: before the credit", "shared.payments.crediting:credit"),
    after("recharge: credited, before the state", "shared.payments.crediting:credit"),
    after("recharge: state, before the commit", "shared.recharge.effects:commit"),
    after("recharge: committed", "shared.recharge.flow:Charger.apply"),
)
DECLINE = (
    after("decline: stored, before the cancellation", f"{ATTEMPTS}:store_decline"),
    after("decline: canceled at Stripe", f"{GATEWAY}.cancel"),
    after("decline: counted, before the commit", "shared.recharge.effects:commit"),
)
AUTHENTICATION = (
    after("authentication: refused, nothing stored", f"{GATEWAY}.confirm"),
    after("authentication: paused, before the commit", "shared.recharge.effects:commit"),
)
SCHEDULE = (
    after("schedule: armed, before the commit", "shared.recharge.clock.store:arm_scheduled"),
    after("schedule: committed", "tests.crash_points.work:tick"),
)
CANCELLATION = (
    after("cancellation: attempt leased", f"{ATTEMPTS}:take"),
    before("cancellation: before the PaymentIntent is canceled", f"{GATEWAY}.cancel"),
    after("cancellation: canceled at Stripe, nothing stored", f"{GATEWAY}.cancel"),
    after("cancellation: stored, before the commit", "shared.recharge.effects:commit"),
    after("cancellation: committed", "shared.recharge.flow:Charger.apply"),
    after("cancellation: answer stored, not sent", f"{KEYS}:complete"),
)
TOP_UP = (
    after("top-up: key claimed", f"{KEYS}:claim"),
    after("top-up: attempt, before the commit", "shared.recharge.top_ups.store:begin_top_up"),
    before("top-up: before the PaymentIntent is created", f"{GATEWAY}.create"),
    after("top-up: created, its id not stored", f"{GATEWAY}.create"),
    after("top-up: its id stored", f"{ATTEMPTS}:store_intent"),
    after("top-up: confirmed, nothing stored", f"{GATEWAY}.confirm_with_customer"),
    after("top-up: credited, before the state", "shared.payments.crediting:credit"),
    after("top-up: state, before the commit", "shared.recharge.effects:commit"),
    after("top-up: committed", "shared.recharge.flow:Charger.apply"),
    after("top-up: answer stored, not sent", f"{KEYS}:complete"),
)
CHECKOUT = (
    after("checkout: key claimed", f"{KEYS}:claim"),
    after("checkout: purchase, before the commit", "shared.payments.store:open_purchase"),
    before("checkout: before the session is created", "shared.payments.checkout:_open"),
    after("checkout: created, its id not stored", "shared.payments.checkout:_open"),
    after("checkout: its id stored", "shared.payments.store:keep_session"),
    after("checkout: answer stored, not sent", f"{KEYS}:complete"),
)
KEY = (
    before("key: before the claim", f"{KEYS}:claim"),
    after("key: claimed", f"{KEYS}:claim"),
    before("key: effects, before the answer is stored", f"{KEYS}:complete"),
    after("key: answer stored, before the commit", f"{KEYS}:complete"),
    after("key: committed, before the answer is sent", ONCE),
)
HOLD = (
    before("hold: before its statement", f"{HOLDS}:hold"),
    after("hold: created, before the commit", f"{HOLDS}:hold"),
    before("hold: committed, before the answer", "api.endpoints.holds:_reply"),
)
CAPTURE = (
    before("capture: before its statement", "shared.ledger.service:post_shared"),
    after("capture: committed, before the answer", "shared.ledger.service:post_shared"),
)
RELEASE = (
    before("release: before its statement", f"{HOLDS}:release"),
    after("release: released, before the commit", f"{HOLDS}:release"),
    before("release: committed, before the answer", "api.endpoints.holds:_reply"),
)
MESSAGE = (
    after("message: claimed", "shared.outbound.store:claim"),
    before("message: before it is sent", "shared.outbound.sender:Sender.send"),
    after("message: sent, before its outcome", "shared.outbound.sender:Sender.send"),
    after("message: outcome stored", "shared.outbound.service:finish"),
)
EXPIRATION = (
    after("expiration: posted, before the commit", "shared.ledger.service:post_expirations"),
    after("expiration: committed", "worker.expirer:Expirer._expire"),
    after("expiration: announced, before the commit", "shared.ledger.service:announce_expiring"),
)
REPLAY = (
    after("replay: chunk selected, before the commit", f"{REPLAYS}:select_chunk"),
    after("replay: events claimed, before the commit", f"{INBOX}:claim_for_replay"),
    after("replay: counted, before the commit", f"{REPLAYS}:count_results"),
    after("replay: the first event committed", f"{APPLIER}._commit"),
    before("replay: before its end", f"{REPLAYS}:end"),
)
REPAIR = (
    after("repair: applied, before its finding", "shared.reconciliation.application:apply_batch"),
    after("repair: finding, before the commit", f"{RUNS}:save_findings"),
    after("repair: committed", "shared.reconciliation.application:Application.commit"),
    before("repair: before the end of the run", f"{RUNS}:finish"),
)
CLOSE = (
    before("close: before it is stored", "shared.finance.store:keep"),
    after("close: stored, before the commit", "shared.finance.store:keep"),
    after("close: committed", "shared.finance.service:close"),
)
DEBIT = (
    before("debit: before its statement", "shared.ledger.service:post_shared"),
    after("debit: committed, before the answer", "shared.ledger.service:post_shared"),
)
BATCH = (
    before("batch: before its statement", "shared.ledger.service:post"),
    after("batch: committed, before the answer", "shared.ledger.service:post"),
)
KEYED_BATCH = (
    after("keyed batch: posted, before the answer is stored", "shared.ledger.service:post"),
    after("keyed batch: answer stored, before the commit", f"{KEYS}:complete"),
    after("keyed batch: committed, before the answer is sent", ONCE),
)
