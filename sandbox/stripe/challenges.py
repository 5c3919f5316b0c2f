"""3-D Secure: the page that an intent sends its cardholder to, and the way back from there.

https://docs.stripe.com/payments/3d-secure
"""

from urllib.parse import urlencode

from sandbox.stripe import objects
from sandbox.stripe.call import Call
from sandbox.stripe.store import Json


def next_action(call: Call, intent: Json) -> Json:
    """Say what the cardholder must do: a redirect if the merchant named a way back, else the SDK's.

    The address of the page is the same either way.
    """
    address = f"{objects.ORIGIN}/authenticate/{intent['id']}"
    return_url = call.store.hidden(intent["id"]).get("return_url")
    if return_url is None:
        return {
            "type": "use_stripe_sdk",
            "use_stripe_sdk": {"type": "three_d_secure_redirect", "stripe_js": address},
        }
    redirect = {"return_url": return_url, "url": address}
    return {"type": "redirect_to_url", "redirect_to_url": redirect}


def merchant_address(call: Call, intent: Json) -> str | None:
    """Return the merchant's page with the outcome in its query; None if none was named."""
    address: str | None = call.store.hidden(intent["id"]).get("return_url")
    if address is None:
        return None
    kind = intent["object"]
    query = urlencode(
        {
            kind: intent["id"],
            f"{kind}_client_secret": intent["client_secret"],
            "redirect_status": "succeeded" if intent["status"] == "succeeded" else "failed",
        }
    )
    return f"{address}{'&' if '?' in address else '?'}{query}"
