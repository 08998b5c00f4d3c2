"""Small networks in PyTorch whose norm, and its place, is an argument.

A norm is given as a callable from the number of features to a module: ``layers.BatchNorm1d``,
``torch.nn.LayerNorm``, ``lambda c: torch.nn.GroupNorm(4, c)``; or as None, for no normalization. The
course's norms and PyTorch's have the same parameters under the same names, so the ``state_dict`` of a
network with the ones fits the network with the others.

Weights that a ReLU follows start with He initialization, or with another function of ``torch.nn.init`` given
as ``init``; with None they start as PyTorch's layers do. They are drawn from PyTorch's global generator: call
``torch.manual_seed`` first.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bncourse import layers

Norm = Callable[[int], nn.Module] | None
Init = Callable[[Tensor], object] | None


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
        before = _choice(place, ("before", "after")) == "before"
        bias = (norm is None or not before) if bias is None else bias
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        for i, (inputs, outputs) in enumerate(pairwise(sizes[:-1]), start=1):
            parts[f"linear{i}"] = _initialized(nn.Linear(inputs, outputs, bias=bias), init)
            pair = {} if norm is None else {f"norm{i}": _made(norm, outputs)}
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
        fixup = _choice(start, ("he", "skipinit", "fixup"), "start: how branches begin") == "fixup"
        if fixup and norm is not None:
            raise ValueError(f"norm: expected None, since fixup takes its place; got {norm}; choose another start")
        self.stem = _initialized(nn.Linear(inputs, width, bias=norm is None), nn.init.kaiming_normal_)
        self.blocks = nn.Sequential(*(ResidualBranch(width, norm, start, blocks) for _ in range(blocks)))
        self.tail = nn.Sequential(*([Shift(), nn.ReLU(), Shift()] if fixup else [_made(norm, width), nn.ReLU()]))
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
            _initialized(nn.Linear(width, width, bias=norm is None and not free), nn.init.kaiming_normal_)
            for _ in range(2)
        )
        parts = [_made(norm, width), nn.ReLU(), first, _made(norm, width), nn.ReLU(), last]
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


class ResidualCNN(nn.Module):
    """A small residual network for images: (N, in_channels, H, W) → (N, classes).

    A 3 × 3 convolution, stages of residual blocks, the mean over all positions, a linear layer. Each stage but the
    first halves the height and the width. With a norm, no convolution has a bias.

    Args:
        in_channels: 1 for digits, 3 for colour images.
        classes: the number of outputs.
        norm: over (N, C, H, W).
        place: "post", after each convolution, as He et al. 2015 (arXiv:1512.03385) have it; or "pre", with its ReLU
            before each convolution, as in He et al. 2016 (arXiv:1603.05027).
        channels: of each stage.
        blocks: the number of residual blocks in each stage.
        init: initializes the weights of the convolutions.
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 10,
        norm: Norm = layers.BatchNorm2d,
        *,
        place: str = "post",
        channels: Sequence[int] = (16, 32),
        blocks: int = 1,
        init: Init = nn.init.kaiming_normal_,
    ) -> None:
        super().__init__()
        block = {"post": PostNormBlock, "pre": PreNormBlock}[_choice(place, ("post", "pre"))]
        first, last = channels[0], channels[-1]
        self.stem = nn.Sequential(OrderedDict(conv=_convolution(in_channels, first, 3, norm, init)))
        self.tail = nn.Sequential()
        end, features = (self.stem, first) if place == "post" else (self.tail, last)
        end.add_module("norm", _made(norm, features))
        end.add_module("relu", nn.ReLU())
        inputs = [first, *(c for c in channels for _ in range(blocks))]
        strides = [2 if i and i % blocks == 0 else 1 for i in range(len(inputs) - 1)]
        pairs = zip(inputs[:-1], inputs[1:], strides, strict=True)
        self.blocks = nn.Sequential(*(block(i, o, norm, stride=s, init=init) for i, o, s in pairs))
        self.head = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tail(self.blocks(self.stem(x)))
        return self.head(x.mean(dim=(2, 3)))


