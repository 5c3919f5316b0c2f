"""`make explore`: visit every interleaving within the bounds, then remove rules in turn.

    python -m tests.explorer [--faults 2] [--only "3-D Secure"]

Prints the states that were visited, whether each invariant held in all of them, and for each
removed rule the shortest path that breaks an invariant. Exits with 1 where an invariant is broken,
or a removed rule is not noticed.
"""

from __future__ import annotations

import argparse
import sys

from tests.explorer.inbox_scenarios import REMOVED_INBOX_RULES, inbox_scenarios
from tests.explorer.recharge_scenarios import REMOVED_RULES, scenarios
from tests.explorer.running import HEAD, AnyScenario, Explored, line, path, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="make explore")
    parser.add_argument("--faults", type=int, default=2, help="faults in one history (2)")
    parser.add_argument("--only", default="", help="scenarios with this text in their names")
    parser.add_argument("--progress", action="store_true", help="print a line for each depth")
    options = parser.parse_args()
    whole = _explore(options.faults, options.only, progress=options.progress)
    _print_invariants(whole)
    noticed = _remove_rules() if not options.only else True
    return 0 if noticed and all(one.result.found is None for one in whole) else 1


def _explore(faults: int, only: str, *, progress: bool) -> list[Explored]:
    print(f"Every interleaving with at most {faults} faults, and every calm end of each state.")
    print(HEAD)
    whole = []
    chosen: list[AnyScenario] = [*scenarios(faults), *inbox_scenarios(faults)]
    for scenario in chosen:
        if only in scenario.name:
            explored = run(scenario, report=print if progress else None)
            whole.append(explored)
            print(line(explored), flush=True)
            if explored.result.found is not None:
                print(path(explored))
    states = sum(one.result.states for one in whole)
    seconds = sum(one.result.seconds for one in whole)
    print(f"{states:,} states in {seconds:.0f} s of CPU.\n")
    return whole


def _print_invariants(whole: list[Explored]) -> None:
    broken = {one.result.found.invariant for one in whole if one.result.found is not None}
    print("Invariants, checked in each state and at each end:")
    for sentence in dict.fromkeys(name for one in whole for name in one.invariants):
        print(f"  {'BROKEN' if sentence in broken else 'holds '} {sentence}")


def _remove_rules() -> bool:
    """Remove each rule, and print the shortest path that shows it; return whether all were."""
    noticed = True
    rules: dict[str, AnyScenario] = {**REMOVED_RULES, **REMOVED_INBOX_RULES}
    for name, scenario in rules.items():
        explored = run(scenario)
        print(f"\nWithout the rule that {name}:")
        print(path(explored) or "  nothing is broken: the explorer does not notice")
        noticed = noticed and explored.result.found is not None
    return noticed


sys.exit(main())
