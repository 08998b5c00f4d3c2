"""Networks for sequences: recurrent ones and transformers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bncourse import layers
from bncourse.models.fully_connected import MLP
from bncourse.models.parts import Norm, choice, made


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
        self.norm_first = choice(place, ("input", "output")) == "input"
        sizes = [features] + [hidden] * num_layers
        self.lstms = nn.ModuleList(nn.LSTM(size, hidden, batch_first=True) for size in sizes[:-1])
        self.norms = nn.ModuleList(
            SequenceNorm(made(norm, size)) for size in (sizes[:-1] if self.norm_first else sizes[1:])
        )
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits of sequences ``x``; ``mask``, bool of shape (N, L), is False at the padding, which comes last."""
        for lstm, norm in zip(self.lstms, self.norms, strict=True):
            x = lstm(norm(x, mask))[0] if self.norm_first else norm(lstm(x)[0], mask)
        last = x.shape[1] - 1 if mask is None else mask.sum(1) - 1
        return self.head(x[torch.arange(len(x), device=x.device), last])


class StepBatchNorm(nn.Module):
    """Batch norm of one step of sequences, over the samples that have not ended: (N, C) → (N, C).

    A recurrent network calls it at each step, and in training each step has the statistics of its own batch. What
    remains for evaluation are running averages: one for all steps, as PyTorch's batch norm in a loop would have them,
    or one for each step, as in Cooijmans et al. 2017 (arXiv:1603.09025). They change as in ``torch.nn.BatchNorm1d``
    that is given the rows of the samples that have not ended. Where fewer than two are left they stay, and a sample
    alone, which is its own mean, becomes β.

    All of it works with leading axes as well: (M, N, C) are M networks side by side.

    Args:
        num_features: C.
        steps: how many steps have statistics of their own; later ones share those of the last.
        weight: what γ starts with.
        padding: whether what follows on the end of a sequence counts as well, which is a mistake.
        eps: is added to the variance.
        momentum: of the running averages.
    """

    def __init__(
        self,
        num_features: int,
        steps: int = 1,
        *,
        weight: float = 1.0,
        padding: bool = False,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        self.steps, self.padding, self.eps, self.momentum = steps, padding, eps, momentum
        self.weight = nn.Parameter(torch.full((num_features,), weight))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(steps, num_features))
        self.register_buffer("running_var", torch.ones(steps, num_features))

    def forward(self, x: Tensor, live: Tensor, step: int) -> Tensor:
        """Normalize step ``step``, from 0; ``live``, bool of shape (N, 1), is False where a sequence has ended."""
        own = slice(min(step, self.steps - 1), min(step, self.steps - 1) + 1)
        mean, var = self.running_mean[..., own, :], self.running_var[..., own, :]
        if not self.training:
            return self._affine(x - mean, var)
        shares = (live | self.padding).to(x.dtype)
        count = shares.sum(-2, keepdim=True)
        shares = (shares / count.clamp(min=1)).mT  # (1, N): a product with it is a mean over those that are left
        batch_mean = shares @ x
        centered = x - batch_mean
        batch_var = shares @ centered.square()
        with torch.no_grad():
            momentum = self.momentum * (count > 1).to(x.dtype)
            mean.lerp_(batch_mean, momentum)
            var.lerp_(batch_var * count / (count - 1).clamp(min=1), momentum)
        return self._affine(centered, batch_var)

    def _affine(self, centered: Tensor, var: Tensor) -> Tensor:
        return torch.addcmul(self.bias, centered, self.weight * (var + self.eps).rsqrt())


