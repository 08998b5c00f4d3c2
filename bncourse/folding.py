"""Batch norm in evaluation mode, folded into the linear layer or the convolution before it.

Once its statistics are fixed, batch norm multiplies each channel by s = γ / √(σ² + ε) and adds to it. The layer before
it can do both: s · (W x + b − μ) + β = (s W) x + (s · (b − μ) + β). One layer is left, which gives the same outputs.

Batch norm *before* a convolution stays where it is: zero padding is added after batch norm, so that what batch norm
adds is missing at the border, and no bias of the convolution can make up for it.
"""

import copy
import inspect
from collections import Counter
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from bncourse import layers
from bncourse.distributed import SyncBatchNorm

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED_CONVOLUTIONS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS)

# How many axes the input of a batch norm may have. A subclass is not in the table: it may compute something else,
# such as an activation on top.
BATCH_NORMS = {
    nn.BatchNorm1d: (2, 3),
    nn.BatchNorm2d: (4,),
    nn.BatchNorm3d: (5,),
    nn.SyncBatchNorm: (2, 3, 4, 5),
    **{ours: ours.ranks for ours in (layers.BatchNorm1d, layers.BatchNorm2d, layers.BatchNorm3d, SyncBatchNorm)},
}
ANY_BATCH_NORM = (_BatchNorm, layers._BatchNorm)


# A pair of layers


def fold(layer: nn.Module, bn: nn.Module) -> nn.Module:
    """One layer that computes ``bn(layer(x))`` in evaluation mode.

    With s = γ / √(σ² + ε) for each output channel: weight ← s · weight, bias ← s · (bias − μ) + β. This is
    computed in float64 on the CPU; the result is rounded once, to the dtype of ``layer``.

    Args:
        layer: ``torch.nn``'s Linear, Conv1d/2d/3d or ConvTranspose1d/2d/3d; not a subclass.
        bn: BatchNorm1d/2d/3d or SyncBatchNorm of ``torch.nn`` or of this package, with running statistics of as many
            channels as ``layer`` puts out.

    Returns:
        A copy of ``layer`` with other parameters and always with a bias, on the same device. It takes batches only,
        (N, C) if linear and (N, C, *) with all positions if a convolution, and raises a ValueError otherwise: the
        channels would be on another axis than batch norm's.

    Raises:
        ValueError: one of the two is of another class, is in training mode, has hooks or parametrizations, or has not
            seen the data that it takes its shape from; ``bn`` has no running statistics; the two do not fit.

    Source:
        The formula is chapter 7's; ``torch.nn.utils.fusion`` does the same for some of these layers.
    """
    _check_module("layer", layer, LAYERS, "Linear, Conv1d/2d/3d or ConvTranspose1d/2d/3d of torch.nn")
    _check_module("bn", bn, BATCH_NORMS, "BatchNorm1d/2d/3d or SyncBatchNorm of torch.nn or bncourse")
    _check_running_statistics(bn)
    _check_fit(layer, bn)
    weight, bias = _folded_parameters(layer, bn)
    template = layer.weight if layer.bias is None else layer.bias
    folded = copy.deepcopy(layer)
    folded.weight = nn.Parameter(weight.to(layer.weight), requires_grad=layer.weight.requires_grad)
    folded.bias = nn.Parameter(bias.to(template), requires_grad=template.requires_grad)
    if _check_batch not in folded._forward_pre_hooks.values():
        folded.register_forward_pre_hook(_check_batch, with_kwargs=True)
    return folded


