"""Batch norm, layer norm and RMS norm in Triton, forward and backward.

On a GPU the kernels are compiled; without one, importing this module turns Triton's interpreter on, in which they run
on CPU tensors, slowly, with the same results. Import it before what imports triton, such as torch.compile.
"""

from bncourse.kernels.runtime import INTERPRETED  # before the others, which import triton

# isort: split
from bncourse.kernels.batch_norm import batch_norm_backward, batch_norm_forward
from bncourse.kernels.plan import Plan, batch_norm_plan
from bncourse.kernels.row_norm import (
    layer_norm_backward,
    layer_norm_forward,
    rms_norm_backward,
    rms_norm_forward,
)

__all__ = [
    "INTERPRETED",
    "Plan",
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_norm_plan",
    "layer_norm_backward",
    "layer_norm_forward",
    "rms_norm_backward",
    "rms_norm_forward",
]
