"""`make audit`: whether a locked dependency has a known vulnerability. No test: its data is online.

Ends with 1 where one has, and it is not in requirements/audit-ignored.txt with a reason. Where the
data cannot be reached, or does not have a dependency, it says so and ends with 0: nothing is known.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SETS = ("runtime", "sandbox", "dev", "mutation", "litellm")
IGNORED = ROOT / "requirements/audit-ignored.txt"
SECONDS_MAX = 300
CONNECT_SECONDS_MAX = 10


@dataclass(frozen=True)
class Verdict:
    """What an audit found: what is vulnerable, and what the data does not have."""

    audited: int
    vulnerable: Sequence[str]
    not_audited: Sequence[str]


def read_ignored(text: str) -> dict[str, str]:
    """Return the reasons by the ids of vulnerabilities; raise ValueError where one has none."""
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, reason = line.strip().partition(" ")
            if not reason.strip():
                raise ValueError(f"{name}: say why it is ignored")
            found[name] = reason.strip()
    return found


def judge(report: Mapping[str, Any], ignored: Mapping[str, str]) -> Verdict:
    """Read pip-audit's report."""
    audited, vulnerable, not_audited = set(), [], []
    for dependency in report["dependencies"]:
        if "skip_reason" in dependency:
            not_audited.append(dependency["name"])
        else:
            audited.add((dependency["name"], dependency["version"]))
        for found in dependency.get("vulns", []):
            if ignored.keys().isdisjoint({found["id"], *found["aliases"]}):
                fixed = ", ".join(found["fix_versions"]) or "no version"
                name = f"{dependency['name']} {dependency['version']}"
                vulnerable.append(f"{name}: {found['id']}, fixed in {fixed}")
    return Verdict(len(audited), sorted(set(vulnerable)), sorted(set(not_audited)))


def main() -> int:
    """Audit every set of locked dependencies."""
    ignored = read_ignored(IGNORED.read_text(encoding="utf-8"))
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes"]
    command += ["--format", "json", "--progress-spinner", "off"]
    command += ["--timeout", str(CONNECT_SECONDS_MAX)]
    for name in SETS:
        command += ["-r", str(ROOT / f"requirements/{name}.txt")]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS_MAX, check=False)
        verdict = judge(json.loads(done.stdout), ignored)
    except (ValueError, subprocess.TimeoutExpired):
        print("audit: NOT DONE, the data about vulnerabilities cannot be reached")
        return 0
    for line in verdict.vulnerable:
        print(f"audit: {line}")
    if verdict.not_audited:
        names = ", ".join(verdict.not_audited)
        print(f"audit: NOT DONE for {len(verdict.not_audited)}, which the data lacks: {names}")
    print(f"audit: {verdict.audited} done, {len(verdict.vulnerable)} known vulnerabilities")
    return 1 if verdict.vulnerable else 0


if __name__ == "__main__":
    sys.exit(main())
