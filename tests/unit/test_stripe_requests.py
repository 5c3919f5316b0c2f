"""What a failed request to Stripe says: that an object is missing, or that our key is wrong."""

from __future__ import annotations

import pytest
import stripe

from shared.errors import StripeFailedError, StripeMissingError, StripeRefusedError
from shared.payments.stripe_requests import ask

MISSING = "No such customer: 'cus_1'"
OTHER_MODE = "a similar object exists in live mode, but a test mode key was used"


async def fail(message: str) -> None:
    raise stripe.InvalidRequestError(  # type: ignore[no-untyped-call]
        message, "id", "resource_missing", http_status=404
    )


@pytest.mark.parametrize(
    ("message", "kind"),
    [(MISSING, StripeMissingError), (f"{MISSING}; {OTHER_MODE}", StripeRefusedError)],
)
async def test_an_object_of_the_other_mode_is_not_missing(
    message: str, kind: type[StripeFailedError]
) -> None:
    """A key of the wrong mode would forget every customer and every card otherwise."""
    with pytest.raises(StripeFailedError) as failed:
        await ask("customers.retrieve", fail(message))
    assert type(failed.value) is kind
