"""How much memory a call takes at its peak, how much it keeps for the backward pass, and how to keep it at hand."""

import contextlib
import ctypes
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


def saved_bytes(call: Callable[[], object]) -> int:
    """What autograd keeps of a forward pass for the backward pass, in bytes; memory that is shared counts once."""
    from torch.autograd.graph import saved_tensors_hooks

    storages = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        result = call()  # held until all is counted, so that no address comes twice
    del result
    return sum(storages.values())


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for the rest of its life; with other C libraries than glibc, nothing.

    Otherwise large arrays come anew from the system each time, or not, as earlier sizes decide; and fetching the pages
    of an array can take longer than normalizing it.
    """
    trim_threshold, mmap_max = -1, -4  # glibc's numbers of these options, of malloc.h
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_max, 0)  # arrays of any size come from the memory that is kept, and go back there
        mallopt(trim_threshold, 2**31 - 1)  # bytes, the most that fits the argument


def page_faults(call: Callable[[], object]) -> int | None:
    """How many pages of memory ``call`` touches that the system has to provide first; None where it does not count."""
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:  # Windows
        return None
    before = getrusage(RUSAGE_SELF).ru_minflt
    result = call()
    after = getrusage(RUSAGE_SELF).ru_minflt
    del result
    return after - before