class RNN(nn.Module):
    """A classifier of sequences with a norm inside of the recurrence: (N, L, features) → (N, classes).

    tanh: h_t = tanh(norm(W x_t + U h_{t-1})).
    LSTM: i, f, o, g = norm(W x_t + U h_{t-1}), c_t = σ(f) c_{t-1} + σ(i) tanh(g), h_t = σ(o) tanh(c_t).

    The hidden state at the last step of each sequence goes through a linear layer. U starts as orthogonal matrices, W
    with Xavier's initialization, and what is added with 0, but at the gate f with 1.

    Args:
        features: of each step of the input.
        hidden: the width of the hidden state.
        classes: the number of outputs.
        norm: of a step; a :class:`StepBatchNorm`, or any other over (N, C). PyTorch's batch norm counts the padding.
        cell: "tanh" or "lstm".
    """

    def __init__(
        self, features: int, hidden: int, classes: int, norm: Norm = layers.LayerNorm, *, cell: str = "tanh"
    ) -> None:
        super().__init__()
        self.hidden, self.gated = hidden, choice(cell, ("tanh", "lstm"), "cell: the kind of recurrence") == "lstm"
        gates = 4 if self.gated else 1
        self.norm = made(norm, gates * hidden)
        shift = getattr(self.norm, "bias", None)  # β, where the norm has one, is the bias
        self.project_in = nn.Linear(features, gates * hidden, bias=shift is None)
        self.project_hidden = nn.Linear(hidden, gates * hidden, bias=False)
        self.head = nn.Linear(hidden, classes)
        with torch.no_grad():
            for of_gate in zip(
                self.project_in.weight.chunk(gates), self.project_hidden.weight.chunk(gates), strict=True
            ):
                nn.init.xavier_normal_(of_gate[0])
                nn.init.orthogonal_(of_gate[1])
            bias = self.project_in.bias if shift is None else shift
            bias.zero_()
            bias[hidden : 2 * hidden] = 1.0  # of f, so that it remembers at first; nothing, where there is one gate

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits of sequences ``x``; ``mask``, bool of shape (N, L), is False at the padding, which comes last.

        Of M networks side by side (:mod:`bncourse.training.stacking`), both have M as their first axis.
        """
        mask = x.new_ones(x.shape[:-1], dtype=torch.bool) if mask is None else mask
        by_step = self.project_in(x.transpose(-3, -2).flatten(-3, -2)).unflatten(-2, (x.shape[-2], -1))
        h = c = last = x.new_zeros(*mask.shape[:-1], self.hidden)
        for step, (projected, live) in enumerate(zip(by_step.unbind(-3), mask[..., None].unbind(-2), strict=True)):
            a = projected + self.project_hidden(h)
            a = self.norm(a, live, step) if isinstance(self.norm, StepBatchNorm) else self.norm(a)
            h, c = self._cell(a, c)
            last = torch.where(live, h, last)
        return self.head(last)

    def _cell(self, a: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """The hidden state and, for an LSTM, what its cell holds."""
        if not self.gated:
            return a.tanh(), c
        i, f, o = a[..., : 3 * self.hidden].sigmoid().chunk(3, -1)
        c = f * c + i * a[..., 3 * self.hidden :].tanh()
        return o * c.tanh(), c


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
        pre = choice(place, ("pre", "post")) == "pre"
        self.token_embedding = nn.Embedding(tokens, width)
        self.position_embedding = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads, norm, place=place) for _ in range(blocks)))
        self.last_norm = SequenceNorm(made(norm if pre else None, width))
        self.head = nn.Linear(width, tokens, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.token_embedding(tokens) + self.position_embedding(positions)
        return self.head(self.last_norm(self.blocks(x)))


class TransformerBlock(nn.Module):
    """Attention to earlier positions, then an MLP, each added to its input: (N, L, width) → (N, L, width)."""

    def __init__(self, width: int, heads: int, norm: Norm, *, place: str = "pre") -> None:
        super().__init__()
        self.norm_first = choice(place, ("pre", "post")) == "pre"
        self.attention = CausalAttention(width, heads)
        self.norm1 = SequenceNorm(made(norm, width))
        self.mlp = MLP([width, 4 * width, width], None)
        self.norm2 = SequenceNorm(made(norm, width))

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
