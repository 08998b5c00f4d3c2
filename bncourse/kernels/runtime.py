"""Where the kernels run: on a GPU, or on a CPU in Triton's interpreter.

Triton reads the environment variable ``TRITON_INTERPRET`` when it is imported, so this module sets it before.
"""

import contextlib
import functools
import os

import numpy as np
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

try:
    import triton
    import triton.language as tl
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "the kernels need Triton, which is not installed here: it runs on Linux with an x86-64 CPU"
    ) from None
from triton.runtime.interpreter import InterpretedFunction

INTERPRETED = isinstance(tl.sum, InterpretedFunction)  # what tl itself was made into decides, whatever is set now
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MULTIPROCESSORS = 132  # of an H100 or H200, for which kernels are planned where there is no GPU


def check_device(x: torch.Tensor) -> None:
    """RuntimeError if no kernel can run on ``x``."""
    if x.is_cuda or INTERPRETED:
        return
    raise RuntimeError(
        f"expected a CUDA tensor, or Triton's interpreter; got a tensor on {x.device}, and Triton was imported without "
        "its interpreter; in a new Python process, import bncourse.kernels before what imports triton, such as "
        "torch.compile, and leave TRITON_INTERPRET alone"
    )


def check_dtype(x: torch.Tensor) -> None:
    """ValueError if the kernels do not compute with the dtype of ``x``."""
    if x.dtype not in DTYPES:
        raise ValueError(
            f"expected x in float32, bfloat16 or float16; got {x.dtype}; convert it, or use bncourse.functional, "
            "which takes any floating-point dtype"
        )


@functools.cache
def multiprocessors(device: torch.device) -> int:
    """How many programs the device runs side by side at least."""
    if device.type != "cuda":
        return MULTIPROCESSORS
    return torch.cuda.get_device_properties(device).multi_processor_count


def power_of_two(n: int) -> int:
    """The smallest power of two that is no smaller than ``n``: blocks have such sizes."""
    return triton.next_power_of_2(max(1, n))


def launching_on(x: torch.Tensor) -> contextlib.AbstractContextManager:
    """Launch on the GPU that holds ``x``, which need not be the current one; a GPU does not warn of what is not finite."""
    return torch.cuda.device_of(x) if x.is_cuda else np.errstate(all="ignore")
