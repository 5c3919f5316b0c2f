"""A process imports what it needs: a command its own module, and no process what nothing uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cli.deferred import DeferredCommand
from tests.fixtures.documents import command_line

ROOT = Path(__file__).parents[2]
DEFERRED = {
    name: command
    for name, command in command_line().commands.items()
    if isinstance(command, DeferredCommand)
}


@pytest.mark.parametrize("name", DEFERRED)
def test_the_list_describes_a_command_as_its_own_help_does(name: str) -> None:
    deferred = DEFERRED[name]
    text = deferred.command.help
    assert deferred.help == text.split("\n\n")[0].replace("\n", " ")


@pytest.mark.parametrize("command", ["", "orgs", "keys", "audit"])
def test_help_imports_no_client_of_stripe_and_no_server(command: str) -> None:
    """They take longer to import than the rest."""
    program = (
        "import atexit, sys\n"
        "found = lambda: print(*sys.modules.keys() & {'aiohttp', 'stripe'}, file=sys.stderr)\n"
        "atexit.register(found)\n"
        f"sys.argv = ['prepaid', *{command.split()!r}, '--help']\n"
        "from cli.app import main\n"
        "main()"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60, capture_output=True
    )
    assert b"Usage: prepaid" in finished.stdout
    assert finished.stderr.split() == []


@pytest.mark.parametrize("process", ["cli.serve", "worker.main"])
def test_a_process_imports_no_http_client_but_aiohttp(process: str) -> None:
    """Libraries look for others, which took a seventh of a start and of the memory."""
    program = (
        f"import sys, cli.app, {process}\n"
        "print(*sys.modules.keys() & {'aiohttp', 'httpx', 'requests', 'rich', 'urllib3'})\n"
        "import requests, rich\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60, capture_output=True
    )
    assert finished.stdout.split() == [b"aiohttp"]
