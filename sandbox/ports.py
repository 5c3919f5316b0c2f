"""Free TCP ports on this machine's loopback address."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"
# Below the range that kernels hand to outgoing connections (from 32768 on Linux, 49152 elsewhere):
# a port that a stopped server gave up is then still free when it starts again.
FIRST, LAST = 20_000, 29_999
TRIES_MAX = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now; somebody else may take it a moment later."""
    with socket.socket() as probe:
        # As servers do: connections that linger after a stop must not make a port look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen()
        except OSError:
            return False
    return True


def free_port() -> int:
    """Choose a free port at random, so that two checkouts that start at once rarely collide."""
    for _ in range(TRIES_MAX):
        port = random.randint(FIRST, LAST)  # noqa: S311 - not a secret
        if is_free(port):
            return port
    raise OSError(f"no free port found on {LOOPBACK} between {FIRST} and {LAST}")
