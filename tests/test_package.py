"""What importing the package costs."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "triton", "matplotlib", "sklearn", "scipy", "IPython")


@pytest.mark.parametrize(
    "module",
    [
        "bncourse",
        "bncourse.reference",
        "bncourse.blocked",
        "bncourse.source",
        "bncourse.checks",
        "bncourse.benchmark",
        "bncourse.benchmark.timing",
    ],
)
def test_import_needs_only_numpy(module):
    assert imported(module, HEAVY) == []


@pytest.mark.parametrize("module", ["bncourse.interactive", "bncourse.questions", "bncourse.plots"])
def test_figures_and_questions_need_no_pytorch(module):
    assert imported(module, ("torch", "triton", "sklearn")) == []


@pytest.mark.parametrize(
    "module", ["tensor_arguments", "normalize", "functional", "layers", "folding", "models", "training"]
)
def test_networks_need_pytorch_alone(module):
    assert imported(f"bncourse.{module}", ("triton", "sklearn", "matplotlib", "IPython")) == []


@pytest.mark.parametrize("module", ["data", "claims"])
def test_data_and_claims_need_pytorch_and_scikit_learn(module):
    assert imported(f"bncourse.{module}", ("triton", "matplotlib", "IPython")) == []


def imported(module: str, names: tuple[str, ...]) -> list[str]:
    """Which of the packages come along with a module."""
    code = f"import sys, {module}; print(*sorted(set(sys.modules) & set({names!r})))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
