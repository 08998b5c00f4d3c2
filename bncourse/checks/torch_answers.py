"""Answers written with PyTorch: what it takes to drive a learner's class, or a function on a model.

A driver, the field ``drive`` of an exercise, gets the answer and the inputs of a probe, tries the answer out, and
returns the outputs by name. What is no number becomes one: 1 if a name is in ``state_dict()``, else 0. Where
something is missing that has to be there, the helpers below raise ``Unusable``, which says so in words.

PyTorch is imported when it is needed: the checks themselves do with NumPy alone.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Collection, Iterator, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from .observe import Unusable, a

if TYPE_CHECKING:
    import torch


# Tensors


def tensor(values: np.ndarray, *, gradient: bool = False) -> torch.Tensor:
    """A tensor in the memory of the array, so that a change of it is seen as a change of the input."""
    import torch

    return torch.from_numpy(values).requires_grad_(gradient)


def array(name: str, value: object, like: torch.Tensor) -> np.ndarray:
    """The values of a tensor that should have the shape and the dtype of another, ``like``."""
    import torch

    if value is None:
        raise Unusable("nothing", f"{name} is None. Does every method of yours end with a return?")
    if not isinstance(value, torch.Tensor):
        raise Unusable("type", f"Expected a tensor for {name}, got {a(value)}.")
    if value.shape != like.shape:
        raise Unusable("shape", f"{name} has the shape {tuple(value.shape)}, expected {tuple(like.shape)}.", "C15")
    if value.dtype != like.dtype:
        raise Unusable("dtype", f"{name} has the dtype {value.dtype}, expected {like.dtype} as it came in.", "C15")
    return value.detach().numpy().copy()


def attribute(owner: object, name: str) -> torch.Tensor:
    """The tensor that an object keeps under this name."""
    import torch

    value = getattr(owner, name, None)
    if isinstance(value, torch.Tensor):
        return value
    says = f"Your {type(owner).__name__} should keep a tensor named {name}, but"
    raise Unusable("type", f"{says} {f'that is {a(value)}' if hasattr(owner, name) else 'it has none'}.")


def gradient(leaf: torch.Tensor) -> np.ndarray:
    """What arrived at a tensor in a backward pass; zeros if nothing did."""
    return np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy().copy()


# Classes


def expect_subclass(answer: object, base: str) -> None:
    """Refuse what is no subclass of a class of PyTorch, such as "nn.Module"."""
    import torch

    if not isinstance(answer, type):
        raise Unusable("signature", f"Expected a class, got {a(answer)}. Pass the class itself, without parentheses.")
    if not issubclass(answer, attrgetter(base)(torch)):
        says = f"{answer.__name__} does not inherit from torch.{base}: that goes between the parentheses after its name"
        raise Unusable("signature", f"{says}.")


def build(answer: type, parameters: str, *arguments: object, **options: object) -> object:
    """An object of the class; ``parameters`` are those that the exercise asks for, for the learner to read."""
    signature = inspect.signature(answer)
    try:
        signature.bind(*arguments, **options)
    except TypeError:
        says = f"{answer.__name__} takes {signature}; the exercise takes {parameters}."
        raise Unusable("signature", says) from None
    return answer(*arguments, **options)


@contextlib.contextmanager
def by_hand(parts: Collection[str]) -> Iterator[None]:
    """Refuse an answer that calls a function of PyTorch with one of ``parts`` in its name, such as "batch_norm".

    PyTorch does not let this look into backward passes; ``watched`` does, for those of a Function.
    """
    from torch.overrides import TorchFunctionMode

    found: list[str] = []

    class Noticing(TorchFunctionMode):
        def __torch_function__(self, function, types, arguments=(), options=None):
            name = getattr(function, "__name__", "")
            if any(part in name for part in parts):
                found.append(f"{function.__module__}.{name}")
            return function(*arguments, **(options or {}))

    try:
        with Noticing():
            yield
    except Exception:
        if not found:
            raise
    if found:
        says = f"You leave the work to {found[0]}, PyTorch's own. It is a good one, but this time write yours"
        raise Unusable("course", f"{says}: sums, means and products are enough.")


def watched(answer: type, inputs: Mapping[str, object], parts: Collection[str]) -> type:
    """The Function with an eye on what its backward returns for these inputs, and calls, as in ``by_hand``.

    Autograd itself complains of other things, and less clearly.
    """

    def backward(ctx: object, *upstream: torch.Tensor) -> object:
        with by_hand(parts):
            gradients = answer.backward(ctx, *upstream)
        _expect_gradients(gradients, inputs)
        return gradients

    return type(answer)(answer.__name__, (answer,), {"backward": staticmethod(backward)})


def _expect_gradients(gradients: object, inputs: Mapping[str, object]) -> None:
    """Refuse what is not one gradient for each tensor and None for each other input."""
    if gradients is None:
        raise Unusable("nothing", "Your backward returns nothing. Is there a return at its end?")
    if isinstance(gradients, list):
        raise Unusable("container", "Your backward returns a list; autograd wants values with commas between them.")
    given = gradients if isinstance(gradients, tuple) else (gradients,)
    if len(given) < len(inputs) or any(each is not None for each in given[len(inputs) :]):
        says = f"Your backward returns {len(given)} {'value' if len(given) == 1 else 'values'}, but forward takes "
        says += f"{len(inputs)}, ctx not counted: {', '.join(inputs)}."
        raise Unusable("count", f"{says} For each of them comes a gradient, or None, in the same order.", "T06")
    for (name, value), each in zip(inputs.items(), given, strict=False):
        _expect_gradient(name, value, each)


def _expect_gradient(name: str, value: object, given: object) -> None:
    import torch

    if not isinstance(value, torch.Tensor):
        if given is not None:
            raise Unusable("count", f"{name} is no tensor and has no gradient: return None in its place.", "T06")
        return
    if not isinstance(given, torch.Tensor):
        raise Unusable("type", f"Your backward returns {a(given)} where the gradient of {name} belongs.")
    shape, expected = tuple(given.shape), tuple(value.shape)
    if shape[len(shape) - len(expected) :] != expected:  # what has more axes in front is summed over them
        mistake = "B31" if shape == () else None
        raise Unusable("shape", f"The gradient of {name} has the shape {shape}, expected {expected}.", mistake)
