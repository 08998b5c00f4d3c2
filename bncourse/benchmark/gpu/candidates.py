"""Who computes each norm: ours, PyTorch in its ways, torch.compile, Liger.

Each is built for one group and one set of inputs, on any device, and gives the results that
:func:`bncourse.benchmark.gpu.inputs.exact` gives. The backward pass is called alone: where there is an operation for
it, directly, and else through ``torch.autograd.grad``, which adds nothing to a ``grad`` of its own.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bncourse.benchmark.gpu.inputs import EPS, MOMENTUM, Inputs
from bncourse.benchmark.gpu.operations import ADD_RELU, BACKWARD, EVALUATION, FORWARD, LAYER, RELU, ROW_NORMS, Group

OURS, SPLIT, OURS_LAST, FIRST = "ours", "ours, split", "ours, channels_last", "first kernel"
EAGER, NATIVE, EAGER_LAST = "eager", "eager, cuDNN off", "eager, channels_last"
COMPILED, AUTOTUNED, LIGER = "torch.compile", "torch.compile, max-autotune", "Liger"
CHANNELS_LAST = (OURS_LAST, EAGER_LAST)
# Without CUDA graphs: a graph would first copy its inputs into memory of its own, which takes as long as the norm.
MODES = {COMPILED: None, AUTOTUNED: "max-autotune-no-cudagraphs"}
COMPILE_CALLS = 3  # before anything is timed
RESIDENT_PLAN, SPLIT_PLAN = "resident", "split"

aten = torch.ops.aten


@dataclass(frozen=True)
class Candidate:
    """One way to compute a norm.

    ``forward`` returns y and what ``backward`` is given beside the inputs; ``backward`` returns the gradients.
    ``plans`` says, of ours, whether an array stays on chip; ``statistics`` returns, of ours, what :func:`exact` has
    under that name, given the inputs and what ``forward`` returned for ``backward``.
    """

    forward: Callable[[Inputs], tuple[Tensor, Any]]
    backward: Callable[[Inputs, Any], tuple[Tensor, ...]] | None = None
    operations: tuple[str, ...] = (FORWARD, BACKWARD)  # that are measured
    plans: dict[str, str] = field(default_factory=dict)
    statistics: Callable[[Inputs, Any], tuple[Tensor, ...]] | None = None


Maker = Callable[[], Candidate]


def makers(group: Group, inputs: Inputs, *, compiler: str = "inductor") -> dict[str, Maker]:
    """By name, what builds each candidate of a group. Those in CHANNELS_LAST are called with ``inputs.channels_last``."""
    if group.small:
        return _uncompiled(group, inputs)
    modes = {name: mode for name, mode in MODES.items() if name == COMPILED or group.autotune}
    compiled = {name: lambda mode=mode: _compiled(group, inputs, mode, compiler) for name, mode in modes.items()}
    if group.norm in ROW_NORMS:
        return _uncompiled(group, inputs) | compiled
    found = {OURS: lambda: _our_batch_norm(group, inputs)}
    if RESIDENT_PLAN in _plans(group, inputs).values():
        found[SPLIT] = lambda: _our_batch_norm(group, inputs, split=True)
    if group.norm in (RELU, ADD_RELU):
        return found | {EAGER: lambda: _eager_batch_norm(group), **compiled}
    if group.norm != EVALUATION:
        found[FIRST] = _first_kernel
    found |= {
        EAGER: lambda: _eager_batch_norm(group),
        NATIVE: lambda: _eager_batch_norm(group, cudnn=False),
        **compiled,
    }
    if len(group.shape) == 4:
        found |= {
            OURS_LAST: lambda: _our_batch_norm(group, inputs.channels_last),
            EAGER_LAST: lambda: _eager_batch_norm(group),
        }
    return found


def _uncompiled(group: Group, inputs: Inputs) -> dict[str, Maker]:
    """Ours and PyTorch's operations, and Liger's; small inputs are measured with these alone."""
    if group.norm in ROW_NORMS:
        found = {OURS: lambda: _our_row_norm(group), EAGER: lambda: _eager_row_norm(group)}
        return found | ({LIGER: lambda: _liger(group)} if importlib.util.find_spec("liger_kernel") else {})
    return {
        OURS: lambda: _our_batch_norm(group, inputs),
        EAGER: lambda: _eager_batch_norm(group),
        NATIVE: lambda: _eager_batch_norm(group, cudnn=False),
    }


# Ours


def _plan(inputs: Inputs, operation: str, resident: bool | None) -> Any:
    from bncourse import kernels
    from bncourse.kernels.arguments import matrix
    from bncourse.kernels.runtime import multiprocessors

    x, arrays = inputs.x, 1 if operation == FORWARD else 2
    options = {"itemsize": x.element_size(), "multiprocessors": multiprocessors(x.device)}
    return kernels.batch_norm_plan(*matrix(x), arrays=arrays, resident=resident, **options)


def _plans(group: Group, inputs: Inputs) -> dict[str, str]:
    """By operation, what the plan chooses; evaluation has nothing to keep."""
    if group.norm == EVALUATION:
        return {FORWARD: SPLIT_PLAN}
    return {what: RESIDENT_PLAN if _plan(inputs, what, None).resident else SPLIT_PLAN for what in group.operations}


def _our_batch_norm(group: Group, inputs: Inputs, *, split: bool = False) -> Candidate:
    """What the plan chooses; or, with ``split``, the other way where the plan would keep an array on chip."""
    from bncourse import kernels

    options = {"training": group.norm != EVALUATION, "relu": group.norm in (RELU, ADD_RELU)}
    plans = _plans(group, inputs)
    forced = {what: _plan(inputs, what, False) if split else None for what in group.operations}

    def forward(i: Inputs) -> tuple[Tensor, Any]:
        running = {"momentum": MOMENTUM, "eps": EPS, "residual": i.residual, "plan": forced[FORWARD]}
        y, *saved = kernels.batch_norm_forward(
            i.x, i.weight, i.bias, i.running_mean, i.running_var, **options, **running
        )
        return y, saved

    def backward(i: Inputs, saved: Any) -> tuple[Tensor, ...]:
        given = {"bias": i.bias, "residual": i.residual, "plan": forced[BACKWARD]}
        return kernels.batch_norm_backward(i.dy, i.x, i.weight, *saved, **options, **given)

    def statistics(i: Inputs, saved: Any) -> tuple[Tensor, ...]:
        return *saved, i.running_mean, i.running_var

    if not split:
        return Candidate(forward, backward, group.operations, plans, statistics)
    wanted = tuple(what for what, plan in plans.items() if plan == RESIDENT_PLAN)
    return Candidate(forward, backward, wanted, dict.fromkeys(wanted, SPLIT_PLAN), statistics)


def _first_kernel() -> Candidate:
    from bncourse.kernels import first

    return Candidate(lambda i: (first.batch_norm_forward(i.x, i.weight, i.bias, eps=EPS), None), operations=(FORWARD,))


def _our_row_norm(group: Group) -> Candidate:
    from bncourse import kernels

    def layer_forward(i: Inputs) -> tuple[Tensor, Any]:
        y, *saved = kernels.layer_norm_forward(i.x, i.x.shape[1:], i.weight, i.bias, eps=EPS)
        return y, saved

    def rms_forward(i: Inputs) -> tuple[Tensor, Any]:
        y, *saved = kernels.rms_norm_forward(i.x, i.x.shape[1:], i.weight, eps=EPS)
        return y, saved

    layer = group.norm == LAYER
    gradient = kernels.layer_norm_backward if layer else kernels.rms_norm_backward
    return Candidate(
        layer_forward if layer else rms_forward,
        lambda i, saved: gradient(i.dy, i.x, i.weight, *saved),
        statistics=lambda i, saved: tuple(saved),
    )


# PyTorch


def _eager_batch_norm(group: Group, *, cudnn: bool = True) -> Candidate:
    """PyTorch's operations one by one; it chooses between its kernels and cuDNN's, unless ``cudnn`` forbids these.

    ``_batch_norm_impl_index`` is what ``torch.batch_norm`` calls. It also says what it chose, and its gradient is an
    operation that can be called alone.
    """
    training, relu = group.norm != EVALUATION, group.norm in (RELU, ADD_RELU)

    def forward(i: Inputs) -> tuple[Tensor, Any]:
        parameters = i.weight, i.bias, i.running_mean, i.running_var
        y, *saved = torch._batch_norm_impl_index(i.x, *parameters, training, MOMENTUM, EPS, cudnn)
        if i.residual is not None:
            y += i.residual
        return (y.relu_() if relu else y), (y, saved)

    def backward(i: Inputs, saved: Any) -> tuple[Tensor, ...]:
        y, (mean, inv_std, reserve, index) = saved
        dz = aten.threshold_backward(i.dy, y, 0) if relu else i.dy
        parameters = i.weight, i.running_mean, i.running_var, mean, inv_std
        gradients = aten._batch_norm_impl_index_backward(index, i.x, dz, *parameters, True, EPS, [True] * 3, reserve)
        return gradients if i.residual is None else (*gradients, dz)

    return Candidate(forward, backward, group.operations)


def _eager_row_norm(group: Group) -> Candidate:
    def layer_forward(i: Inputs) -> tuple[Tensor, Any]:
        y, *saved = torch.native_layer_norm(i.x, i.x.shape[1:], i.weight, i.bias, EPS)
        return y, saved

    def layer_backward(i: Inputs, saved: Any) -> tuple[Tensor, ...]:
        return aten.native_layer_norm_backward(i.dy, i.x, i.x.shape[1:], *saved, i.weight, i.bias, [True] * 3)

    def rms_forward(i: Inputs) -> tuple[Tensor, Any]:
        y, *saved = aten._fused_rms_norm(i.x, i.x.shape[1:], i.weight, EPS)
        return y, saved

    def rms_backward(i: Inputs, saved: Any) -> tuple[Tensor, ...]:
        return _rms_norm_gradient(i.x)(i.dy, i.x, i.x.shape[1:], *saved, i.weight, [True] * 2)

    if group.norm == LAYER:
        return Candidate(layer_forward, layer_backward)
    return Candidate(rms_forward, rms_backward)


def _rms_norm_gradient(x: Tensor) -> Callable[..., tuple[Tensor, ...]]:
    """PyTorch has the operation on GPUs alone; elsewhere, how it decomposes."""
    from torch._decomp import decomposition_table

    return aten._fused_rms_norm_backward if x.is_cuda else decomposition_table[aten._fused_rms_norm_backward.default]


def _compiled(group: Group, inputs: Inputs, mode: str | None, compiler: str) -> Candidate:
    """torch.compile, called often enough that all is compiled."""
    from torch._functorch import config

    function = torch.compile(_network(group), mode=mode, dynamic=False, backend=compiler)
    learning = BACKWARD in group.operations

    def forward(i: Inputs) -> tuple[Tensor, Any]:
        with torch.set_grad_enabled(learning):
            y = function(i.leaves, i.running_mean, i.running_var)
        return y, y

    candidate = Candidate(forward, _through_autograd if learning else None, group.operations)
    # A graph may overwrite what it saved, unless it is told that the backward pass will be called again.
    with config.patch(donated_buffer=False):
        for _ in range(COMPILE_CALLS):
            _, saved = candidate.forward(inputs)
            if learning:
                candidate.backward(inputs, saved)
    return candidate


def _through_autograd(i: Inputs, y: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(y, i.leaves, i.dy, retain_graph=True)


def _network(group: Group) -> Callable[..., Tensor]:
    """The norm as a network has it, of x, weight, bias and residual, as far as there are these."""

    def row_norm(leaves: tuple[Tensor, ...], running_mean: None, running_var: None) -> Tensor:
        norm = F.layer_norm if group.norm == LAYER else F.rms_norm
        return norm(leaves[0], leaves[0].shape[1:], *leaves[1:], eps=EPS)

    def batch_norm(leaves: tuple[Tensor, ...], running_mean: Tensor, running_var: Tensor) -> Tensor:
        x, weight, bias, *residual = leaves
        training = group.norm != EVALUATION
        y = F.batch_norm(x, running_mean, running_var, weight, bias, training, MOMENTUM, EPS)
        for other in residual:
            y = y + other
        return F.relu(y) if group.norm in (RELU, ADD_RELU) else y

    return row_norm if group.norm in ROW_NORMS else batch_norm


def _liger(group: Group) -> Candidate:
    """Liger's kernels, through autograd. Its RMS norm would write dx over dy, and a second call get another dy."""
    if group.norm == LAYER:
        from liger_kernel.ops.layer_norm import LigerLayerNormFunction

        options = (EPS,)
        function = LigerLayerNormFunction
    else:
        from liger_kernel.ops.rms_norm import LigerRMSNormFunction

        options = (EPS, 0.0, "llama", False)  # no offset of the weight; dx is an array of its own
        function = LigerRMSNormFunction

    def forward(i: Inputs) -> tuple[Tensor, Any]:
        with torch.enable_grad():
            y = function.apply(*i.leaves, *options)
        return y, y

    return Candidate(forward, _through_autograd)
