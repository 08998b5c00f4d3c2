"""The norms as layers: constructors, attributes and ``state_dict`` are interchangeable with ``torch.nn``'s.

The layers hold parameters (γ and β, which the optimizer trains) and buffers (running statistics,
which the forward pass updates) and leave all computing to :mod:`bncourse.functional`.

They are modules of their own: what looks for PyTorch's classes, such as ``torch.optim.swa_utils.update_bn``,
does not see them.
"""

import numbers
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bncourse import functional

Shape = int | Sequence[int]


class _AffineNorm(nn.Module):
    """A norm with weight and bias of one shape, or without them."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def _make_parameters(
        self, shape: Shape, *, weight: bool, bias: bool, device: torch.device | None, dtype: torch.dtype | None
    ) -> None:
        """Register γ and β, or None in their place; :meth:`reset_parameters` fills them."""
        for name, wanted in (("weight", weight), ("bias", weight and bias)):
            param = nn.Parameter(torch.empty(shape, device=device, dtype=dtype)) if wanted else None
            self.register_parameter(name, param)

    def reset_parameters(self) -> None:
        """Set γ to 1 and β to 0."""
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


# Norms with running statistics


class _StatisticsNorm(_AffineNorm):
    """What batch norm and instance norm share: parameters and running statistics per channel."""

    _version = 2  # of the state_dict, as in torch.nn: version 2 brought num_batches_tracked
    ranks: tuple[int, ...]  # the numbers of axes that the input may have

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        device: torch.device | None,
        dtype: torch.dtype | None,
        bias: bool,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self._make_parameters(num_features, weight=affine, bias=bias, device=device, dtype=dtype)
        self._make_buffers(device, dtype)
        self.reset_parameters()

    def _make_buffers(self, device: torch.device | None, dtype: torch.dtype | None) -> None:
        """Register the running statistics: saved with the model and moved with it, but not trained."""
        running = {"running_mean": torch.zeros, "running_var": torch.ones}
        for name, make in running.items():
            buffer = make(self.num_features, device=device, dtype=dtype) if self.track_running_stats else None
            self.register_buffer(name, buffer)
        count = torch.zeros((), dtype=torch.long, device=device) if self.track_running_stats else None
        self.register_buffer("num_batches_tracked", count)

    def reset_running_stats(self) -> None:
        """Forget all batches: mean 0, variance 1."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Set γ to 1 and β to 0, and forget all batches."""
        self.reset_running_stats()
        super().reset_parameters()

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in self.ranks:
            ranks = " or ".join(f"{rank}D" for rank in self.ranks)
            raise functional.ArgumentError(
                f"expected {ranks} input (got {input.dim()}D input, of shape {tuple(input.shape)}); "
                f"add or merge axes, or use another layer than {type(self).__name__}"
            )

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args) -> None:
        """Load; a state of version 1 has no num_batches_tracked, and leaves it as it is."""
        key = prefix + "num_batches_tracked"
        if (local_metadata.get("version") or 1) < 2 and self.track_running_stats and key not in state_dict:
            count = self.num_batches_tracked
            is_there = count is not None and not count.is_meta
            state_dict[key] = count if is_there else torch.zeros((), dtype=torch.long)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


class _BatchNorm(_StatisticsNorm):
    """Batch normalization over (N, C, *); see :func:`bncourse.functional.batch_norm`.

    In training mode the statistics are those of the batch, and the running statistics move
    towards them; in evaluation mode, the running statistics.

    Args:
        num_features: C.
        eps: ε, in squared units of the input.
        momentum: the share of the new batch in the running statistics; None for a plain average
            in which every batch counts equally.
        affine: whether there are γ and β, of shape (C,).
        track_running_stats: whether there are running statistics; without them the statistics
            are those of the batch in evaluation mode, too.
        device: of parameters and buffers.
        dtype: of parameters and buffers.
        bias: whether there is a β beside γ.

    Source:
        Ioffe and Szegedy (2015), Algorithm 2; ``torch.nn.BatchNorm1d`` and its relatives.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Tensor) -> Tensor:
        """y of the shape of ``input``; ValueError for an input of another rank or number of channels."""
        self._check_input_dim(input)
        updating = self.training and self.track_running_stats
        # Buffers that are not to be updated are not handed over, so that they cannot be.
        running = (self.running_mean, self.running_var) if updating or not self.training else (None, None)
        momentum = self._share() if updating else 0.0
        y = self._normalize(input, *running, training=self.training or self.running_mean is None, momentum=momentum)
        if updating and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)  # last, so that an input that is refused does not count
        return y

    def _normalize(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        *,
        training: bool,
        momentum: float | Tensor,
    ) -> Tensor:
        """y; what subclasses that see more than this input replace."""
        given = input, running_mean, running_var, self.weight, self.bias
        return functional.batch_norm(*given, training=training, momentum=momentum, eps=self.eps)

    def _share(self) -> float | Tensor:
        """The weight of this batch in the running statistics."""
        if self.momentum is not None:
            return self.momentum
        return 0.0 if self.num_batches_tracked is None else 1 / (self.num_batches_tracked.double() + 1)


class BatchNorm1d(_BatchNorm):
    __doc__ = _BatchNorm.__doc__.replace("(N, C, *)", "(N, C) or (N, C, L)", 1)
    ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    __doc__ = _BatchNorm.__doc__.replace("(N, C, *)", "(N, C, H, W)", 1)
    ranks = (4,)


class BatchNorm3d(_BatchNorm):
    __doc__ = _BatchNorm.__doc__.replace("(N, C, *)", "(N, C, D, H, W)", 1)
    ranks = (5,)


class _InstanceNorm(_StatisticsNorm):
    """Instance normalization over (N, C, *), or (C, *) without a batch; see
    :func:`bncourse.functional.instance_norm`.

    Args:
        num_features: C.
        eps: ε, in squared units of the input.
        momentum: the share of the new batch in the running statistics; None leaves them as they are.
        affine: whether there are γ and β, of shape (C,).
        track_running_stats: whether there are running statistics, which then take the place of the
            input's own in evaluation mode. By default there are none, and both modes are the same.
        device: of parameters and buffers.
        dtype: of parameters and buffers.
        bias: whether there is a β beside γ.

    Source:
        Ulyanov, Vedaldi and Lempitsky (2016); ``torch.nn.InstanceNorm1d`` and its relatives.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Tensor) -> Tensor:
        """y of the shape of ``input``; ValueError for an input of another rank, or a single position."""
        self._check_input_dim(input)
        unbatched = input.dim() == self.ranks[0]
        self._check_channels(input, axis=0 if unbatched else 1)
        y = functional.instance_norm(
            input[None] if unbatched else input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            use_input_stats=self.training or not self.track_running_stats,
            momentum=0.0 if self.momentum is None else self.momentum,
            eps=self.eps,
        )
        return y[0] if unbatched else y

    def _check_channels(self, input: Tensor, axis: int) -> None:
        channels = input.shape[axis]
        if channels == self.num_features:
            return
        says = f"expected {self.num_features} channels in axis {axis}, num_features; got {channels}; "
        if self.affine or self.track_running_stats:
            raise functional.ArgumentError(f"{says}check the order of the axes, or make a layer for {channels}")
        warnings.warn(f"{says}without affine and running statistics num_features does nothing", stacklevel=3)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors) -> None:
        """Load; running statistics of a state from before version 1 are refused if there is no place for them."""
        keys = [prefix + name for name in ("running_mean", "running_var")]
        stray = [key for key in keys if key in state_dict]
        if local_metadata.get("version") is None and not self.track_running_stats and stray:
            errors.append(
                f"Unexpected running stats buffer(s) {' and '.join(stray)} for {type(self).__name__} with "
                "track_running_stats=False; remove them from the state_dict, or set track_running_stats=True"
            )
            for key in stray:
                state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)


