"""The HTTP application: which part answers which address."""

from collections import deque
from functools import partial
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from sandbox.stripe import api, webhook_endpoints
from sandbox.stripe.clock import Clock
from sandbox.stripe.control import add_control
from sandbox.stripe.control_guard import guard_control
from sandbox.stripe.idempotency import Keys
from sandbox.stripe.ids import Ids
from sandbox.stripe.injector import injecting
from sandbox.stripe.observer import MakeObserver, Nobody
from sandbox.stripe.pages import add_pages
from sandbox.stripe.portal_pages import add_portal
from sandbox.stripe.restricted_keys import add_restricted_keys
from sandbox.stripe.routes import ROUTES
from sandbox.stripe.simulator import REQUESTS_REMEMBERED, Simulator
from sandbox.stripe.store import Store
from sandbox.stripe.webhooks import Deliverer

SERVER: Final = "stripe-simulator (a stand-in for tests, not Stripe)"


def build_simulator(
    state: Path,
    *,
    account: str,
    retry_base_seconds: float,
    webhook_url: str | None,
    webhook_secret: str,
    make_observer: MakeObserver = Nobody,
) -> Simulator:
    """Open the state file and put the parts together; the origin is known once it listens."""
    store, ids = Store(state), Ids()
    clock, observer = Clock(store), make_observer(store)
    simulator = Simulator(
        store=store,
        clock=clock,
        ids=ids,
        keys=Keys(store),
        deliverer=Deliverer(store, clock, ids, account, retry_base_seconds, observer),
        account=account,
        origin="",
        requests=deque(maxlen=REQUESTS_REMEMBERED),
        observer=observer,
    )
    if webhook_url is not None:
        with simulator.committed():
            webhook_endpoints.from_command_line(simulator.call(), webhook_url, webhook_secret)
    return simulator


def build_app(simulator: Simulator) -> web.Application:
    """Make the application.

    The fault injector comes behind `name_server`: it wraps the whole answer there, so what it loses
    or breaks has happened and is remembered, as with Stripe.
    """
    app = web.Application(middlewares=[name_server, guard_control, injecting(simulator)])
    for route in ROUTES:
        app.router.add_route(route.method, route.path, partial(api.serve, simulator, route))
    add_pages(app, simulator)
    add_portal(app, simulator)
    add_control(app, simulator)
    add_restricted_keys(app, simulator)
    app.router.add_route("*", "/{path:.*}", partial(api.serve, simulator, None))
    return app


@web.middleware
async def name_server(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Say in every answer that this is not Stripe."""
    try:
        answer = await handler(request)
    except web.HTTPException as error:
        error.headers["Server"] = SERVER
        raise
    answer.headers["Server"] = SERVER
    return answer
