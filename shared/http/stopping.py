"""The signals that end a process, and what a web process does between the first and its end."""

from __future__ import annotations

import asyncio
import signal

from shared.errors import PrepaidError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class DrainingError(PrepaidError):
    """This process is about to end; send requests to another."""


class Stop(asyncio.Event):
    """Set by SIGTERM or SIGINT. A second signal has its default effect: the process ends at once.

    Nothing that was committed is lost then; leases and locks end by themselves.
    """

    def __init__(self) -> None:
        super().__init__()
        self._by: signal.Signals | None = None

    @property
    def drains(self) -> bool:
        """Whether a balancer has to notice first. SIGINT comes from a person who waits."""
        return self._by is signal.SIGTERM

    async def check(self) -> None:
        """Raise DrainingError once the process is told to stop: a probe of readiness."""
        if self.is_set():
            raise DrainingError

    def listen(self) -> None:
        """Wait for the signals, on the running loop."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._receive, number)

    def _receive(self, number: signal.Signals) -> None:
        loop = asyncio.get_running_loop()
        for known in _SIGNALS:
            loop.remove_signal_handler(known)
            signal.signal(known, signal.SIG_DFL)
        self._by = number
        self.set()
