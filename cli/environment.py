"""Where a command finds its settings: the environment, else this folder's embedded servers."""

from __future__ import annotations

import os
from pathlib import Path

from sandbox.home import home_path
from shared.config import Settings, load

ENV_FILE = "env"


def home() -> Path:
    """Return the folder of the embedded servers."""
    return home_path()


def environment() -> dict[str, str]:
    """Return the variables that a command runs with.

    While `prepaid dev` runs, it leaves the addresses of its servers in a file under PREPAID_HOME,
    so that another terminal in the same folder can say `prepaid events list` and mean them.
    Variables that are set win.
    """
    found: dict[str, str] = {}
    file = home() / ENV_FILE
    if "DATABASE_URL" not in os.environ and file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition("=")
            found[name] = value
    return {**found, **os.environ}


def settings() -> Settings:
    """Read the settings; raise ConfigError, which names the variable and the mend."""
    return load(environment())


def write_env_file(variables: dict[str, str]) -> None:
    """Leave the addresses of the running servers for other terminals; readable by the owner."""
    file = home() / ENV_FILE
    file.touch(mode=0o600)
    lines = [f"{name}={value}\n" for name, value in variables.items()]
    file.write_text("".join(lines), encoding="utf-8")


def remove_env_file() -> None:
    """Forget the addresses: the servers are about to stop."""
    (home() / ENV_FILE).unlink(missing_ok=True)
