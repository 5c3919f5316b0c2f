"""How the supervisor of several web processes starts one: an internal command and its argument."""

from __future__ import annotations

import msgspec

SERVICES = ("webhooks", "api", "console")
COMMAND = "serve-process"
PROCESSES_MAX = 64


class Descriptors(msgspec.Struct, frozen=True):
    """Sockets as a process inherits them: of the public port, and of the port for operators."""

    public: list[int]
    operations: list[int]

    def all(self) -> list[int]:
        """Return every descriptor."""
        return [*self.public, *self.operations]


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """The argument: which process this is, and what it inherits."""

    number: int
    services: list[str]
    sockets: Descriptors
    # The descriptor of the control socket to the supervisor.
    control: int
    # Of the sockets on which each process serves its metrics to the others.
    folder: str
    # Another process serves until this one is ready, and goes on where it does not become ready.
    replaces: bool = False

    def encode(self) -> str:
        """Return the argument as text."""
        return msgspec.json.encode(self).decode()


def decode(argument: str) -> Launch:
    """Return what `Launch.encode` has written."""
    return msgspec.json.decode(argument, type=Launch)
