"""One API request from header to answer: key, route, idempotency, parameters, transaction."""

import logging
import re
from typing import Final

from aiohttp import web

from sandbox.stripe import api_keys, errors, expand, injector, objects
from sandbox.stripe.call import Call
from sandbox.stripe.idempotency import Answer
from sandbox.stripe.params import Params, check, decode
from sandbox.stripe.restricted_keys import check_permission
from sandbox.stripe.routes import Route
from sandbox.stripe.simulator import Simulator

_TEST_KEY: Final = re.compile(r"(sk|rk)_test_\w+")
_ACCOUNT: Final = re.compile(r"acct_\w+")
logger = logging.getLogger(__name__)


async def serve(simulator: Simulator, route: Route | None, request: web.Request) -> web.Response:
    """Answer one API request and note it for `/_sim/requests`."""
    request_id = simulator.ids.new("req")
    key = request.headers.get("Idempotency-Key") if request.method == "POST" else None
    call = simulator.call(request_id, key)
    try:
        check_permission(simulator, authenticate(request.headers.get("Authorization")), request)
        if route is None:
            raise errors.unknown_route(request.method, request.path)
        account = connected(request.headers.get("Stripe-Account"), simulator.account)
        call = simulator.call(request_id, key, account=account)
        injector.forbid(request)
        # Claimed before the body is read: whoever comes meanwhile finds the key in use.
        with simulator.keys.claimed(key, account):
            raw = await request.read() if request.method == "POST" else _query(request)
            answer = _answer(simulator, route, request, raw, call)
            await injector.hold(simulator, request, call)
    except errors.ApiError as error:
        answer = _refusal(simulator, error, call)
    simulator.observer.answered(request.method, request.path, answer.status, answer.body)
    replayed = answer.request_id != request_id
    if request.method != "GET":
        simulator.deliverer.wake()
    simulator.requests.append(
        {
            "id": request_id,
            "method": request.method,
            "path": request.path,
            "status": answer.status,
            "idempotency_key": key,
            "stripe_account": request.headers.get("Stripe-Account"),
            "replayed": replayed,
            "fault": injector.noted(request),
            "created": simulator.clock.now(),
        }
    )
    return _response(request, answer, request_id, key, replayed=replayed)


def authenticate(header: str | None) -> str:
    """Return any test mode key, from Bearer or the user name of Basic; refuse others with 401."""
    key = api_keys.sent_in(header)
    if not key:
        raise errors.unauthorized(
            "You did not provide an API key. You need to provide your API key in the Authorization "
            "header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See "
            "https://docs.stripe.com/api#authentication for details, or we can help at "
            "https://support.stripe.com/."
        )
    if key.startswith(("sk_live_", "rk_live_")):
        raise errors.unauthorized("This simulator has test mode only; a live key is refused.")
    if not _TEST_KEY.fullmatch(key):
        raise errors.unauthorized(f"Invalid API Key provided: {key[:3]}{'*' * 8}{key[-4:]}")
    return key


def connected(header: str | None, platform: str) -> str:
    """Return the connected account that a request is about, empty for the platform's own.

    Any id of an account will do; anything else is refused with 403.
    https://docs.stripe.com/connect/authentication
    """
    if header is None or header == platform:
        return ""
    if not _ACCOUNT.fullmatch(header):
        raise errors.account_invalid(header)
    return header


def _query(request: web.Request) -> bytes:
    return request.rel_url.raw_query_string.encode()


def _answer(
    simulator: Simulator, route: Route, request: web.Request, raw: bytes, call: Call
) -> Answer:
    """Replay what the idempotency key remembers, or act and remember."""
    tree = decode(raw)
    key, path, account = call.idempotency_key, request.path, call.store.account
    if key is not None:
        remembered = simulator.keys.recall(key, path, tree, call.now, account=account)
        if remembered is not None:
            return remembered
    params = check(tree, route.shape, route.required)
    failure = injector.failure(request)
    with simulator.store.transaction():
        if failure is None:
            answer = _act(simulator, route, call, params, tuple(request.match_info.values()))
        else:
            answer = _refusal(simulator, failure, call)
        if key is not None:
            simulator.keys.remember(key, path, tree, answer, call.now, account=account)
    return answer


def _act(
    simulator: Simulator, route: Route, call: Call, params: Params, ids: tuple[str, ...]
) -> Answer:
    """Run the endpoint; a refusal undoes what it wrote, unless the refusal is what happened."""
    try:
        with simulator.store.savepoint():
            try:
                result = route.act(call, params, *ids)
            except errors.ApiError as error:
                if not error.keeps_effects:
                    raise
                return _refusal(simulator, error, call)
            shown = expand.expanded(call, result, params.get("expand", []))
            return Answer(200, objects.rendered(shown, simulator.origin), call.request_id or "")
    except errors.ApiError as error:
        if not error.stored:
            raise
        return _refusal(simulator, error, call)
    except Exception:
        logger.exception("%s %s failed", route.method, route.path)
        broken = errors.ApiError(500, "api_error", "The simulator failed; see its log.")
        return _refusal(simulator, broken, call)


def _refusal(simulator: Simulator, error: errors.ApiError, call: Call) -> Answer:
    log_url = f"{objects.ORIGIN}/_sim/requests#{call.request_id}"
    body = objects.rendered(error.body(log_url), simulator.origin)
    return Answer(error.status, body, call.request_id or "")


def _response(
    request: web.Request, answer: Answer, request_id: str, key: str | None, *, replayed: bool
) -> web.Response:
    headers = {
        "Request-Id": request_id,
        "Stripe-Version": request.headers.get("Stripe-Version", objects.API_VERSION),
        "Cache-Control": "no-cache, no-store",
    }
    if "Stripe-Account" in request.headers:
        headers["Stripe-Account"] = request.headers["Stripe-Account"]
    if key is not None:
        headers["Idempotency-Key"] = key
        headers["Original-Request"] = answer.request_id
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    if answer.status == 401:  # noqa: PLR2004  # unauthorized, as HTTP names it
        headers["WWW-Authenticate"] = 'Bearer realm="Stripe"'
    return web.Response(
        body=answer.body, status=answer.status, headers=headers, content_type="application/json"
    )
