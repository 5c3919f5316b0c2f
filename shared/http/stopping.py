"""Shutdown signals of a process."""

from __future__ import annotations

import asyncio
import signal

from shared.errors import PrepaidError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class DrainingError(PrepaidError):
    """This process is shutting down; send requests to another."""


class Stop(asyncio.Event):
    """Set by SIGTERM or SIGINT. A second signal terminates the process at once, as by default.

    Committed work survives that; leases and locks expire.
    """

    def __init__(self) -> None:
        super().__init__()
        self._by: signal.Signals | None = None

    @property
    def drains(self) -> bool:
        """Whether to drain for the load balancer first; not after SIGINT, which a person sends."""
        return self._by is signal.SIGTERM

    async def check(self) -> None:
        """Raise DrainingError once a signal has arrived: the readiness probe."""
        if self.is_set():
            raise DrainingError

    def listen(self) -> None:
        """Install the signal handlers on the running loop."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._receive, number)

    def _receive(self, number: signal.Signals) -> None:
        loop = asyncio.get_running_loop()
        for handled in _SIGNALS:
            loop.remove_signal_handler(handled)
            signal.signal(handled, signal.SIG_DFL)
        self._by = number
        self.set()
