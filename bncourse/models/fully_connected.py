"""Fully connected networks, with shortcuts and without."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from bncourse import layers
from bncourse.models.parts import Init, Norm, choice, initialized, made


class MLP(nn.Module):
    """A fully connected network: (N, sizes[0]) → (N, sizes[-1]).

    ``layers`` is a ``torch.nn.Sequential`` of ``linear1``, ``norm1``, ``activation1``, ``dropout1``, ``linear2``, ...,
    and a last linear layer.

    Args:
        sizes: the number of features of the input, of each hidden layer, and of the output.
        norm: of the hidden layers, over (N, C).
        place: "before" or "after" the activation.
        dropout: the probability of dropping a unit at the end of each hidden layer.
        bias: whether the hidden linear layers have one; if None, all but those right before a norm, since batch
            norm would subtract it again.
        activation: makes the activation of a hidden layer.
        init: initializes the weights of the hidden layers.

    Raises:
        ValueError: if ``sizes`` has fewer than two entries, or another argument is none of those named here.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        norm: Norm = layers.BatchNorm1d,
        *,
        place: str = "before",
        dropout: float = 0.0,
        bias: bool | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU,
        init: Init = nn.init.kaiming_normal_,
    ) -> None:
        super().__init__()
        if len(sizes) < 2:
            raise ValueError(
                f"sizes: expected at least an input and an output size; got {list(sizes)}; write [64, 32, 10], say"
            )
        before = choice(place, ("before", "after")) == "before"
        bias = (norm is None or not before) if bias is None else bias
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        for i, (inputs, outputs) in enumerate(pairwise(sizes[:-1]), start=1):
            parts[f"linear{i}"] = initialized(nn.Linear(inputs, outputs, bias=bias), init)
            pair = {} if norm is None else {f"norm{i}": made(norm, outputs)}
            follows = {f"activation{i}": activation()}
            parts |= pair | follows if before else follows | pair
            if dropout:
                parts[f"dropout{i}"] = nn.Dropout(dropout)
        parts[f"linear{len(sizes) - 1}"] = nn.Linear(sizes[-2], sizes[-1])
        self.layers = nn.Sequential(parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ResidualMLP(nn.Module):
    """A fully connected network with shortcuts: (N, inputs) → (N, classes), with 1 + 2 · ``blocks`` hidden layers.

    A linear layer, then blocks x + branch(x), then ReLU and a last linear layer. A branch is twice norm, ReLU, linear
    layer, in the order of He et al. 2016 (arXiv:1603.05027), with a norm before the last ReLU as well.

    Args:
        inputs: the number of features of the input.
        width: of all hidden layers.
        blocks: the number of blocks.
        classes: the number of outputs.
        norm: over (N, C).
        start: how branches start. "he": He initialization. "skipinit": the same, times a learned number that is 0 at
            first (De and Smith 2020, arXiv:2002.10444). "fixup", without norm: the first weights of a branch smaller
            by the square root of ``blocks``, its last and those of the last layer 0, a learned number to scale each
            branch, and one to shift what goes into each ReLU and linear layer but the first (Zhang, Dauphin and Ma
            2019, arXiv:1901.09321).

    Raises:
        ValueError: if ``start`` is none of these, or "fixup" and there is a norm.
    """

    def __init__(
        self, inputs: int, width: int, blocks: int, classes: int, norm: Norm = None, *, start: str = "he"
    ) -> None:
        super().__init__()
        fixup = choice(start, ("he", "skipinit", "fixup"), "start: how branches begin") == "fixup"
        if fixup and norm is not None:
            raise ValueError(f"norm: expected None, since fixup takes its place; got {norm}; choose another start")
        self.stem = initialized(nn.Linear(inputs, width, bias=norm is None), nn.init.kaiming_normal_)
        self.blocks = nn.Sequential(*(ResidualBranch(width, norm, start, blocks) for _ in range(blocks)))
        self.tail = nn.Sequential(*([Shift(), nn.ReLU(), Shift()] if fixup else [made(norm, width), nn.ReLU()]))
        self.head = nn.Linear(width, classes)
        if fixup:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.tail(self.blocks(self.stem(x))))


class ResidualBranch(nn.Module):
    """x → x + branch(x): (N, width) → (N, width), see :class:`ResidualMLP`."""

    def __init__(self, width: int, norm: Norm, start: str, blocks: int) -> None:
        super().__init__()
        free = start == "fixup"  # of biases per feature: there are shifts instead
        first, last = (
            initialized(nn.Linear(width, width, bias=norm is None and not free), nn.init.kaiming_normal_)
            for _ in range(2)
        )
        parts = [made(norm, width), nn.ReLU(), first, made(norm, width), nn.ReLU(), last]
        if start == "skipinit":
            parts.append(Scale(0.0))
        if free:
            with torch.no_grad():
                first.weight.mul_(blocks**-0.5)
                last.weight.zero_()
            parts = [Shift(), nn.ReLU(), Shift(), first, Shift(), nn.ReLU(), Shift(), last, Scale(1.0)]
        self.branch = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Scale(nn.Module):
    """x times one learned number."""

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.value


class Shift(nn.Module):
    """x plus one learned number."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.value
