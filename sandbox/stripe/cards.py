"""The test cards: one table drives tokens, PaymentMethods, the pay page and what a charge does.

Numbers, test ids and behaviour follow https://docs.stripe.com/testing; a new card is a new row.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sandbox.stripe import declines


class Challenge(StrEnum):
    """When the issuer asks for 3-D Secure."""

    NEVER = "never"
    UNLESS_SET_UP = "unless_set_up"
    ON_SESSION = "on_session"
    ALWAYS = "always"


class AfterCharge(StrEnum):
    """What follows a successful charge."""

    DISPUTE_FRAUDULENT = "fraudulent"
    DISPUTE_NOT_RECEIVED = "product_not_received"
    EARLY_FRAUD_WARNING = "early_fraud_warning"
    REFUND_FAILS = "refund_fails"


@dataclass(frozen=True, slots=True)
class Card:
    """One test card.

    `tokens` name its test ids: `visa` is `pm_card_visa` and `tok_visa`. `decline` refuses a charge;
    `attachable` says whether saving it to a customer works although charges are refused. A bank
    account (`kind` `us_bank_account`) is a row too: its payments end later, well or with `decline`.
    """

    number: str
    brand: str
    label: str
    tokens: tuple[str, ...]
    decline: declines.Decline | None = None
    attachable: bool = True
    challenge: Challenge = Challenge.NEVER
    after_charge: AfterCharge | None = None
    funding: str = "credit"
    country: str = "US"
    kind: str = "card"

    @property
    def last4(self) -> str:
        """The digits that people see."""
        return self.number[-4:]


CARDS: Final[tuple[Card, ...]] = (
    Card("4242424242424242", "visa", "succeeds", ("visa",)),
    Card("4000056655665556", "visa", "succeeds (debit)", ("visa_debit",), funding="debit"),
    Card("5555555555554444", "mastercard", "succeeds", ("mastercard",)),
    Card("5200828282828210", "mastercard", "succeeds (debit)", ("mastercard_debit",)),
    Card("378282246310005", "amex", "succeeds", ("amex",)),
    Card("6011111111111117", "discover", "succeeds", ("discover",)),
    Card("4000002760000016", "visa", "succeeds (Germany)", ("de",), country="DE"),
    Card(
        "4000002500003155",
        "visa",
        "3-D Secure unless set up",
        ("authenticationRequiredOnSetup",),
        challenge=Challenge.UNLESS_SET_UP,
    ),
    Card(
        "4000002760003184",
        "visa",
        "3-D Secure always",
        ("authenticationRequired",),
        challenge=Challenge.ALWAYS,
    ),
    Card(
        "4000003800000446",
        "visa",
        "3-D Secure, set up already",
        ("authenticationRequiredSetupForOffSession",),
        challenge=Challenge.ON_SESSION,
    ),
    Card(
        "4000008260003178",
        "visa",
        "3-D Secure, then insufficient funds",
        ("authenticationRequiredChargeDeclinedInsufficientFunds",),
        decline=declines.INSUFFICIENT_FUNDS,
        challenge=Challenge.ALWAYS,
    ),
    Card(
        "4000000000003220",
        "visa",
        "3-D Secure 2 required",
        ("threeDSecure2Required", "threeDSecureRequired"),
        challenge=Challenge.ALWAYS,
    ),
    Card(
        "4000000000000341",
        "visa",
        "saves, then declines",
        ("chargeCustomerFail",),
        decline=declines.GENERIC,
    ),
    Card(
        "4000000000000002",
        "visa",
        "declined",
        ("chargeDeclined", "visa_chargeDeclined"),
        decline=declines.GENERIC,
        attachable=False,
    ),
    Card(
        "4000000000009995",
        "visa",
        "insufficient funds",
        ("chargeDeclinedInsufficientFunds", "visa_chargeDeclinedInsufficientFunds"),
        decline=declines.INSUFFICIENT_FUNDS,
        attachable=False,
    ),
    Card(
        "4000000000009987",
        "visa",
        "lost card",
        ("chargeDeclinedLostCard", "visa_chargeDeclinedLostCard"),
        decline=declines.LOST,
        attachable=False,
    ),
    Card(
        "4000000000009979",
        "visa",
        "stolen card",
        ("chargeDeclinedStolenCard", "visa_chargeDeclinedStolenCard"),
        decline=declines.STOLEN,
        attachable=False,
    ),
    Card(
        "4000000000000069",
        "visa",
        "expired card",
        ("chargeDeclinedExpiredCard",),
        decline=declines.EXPIRED,
        attachable=False,
    ),
    Card(
        "4000000000000127",
        "visa",
        "wrong CVC",
        ("chargeDeclinedIncorrectCvc",),
        decline=declines.INCORRECT_CVC,
        attachable=False,
    ),
    Card(
        "4000000000000119",
        "visa",
        "processing error",
        ("chargeDeclinedProcessingError",),
        decline=declines.PROCESSING_ERROR,
        attachable=False,
    ),
    Card(
        "4000000000006975",
        "visa",
        "velocity limit",
        ("visa_chargeDeclinedVelocityLimitExceeded",),
        decline=declines.VELOCITY,
        attachable=False,
    ),
    Card(
        "4100000000000019",
        "visa",
        "blocked as fraudulent",
        ("chargeDeclinedFraudulent", "radarBlock"),
        decline=declines.FRAUDULENT,
        attachable=False,
    ),
    Card(
        "4000000000000259",
        "visa",
        "succeeds, then disputed",
        ("createDispute",),
        after_charge=AfterCharge.DISPUTE_FRAUDULENT,
    ),
    Card(
        "4000000000002685",
        "visa",
        "succeeds, then disputed as not received",
        ("createDisputeProductNotReceived",),
        after_charge=AfterCharge.DISPUTE_NOT_RECEIVED,
    ),
    Card(
        "4000000000005423",
        "visa",
        "succeeds, then an early fraud warning",
        ("createIssuerFraudRecord",),
        after_charge=AfterCharge.EARLY_FRAUD_WARNING,
    ),
    Card(
        "4000000000005126",
        "visa",
        "succeeds, refunds fail later",
        ("refundFail",),
        after_charge=AfterCharge.REFUND_FAILS,
    ),
    Card(
        "000123456789",
        "bank account",
        "succeeds later",
        ("usBankAccount_success",),
        kind="us_bank_account",
    ),
    Card(
        "000111111116",
        "bank account",
        "fails later",
        ("usBankAccount_noAccount",),
        decline=declines.NO_ACCOUNT,
        kind="us_bank_account",
    ),
)

BY_NUMBER: Final = {card.number: card for card in CARDS}
BY_TOKEN: Final = {token: card for card in CARDS for token in card.tokens}


def from_test_id(test_id: str) -> Card | None:
    """Find the card of `pm_card_visa`, `tok_visa` or the like; None for any other id."""
    for prefix in ("pm_card_", "tok_", "pm_"):
        if test_id.startswith(prefix):
            return BY_TOKEN.get(test_id.removeprefix(prefix))
    return None
