"""Restricted keys: an `rk_test_…` key with a set of permissions.

POST /_sim/restricted_keys {"key", "permissions": ["rak_customer_write", …]} -> the same. Write
includes Read. A key that was never set up here may do everything.

https://docs.stripe.com/keys/restricted-api-keys
"""

import json
from typing import Final

from aiohttp import web

from sandbox.stripe.errors import ApiError
from sandbox.stripe.simulator import Simulator

# What Stripe calls the resource of a path, where it is not its last word in the singular.
_RESOURCES: Final = {
    "billing_portal": "customer_portal",
    "checkout": "checkout_session",
    "invoice_payments": "invoice",
    "invoiceitems": "invoice",
    "prices": "plan",
    "radar": "fraud_warning",
    "refunds": "charge",
    "webhook_endpoints": "webhook",
}


def add_restricted_keys(app: web.Application, simulator: Simulator) -> None:
    """Add the endpoint that sets a key's permissions."""

    async def set_up(request: web.Request) -> web.Response:
        params = json.loads(await request.read())
        simulator.restricted_keys[params["key"]] = frozenset(params["permissions"])
        return web.json_response(params)

    app.router.add_route("POST", "/_sim/restricted_keys", set_up)


def check_permission(simulator: Simulator, key: str, request: web.Request) -> None:
    """Refuse with 403 what a restricted key may not do."""
    permissions = simulator.restricted_keys.get(key)
    if permissions is None:
        return
    resource = _resource(request.path)
    wanted = f"rak_{resource}_{'read' if request.method == 'GET' else 'write'}"
    if permissions.isdisjoint({wanted, f"rak_{resource}_write"}):
        message = (
            f"The provided key '{key[:8]}{'*' * 8}{key[-4:]}' does not have the required"
            f" permissions for this endpoint on account '{simulator.account}'. Having the"
            f" '{wanted}' permission would allow this request to continue."
        )
        raise ApiError(403, "invalid_request_error", message, stored=False)


def _resource(path: str) -> str:
    parts = path.removeprefix("/v1/").split("/")
    if parts[0] == "customers" and "payment_methods" in parts:
        return "payment_method"
    return _RESOURCES.get(parts[0], parts[0].removesuffix("s"))
