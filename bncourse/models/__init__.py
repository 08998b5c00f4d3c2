"""Small networks in PyTorch whose norm, and its place, is an argument.

A norm is given as a callable from the number of features to a module: ``layers.BatchNorm1d``,
``torch.nn.LayerNorm``, ``lambda c: torch.nn.GroupNorm(4, c)``; or as None, for no normalization. The
course's norms and PyTorch's have the same parameters under the same names, so the ``state_dict`` of a
network with the ones fits the network with the others.

Weights that a ReLU follows start with He initialization, or with another function of ``torch.nn.init`` given
as ``init``; with None they start as PyTorch's layers do. They are drawn from PyTorch's global generator: call
``torch.manual_seed`` first.
"""

from bncourse.models.convolutional import PostNormBlock, PreNormBlock, ResidualCNN
from bncourse.models.fully_connected import MLP, ResidualBranch, ResidualMLP, Scale, Shift
from bncourse.models.parts import Init, Norm
from bncourse.models.sequences import GPT, LSTM, RNN, CausalAttention, SequenceNorm, StepBatchNorm, TransformerBlock

__all__ = [
    "GPT",
    "LSTM",
    "MLP",
    "RNN",
    "CausalAttention",
    "Init",
    "Norm",
    "PostNormBlock",
    "PreNormBlock",
    "ResidualBranch",
    "ResidualCNN",
    "ResidualMLP",
    "Scale",
    "SequenceNorm",
    "Shift",
    "StepBatchNorm",
    "TransformerBlock",
]
