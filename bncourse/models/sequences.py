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
