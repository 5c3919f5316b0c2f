"""Rules about modules that import-linter cannot express; its contracts are in pyproject.toml."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PURE = sorted([*(ROOT / "shared").rglob("rules.py"), *(ROOT / "shared").rglob("model.py")])
# Time and randomness are passed in. `ids` is where they come from.
IMPURE_CALLS = {"now", "utcnow", "today", "time", "time_ns", "monotonic", "random", "urandom"}


def relative(file: Path) -> str:
    return str(file.relative_to(ROOT))


def test_there_are_rules_to_keep_pure() -> None:
    assert {"shared/inbox/rules.py", "shared/events/rules.py", "shared/ledger/model.py"} <= set(
        map(relative, PURE)
    )


@pytest.mark.parametrize("file", PURE, ids=relative)
def test_rules_and_models_take_time_and_randomness_as_arguments(file: Path) -> None:
    calls = {
        node.func.attr
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert calls & IMPURE_CALLS == set()


@pytest.mark.parametrize("name", ["utils", "common", "helpers", "manager"])
def test_no_module_has_a_name_that_says_nothing(name: str) -> None:
    rooms = (
        "api",
        "bench",
        "cli",
        "clients",
        "console",
        "migrations",
        "sandbox",
        "shared",
        "webhooks",
        "worker",
    )
    found = [file for room in (*rooms, "tests") for file in (ROOT / room).rglob(f"{name}*.py")]
    assert list(map(relative, found)) == []