class PostNormBlock(nn.Module):
    """x → relu(shortcut(x) + norm(conv(relu(norm(conv(x)))))).

    (N, inputs, H, W) becomes (N, outputs, H / stride, W / stride), rounded up. The shortcut is the identity, or
    a 1 × 1 convolution with a norm where the shape changes.
    """

    def __init__(self, inputs: int, outputs: int, norm: Norm, *, stride: int = 1, init: Init = None) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, outputs, 3, norm, init, stride)
        self.norm1 = _made(norm, outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = _convolution(outputs, outputs, 3, norm, init)
        self.norm2 = _made(norm, outputs)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(_convolution(inputs, outputs, 1, norm, init, stride), _made(norm, outputs))
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        change = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        return self.relu2(self.shortcut(x) + change)


class PreNormBlock(nn.Module):
    """x → shortcut(x) + conv(relu(norm(conv(relu(norm(x)))))).

    (N, inputs, H, W) becomes (N, outputs, H / stride, W / stride), rounded up. The shortcut is the identity, or
    a 1 × 1 convolution where the shape changes.
    """

    def __init__(self, inputs: int, outputs: int, norm: Norm, *, stride: int = 1, init: Init = None) -> None:
        super().__init__()
        self.norm1 = _made(norm, inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = _convolution(inputs, outputs, 3, norm, init, stride)
        self.norm2 = _made(norm, outputs)
        self.relu2 = nn.ReLU()
        self.conv2 = _convolution(outputs, outputs, 3, norm, init)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = _convolution(inputs, outputs, 1, norm, init, stride)

    def forward(self, x: Tensor) -> Tensor:
        change = self.conv2(self.relu2(self.norm2(self.conv1(self.relu1(self.norm1(x))))))
        return self.shortcut(x) + change


class SequenceNorm(nn.Module):
    """Any norm over the features of sequences (N, L, C), with or without padding.

    Batch norm shares statistics among all positions of all samples, and like every norm of PyTorch that knows
    channels (instance and group norm too) it expects them on axis 1: so it is given (N, C, L). Layer and RMS norm
    are given (N, L, C). With a mask, the norm is given the (M, C) positions that are no padding, and padding becomes 0.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.channels_first = hasattr(norm, "num_features") or hasattr(norm, "num_channels")

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            values = self.norm(x[mask])
            y = values.new_zeros(x.shape)
            y[mask] = values
            return y
        if self.channels_first:
            return self.norm(x.transpose(1, 2)).transpose(1, 2)
        return self.norm(x)


class LSTM(nn.Module):
    """A classifier of sequences, which need not be of one length: (N, L, features) → (N, classes).

    LSTM layers, of whose output at the last step of each sequence a linear layer makes the logits.

    Args:
        features: of each step of the input.
        hidden: the width of the LSTM layers.
        classes: the number of outputs.
        norm: over the features of all steps, see :class:`SequenceNorm`; not inside the recurrence.
        place: "input" or "output" of each LSTM layer.
        num_layers: the number of LSTM layers.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        classes: int,
        norm: Norm = layers.LayerNorm,
        *,
        place: str = "output",
        num_layers: int = 1,
    ) -> None:
        super().__init__()
        self.norm_first = _choice(place, ("input", "output")) == "input"
        sizes = [features] + [hidden] * num_layers
        self.lstms = nn.ModuleList(nn.LSTM(size, hidden, batch_first=True) for size in sizes[:-1])
        self.norms = nn.ModuleList(
            SequenceNorm(_made(norm, size)) for size in (sizes[:-1] if self.norm_first else sizes[1:])
        )
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits of sequences ``x``; ``mask``, bool of shape (N, L), is False at the padding, which comes last."""
        for lstm, norm in zip(self.lstms, self.norms, strict=True):
            x = lstm(norm(x, mask))[0] if self.norm_first else norm(lstm(x)[0], mask)
        last = x.shape[1] - 1 if mask is None else mask.sum(1) - 1
        return self.head(x[torch.arange(len(x), device=x.device), last])


class GPT(nn.Module):
    """A small causal transformer: tokens (N, L), int64 → logits of each next token (N, L, tokens).

    Args:
        tokens: the number of different tokens.
        context: the largest L.
        norm: over the features of all positions, see :class:`SequenceNorm`. Batch, group and instance norm look at
            several positions at once, and so at later ones too.
        place: "pre", before attention and before the MLP, and once after the last block; or "post", after each
            addition, as Vaswani et al. 2017 (arXiv:1706.03762) have it.
        width: of the embeddings and the blocks; a multiple of ``heads``.
        heads: of the attention.
        blocks: the number of blocks.
    """

    def __init__(
        self,
        tokens: int,
        context: int,
        norm: Norm = layers.LayerNorm,
        *,
        place: str = "pre",
        width: int = 32,
        heads: int = 2,
        blocks: int = 2,
    ) -> None:
        super().__init__()
        pre = _choice(place, ("pre", "post")) == "pre"
        self.token_embedding = nn.Embedding(tokens, width)
        self.position_embedding = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads, norm, place=place) for _ in range(blocks)))
        self.last_norm = SequenceNorm(_made(norm if pre else None, width))
        self.head = nn.Linear(width, tokens, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.token_embedding(tokens) + self.position_embedding(positions)
        return self.head(self.last_norm(self.blocks(x)))


class TransformerBlock(nn.Module):
    """Attention to earlier positions, then an MLP, each added to its input: (N, L, width) → (N, L, width)."""

    def __init__(self, width: int, heads: int, norm: Norm, *, place: str = "pre") -> None:
        super().__init__()
        self.norm_first = _choice(place, ("pre", "post")) == "pre"
        self.attention = CausalAttention(width, heads)
        self.norm1 = SequenceNorm(_made(norm, width))
        self.mlp = MLP([width, 4 * width, width], None)
        self.norm2 = SequenceNorm(_made(norm, width))

    def forward(self, x: Tensor) -> Tensor:
        if self.norm_first:
            x = x + self.attention(self.norm1(x))
            return x + self.mlp(self.norm2(x))
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.mlp(x))


class CausalAttention(nn.Module):
    """Multi-head attention in which a position sees itself and earlier ones: (N, L, width) → (N, L, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width: expected a multiple of heads = {heads}; got {width}; change one of the two")
        self.heads = heads
        self.project_in = nn.Linear(width, 3 * width, bias=False)
        self.project_out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.project_in(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # 3 of (N, heads, L, width)
        y = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=True)
        return self.project_out(y.transpose(1, 2).flatten(2))


def _choice(value: str, choices: tuple[str, ...], what: str = "place: where the norm stands") -> str:
    """``value``, if it is one of ``choices``."""
    if value not in choices:
        name, meaning = what.split(": ")
        raise ValueError(f"{name}: expected one of {choices}; got {value!r}; choose {meaning}")
    return value


def _made(norm: Norm, features: int) -> nn.Module:
    """The norm of so many features; without a norm, a module that does nothing."""
    if isinstance(norm, nn.Module):
        raise ValueError(
            f"norm: expected a callable from the number of features to a module; got the module {norm}; "
            "pass its class, or a function that makes a new one"
        )
    return nn.Identity() if norm is None else norm(features)


def _convolution(inputs: int, outputs: int, kernel_size: int, norm: Norm, init: Init, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps height and width, or divides them by the stride; with a bias only if without norm."""
    padding = kernel_size // 2
    conv = nn.Conv2d(inputs, outputs, kernel_size, stride=stride, padding=padding, bias=norm is None)
    return _initialized(conv, init)


def _initialized(layer: nn.Linear | nn.Conv2d, init: Init) -> nn.Linear | nn.Conv2d:
    """``layer`` with its weights as ``init`` makes them, and a bias of 0."""
    if init is not None:
        init(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return layer
