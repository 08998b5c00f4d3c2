"""Page faults, and how a process avoids them. (Peaks and saved bytes: tests/test_benchmark.py.)"""

import subprocess
import sys

import numpy as np
import pytest

from bncourse.benchmark.memory import page_faults

COUNT = """
import ctypes, numpy as np
from bncourse.benchmark.memory import keep_freed_memory, page_faults
{}
x = np.ones(2**24, np.float32)  # 64 MiB
for _ in range(3):
    last = page_faults(lambda: x + x)
print(last)
"""
GLIBC = sys.platform == "linux" and page_faults(dict) is not None


@pytest.mark.skipif(not GLIBC, reason="the options are glibc's")
@pytest.mark.parametrize("keep", [False, True])
def test_large_arrays_come_from_memory_that_was_kept(keep):
    """Pages have 2 MiB at most, so 64 MiB of new ones are 32 at least; a few others are touched by the way."""
    code = COUNT.format("keep_freed_memory()" if keep else "")
    faults = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert faults < 8 if keep else faults >= 32


@pytest.mark.skipif(page_faults(dict) is None, reason="this system does not count")
def test_page_faults_are_those_of_the_call():
    warm = np.ones(2**20)
    assert page_faults(warm.sum) <= 2
