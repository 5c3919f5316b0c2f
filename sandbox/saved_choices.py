"""Choices of the first start, saved for the next: ports, the webhook secret, an API key."""

from __future__ import annotations

import secrets
from pathlib import Path

import msgspec

from sandbox.ports import free_port, is_free

SECRET_BYTES = 24


class SavedChoices(msgspec.Struct):
    """The choices of one PREPAID_HOME, in a file that only its owner can read."""

    ports: dict[str, int] = {}
    webhook_secret: str = ""
    api_key: str = ""

    @classmethod
    def read(cls, file: Path) -> SavedChoices:
        """Return the choices made before, or none."""
        if not file.exists():
            return cls()
        return msgspec.json.decode(file.read_bytes(), type=cls)

    def write(self, file: Path) -> None:
        """Save the choices for the next start."""
        file.touch(mode=0o600)
        file.write_bytes(msgspec.json.encode(self))

    def port(self, name: str, *, wanted: int = 0) -> int:
        """Return the wanted port, else the one of last time, else any: the first that is free."""
        candidates = (wanted, self.ports.get(name, 0))
        free = (port for port in candidates if port and is_free(port))
        self.ports[name] = next(free, 0) or free_port()
        return self.ports[name]

    def secret(self) -> str:
        """Return the secret that the simulator signs with, marked as of test mode."""
        self.webhook_secret = self.webhook_secret or f"whsec_test_{secrets.token_hex(SECRET_BYTES)}"
        return self.webhook_secret
