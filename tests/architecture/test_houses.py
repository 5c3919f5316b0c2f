"""Who may import what, where import-linter does not look: rules and models stay pure."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PURE = sorted(
    [*(ROOT / "shared").rglob("rules.py"), *(ROOT / "shared").rglob("model.py")]
    + [ROOT / "shared" / name for name in ("money.py", "errors.py", "ids.py", "config.py")]
)
# Drivers, clients and frameworks.
IMPURE = {"asyncpg", "aiohttp", "redis", "stripe", "arq", "prometheus_client", "structlog", "typer"}
# Time and randomness are passed in. `ids` is where they come from.
UNPURE_CALLS = {"now", "utcnow", "today", "time", "time_ns", "monotonic", "random", "urandom"}


def relative(file: Path) -> str:
    return str(file.relative_to(ROOT))


def imports_of(file: Path, *, at_run_time: bool = True) -> set[str]:
    """Return the modules that a file imports, those for its annotations alone left out."""
    found: set[str] = set()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for_annotations = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if at_run_time and id(node) in for_annotations:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_there_are_rules_to_keep_pure() -> None:
    assert {"shared/inbox/rules.py", "shared/events/rules.py", "shared/ledger/model.py"} <= set(
        map(relative, PURE)
    )


@pytest.mark.parametrize("file", PURE, ids=relative)
def test_rules_and_models_import_no_driver_client_or_framework(file: Path) -> None:
    packages = {module.split(".")[0] for module in imports_of(file, at_run_time=False)}
    assert packages & IMPURE == set()


@pytest.mark.parametrize("file", PURE, ids=relative)
def test_rules_and_models_import_no_store_or_service(file: Path) -> None:
    last = {module.rsplit(".", 1)[-1] for module in imports_of(file)}
    assert last & {"store", "service", "pool"} == set()


@pytest.mark.parametrize(
    "file", [file for file in PURE if file.name in {"rules.py", "model.py"}], ids=relative
)
def test_rules_and_models_are_told_the_time_and_the_chance(file: Path) -> None:
    calls = {
        node.func.attr
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert calls & UNPURE_CALLS == set()


@pytest.mark.parametrize(
    ("package", "houses"),
    [("stripe", {"shared/payments"}), ("arq", {"worker", "shared/queue"})],
)
def test_a_foreign_client_is_imported_where_it_belongs_alone(
    package: str, houses: set[str]
) -> None:
    """The doctor and the sandbox, which ask Stripe itself, are the exception for its errors."""
    strangers = {
        relative(file)
        for house in ("api", "cli", "shared", "webhooks", "worker")
        for file in (ROOT / house).rglob("*.py")
        if package in {module.split(".")[0] for module in imports_of(file)}
        and not any(relative(file).startswith(f"{allowed}/") for allowed in houses)
    }
    assert strangers == set()


def test_nothing_in_the_product_needs_the_tests_or_the_design_papers() -> None:
    for house in ("api", "cli", "migrations", "sandbox", "shared", "webhooks", "worker"):
        for file in (ROOT / house).rglob("*.py"):
            assert not any(module.split(".")[0] == "tests" for module in imports_of(file))


@pytest.mark.parametrize("name", ["utils", "common", "helpers", "manager"])
def test_no_module_has_a_name_that_says_nothing(name: str) -> None:
    houses = ("api", "cli", "migrations", "sandbox", "shared", "webhooks", "worker", "tests")
    found = [file for house in houses for file in (ROOT / house).rglob(f"{name}*.py")]
    assert list(map(relative, found)) == []
