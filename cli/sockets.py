"""The sockets of a web process: bound by it, or by the supervisor of several processes."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass

from cli.launch import Descriptors
from shared.config import Settings
from shared.errors import ConfigError
from shared.http import server

OPERATIONS_PORT = "PREPAID_OPERATIONS_PORT"


@dataclass(frozen=True, slots=True)
class Sockets:
    """Bound sockets of the public port, and of the port for operators where it is set."""

    public: Sequence[socket.socket]
    operations: Sequence[socket.socket]

    @classmethod
    async def bind(cls, settings: Settings) -> Sockets:
        """Bind the ports of the settings; raise ConfigError where one cannot be had."""
        if settings.operations_port == settings.port != 0:
            raise ConfigError(
                OPERATIONS_PORT,
                f"is {settings.port}, the port of the service. Set another port for operators.",
            )
        public = await server.bind(settings.host, settings.port)
        if settings.operations_port is None:
            return cls(public, [])
        operations = await server.bind(
            settings.host, settings.operations_port, port_variable=OPERATIONS_PORT
        )
        return cls(public, operations)

    @classmethod
    def inherit(cls, descriptors: Descriptors) -> Sockets:
        """Take over the sockets that a supervisor has bound."""
        return cls(_inherited(descriptors.public), _inherited(descriptors.operations))

    def descriptors(self) -> Descriptors:
        """Return what processes inherit."""
        return Descriptors(
            [bound.fileno() for bound in self.public], [bound.fileno() for bound in self.operations]
        )

    def close(self) -> None:
        """Close this process's copies."""
        for bound in (*self.public, *self.operations):
            bound.close()


def _inherited(descriptors: Sequence[int]) -> list[socket.socket]:
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    for inherited in sockets:
        inherited.settimeout(0)
    return sockets
