"""What is compared: ways to compute batch norm in training, forward and backward, with the same results.

Each is a pair of calls without arguments, forward alone, and forward and backward; the first result is y, those of
the second are y, dx, dweight and dbias.
"""

import importlib.util
import os
import shutil
from collections.abc import Callable, Collection

import numpy as np

from bncourse import blocked, reference
from bncourse.benchmark import ladder
from bncourse.benchmark.arrays import Arguments, as_arrays

FORWARD, BOTH = "forward", "forward + backward"
OPERATIONS = (FORWARD, BOTH)
PLAIN, NODES, REFERENCE = "plain NumPy", "NumPy node by node", "reference"
BLOCKED, BLOCKED_OUT = "blocked", "blocked, out="
PYTORCH, CHANNELS_LAST, COMPILED = "PyTorch", "PyTorch channels_last", "torch.compile"
COMPOSED, FUNCTIONAL, NUMBA = "composed", "functional", "numba"
SEEN = (PLAIN, NODES, REFERENCE, BLOCKED, BLOCKED_OUT)  # whose memory comes through NumPy, and is counted

Calls = dict[str, Callable[[], object]]


def peers(a: Arguments, threads: int, names: Collection[str] | None = None) -> dict[str, Calls]:
    """Those of these names that run here, or all that do; PyTorch has as many threads as it was given before."""
    import torch

    from bncourse import functional
    from bncourse.benchmark import composed

    batch_norm = torch.nn.functional.batch_norm
    makers = {
        PLAIN: lambda: plain_calls(a),
        NODES: lambda: node_calls(a),
        REFERENCE: lambda: numpy_calls(a, reference),
        BLOCKED: lambda: numpy_calls(a, blocked, threads=threads),
        BLOCKED_OUT: lambda: numpy_calls(a, blocked, threads=threads, out=True),
        COMPOSED: lambda: torch_calls(a, composed.batch_norm),
        FUNCTIONAL: lambda: torch_calls(a, functional.batch_norm),
        PYTORCH: lambda: torch_calls(a, batch_norm),
        CHANNELS_LAST: lambda: torch_calls(a, batch_norm, channels_last=True),
    }
    if has_compiler():
        makers[COMPILED] = lambda: torch_calls(a, compiled_batch_norm())
    if importlib.util.find_spec("numba"):
        makers[NUMBA] = lambda: numba_calls(a, threads)
    return {name: make() for name, make in makers.items() if names is None or name in names}


def exact_results(a: Arguments) -> tuple[np.ndarray, ...]:
    """y, dx, dweight and dbias, of PyTorch in float64."""
    import torch

    return as_arrays(torch_calls(a.astype("float64"), torch.nn.functional.batch_norm)[BOTH]())


def plain_calls(a: Arguments) -> Calls:
    """Chapters 2 and 3, line by line."""

    def forward():
        return ladder.textbook(a.x, a.weight, a.bias)

    def forward_backward():
        y, mean, inv_std = forward()
        return y, *ladder.textbook_backward(a.dy, a.x, a.weight, mean, inv_std)

    return {FORWARD: forward, BOTH: forward_backward}


def numpy_calls(a: Arguments, module: object, *, threads: int | None = None, out: bool = False) -> Calls:
    """A module with the functions of :mod:`bncourse.reference`; with ``out``, into arrays that exist."""
    running = a.running_mean.copy(), a.running_var.copy()
    options = {} if threads is None else {"threads": threads}
    y, dx = ({"out": np.zeros_like(a.x)} if out else {} for _ in range(2))

    def forward():
        return module.batch_norm_forward(a.x, a.weight, a.bias, *running, **options, **y)

    def forward_backward():
        result, cache = forward()
        return result, *module.batch_norm_backward(a.dy, cache, **options, **dx)

    return {FORWARD: forward, BOTH: forward_backward}


def torch_calls(a: Arguments, batch_norm: Callable, *, channels_last: bool = False) -> Calls:
    """A function of PyTorch's signature; ``autograd.grad`` returns gradients without adding them up."""
    import torch

    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    x, dy = (torch.from_numpy(array).contiguous(memory_format=memory_format) for array in (a.x, a.dy))
    weight, bias = torch.from_numpy(a.weight), torch.from_numpy(a.bias)
    wanted = tuple(tensor.detach().requires_grad_() for tensor in (x, weight, bias))
    running = [torch.from_numpy(array.copy()) for array in (a.running_mean, a.running_var)]

    def forward():
        return batch_norm(wanted[0], *running, *wanted[1:], training=True)

    def forward_backward():
        y = forward()
        return y, *torch.autograd.grad(y, wanted, dy)

    return {FORWARD: forward, BOTH: forward_backward}


def has_compiler() -> bool:
    """Whether there is a C++ compiler, which torch.compile needs."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++"))


def compiled_batch_norm(backend: str = "inductor") -> Callable:
    """PyTorch's batch norm through torch.compile, made anew: the number of threads becomes part of the code."""
    import torch

    torch.compiler.reset()
    return torch.compile(torch.nn.functional.batch_norm, backend=backend, dynamic=False)


def numba_calls(a: Arguments, threads: int) -> Calls:
    """Loops that numba compiles."""
    import numba

    from bncourse.benchmark import compiled

    def forward():
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        return compiled.forward(a.x, a.weight, a.bias)

    def forward_backward():
        y, mean, inv_std = forward()
        return y, *compiled.backward(a.dy, a.x, a.weight, mean, inv_std)

    return {FORWARD: forward, BOTH: forward_backward}


# The textbook NumPy of a well-known course: a table of rows, and backward through each node of the graph


def node_calls(a: Arguments) -> Calls:
    """(N, C, H, W) as a table of N · H · W rows, and every intermediate value kept."""

    def forward():
        y, cache = nodes_forward(_as_rows(a.x), a.weight, a.bias)
        return _as_images(y, a.x.shape), cache

    def forward_backward():
        y, cache = forward()
        dx, dweight, dbias = nodes_backward(_as_rows(a.dy), cache)
        return y, _as_images(dx, a.x.shape), dweight, dbias

    return {FORWARD: forward, BOTH: forward_backward}


def nodes_forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float = 1e-5) -> tuple[np.ndarray, tuple]:
    """y for x of shape (rows, C), and the values of the nodes."""
    deviation = x - x.mean(axis=0)
    var = np.mean(deviation**2, axis=0)
    std = np.sqrt(var + eps)
    inv_std = 1 / std
    x_hat = deviation * inv_std
    return weight * x_hat + bias, (deviation, std, inv_std, x_hat, weight)


def nodes_backward(dy: np.ndarray, cache: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dx, dweight and dbias, from the last node to the first."""
    deviation, std, inv_std, x_hat, weight = cache
    dbias, dweight = dy.sum(axis=0), (dy * x_hat).sum(axis=0)
    dx_hat = dy * weight
    dinv_std = (dx_hat * deviation).sum(axis=0)
    dvar = -dinv_std * inv_std**2 / (2 * std)
    dsquares = np.ones_like(dy) * (dvar / len(dy))
    ddeviation = dx_hat * inv_std + 2 * deviation * dsquares
    dmean = -ddeviation.sum(axis=0)
    return ddeviation + np.ones_like(dy) * (dmean / len(dy)), dweight, dbias


def _as_rows(x: np.ndarray) -> np.ndarray:
    return x.transpose(0, 2, 3, 1).reshape(-1, x.shape[1])


def _as_images(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    samples, channels, height, width = shape
    return rows.reshape(samples, height, width, channels).transpose(0, 3, 1, 2)
