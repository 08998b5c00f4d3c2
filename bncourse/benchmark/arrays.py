"""The arrays that every implementation is given, and how what comes out is compared."""

from dataclasses import dataclass

import numpy as np

SHAPE = (64, 64, 32, 32)  # of the input, unless something else is said


@dataclass(frozen=True)
class Arguments:
    """What every implementation is given."""

    x: np.ndarray
    dy: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    running_mean: np.ndarray
    running_var: np.ndarray

    @classmethod
    def random(cls, shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> "Arguments":
        rng = np.random.default_rng(seed)
        x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
        weight, bias, running_mean = (rng.standard_normal(shape[1]).astype(dtype) for _ in range(3))
        return cls(x, dy, weight, bias, running_mean, rng.uniform(0.5, 2, shape[1]).astype(dtype))

    def astype(self, dtype: str) -> "Arguments":
        return Arguments(*(array.astype(dtype) for array in vars(self).values()))


def as_arrays(results: tuple) -> tuple[np.ndarray, ...]:
    """NumPy arrays, of arrays and of tensors."""
    return tuple(result if isinstance(result, np.ndarray) else result.detach().numpy() for result in results)


def largest_error(results: tuple, exact: tuple) -> float:
    """The largest error of y, dx, dweight and dbias, each relative to its largest value."""
    pairs = [[np.asarray(array, dtype=np.float64) for array in pair] for pair in zip(results, exact, strict=True)]
    return max(float(np.max(np.abs(got - wanted)) / np.max(np.abs(wanted))) for got, wanted in pairs)
