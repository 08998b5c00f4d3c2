"""How much memory a call takes at its peak."""

import tracemalloc
from collections.abc import Callable


def peak_bytes(call: Callable[[], object]) -> int:
    """The most that ``call`` holds at one time, its result included, in bytes.

    Counts what is allocated through Python, as NumPy's arrays are; PyTorch's tensors are not seen.
    """
    tracemalloc.start()
    try:
        result = call()
        _, peak = tracemalloc.get_traced_memory()
        del result
        return peak
    finally:
        tracemalloc.stop()
