"""Which database a command works with: the exported one, else the sandbox of its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.database import database_url
from cli.environment import environment
from shared.config import direct_database_url
from shared.errors import ConfigError

SANDBOX = "postgresql://sandbox@127.0.0.1:1/sandbox"
ELSEWHERE = "postgresql://app@db.example.com/prepaid"


@pytest.fixture(autouse=True)
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a sandbox run in this folder, with neither address exported."""
    (tmp_path / "env").write_text(f"DATABASE_URL={SANDBOX}\nPREPAID_DIRECT_DATABASE_URL=\n")
    monkeypatch.setenv("PREPAID_HOME", str(tmp_path))
    for name in ("DATABASE_URL", "PREPAID_DIRECT_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


def test_a_command_without_an_exported_address_uses_the_sandbox() -> None:
    assert direct_database_url(environment()) == SANDBOX


def test_an_empty_direct_address_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREPAID_DIRECT_DATABASE_URL", "")
    assert direct_database_url(environment()) == SANDBOX


def test_without_an_address_and_a_running_sandbox_a_command_says_how_to_start_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "env").unlink()
    with pytest.raises(ConfigError, match="Start them with `make up`"):
        database_url()
    monkeypatch.setenv("PREPAID_HOME", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"is missing\. Set it to an address"):
        database_url()


@pytest.mark.parametrize("name", ["DATABASE_URL", "PREPAID_DIRECT_DATABASE_URL"])
def test_either_exported_address_leaves_the_sandbox_out(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, ELSEWHERE)
    variables = environment()
    assert direct_database_url(variables) == ELSEWHERE
    assert SANDBOX not in variables.values()
