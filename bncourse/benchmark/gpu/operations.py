"""What the GPU benchmark measures, and how many bytes each operation moves.

S is the size of the input in bytes. *Compulsory* bytes are moved by whoever reads each input once and writes each output
once. *Streaming* bytes are those of the best algorithm that keeps no array on chip: it reads the input of a reduction a
second time, and writes and reads the partial results of the programs that share the reduction.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

FORWARD, BACKWARD = "forward", "backward"
BATCH, RELU, ADD_RELU = "batch norm", "batch norm + ReLU", "batch norm + residual + ReLU"
EVALUATION, LAYER, RMS = "batch norm, evaluation", "layer norm", "RMS norm"
ROW_NORMS = (LAYER, RMS)
ITEMSIZE = {"float32": 4, "bfloat16": 2, "float16": 2}
PROGRAMS = 132  # that share a reduction: the multiprocessors of an H100 or H200

IMAGES = (
    (64, 256, 56, 56),
    (64, 64, 112, 112),
    (64, 512, 28, 28),
    (64, 1024, 14, 14),
    (64, 2048, 7, 7),
    (20, 6, 256, 256),
)
FUSED_IMAGES = (IMAGES[3], IMAGES[0])  # one that stays on chip, one that is split
TOKENS = ((4096, 4096), (4096, 16384), (4096, 1024))
SMALL_IMAGES = ((16, 128), (32, 64, 8, 8), (16, 16, 128), (8, 64, 14, 14))
SMALL_TOKENS = ((64, 256), (128, 512))


@dataclass(frozen=True)
class Group:
    """What is measured together: a norm on one shape and dtype, forward and backward."""

    norm: str
    shape: tuple[int, ...]
    dtype: str
    autotune: bool = False  # whether torch.compile's max-autotune takes part, which compiles for long

    @property
    def key(self) -> str:
        return f"{self.norm}, {self.shape}, {self.dtype}"

    @property
    def small(self) -> bool:
        """Whether launching takes longer than computing: then calls in a row are timed too, and nothing is compiled."""
        return self.shape in (*SMALL_IMAGES, *SMALL_TOKENS)

    @property
    def operations(self) -> tuple[str, ...]:
        return (FORWARD,) if self.norm == EVALUATION else (FORWARD, BACKWARD)

    @property
    def input_bytes(self) -> int:
        """S."""
        return math.prod(self.shape) * ITEMSIZE[self.dtype]


def groups() -> list[Group]:
    """Everything that is measured, the most important first: a run may end early. What no target needs comes last.

    Compiling takes most of the time, so max-autotune takes part where it matters most only.
    """
    both = ("float32", "bfloat16")
    large = [Group(BATCH, shape, dtype, autotune=shape == IMAGES[0]) for shape in IMAGES[:2] for dtype in both]
    tokens = [
        Group(norm, shape, dtype, autotune=(shape, dtype) == (TOKENS[0], "bfloat16"))
        for shape in TOKENS
        for norm in ROW_NORMS
        for dtype in both
    ]
    images = [Group(BATCH, shape, dtype) for shape in IMAGES[2:] for dtype in both]
    fused = [Group(norm, shape, dtype) for shape in FUSED_IMAGES for dtype in both for norm in (RELU, ADD_RELU)]
    small = [Group(BATCH, shape, dtype) for shape in SMALL_IMAGES for dtype in both]
    small += [Group(norm, shape, dtype) for shape in SMALL_TOKENS for norm in ROW_NORMS for dtype in both]
    others = [Group(EVALUATION, IMAGES[0], dtype) for dtype in both] + [Group(BATCH, IMAGES[0], "float16")]
    return [*large, *small, *images, *tokens, *fused, *others]


class Arrays(NamedTuple):
    """How many times S is moved."""

    compulsory: int
    streaming: int


ARRAYS = {
    (BATCH, FORWARD): Arrays(2, 3),
    (BATCH, BACKWARD): Arrays(3, 5),
    (RELU, FORWARD): Arrays(2, 3),
    (RELU, BACKWARD): Arrays(3, 5),
    (ADD_RELU, FORWARD): Arrays(3, 4),
    # With one bit per value that says where the ReLU let through. Without on-chip memory the gradient that the ReLU
    # let through, an output, is written while summing, and read again.
    (ADD_RELU, BACKWARD): Arrays(4, 6),
    (EVALUATION, FORWARD): Arrays(2, 2),
    (LAYER, FORWARD): Arrays(2, 2),  # a row stays on chip
    (LAYER, BACKWARD): Arrays(3, 3),
    (RMS, FORWARD): Arrays(2, 2),
    (RMS, BACKWARD): Arrays(3, 3),
}
# Eager PyTorch calls one operation after the other: add moves 3 arrays, ReLU 2, and ReLU's gradient 3.
EAGER_ARRAYS = {
    (BATCH, FORWARD): 3,
    (BATCH, BACKWARD): 5,
    (RELU, FORWARD): 3 + 2,
    (RELU, BACKWARD): 3 + 5,
    (ADD_RELU, FORWARD): 3 + 3 + 2,
    (ADD_RELU, BACKWARD): 3 + 5,
}
# Ours keeps no bits: it reads the residual again, and computes what the ReLU saw.
OUR_ARRAYS = {**ARRAYS, (ADD_RELU, BACKWARD): Arrays(5, 7)}
# Additions and multiplications per value. Forward: the sum, x - μ squared and summed, and a · x + b. Backward: two
# sums, of dy and of dy · (x - μ), and a · dy + b · x + c.
FLOPS = {FORWARD: 1 + 3 + 2, BACKWARD: 4 + 4}


class Traffic(NamedTuple):
    """Bytes read and written."""

    compulsory: int
    streaming: int


def traffic(group: Group, operation: str, programs: int = PROGRAMS) -> Traffic:
    """The bytes of one operation, with those of parameters and statistics; in ``streaming``, of partial results too."""
    arrays = ARRAYS[group.norm, operation]
    small = _parameter_bytes(group, operation)
    if (group.norm, operation) == (ADD_RELU, BACKWARD):
        small += math.ceil(math.prod(group.shape) / 8)
    partial = 2 * _partial_bytes(group, operation, programs)  # written, and read
    return Traffic(
        arrays.compulsory * group.input_bytes + small, arrays.streaming * group.input_bytes + small + partial
    )


def _parameter_bytes(group: Group, operation: str) -> int:
    """Parameters, statistics and their gradients. Batch norm has them in float32, the others in the input's dtype."""
    if group.norm in ROW_NORMS:
        rows, columns = group.shape
        vectors = 2 if group.norm == LAYER else 1  # weight and bias, mean and 1 / σ; or one of each
        parameters = vectors if operation == FORWARD else 1 + vectors  # backward: weight, and gradients
        return parameters * columns * ITEMSIZE[group.dtype] + vectors * rows * 4
    if operation == BACKWARD:  # weight, mean, 1 / σ and two gradients; what the ReLU saw depends on the bias
        vectors = 5 + (group.norm in (RELU, ADD_RELU))
    else:  # weight and bias; the running statistics, read, and in training written; mean and 1 / σ
        vectors = 4 if group.norm == EVALUATION else 2 + 4 + 2
    return vectors * group.shape[1] * 4


def _partial_bytes(group: Group, operation: str, programs: int) -> int:
    """What programs that share a reduction tell each other, in float32."""
    if group.norm in ROW_NORMS:  # each sums the gradients of the parameters over some of the rows
        rows, columns = group.shape
        sums = 0 if operation == FORWARD else 2 if group.norm == LAYER else 1
        return sums * min(programs, rows) * columns * 4
    if group.norm == EVALUATION:
        return 0
    channels = group.shape[1]
    sums = 3 if operation == FORWARD else 2  # count, mean and M2; or the sums of dy and of dy · (x - μ)
    return sums * math.ceil(programs / channels) * channels * 4
