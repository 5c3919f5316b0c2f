"""Functions fit on a screen, and modules stay short."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = (
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
FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 400
GENERATED = {ROOT / "clients/python/src/prepaid_client/types.py"}

_SQL_FUNCTION = re.compile(
    r"^CREATE OR REPLACE FUNCTION (?P<name>\w+).*?(?P<quote>\$\w*\$).*?(?P=quote)[^;]*;",
    re.MULTILINE | re.DOTALL,
)


def modules(*folders: str) -> Iterator[Path]:
    """Yield every Python and SQL file in these folders that people write."""
    for folder in folders:
        for pattern in ("*.py", "*.sql"):
            yield from sorted({*(ROOT / folder).rglob(pattern)} - GENERATED)


def lines_of(text: str) -> int:
    return len(text.splitlines())


def functions_of(file: Path) -> Iterator[tuple[str, int]]:
    """Yield each function of a file with its lines, from its signature to its end.

    A migration's function stays as it was released; the file that replaces it counts.
    """
    text = file.read_text(encoding="utf-8")
    name = file.relative_to(ROOT)
    if file.suffix == ".sql":
        if name.parts[:2] != ("migrations", "sql"):
            for found in _SQL_FUNCTION.finditer(text):
                yield f"{name}:{found['name']}", lines_of(found[0])
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name}:{node.name}", (node.end_lineno or 0) - node.lineno + 1


def over(limit: int, sizes: dict[str, int]) -> list[str]:
    """Return what breaks the limit."""
    return [f"{name} has {lines} lines" for name, lines in sizes.items() if lines > limit]


def module_sizes(*folders: str) -> dict[str, int]:
    return {
        str(file.relative_to(ROOT)): lines_of(file.read_text(encoding="utf-8"))
        for file in modules(*folders)
    }


@cache
def function_sizes() -> dict[str, int]:
    sizes: dict[str, int] = {}
    for file in modules(*FOLDERS, "tests"):
        for name, lines in functions_of(file):
            sizes[name] = max(lines, sizes.get(name, 0))
    return sizes


def test_no_function_is_longer_than_a_screen() -> None:
    assert over(FUNCTION_LINES_MAX, function_sizes()) == []


def test_no_module_is_longer_than_400_lines() -> None:
    assert over(MODULE_LINES_MAX, module_sizes(*FOLDERS, "tests")) == []


def test_the_limit_on_functions_sees_python_and_sql() -> None:
    """Every SQL function outside the migrations is measured, whatever follows its body."""
    sizes = function_sizes()
    for file in (ROOT / "shared").rglob("*.sql"):
        text = file.read_text(encoding="utf-8")
        for name in re.findall(r"^CREATE OR REPLACE FUNCTION (\w+)", text, re.MULTILINE):
            assert sizes[f"{file.relative_to(ROOT)}:{name}"] > 1
    assert "shared/money.py:format_money" in sizes


def test_a_limit_is_the_last_length_that_is_allowed() -> None:
    assert over(70, {"f": 70, "g": 71}) == ["g has 71 lines"]
