"""Where a command reads its settings: the environment, else this folder's embedded servers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from shared.config import Settings, load

HOME_DEFAULT = ".prepaid"
ENV_FILE = "env"
DATABASE_VARIABLES = ("DATABASE_URL", "PREPAID_DIRECT_DATABASE_URL")


def home_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder that PREPAID_HOME names, else `.prepaid` in the current directory."""
    return Path(environment.get("PREPAID_HOME") or HOME_DEFAULT).absolute()


def environment() -> dict[str, str]:
    """Return the variables that a command runs with.

    While `prepaid dev` runs, it leaves the addresses of its servers in a file under PREPAID_HOME,
    so that `prepaid events list` in another terminal of the same folder uses them. Variables that
    are set win; one address of a database that is set leaves the whole file out, since the other
    address in it would be that of another database.
    """
    exported = {name: value for name, value in os.environ.items() if value}
    file = home_path() / ENV_FILE
    if any(name in exported for name in DATABASE_VARIABLES) or not file.exists():
        return exported
    lines = [line.partition("=") for line in file.read_text(encoding="utf-8").splitlines()]
    return {name: value for name, _, value in lines} | exported


def load_settings() -> Settings:
    """Read the settings; raise ConfigError, which names the variable and how to correct it."""
    return load(environment())
