"""What the norms for NumPy accept: errors that say what was expected, what came, and the fix."""

import math
import numbers

import numpy as np


def checked_input(x: np.ndarray, *, minimum_rank: int) -> np.ndarray:
    x = np.asarray(x)
    _check_floating("x", x)
    if x.ndim < minimum_rank:
        axes = "(N, C, *)" if minimum_rank == 2 else "(N, C, *) with positions" if minimum_rank == 3 else "(*, D)"
        raise ValueError(
            f"expected x of shape {axes}, so at least {minimum_rank} axes; got shape {x.shape}; "
            "add the missing axes, for example with x[None]"
        )
    return x


def checked_params(shape: tuple[int, ...], **params: np.ndarray | None) -> list[np.ndarray | None]:
    return [None if param is None else _checked_param(name, param, shape) for name, param in params.items()]


def _checked_param(name: str, param: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    param = np.asarray(param)
    _check_floating(name, param)
    if param.shape != shape:
        raise ValueError(
            f"expected {name} of shape {shape}, to match x; got shape {param.shape}; "
            f"make {name} anew for this input, or check the order of the axes of x"
        )
    return param


def checked_dy(dy: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    dy = np.asarray(dy)
    _check_floating("dy", dy)
    if dy.shape != shape:
        raise ValueError(
            f"expected dy of shape {shape}, that of the forward pass; got shape {dy.shape}; "
            "pass the gradient with respect to y, and the cache of the same forward pass"
        )
    return dy


def _check_floating(name: str, array: np.ndarray) -> None:
    if array.dtype.newbyteorder("=") not in (np.float16, np.float32, np.float64):
        raise ValueError(
            f"expected {name} of dtype float16, float32 or float64; got {array.dtype}; "
            f"convert it, for example with numpy.asarray({name}, dtype=float)"
        )


def check_running(
    channels: int, running_mean: np.ndarray | None, running_var: np.ndarray | None, *, training: bool
) -> None:
    if (running_mean is None) != (running_var is None):
        present = "running_mean" if running_var is None else "running_var"
        raise ValueError(f"expected running_mean and running_var together; got only {present}; pass both or neither")
    if running_mean is None:
        if not training:
            raise ValueError(
                "expected running_mean and running_var in evaluation mode; got None; "
                "pass both, or training=True to normalize with the statistics of the batch"
            )
        return
    for name, running in (("running_mean", running_mean), ("running_var", running_var)):
        _check_running_array(name, running, channels, training=training)
    if np.shares_memory(running_mean, running_var):
        raise ValueError(
            "expected running_mean and running_var to be two arrays; got memory that they share; "
            "pass a copy of one of them"
        )


def _check_running_array(name: str, running: np.ndarray, channels: int, *, training: bool) -> None:
    if not isinstance(running, np.ndarray):
        raise ValueError(
            f"expected {name} to be a NumPy array, which is updated in place; got {type(running).__name__}; "
            f"convert it once, with numpy.array({name}, dtype=float), and keep the array"
        )
    _checked_param(name, running, (channels,))
    if training and not running.flags.writeable:
        raise ValueError(f"expected {name} to be writeable in training; got a read-only array; pass {name}.copy()")


def check_momentum(momentum: float) -> None:
    if not (_is_real(momentum) and 0 <= momentum <= 1):
        raise ValueError(
            f"expected momentum from 0 to 1, the share of the new batch in the running statistics; got {momentum}; "
            "the default is 0.1"
        )


def check_eps(eps: float) -> None:
    if not (_is_real(eps) and 0 <= eps < math.inf):
        raise ValueError(f"expected eps to be a number, 0 or more; got {eps}; the usual value is 1e-5")


def _is_real(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_integer(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_count(x: np.ndarray, count: int, *, owner: str, remedy: str) -> None:
    if x.size > 0 and count == 1:
        raise ValueError(
            f"expected more than one value per {owner}, for a variance; got one, in x of shape {x.shape}; {remedy}"
        )


def check_groups(num_groups: int, channels: int) -> None:
    if not is_integer(num_groups) or num_groups < 1 or channels % num_groups:
        raise ValueError(
            f"expected num_groups to divide the number of channels, {channels}; got {num_groups}; "
            "choose a divisor, such as 1 (all channels together) or the number of channels (each on its own)"
        )


def check_threads(threads: int | None) -> None:
    if threads is not None and (not is_integer(threads) or threads < 1):
        raise ValueError(
            f"expected threads to be 1 or more, or None for as many as there are cores; got {threads}; leave it out"
        )


def check_out(out: np.ndarray, x: np.ndarray, dy: np.ndarray | None = None) -> np.ndarray:
    """``out``, if a result like ``x`` can be written there without changing ``x``."""
    if not isinstance(out, np.ndarray) or out.shape != x.shape or out.dtype != x.dtype:
        got = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise ValueError(
            f"expected out to be an array of dtype {x.dtype} and shape {x.shape}, as x; got {got}; "
            "make it with numpy.empty(x.shape, x.dtype)"
        )
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise ValueError(
            f"expected out to be C-contiguous and writeable; got strides {out.strides}, writeable: "
            f"{out.flags.writeable}; make it with numpy.empty(x.shape, x.dtype)"
        )
    if np.may_share_memory(out, x):
        raise ValueError(
            "expected out to lie elsewhere in memory than x, which the backward pass needs; got memory that they share; "
            "make it with numpy.empty(x.shape, x.dtype)"
        )
    if dy is not None and np.may_share_memory(out, dy) and not _is_same(out, dy):
        raise ValueError(
            "expected out to be dy itself, or to lie elsewhere in memory; got a part of dy's memory; "
            "make it with numpy.empty(x.shape, x.dtype)"
        )
    return out


def _is_same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are the same values at the same places."""
    where = a.__array_interface__["data"] == b.__array_interface__["data"]
    return where and a.strides == b.strides and a.shape == b.shape and a.dtype == b.dtype
