"""Compiles batch norm with every choice of optional arguments; run by a test, in a process that does not interpret."""

import itertools

import torch

from bncourse import kernels
from bncourse.benchmark.gpu.compiled import compile_launches

SHAPES = ((8, 16, 7, 7), (64, 64, 32, 32))  # for a resident and for a split plan
OTHERS = ((5, 3), (1, 2**15, 256, 256))  # channels side by side; offsets beyond 32 bits
FLAGS = (True, False)
PARAMS = ("both", "weight", "none")


def compile_all() -> int:
    """How many launches were compiled."""
    number = 0
    choices = [
        *itertools.product(SHAPES, FLAGS, PARAMS, FLAGS, FLAGS),
        *itertools.product(OTHERS, FLAGS, PARAMS, (True,), (True,)),
    ]
    for shape, training, params, relu, with_residual in choices:
        x = torch.empty(shape, dtype=torch.float16, device="meta")
        vector = x.new_empty(shape[1], dtype=torch.float32)
        weight, bias = (None if params == "none" else vector), (vector if params == "both" else None)
        running = vector if not training or relu else None  # with and without
        fused = {"training": training, "relu": relu, "residual": x if with_residual else None}

        def forward(x=x, weight=weight, bias=bias, running=running, fused=fused):
            kernels.batch_norm_forward(x, weight, bias, running, running, momentum=0.1, eps=1e-5, **fused)

        def backward(x=x, weight=weight, bias=bias, vector=vector, fused=fused):
            kernels.batch_norm_backward(x, x, weight, vector, vector, bias=bias, **fused)

        number += sum(len(compile_launches(90, call)) for call in (forward, backward))
    return number


if __name__ == "__main__":
    print(compile_all())
