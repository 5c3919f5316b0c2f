"""The issuer's decision on one attempt to charge a card. https://docs.stripe.com/testing."""

from dataclasses import dataclass

from sandbox.stripe import declines
from sandbox.stripe.cards import Card, Challenge


@dataclass(frozen=True, slots=True)
class Approved:
    """The issuer pays."""


@dataclass(frozen=True, slots=True)
class Challenged:
    """The issuer requires authentication of the cardholder first."""


@dataclass(frozen=True, slots=True)
class Pending:
    """The bank answers in some days."""


IssuerDecision = Approved | Challenged | Pending | declines.Decline


def decide(
    card: Card, *, off_session: bool, set_up: bool, authenticated: bool, refuse_challenge: bool
) -> IssuerDecision:
    """Decide one attempt to charge a card.

    `set_up` says that an earlier payment saved the card for off-session use with the cardholder's
    consent. An off-session attempt can show no challenge, so it ends as `authentication_required`.
    """
    if card.kind != "card":
        return Pending()
    asks = {
        Challenge.NEVER: False,
        Challenge.UNLESS_SET_UP: not (off_session and set_up),
        Challenge.ON_SESSION: not off_session,
        Challenge.ALWAYS: True,
    }[card.challenge]
    if asks and not authenticated:
        if off_session:
            return declines.AUTHENTICATION_REQUIRED
        return declines.AUTHENTICATION_NOT_HANDLED if refuse_challenge else Challenged()
    return card.decline or Approved()
