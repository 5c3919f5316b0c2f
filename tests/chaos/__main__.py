"""`python -m tests.chaos --seconds 60 --seed 1`: random traffic and faults, then an audit."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos import machine
from tests.chaos.report import lines, repeat_command
from tests.chaos.run import run
from tests.chaos.setting import Setting
from worker.drainer import LEASE_SECONDS

FOLDER_PREFIX = "prepaid-chaos-"


def main() -> None:
    """Run, print the table, and exit with 1 where a guarantee did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--logs", type=Path, help="keep the logs of web, workers and the simulator in this folder"
    )
    parser.add_argument(
        "--lease-seconds",
        type=int,
        default=LEASE_SECONDS,
        help="of a worker; by default as in the product",
    )
    options = parser.parse_args()
    machine.enter_own_namespaces()
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
    folder.chmod(0o755)  # the servers run as another user where root starts them
    try:
        result = asyncio.run(
            run(
                Setting(
                    folder, machine.look(), options.seed, options.seconds, options.lease_seconds
                ),
                _say,
            )
        )
    except BaseException:
        _say(f"the run failed. Again: {repeat_command(options.seed, options.seconds)}")
        raise
    finally:
        if options.logs is not None:
            options.logs.mkdir(parents=True, exist_ok=True)
            for log in folder.glob("*.log"):
                shutil.copy(log, options.logs)
        shutil.rmtree(folder, ignore_errors=True)
    for line in lines(result):
        _say(line)
    sys.exit(0 if result.ok else 1)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a command line prints


if __name__ == "__main__":
    main()
