"""The memory that benchmarks report is that of the process that they measure."""

from __future__ import annotations

import os
import subprocess
import sys

from bench.setting import resident


def test_the_peak_of_a_child_is_its_own_and_that_of_an_ended_process_is_none() -> None:
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", "print('started', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    peak = resident(child.pid, peak=True)
    child.communicate(b"\n")
    assert 0 < resident(os.getpid()) <= resident(os.getpid(), peak=True)
    assert 0 < peak < resident(os.getpid(), peak=True)
    assert resident(child.pid, peak=True) == 0