def _folded_parameters(layer: nn.Module, bn: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of the folded layer, in float64 on the CPU."""
    channels = bn.num_features
    gamma, beta = _exactly(bn.weight, channels, absent=1.0), _exactly(bn.bias, channels, absent=0.0)
    scale = gamma / (_exactly(bn.running_var, channels) + bn.eps).sqrt()
    bias = scale * (_exactly(layer.bias, channels, absent=0.0) - _exactly(bn.running_mean, channels)) + beta
    if isinstance(layer, TRANSPOSED_CONVOLUTIONS):
        # The weight is (in, out / groups, *): each group of inputs meets its own group of outputs.
        inputs_per_group = layer.in_channels // layer.groups
        scale = scale.reshape(layer.groups, -1).repeat_interleave(inputs_per_group, dim=0)
    else:
        scale = scale.reshape(-1, 1)  # the weight is (out, in / groups, *)
    positions = [1] * (layer.weight.dim() - 2)
    return _exactly(layer.weight) * scale.reshape(*scale.shape, *positions), bias


def _exactly(tensor: Tensor | None, channels: int = 0, absent: float = 0.0) -> Tensor:
    """A parameter in float64, on the CPU since not every device has float64; ``absent`` per channel if it is None."""
    if tensor is None:
        return torch.full((channels,), absent, dtype=torch.float64)
    return tensor.detach().cpu().double()


def _check_module(name: str, module: nn.Module, classes: Container[type], expected: str) -> None:
    got = type(module).__name__
    if isinstance(module, LazyModuleMixin):
        raise ValueError(
            f"expected {name} with its shape known; got {got}, which has seen no data yet; pass it one batch first"
        )
    _check_plain(name, module)
    if type(module) not in classes:
        raise ValueError(f"expected {name} to be {expected}; got {got}; leave the two layers as they are")


def _check_plain(name: str, module: nn.Module) -> None:
    """Refuse what is not in evaluation mode, and what may compute something else than its class says."""
    got = type(module).__name__
    if not isinstance(module, nn.Module):
        raise ValueError(f"expected {name} to be a torch.nn.Module; got {got}; pass the module itself")
    if parametrize.is_parametrized(module) or _hooks(module):
        raise ValueError(
            f"expected {name} without hooks and parametrizations, which may change what it computes; got {got} with "
            "some; remove them first, for example with torch.nn.utils.parametrize.remove_parametrizations"
        )
    if module.training:
        raise ValueError(
            f"expected {name} in evaluation mode, where batch norm is fixed; got {got} in training mode; "
            "call model.eval() first"
        )


def _hooks(module: nn.Module) -> list[Callable]:
    """The hooks that can change what the module computes, but for the one that folding adds."""
    hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    return [hook for hook in hooks if hook is not _check_batch]


def _check_running_statistics(bn: nn.Module) -> None:
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError(
            f"expected bn with running statistics; got {type(bn).__name__} without, which takes those of each batch "
            "even in evaluation mode; train it with track_running_stats=True"
        )


def _check_fit(layer: nn.Module, bn: nn.Module) -> None:
    axes = layer.weight.dim()  # a layer puts out as many as its weight has
    if axes not in BATCH_NORMS[type(bn)]:
        raise ValueError(
            f"expected bn for the {axes} axes that {type(layer).__name__} puts out; got {type(bn).__name__}; "
            f"take BatchNorm{max(1, axes - 2)}d, or leave the two layers as they are"
        )
    channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if bn.num_features != channels:
        raise ValueError(
            f"expected bn with num_features={channels}, the channels that layer puts out; got {bn.num_features}; "
            "pass the batch norm that follows this layer"
        )


def _check_batch(layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
    """Refuse an input whose channels batch norm would have sought on another axis."""
    x = args[0] if args else kwargs["input"]
    if x.dim() != layer.weight.dim():
        raise ValueError(
            f"expected an input of {layer.weight.dim()} axes, since a batch norm over axis 1 is folded into this "
            f"{type(layer).__name__}; got shape {tuple(x.shape)}; for such inputs keep the batch norm"
        )


# A whole model


@dataclass(frozen=True)
class FoldingReport:
    """What became of each batch norm, in the order in which the model calls them.

    ``folded`` has pairs (batch norm, layer that it went into), ``left`` pairs (batch norm, reason).
    """

    folded: tuple[tuple[str, str], ...]
    left: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        counts = f"batch norms: {len(self.folded)} folded, {len(self.left)} left"
        folded = [f"folded {norm} into {layer}" for norm, layer in self.folded]
        left = [f"left {norm}: {reason}" for norm, reason in self.left]
        return "\n".join([counts, *folded, *left])


class FoldedModel(fx.GraphModule):
    """What :func:`fold_model` returns; ``folding_report`` says what was folded, and what was not and why."""

    folding_report: FoldingReport

    # GraphModule keeps no attributes of its subclasses when it is copied, nor the subclass when it is pickled.
    def __deepcopy__(self, memo: dict[int, Any]) -> "FoldedModel":
        return _with_report(super().__deepcopy__(memo), self.folding_report)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.folding_report, *super().__reduce__())


def _unpickled(report: FoldingReport, make: Callable[..., fx.GraphModule], args: tuple) -> FoldedModel:
    made = make(*args)
    return _with_report(FoldedModel(made, made.graph), report)


def _with_report(model: FoldedModel, report: FoldingReport) -> FoldedModel:
    model.folding_report = report
    return model


def fold_model(model: nn.Module) -> FoldedModel:
    """Fold every batch norm that can be folded into the layer before it: see :func:`fold`.

    It can if its input is the output of one such layer, each of the two is called once, and nothing else uses what is
    between them. All else stays, and ``print(folded.folding_report)`` says why.

    Args:
        model: a network in evaluation mode. It stays as it is.

    Returns:
        A model with the same outputs and the same names, without the folded batch norms and without what ``forward``
        never calls. It is traced by ``torch.fx`` in evaluation mode: use it for inference. Arguments of ``forward``
        whose default is None, a number or a string keep that default; another value raises an AssertionError.

    Raises:
        ValueError: ``model`` is in training mode, has hooks of its own, or cannot be traced by ``torch.fx``.
    """
    _check_plain("model", model)
    copied = copy.deepcopy(model)
    graph = _traced(copied)
    calls = _count_calls(graph, copied)
    folded, left = {}, {}
    for node in [node for node in graph.nodes if _is_batch_norm(node, copied)]:
        name = node.target if node.op == "call_module" else node.name
        try:
            layer = _layer_before(node, graph, copied, calls)
            copied.set_submodule(layer, fold(copied.get_submodule(layer), copied.get_submodule(name)))
        except ValueError as reason:
            left[name] = str(reason)
            continue
        folded[name] = layer
        node.replace_all_uses_with(node.all_input_nodes[0])
        graph.erase_node(node)
    report = FoldingReport(tuple(folded.items()), tuple(left.items()))
    return _with_report(FoldedModel(copied, graph, type(model).__name__), report)


class _Tracer(fx.Tracer):
    """Traces down to the layers of PyTorch and of this package, and to those that users derive from them."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        known = isinstance(m, (*LAYERS, *ANY_BATCH_NORM)) or m.__module__ == layers.__name__
        return known or super().is_leaf_module(m, module_qualified_name)


def _traced(model: nn.Module) -> fx.Graph:
    """The graph of ``model``, with optional arguments at their defaults: a Proxy in the place of None is not None."""
    parameters = inspect.signature(model.forward).parameters
    defaults = {n: p.default for n, p in parameters.items() if isinstance(p.default, int | float | str | None)}
    try:
        graph = _Tracer().trace(model, defaults)
    except Exception as error:  # whatever the model's own code raises when it meets a Proxy
        raise ValueError(
            f"expected a model that torch.fx can trace; got {type(model).__name__}, whose forward does not run on "
            f"symbols: {type(error).__name__}: {error}; fold its layers by hand, with fold(layer, bn)"
        ) from error
    names = {f"{name}_1": name for name in defaults}  # what the tracer calls an argument with a fixed value
    for node in graph.find_nodes(op="placeholder"):
        node.target = names.get(node.target, node.target)
    return graph


def _count_calls(graph: fx.Graph, model: nn.Module) -> Counter[nn.Module]:
    """How often the graph calls each module, on its own or as a part of another one."""
    called = (model.get_submodule(node.target) for node in graph.find_nodes(op="call_module"))
    return Counter(part for module in called for part in module.modules())


def _is_batch_norm(node: fx.Node, model: nn.Module) -> bool:
    if node.op == "call_module":
        return isinstance(model.get_submodule(node.target), ANY_BATCH_NORM)
    return node.op == "call_function" and node.target is F.batch_norm


def _layer_before(node: fx.Node, graph: fx.Graph, model: nn.Module, calls: Counter[nn.Module]) -> str:
    """The name of the layer into which the batch norm ``node`` can be folded, as far as the graph shows.

    Raises:
        ValueError: it cannot; the message is the reason for the report.
    """
    if node.op == "call_function":
        raise ValueError("it is a function call, not a layer")
    (before,) = node.all_input_nodes
    if not (before.op == "call_module" and isinstance(model.get_submodule(before.target), LAYERS)):
        raise ValueError(f"its input is {_described(before, model)}, not a linear layer or a convolution")
    for name in (node.target, before.target):
        if calls[model.get_submodule(name)] > 1:
            raise ValueError(f"{name} is called {calls[model.get_submodule(name)]} times")
    if others := [_described(user, model) for user in before.users if user is not node]:
        raise ValueError(f"the output of {before.target} is also used by {', '.join(others)}")
    if any(other.target.rpartition(".")[0] == before.target for other in graph.find_nodes(op="get_attr")):
        raise ValueError(f"a parameter of {before.target} is also used outside it")
    return before.target


def _described(node: fx.Node, model: nn.Module) -> str:
    if node.op == "call_module":
        return f"{node.target} ({type(model.get_submodule(node.target)).__name__})"
    if node.op in ("placeholder", "output"):
        return f"the model's {'input ' + node.target if node.op == 'placeholder' else 'output'}"
    return node.name
