from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from app.cli_train import hold_freed_memory
if {held}:
    hold_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(25_000_000, np.float32)
before = faults()
for _ in range(5):
    np.ones(25_000_000, np.float32)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_memory_that_a_step_freed_is_not_asked_for_again() -> None:
    """Page faults of five arrays of 100 MB after a first one: none, where glibc by itself takes one in 2 MB or more."""
    counts = {}
    for held in (False, True):
        ran = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(held=held)], capture_output=True, text=True, check=True
        )
        counts[held] = int(ran.stdout)
    assert counts[False] > 200
    assert counts[True] < 20
