"""How a process is asked to stop: by signals, or by the supervisor of several processes."""

from __future__ import annotations

import asyncio
import signal
from enum import Enum

from shared.errors import PrepaidError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class DrainingError(PrepaidError):
    """This process is shutting down; send requests to another."""


class StopReason(Enum):
    """Why a process stops, which decides how."""

    # The installation stops or moves: a load balancer needs time to notice.
    DRAIN = "drain"
    # A person, or a supervisor that is gone.
    AT_ONCE = "at once"
    # Another process has taken its place on the same port, which stays ready.
    REPLACED = "replaced"


class Stop(asyncio.Event):
    """Set by SIGTERM or SIGINT. A second signal terminates the process at once, as by default.

    Committed work survives that; leases and locks expire.
    """

    def __init__(self) -> None:
        super().__init__()
        self._reason: StopReason | None = None

    @property
    def drains(self) -> bool:
        """Whether connections get time to end; not after SIGINT, which a person sends."""
        return self._reason in {StopReason.DRAIN, StopReason.REPLACED}

    @property
    def replaced(self) -> bool:
        """Whether another process accepts the connections from now on."""
        return self._reason is StopReason.REPLACED

    async def check(self) -> None:
        """Raise DrainingError once the service itself stops: the readiness probe."""
        if self.is_set() and not self.replaced:
            raise DrainingError

    def request(self, reason: StopReason) -> None:
        """Stop for this reason; the first one counts."""
        if not self.is_set():
            self._reason = reason
            self.set()

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
        self.request(StopReason.DRAIN if number is signal.SIGTERM else StopReason.AT_ONCE)
