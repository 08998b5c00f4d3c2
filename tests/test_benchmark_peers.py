"""What is compared does the same work."""

import importlib.util

import numpy as np
import pytest
import torch

from bncourse.benchmark import machine, peers
from bncourse.benchmark.arrays import Arguments, as_arrays, largest_error

A = Arguments.random((6, 3, 8, 5))
EXACT = peers.exact_results(A)
NUMBA = importlib.util.find_spec("numba") is not None
# torch.compile takes a compiler and half a minute: below, it stops before it generates code
NAMES = (
    peers.PLAIN,
    peers.NODES,
    peers.REFERENCE,
    peers.BLOCKED,
    peers.BLOCKED_OUT,
    peers.COMPOSED,
    peers.FUNCTIONAL,
    peers.PYTORCH,
    peers.CHANNELS_LAST,
    *([peers.NUMBA] if NUMBA else []),
)


@pytest.fixture(scope="module")
def found():
    with machine.use_threads(1):
        yield peers.peers(A, 1, NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_results_are_those_of_float64_up_to_rounding(found, name):
    assert largest_error(as_arrays(found[name][peers.BOTH]()), EXACT) < 2e-6
    y = found[name][peers.FORWARD]()
    y = y[0] if isinstance(y, tuple) else y
    assert largest_error(as_arrays((y,)), EXACT[:1]) < 2e-6


def test_float64_results_are_those_of_a_formula_of_its_own():
    a = A.astype("float64")
    mean, var = (getattr(a.x, f)((0, 2, 3), keepdims=True) for f in ("mean", "var"))
    x_hat = (a.x - mean) / np.sqrt(var + 1e-5)
    wanted = a.weight[:, None, None] * x_hat + a.bias[:, None, None], (a.dy * x_hat).sum((0, 2, 3)), a.dy.sum((0, 2, 3))
    y, _, dweight, dbias = EXACT
    assert largest_error((y, dweight, dbias), wanted) < 1e-12


def test_a_selection_has_only_its_names(found):
    assert tuple(found) == NAMES
    assert list(peers.peers(A, 1, {peers.PLAIN, peers.BLOCKED})) == [peers.PLAIN, peers.BLOCKED]


def test_blocked_gets_its_threads_and_its_outputs(monkeypatch):
    asked = []

    def forward(*args, **options):
        asked.append(options)
        return "y", "cache"

    monkeypatch.setattr(peers.blocked, "batch_norm_forward", forward)
    monkeypatch.setattr(peers.blocked, "batch_norm_backward", lambda dy, cache, **options: asked.append(options) or ())
    for name in (peers.BLOCKED, peers.BLOCKED_OUT):
        peers.peers(A, 3, [name])[name][peers.BOTH]()
    assert [options.get("threads") for options in asked] == [3] * 4
    assert ["out" in options for options in asked] == [False, False, True, True]
    assert asked[2]["out"] is not asked[3]["out"], "y is still there when dx is written"


def test_channels_last_stays_channels_last(found):
    y, dx, *_ = found[peers.CHANNELS_LAST][peers.BOTH]()
    for tensor in (y, dx):
        assert tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


@pytest.mark.skipif(not NUMBA, reason="numba is not installed")
def test_numba_leaves_pytorch_its_threads():
    """numba's OpenMP layer would set them for the whole process, where more than one is allowed."""
    import numba

    with machine.use_threads(1):
        peers.peers(A, 2, [peers.NUMBA])[peers.NUMBA][peers.FORWARD]()
        assert torch.get_num_threads() == 1
    assert numba.threading_layer() == "workqueue"


def test_torch_compile_is_given_the_whole_function():
    call = peers.torch_calls(A, peers.compiled_batch_norm("aot_eager"))[peers.BOTH]
    assert largest_error(as_arrays(call()), EXACT) < 2e-6
    torch.compiler.reset()


@pytest.mark.parametrize("compiler", [True, False])
def test_torch_compile_takes_part_where_there_is_a_compiler(monkeypatch, compiler):
    monkeypatch.setattr(peers, "has_compiler", lambda: compiler)
    assert list(peers.peers(A, 1, [peers.COMPILED])) == [peers.COMPILED] * compiler


def test_a_compiler_is_looked_for_by_name(monkeypatch):
    monkeypatch.setenv("CXX", "my-compiler")
    for there, found in (({"my-compiler"}, True), ({"clang++"}, True), ({"cc"}, False)):
        monkeypatch.setattr(peers.shutil, "which", lambda name, there=there: name if name in there else None)
        assert peers.has_compiler() == found
