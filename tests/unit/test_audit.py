"""What `make audit` makes of a report."""

from __future__ import annotations

from typing import Any

import pytest

from tests.audit import IGNORED, judge, read_ignored

FOUND = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.0"], "description": "…"}
REPORT: dict[str, Any] = {
    "dependencies": [
        {"name": "good", "version": "1.0", "vulns": []},
        {"name": "bad", "version": "1.0", "vulns": [FOUND]},
        {"name": "bad", "version": "1.0", "vulns": [FOUND]},
        {"name": "unknown", "skip_reason": "Dependency not found on PyPI"},
    ]
}


def test_a_vulnerability_is_told_once_and_what_the_data_lacks_apart() -> None:
    verdict = judge(REPORT, {})
    assert verdict.vulnerable == ["bad 1.0: PYSEC-1, fixed in 2.0"]
    assert verdict.not_audited == ["unknown"]
    assert verdict.audited == 2


@pytest.mark.parametrize("name", ["PYSEC-1", "CVE-1"])
def test_a_vulnerability_is_passed_over_with_a_reason_alone(name: str) -> None:
    assert judge(REPORT, read_ignored(f"# why\n\n{name} not called here\n")).vulnerable == []
    with pytest.raises(ValueError, match="say why"):
        read_ignored(f"{name}\n")


def test_each_that_is_passed_over_here_has_its_reason() -> None:
    read_ignored(IGNORED.read_text(encoding="utf-8"))
