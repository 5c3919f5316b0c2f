"""Start the simulator: `python -m sandbox.stripe --state FILE`.

Listens on 127.0.0.1. When it does, one line of JSON on stdout says where:
`{"ready": true, "url": "http://127.0.0.1:PORT"}`. Logs go to stderr. SIGTERM and SIGINT stop it;
what is undelivered by then, or when it is killed, is delivered after the next start.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path

from aiohttp import web

from sandbox.stripe.app import build_app, build_simulator
from sandbox.stripe.observer import MakeObserver, Nobody
from sandbox.stripe.process import SECRETS_VARIABLE
from sandbox.stripe.simulator import Simulator

HOST = "127.0.0.1"
SECRET_DEFAULT = "whsec_simulator"  # noqa: S105 - signs test events
logger = logging.getLogger("sandbox.stripe")


def main(make_observer: MakeObserver = Nobody) -> None:
    """Parse the command line and serve until a signal comes."""
    options = _parser().parse_args()
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(name)s %(levelname)s %(message)s",
    )
    simulator = build_simulator(
        options.state,
        account=options.account,
        retry_base_seconds=options.retry_base_seconds,
        webhook_url=options.webhook_url,
        webhook_secret=os.environ.get(SECRETS_VARIABLE) or SECRET_DEFAULT,
        make_observer=make_observer,
    )
    try:
        asyncio.run(_serve(simulator, options.port))
    finally:
        simulator.store.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox.stripe", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--state", type=Path, required=True, help="the SQLite file")
    parser.add_argument("--webhook-url", help="endpoint for all events")
    parser.add_argument("--account", default="acct_1Simulator", help="the account's id")
    parser.add_argument(
        "--retry-base-seconds",
        type=float,
        default=1.0,
        help="wait before the first retry of a webhook; doubles each time, for 3 days",
    )
    return parser


async def _serve(simulator: Simulator, port: int) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    runner = web.AppRunner(build_app(simulator), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, HOST, port)
    await site.start()
    simulator.origin = simulator.deliverer.origin = f"http://{HOST}:{runner.addresses[0][1]}"
    deliveries = asyncio.create_task(simulator.deliverer.run())
    deliveries.add_done_callback(lambda _task: stopped.set())
    sys.stdout.write(json.dumps({"ready": True, "url": simulator.origin}) + "\n")
    sys.stdout.flush()
    logger.info("Stripe simulator listens at %s; this is not Stripe", simulator.origin)
    await stopped.wait()
    await runner.cleanup()
    deliveries.cancel()
    await asyncio.gather(deliveries, return_exceptions=True)
    if not deliveries.cancelled() and deliveries.exception() is not None:
        raise RuntimeError("the delivery loop failed") from deliveries.exception()


if __name__ == "__main__":
    main()
