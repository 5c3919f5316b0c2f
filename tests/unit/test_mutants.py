"""The mutants fit the source that they change, and the tests that kill them exist."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutants.catalog import (
    ROOT,
    Change,
    Mutant,
    StaleMutantError,
    load,
    mutated,
    select,
)
from tests.mutants.running import read_report

REPORT = '<testsuites><testsuite errors="0">{}</testsuite></testsuites>'


def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_each_mutant_fits_the_source_and_leaves_python_that_can_be_read() -> None:
    for mutant in load():
        for path, text in mutated(mutant).items():
            if path.suffix == ".py":
                ast.parse(text)


def test_each_mutant_names_tests_that_exist() -> None:
    missing = []
    for test in {test for mutant in load() for test in mutant.tests}:
        path, _, name = test.partition("::")
        if name not in functions_of(ROOT / path):
            missing.append(test)
    assert missing == []


def test_a_mutant_says_what_it_breaks_and_where_it_was_seen() -> None:
    assert [m.name for m in load() if not (m.breaks.endswith(".") and m.seen and m.changes)] == []


def test_a_mutant_whose_text_is_gone_or_stands_twice_is_stale(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\ny = 1\n", encoding="utf-8")
    for old in ("z = 1", "= 1"):
        mutant = Mutant("m", "It breaks.", "here", (), (Change("a.py", old, "= 2"),))
        with pytest.raises(StaleMutantError):
            mutated(mutant, tmp_path)


def test_a_mutant_may_change_a_file_in_several_places(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\ny = 1\n", encoding="utf-8")
    changes = (Change("a.py", "x = 1", "x = 2"), Change("a.py", "y = 1", "y = 3"))
    assert mutated(Mutant("m", "It breaks.", "here", (), changes), tmp_path) == {
        tmp_path / "a.py": "x = 2\ny = 3\n"
    }


def test_mutants_are_selected_by_the_beginning_of_their_names() -> None:
    assert {m.name.partition("-")[0] for m in select(["refund", "dispute"])} == {
        "refund",
        "dispute",
    }
    with pytest.raises(ValueError, match="begins with nothing-like-this"):
        select(["nothing-like-this"])


@pytest.mark.parametrize(
    ("cases", "failed", "passed"),
    [
        ('<testcase name="a"/><testcase name="b"><failure/></testcase>', "b", 1),
        ('<testcase name="a"/>', None, 1),
        ('<testcase name="a"/><testcase name="b"><error/></testcase>', None, 0),
    ],
)
def test_only_a_failed_test_kills_and_an_error_around_it_does_not(
    tmp_path: Path, cases: str, failed: str | None, passed: int
) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT.format(cases), encoding="utf-8")
    outcome = read_report(report, "")
    assert (outcome.failed, outcome.passed) == (failed, passed)
