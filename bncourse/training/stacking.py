"""M networks of one architecture as a single one, whose layers compute for all of them at once.

Small networks keep a processor busy with calling, not with computing. Stacked, M matrix products become one call of
``baddbmm``, and M batch norms of F features become one of M · F features. Nothing passes from one network to another:
where one of them has become infinite or NaN, the others compute on.

Fully connected networks can be stacked: linear layers, activations, dropout, and norms over the features, in a
``torch.nn.Sequential`` or a model built of them, and recurrent networks, :class:`bncourse.models.RNN`. For other modules
:func:`stack` raises :class:`NotStackable`.
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
    if len(list(networks[0].parameters())) < len(list(networks[0].named_parameters(remove_duplicate=False))):
        raise NotStackable("expected parameters with one place each; got shared ones; train such networks one by one")
    return _stacked(networks)


@torch.no_grad()
def unstack(stacked: nn.Module, networks: Sequence[nn.Module]) -> None:
    """Copy the parameters and buffers of ``stacked`` back into the networks that it was made of."""
    values = _numbers(stacked)
    for i, network in enumerate(networks):
        for name, own in _numbers(network).items():
            value = values[name]  # of all networks; or, such as the count of batches, one that they share
            own.copy_(value.view(len(networks), *own.shape)[i] if value.dim() else value)


def _numbers(network: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by name; a form may keep those of its members in a child ``wide``."""
    named = [*network.named_parameters(), *network.named_buffers()]
    return {name.replace("wide.", ""): value for name, value in named}


def _structure(network: nn.Module) -> str:
    """All that stacked networks must have in common."""
    modules = [
        (name, type(module), {key: value for key, value in vars(module).items() if not key.startswith("_")})
        for name, module in network.named_modules(remove_duplicate=False)
    ]
    numbers = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
    return repr((modules, [(name, value.shape, value.dtype, value.requires_grad) for name, value in numbers]))


def _own(module: nn.Module) -> list[tuple[str, Tensor]]:
    """The parameters and buffers of a module itself, not of its children."""
    return [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]


# The stacked form of each kind of module


class StackedLinear(nn.Module):
    """y = x Wᵀ + b for each network: (M, N, inputs) → (M, N, outputs), with N last in memory.

    So batch norm finds each of its channels in one piece, and a softmax over few classes is several times as fast.
    """

    def __init__(self, members: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = _joined([member.weight for member in members], torch.stack)  # (M, outputs, inputs)
        self.bias = _joined([member.bias for member in members], _columns)  # (M, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = _features_first(x)
        y = torch.bmm(self.weight, x) if self.bias is None else torch.baddbmm(self.bias, self.weight, x)
        return y.transpose(1, 2)


class StackedBatchNorm(nn.Module):
    """Batch norm of each network: one batch norm of M · F channels, on a (1, M · F, N) view."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.wide = copy.deepcopy(members[0])
        self.wide.num_features *= len(members)
        for name, value in _own(self.wide):
            values = [getattr(member, name) for member in members]
            if value.dim():
                setattr(self.wide, name, _joined(values, torch.cat))
            elif any(other != value for other in values):
                raise NotStackable(f"expected one {name}; got several; train such networks one by one")

    def forward(self, x: Tensor) -> Tensor:
        channels_first = _features_first(x)
        return self.wide(channels_first.reshape(1, -1, x.shape[1])).view(channels_first.shape).transpose(1, 2)


class StackedFeatureNorm(nn.Module):
    """Layer, group or RMS norm of each network: one norm of M · N samples, then the weights of each network."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.weight = self.bias = None
        self.plain = copy.deepcopy(members[0])
        for name, _ in members[0].named_parameters():
            setattr(self.plain, name, None)
            setattr(self, name, _joined([getattr(member, name) for member in members], _columns))  # (M, F, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = _features_first(self.plain(x.flatten(0, 1)).view(x.shape)).contiguous()  # with N last, as all else
        y = y if self.weight is None else y * self.weight
        y = y if self.bias is None else y + self.bias
        return y.transpose(1, 2)


def in_front(members: Sequence[nn.Module]) -> nn.Module:
    """The form of a module that takes leading axes: the same, with numbers (M, *, F), one slice for each network."""
    whole = copy.deepcopy(members[0])
    for name, value in _own(whole):
        join = _rows if value.dim() == 1 else torch.stack
        setattr(whole, name, _joined([getattr(member, name) for member in members], join))
    return whole


def scalar(members: Sequence[nn.Module]) -> nn.Module:
    """The form of a module with one number, ``value``: that number of each network, (M, 1, 1)."""
    whole = copy.deepcopy(members[0])
    whole.value = _joined([member.value for member in members], lambda values: torch.stack(values)[:, None, None])
    return whole


def as_it_is(members: Sequence[nn.Module]) -> nn.Module:
    """The form of a module without numbers of its own, which treats all leading axes alike."""
    if members[0].state_dict():
        raise NotStackable(
            f"expected a module without parameters and buffers; got {type(members[0]).__name__}; give it another form"
        )
    return copy.deepcopy(members[0])


def container(members: Sequence[nn.Module]) -> nn.Module:
    """The form of a module that calls others and has no numbers of its own: the same, with stacked children."""
    if _own(members[0]):
        raise NotStackable(
            f"expected parameters and buffers in children alone; got {type(members[0]).__name__}; give it another form"
        )
    whole = copy.copy(members[0])
    whole._modules = {}
    for name in members[0]._modules:  # named_children() would leave out a module that stands there twice
        whole.add_module(name, _stacked([getattr(member, name) for member in members]))
    return whole


def _features_first(x: Tensor) -> Tensor:
    """(M, N, F) → (M, F, N)."""
    if x.dim() != 3:
        raise NotStackable(f"expected inputs (N, F); got {x.dim() - 1} axes; train such networks one by one")
    return x.transpose(1, 2)


def _columns(values: list[Tensor]) -> Tensor:
    """Vectors of each network as columns, (M, F, 1)."""
    return torch.stack(values)[:, :, None]


def _rows(values: list[Tensor]) -> Tensor:
    """Vectors of each network as rows, (M, 1, F)."""
    return torch.stack(values)[:, None]


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
    **dict.fromkeys(
        (nn.Identity, nn.Dropout, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid), as_it_is
    ),
    **dict.fromkeys((models.Scale, models.Shift), scalar),
    models.StepBatchNorm: in_front,
    **dict.fromkeys((nn.Sequential, models.MLP, models.ResidualMLP, models.ResidualBranch, models.RNN), container),
}  # add to it what else may stand in a network


def _stacked(members: Sequence[nn.Module]) -> nn.Module:
    """The stacked form of one module, which stands at the same place in each network."""
    form = FORMS.get(type(members[0]))
    if form is None or _has_hooks(members):
        hooks = " with hooks" if form else ""
        raise NotStackable(
            f"expected modules of which there is a stacked form; got {type(members[0]).__name__}{hooks}; train such "
            "networks one by one, or add its form to bncourse.training.stacking.FORMS"
        )
    return form(members)


def _has_hooks(members: Sequence[nn.Module]) -> bool:
    kinds = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return any(getattr(member, kind) for member in members for kind in kinds)
