"""What the networks share: how a norm is given, and weights are initialized."""

from collections.abc import Callable

from torch import Tensor, nn

Norm = Callable[[int], nn.Module] | None
Init = Callable[[Tensor], object] | None


def choice(value: str, choices: tuple[str, ...], what: str = "place: where the norm stands") -> str:
    """``value``, if it is one of ``choices``."""
    if value not in choices:
        name, meaning = what.split(": ")
        raise ValueError(f"{name}: expected one of {choices}; got {value!r}; choose {meaning}")
    return value


def made(norm: Norm, features: int) -> nn.Module:
    """The norm of so many features; without a norm, a module that does nothing."""
    if isinstance(norm, nn.Module):
        raise ValueError(
            f"norm: expected a callable from the number of features to a module; got the module {norm}; "
            "pass its class, or a function that makes a new one"
        )
    return nn.Identity() if norm is None else norm(features)


def initialized(layer: nn.Linear | nn.Conv2d, init: Init) -> nn.Linear | nn.Conv2d:
    """``layer`` with its weights as ``init`` makes them, and a bias of 0."""
    if init is not None:
        init(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return layer
