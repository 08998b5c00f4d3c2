"""What importing the package costs."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "triton", "matplotlib", "sklearn", "scipy", "IPython")


@pytest.mark.parametrize(
    "module", ["bncourse", "bncourse.reference", "bncourse.benchmark", "bncourse.benchmark.timing"]
)
def test_import_needs_only_numpy(module):
    code = f"import sys, {module}; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == []
