"""`make mutants`: bring bugs into a copy of this code, one at a time; the suite must find each.

Ends with 1 where a mutant survives or is stale, or where its tests fail without it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.mutants.catalog import Mutant, select
from tests.mutants.running import Result, Verdict, run_all, run_unmutated


def show(result: Result) -> None:
    print(
        f"{result.verdict:9}{result.mutant.name:38}{result.seconds:6.1f} s  {result.reason}",
        flush=True,
    )


def show_mutants(mutants: list[Mutant]) -> None:
    for mutant in mutants:
        print(f"{mutant.name:38}{mutant.breaks} ({mutant.seen})")


async def run(mutants: list[Mutant], *, jobs: int, tests_first: bool) -> int:
    if tests_first:
        before = await run_unmutated(mutants)
        if before.failed or not before.passed:
            print(f"the tests fail without a mutant: {before.failed}\n{before.output[-3000:]}")
            return 1
        print(f"{before.passed} tests pass without a mutant", flush=True)
    results = await run_all(mutants, jobs=jobs, report=show)
    killed = sum(result.verdict is Verdict.KILLED for result in results)
    print(f"{killed} of {len(results)} mutants killed")
    return 0 if killed == len(results) else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="how the names of mutants begin; all without one")
    parser.add_argument("--jobs", type=int, default=1, help="how many to run at once (1)")
    parser.add_argument("--list", action="store_true", help="list them and run nothing")
    parser.add_argument("--skip-unmutated", action="store_true", help="only with the mutants")
    chosen = parser.parse_args()
    mutants = select(chosen.names)
    if chosen.list:
        show_mutants(mutants)
        return 0
    return asyncio.run(run(mutants, jobs=chosen.jobs, tests_first=not chosen.skip_unmutated))


if __name__ == "__main__":
    sys.exit(main())
