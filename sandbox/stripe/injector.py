"""The fault injector: a middleware that loses, cuts, breaks or forbids API answers on request.

What happens before the act (`error_500`, `rate_limited`, `conflict_409`, and the refusals 400, 401
and 403) and what makes the answer wait while the request still runs (`slow`, `webhook_first`) is
asked for by `api.serve`, so that the former bears a request's headers and the latter holds its
idempotency key. `error_500_stored` never reaches it: the idempotency key remembers the 500.
"""

import asyncio
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sandbox.stripe import api_keys, errors, faults, objects
from sandbox.stripe.call import Call
from sandbox.stripe.faults import Fault
from sandbox.stripe.simulator import Simulator

NOTE: Final = "fault"
_NOT_PERMITTED: Final = (
    "The provided key 'rk_test_********3456' does not have the required permissions for this "
    "endpoint on account 'acct_1'. Having the 'rak_payment_intent_write' permission would allow "
    "this request to continue."
)


def injecting(simulator: Simulator) -> Middleware:
    """Make the middleware; it touches nothing but API requests that a fault was asked for."""

    @web.middleware
    async def inject(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith("/v1/"):
            return await handler(request)
        customer = await _customer(simulator, request)
        key = api_keys.sent_in(request.headers.get("Authorization"))
        with simulator.store.transaction():
            strike = faults.for_request(
                simulator.store, request.method, request.path, customer, key
            )
        if strike is None:
            return await handler(request)
        request[NOTE] = strike.fault
        if strike.fault.fault == "refused":
            return _hang_up(request)
        return await _spoilt(request, strike.fault, await handler(request))

    return inject


def noted(request: web.Request) -> str | None:
    """Tell which fault befalls a request."""
    fault: Fault | None = request.get(NOTE)
    return None if fault is None else fault.fault


def forbid(request: web.Request) -> None:
    """Raise what a fault answers instead of acting; no idempotency key remembers it."""
    match noted(request):
        case "error_500":
            raise _broken()
        case "rate_limited":
            raise errors.rate_limited()
        case "conflict_409":
            raise errors.key_in_use(request.headers.get("Idempotency-Key", ""))
        case "unauthorized_401":
            raise errors.unauthorized("Invalid API Key provided: sk_test_********3456")
        case "forbidden_403":
            code = "more_permissions_required_for_api_key"
            raise errors.ApiError(403, "invalid_request_error", _NOT_PERMITTED, code, stored=False)
        case "bad_parameter_400":
            raise errors.unknown_parameters(["allowed_payment_method_types"])
        case _:
            return


def failure(request: web.Request) -> errors.ApiError | None:
    """Return the 500 of an endpoint that began and came to nothing; its key remembers that."""
    return _broken(stored=True) if noted(request) == "error_500_stored" else None


async def hold(simulator: Simulator, request: web.Request, call: Call) -> None:
    """Wait as `slow` and `webhook_first` want, while the request counts as running."""
    if call.awaited:
        await simulator.deliverer.attempted(call.awaited)
    fault: Fault | None = request.get(NOTE)
    if fault is not None and fault.fault == "slow":
        simulator.deliverer.wake()
        await asyncio.sleep(fault.seconds)


async def _customer(simulator: Simulator, request: web.Request) -> str | None:
    """Tell whom a request is about: it says so, or the object that its path names does."""
    if not faults.by_customer(simulator.store):
        return None  # nobody asks, and the body is left for the one who claims its key first
    for part in request.path.split("/"):
        named = faults.customer_of(simulator.store.about(part).get(part) or {})
        if named is not None:
            return named
    customer = (await request.post()).get("customer") if request.method == "POST" else None
    return customer if isinstance(customer, str) else None


async def _spoilt(
    request: web.Request, fault: Fault, answer: web.StreamResponse
) -> web.StreamResponse:
    """Do to a finished answer what the fault says."""
    match fault.fault:
        case "answer_lost":
            return _hang_up(request)
        case "cut_mid_body":
            return await _cut(request, answer)
        case "error_500_after":
            body = objects.rendered(_broken().body(), "")
            headers = {"Request-Id": answer.headers["Request-Id"]}
            return web.Response(
                body=body, status=500, headers=headers, content_type="application/json"
            )
        case "rate_limited" if fault.retry_after is not None:
            answer.headers["Retry-After"] = str(fault.retry_after)
            return answer
        case _:
            return answer


async def _cut(request: web.Request, answer: web.StreamResponse) -> web.StreamResponse:
    body = answer.body if isinstance(answer, web.Response) else None
    whole = body if isinstance(body, bytes) else b""
    cut = web.StreamResponse(status=answer.status, headers=answer.headers)
    cut.content_length = len(whole)
    await cut.prepare(request)
    await cut.write(whole[: len(whole) // 2])
    if request.transport is not None:
        request.transport.close()
    return cut


def _hang_up(request: web.Request) -> web.Response:
    """Close the connection; the answer returned here goes nowhere."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()


def _broken(*, stored: bool = False) -> errors.ApiError:
    message = "Sorry! There was an error while talking to one of our backends. (simulated)"
    return errors.ApiError(500, "api_error", message, stored=stored)
