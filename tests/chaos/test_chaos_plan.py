"""The plan of a chaos run follows from its seed."""

from __future__ import annotations

from itertools import groupby, pairwise

import pytest

from tests.chaos.plan import LINKS, RECOVERY_SECONDS, TARGETS, FaultKind, make_plan

ALL = frozenset(FaultKind)


def test_a_seed_gives_the_same_plan_each_time_and_another_seed_another() -> None:
    assert make_plan(1, 60, ALL) == make_plan(1, 60, ALL) != make_plan(2, 60, ALL)


def test_a_minute_has_faults_of_every_kind() -> None:
    for seed in range(1, 11):
        assert {fault.kind for fault in make_plan(seed, 60, ALL)} == ALL


@pytest.mark.parametrize("seed", range(1, 11))
def test_a_long_run_has_faults_of_every_kind_at_every_target(seed: int) -> None:
    found = {(fault.kind, fault.target) for fault in make_plan(seed, 240, ALL)}
    assert found == {(kind, target) for kind, targets in TARGETS.items() for target in targets}


def test_ten_minutes_of_ten_seeds_have_them_too() -> None:
    found = {(fault.kind, fault.target) for n in range(1, 11) for fault in make_plan(n, 60, ALL)}
    assert found == {(kind, target) for kind, targets in TARGETS.items() for target in targets}


@pytest.mark.parametrize("kind", [FaultKind.CUT, FaultKind.SLOW, FaultKind.BLACK_HOLE])
def test_every_link_of_every_process_can_be_cut_slowed_and_silenced(kind: FaultKind) -> None:
    servers = ("postgres", "valkey", "stripe")
    processes = ("web-0", "web-1", "worker-0", "worker-1")
    assert {f"{p}>{s}" for p in processes for s in servers} | {"workers>app"} == set(TARGETS[kind])
    assert set(LINKS) == set(TARGETS[kind])


def test_no_target_bears_two_faults_at_once_and_all_end_in_time() -> None:
    faults = make_plan(1, 120, ALL)
    assert all(fault.at > 0 and fault.ends <= 120 for fault in faults)
    by_process = sorted(faults, key=lambda fault: (fault.target.partition(">")[0], fault.at))
    for _, own in groupby(by_process, key=lambda fault: fault.target.partition(">")[0]):
        for earlier, later in pairwise(own):
            assert later.at >= earlier.ends + RECOVERY_SECONDS


def test_a_kind_that_the_machine_lacks_is_left_out() -> None:
    assert FaultKind.FILL_DISK not in {
        f.kind for f in make_plan(1, 60, ALL - {FaultKind.FILL_DISK})
    }
