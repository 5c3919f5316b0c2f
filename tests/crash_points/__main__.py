"""Kill a process at each named step of the code, `--rounds` times, and print the kills of each.

Ends with 1 where a guarantee does not hold after a kill, or a step is not reached.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree as ET

ROUNDS = 20
TEST_SECONDS_MAX = 600
FILES = (
    "tests/faults/test_crash_points_of_events.py",
    "tests/faults/test_crash_points_of_recharges.py",
    "tests/faults/test_crash_points_of_requests.py",
    "tests/faults/test_crash_points_of_upkeep.py",
    "tests/integration/reconciliation/test_reconcile_killed.py",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash_points", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"kills a step ({ROUNDS})")
    parser.add_argument("--only", help="the tests whose names contain this")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        ended = subprocess.run(
            [
                sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
                f"--timeout={TEST_SECONDS_MAX}", f"--crash-rounds={chosen.rounds}",
                f"--junitxml={report}", "-o", "junit_family=xunit1",
                *(["-k", chosen.only] if chosen.only else []), *FILES,
            ],
            check=False,
        )  # fmt: skip
        kills = 0
        for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote it
            print(f"{case.get('name')}: {float(case.get('time') or 0):.1f} s")
            for found in case.iter("property"):
                kills += int(found.get("value") or 0)
                print(f"  {found.get('value'):>4}  {found.get('name')}")
    print(f"{kills} kills")
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main())
