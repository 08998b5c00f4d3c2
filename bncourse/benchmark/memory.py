"""How much memory a call takes at its peak, and how much it keeps for the backward pass."""

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
