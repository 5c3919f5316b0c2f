"""What to do next about a dead letter: a sentence and a section of the runbook for each class."""

from __future__ import annotations

from dataclasses import dataclass

RUNBOOK = "docs/runbook.md"


@dataclass(frozen=True, slots=True)
class NextStep:
    """What to do, and the section of docs/runbook.md that says how."""

    sentence: str
    section: str

    @property
    def link(self) -> str:
        """Return the address of the section within the documentation."""
        return f"{RUNBOOK}#{self.section}"


_BUG = NextStep("Report the trace; once a fix is deployed, replay the event.", "dead-letters")
_STRIPE = NextStep(
    "Check Stripe's status, and key and permissions by prepaid doctor; then replay the event.",
    "stripe-refuses-us",
)
_LOCK = NextStep("Find out who holds the lock; then replay the event.", "one-organization-gets-503")
_INVOICE = NextStep(
    "Correct the invoice's price or quantity at Stripe, or grant the credits; then replay the event"
    " or discard it.",
    "an-invoice-cannot-be-credited",
)
_ORGANIZATION = NextStep(
    "Create the organization, or correct organization_id in the metadata at Stripe; then replay the"
    " event.",
    "unknown-organization",
)
_POSTING = NextStep(
    "Read the reason: the ledger refused the posting, such as for a closed account; then replay the"
    " event or discard it.",
    "dead-letters",
)
_SHAPE = NextStep(
    "Replay the event with --refetch, which reads Stripe's object of today; if that fails, report"
    " the payload.",
    "dead-letters",
)
NEXT_STEPS = {
    "UnknownOrganizationError": _ORGANIZATION,
    "UnknownCustomerError": _ORGANIZATION,
    "UnclaimedError": _ORGANIZATION,
    "TwoOrganizationsError": NextStep(
        "Correct organization_id at Stripe, in the metadata of the payment or of its session; then"
        " replay both events.",
        "two-organizations",
    ),
    "CurrencyMismatchError": NextStep(
        "Refund the payment at Stripe and discard the event: the organization pays in another"
        " currency.",
        "dead-letters",
    ),
    "InvalidAmountError": NextStep(
        "Check the payment's amount at Stripe; refund it and discard the event, or correct the rate"
        " and replay.",
        "dead-letters",
    ),
    "PaymentMismatchError": NextStep(
        "Compare the payment at Stripe with the one that was credited; then replay the event with"
        " --refetch, or discard it.",
        "dead-letters",
    ),
    "MalformedEventError": _SHAPE,
    "UnknownObjectError": _SHAPE,
    "LeasesLostError": NextStep(
        "Find out why its workers died before you replay the event.", "an-event-kills-its-worker"
    ),
    "PayloadDeletedError": NextStep(
        "Replay the event with --refetch, which reads Stripe's object of today; its payload was"
        " deleted here.",
        "dead-letters",
    ),
    "UnknownPriceError": _INVOICE,
    "InvalidExpiryError": _INVOICE,
    "PostingRefusedError": _POSTING,
    "StripeFailedError": _STRIPE,
    "StripeRefusedError": _STRIPE,
    "StripeForbiddenError": _STRIPE,
    "StripeMissingError": _STRIPE,
    "StripeThrottledError": _STRIPE,
    "NothingChargedError": _STRIPE,
    "LockNotAvailableError": _LOCK,
    "DeadlockDetectedError": _LOCK,
    "QueryCanceledError": _LOCK,
}


def next_step(error_class: str | None) -> NextStep | None:
    """Return what to do about an error class; None where there is no error.

    Any class that is not in the table is a bug or a broken server.
    """
    return None if error_class is None else NEXT_STEPS.get(error_class, _BUG)
