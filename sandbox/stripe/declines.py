"""Why issuers refuse, and what Stripe says about it. https://docs.stripe.com/declines/codes."""

from dataclasses import dataclass
from typing import Final

# The networks' merchant advice codes: data to update, try again later, do not try again.
NETWORK_ADVICE: Final = {
    "confirm_card_data": "01",
    "try_again_later": "02",
    "do_not_try_again": "03",
}


@dataclass(frozen=True, slots=True)
class Decline:
    """One reason to refuse.

    `advice_code` is what Stripe says to do next: `try_again_later`, `do_not_try_again` or
    `confirm_card_data`. `network_decline_code` is the two-digit answer of the card network.
    """

    code: str
    message: str
    decline_code: str | None = None
    advice_code: str | None = None
    network_decline_code: str | None = None
    param: str | None = None

    @property
    def network_advice_code(self) -> str | None:
        """What the card network says to do next; None where no network was asked."""
        if self.network_decline_code is None or self.advice_code is None:
            return None
        return NETWORK_ADVICE[self.advice_code]


def _declined(
    decline_code: str,
    message: str = "Your card was declined.",
    advice: str = "try_again_later",
    network: str | None = None,
) -> Decline:
    return Decline("card_declined", message, decline_code, advice, network)


GENERIC: Final = _declined("generic_decline", network="05")
INSUFFICIENT_FUNDS: Final = _declined(
    "insufficient_funds", "Your card has insufficient funds.", network="51"
)
LOST: Final = _declined("lost_card", advice="do_not_try_again", network="41")
STOLEN: Final = _declined("stolen_card", advice="do_not_try_again", network="43")
VELOCITY: Final = _declined(
    "card_velocity_exceeded",
    "Your card was declined for making repeated attempts too frequently or exceeding its amount "
    "limit.",
    network="61",
)
FRAUDULENT: Final = _declined("fraudulent", advice="do_not_try_again")
EXPIRED: Final = Decline(
    "expired_card",
    "Your card has expired.",
    "expired_card",
    "do_not_try_again",
    "54",
    "exp_month",
)
INCORRECT_CVC: Final = Decline(
    "incorrect_cvc",
    "Your card's security code is incorrect.",
    "incorrect_cvc",
    "confirm_card_data",
    "N7",
    "cvc",
)
PROCESSING_ERROR: Final = Decline(
    "processing_error",
    "An error occurred while processing your card. Try again in a little bit.",
    "processing_error",
    "try_again_later",
    "96",
)
INCORRECT_NUMBER: Final = Decline(
    "incorrect_number", "Your card number is incorrect.", "incorrect_number", param="number"
)
AUTHENTICATION_REQUIRED: Final = Decline(
    "authentication_required",
    "Your card was declined. This transaction requires authentication.",
    "authentication_required",
)
AUTHENTICATION_NOT_HANDLED: Final = Decline(
    "authentication_required",
    "This payment required an authentication action to complete, but `error_on_requires_action` "
    "was set. When you're ready, you can upgrade your integration to handle actions at "
    "https://stripe.com/docs/payments/payment-intents/upgrade-to-handle-actions.",
    "authentication_not_handled",
)
NO_ACCOUNT: Final = Decline(
    "payment_method_provider_decline",
    "The customer's bank account could not be located.",
    "no_account",
    network_decline_code="R03",
)
