"""M networks of one architecture as a single one, whose layers compute for all of them at once.

Small networks keep a processor busy with calling, not with computing. Stacked, M matrix products become one call of
``baddbmm``, and M batch norms of F features become one of M · F features. Nothing passes from one network to another:
where one of them has become infinite or NaN, the others compute on.

Fully connected networks can be stacked: linear layers, activations, dropout, and norms over the features, in a
``torch.nn.Sequential`` or a model built of them. For other modules :func:`stack` raises :class:`NotStackable`.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from bncourse import layers, models


class NotStackable(TypeError):
    """Networks, or parts of them, for which there is no stacked form."""


def stack(networks: Sequence[nn.Module]) -> nn.Module:
    """One network that computes what ``networks`` compute: (M, N, F) → (M, N, K), one slice for each.

    It starts with copies of their parameters and buffers; :func:`unstack` brings back what became of them. Dropout
    draws for every slice, though not what it would draw for a network alone.

    Raises:
        NotStackable: the networks differ in more than their numbers, or hold a module without a stacked form.
    """
    if len({_structure(network) for network in networks}) != 1:
        raise NotStackable(
            "expected one network or more that differ in nothing but their numbers; got others; make all of them with "
            "the same call"
        )
    whole = _stacked(networks)
    if any(isinstance(module, StackedBatchNorm) for module in whole.modules()):
        for module in whole.modules():
            module.samples_last = True  # of the linear layers
    return whole


def unstack(stacked: nn.Module, networks: Sequence[nn.Module]) -> None:
    """Copy the parameters and buffers of ``stacked`` back into the networks that it was made of."""
    values = {name.replace("wide.", ""): value for name, value in stacked.state_dict().items()}
    for i, network in enumerate(networks):
        own = {name: _slice(values[name], i, len(networks), like) for name, like in network.state_dict().items()}
        network.load_state_dict(own)


def _structure(network: nn.Module) -> str:
    """Names, settings, modes and shapes of all modules."""
    modes = [module.training for module in network.modules()]
    return f"{network} {modes} {[(name, tuple(value.shape)) for name, value in network.state_dict().items()]}"


def _slice(value: Tensor, i: int, count: int, like: Tensor) -> Tensor:
    """The part of network ``i``; a number that all share, such as the count of batches, as it is."""
    return value.reshape(count, *like.shape)[i] if value.dim() else value


# The stacked form of each kind of module


class StackedLinear(nn.Module):
    """y = x Wᵀ + b for each network: (M, N, inputs) → (M, N, outputs).

    In a network with batch norm it computes yᵀ = W xᵀ + b instead, with ``samples_last`` in memory: batch norm then
    finds each of its channels in one piece, without a copy.
    """

    samples_last = False

    def __init__(self, members: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = _joined([member.weight for member in members], torch.stack)  # (M, outputs, inputs)
        self.bias = _joined([member.bias for member in members], torch.stack)  # (M, outputs)

    def forward(self, x: Tensor) -> Tensor:
        if self.samples_last:
            return self._product(self.weight, x.transpose(1, 2), 2).transpose(1, 2)
        return self._product(x, self.weight.transpose(1, 2), 1)

    def _product(self, left: Tensor, right: Tensor, sample_axis: int) -> Tensor:
        """left · right + b."""
        if self.bias is None:
            return left @ right
        return torch.baddbmm(self.bias.unsqueeze(sample_axis), left, right)


class StackedBatchNorm(nn.Module):
    """Batch norm of each network: one batch norm of M · F channels, on a (1, M · F, N) view."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.wide = copy.deepcopy(members[0])
        self.wide.num_features *= len(members)
        for name, value in [*self.wide.named_parameters(), *self.wide.named_buffers()]:
            if value.dim():
                setattr(self.wide, name, _joined([getattr(member, name) for member in members], torch.cat))

    def forward(self, x: Tensor) -> Tensor:
        channels_first = x.transpose(1, 2)
        return self.wide(channels_first.reshape(1, -1, x.shape[1])).view(channels_first.shape).transpose(1, 2)


class StackedFeatureNorm(nn.Module):
    """Layer, group or RMS norm of each network: one norm of M · N samples, then the weights of each network."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.plain = copy.deepcopy(members[0])
        for name, _ in members[0].named_parameters():
            setattr(self.plain, name, None)
            setattr(self, name, _joined([getattr(member, name) for member in members], torch.stack))

    def forward(self, x: Tensor) -> Tensor:
        y = self.plain(x.flatten(0, 1)).view(x.shape)
        weight, bias = (getattr(self, name, None) for name in ("weight", "bias"))
        if weight is None:
            return y
        return y * weight[:, None] if bias is None else torch.addcmul(bias[:, None], y, weight[:, None])


class StackedScalar(nn.Module):
    """A module whose one parameter is a number: that number for each network, (M, 1, 1)."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.wide = copy.deepcopy(members[0])
        self.wide.value = _joined([member.value.view(1, 1) for member in members], torch.stack)

    def forward(self, x: Tensor) -> Tensor:
        return self.wide(x)


def as_it_is(members: Sequence[nn.Module]) -> nn.Module:
    """The form of a module without numbers of its own, which treats all leading axes alike."""
    return copy.deepcopy(members[0])


def _container(members: Sequence[nn.Module]) -> nn.Module:
    """The same container, of stacked children."""
    whole = copy.copy(members[0])
    whole._modules = {}
    for name, _ in members[0].named_children():
        whole.add_module(name, _stacked([getattr(member, name) for member in members]))
    return whole


def _joined(values: Sequence[Tensor | None], join: Callable[[list[Tensor]], Tensor]) -> Tensor | None:
    """Tensors as one; a parameter, of parameters."""
    if values[0] is None:
        return None
    joined = join([value.detach() for value in values])
    return nn.Parameter(joined, values[0].requires_grad) if isinstance(values[0], nn.Parameter) else joined


Form = Callable[[Sequence[nn.Module]], nn.Module]
FORMS: dict[type[nn.Module], Form] = {
    nn.Linear: StackedLinear,
    **dict.fromkeys((nn.BatchNorm1d, layers.BatchNorm1d), StackedBatchNorm),
    **dict.fromkeys((nn.LayerNorm, layers.LayerNorm, nn.RMSNorm, layers.RMSNorm), StackedFeatureNorm),
    **dict.fromkeys((nn.GroupNorm, layers.GroupNorm), StackedFeatureNorm),
    **dict.fromkeys((nn.Identity, nn.Dropout, nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid), as_it_is),
    **dict.fromkeys((models.Scale, models.Shift), StackedScalar),
    **dict.fromkeys((nn.Sequential, models.MLP, models.ResidualMLP, models.ResidualBranch), _container),
}  # add to it what else may stand in a network


def _stacked(members: Sequence[nn.Module]) -> nn.Module:
    """The stacked form of one module, which stands at the same place in each network."""
    form = FORMS.get(type(members[0]))
    if form is None:
        raise NotStackable(
            f"expected modules of which there is a stacked form; got {type(members[0]).__name__}; train such networks "
            "one by one, or add its form to bncourse.training.stacking.FORMS"
        )
    return form(members)