class InstanceNorm1d(_InstanceNorm):
    __doc__ = _InstanceNorm.__doc__.replace("(N, C, *), or (C, *)", "(N, C, L), or (C, L)", 1)
    ranks = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    __doc__ = _InstanceNorm.__doc__.replace("(N, C, *), or (C, *)", "(N, C, H, W), or (C, H, W)", 1)
    ranks = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    __doc__ = _InstanceNorm.__doc__.replace("(N, C, *), or (C, *)", "(N, C, D, H, W), or (C, D, H, W)", 1)
    ranks = (4, 5)


# Norms of single samples


class LayerNorm(_AffineNorm):
    """Layer normalization over the trailing axes; see :func:`bncourse.functional.layer_norm`.

    Args:
        normalized_shape: the trailing shape to normalize over; an int means the last axis.
        eps: ε, in squared units of the input.
        elementwise_affine: whether there are γ and β, of shape ``normalized_shape``.
        bias: whether there is a β beside γ.
        device: of the parameters.
        dtype: of the parameters.

    Source:
        Ba, Kiros and Hinton (2016); ``torch.nn.LayerNorm``.
    """

    def __init__(
        self,
        normalized_shape: Shape,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _as_shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self._make_parameters(self.normalized_shape, weight=elementwise_affine, bias=bias, device=device, dtype=dtype)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        """y of the shape of ``input``; ValueError if that does not end with ``normalized_shape``."""
        return functional.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class GroupNorm(_AffineNorm):
    """Group normalization over (N, C, *); see :func:`bncourse.functional.group_norm`.

    Args:
        num_groups: the number of groups, a divisor of C.
        num_channels: C.
        eps: ε, in squared units of the input.
        affine: whether there are γ and β, of shape (C,).
        device: of the parameters.
        dtype: of the parameters.
        bias: whether there is a β beside γ.

    Raises:
        ValueError: ``num_groups`` does not divide ``num_channels``.

    Source:
        Wu and He (2018); ``torch.nn.GroupNorm``.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise functional.ArgumentError(
                f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups}); choose a divisor, "
                "such as 1 (all channels together) or the number of channels (each on its own)"
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        self._make_parameters(num_channels, weight=affine, bias=bias, device=device, dtype=dtype)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        """y of the shape of ``input``; ValueError if its channels do not fit."""
        return functional.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(_AffineNorm):
    """RMS normalization over the trailing axes; see :func:`bncourse.functional.rms_norm`.

    Args:
        normalized_shape: the trailing shape to normalize over; an int means the last axis.
        eps: ε, in squared units of the input; None for the machine epsilon of the computation.
        elementwise_affine: whether there is a γ, of shape ``normalized_shape``.
        device: of the parameter.
        dtype: of the parameter.

    Source:
        Zhang and Sennrich (2019); ``torch.nn.RMSNorm``.
    """

    def __init__(
        self,
        normalized_shape: Shape,
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _as_shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self._make_parameters(self.normalized_shape, weight=elementwise_affine, bias=False, device=device, dtype=dtype)
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """y of the shape of ``x``; ValueError if that does not end with ``normalized_shape``."""
        return functional.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


def _as_shape(shape: Shape) -> tuple[int, ...]:
    return (int(shape),) if isinstance(shape, numbers.Integral) else tuple(shape)
