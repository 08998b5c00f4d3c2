"""Chapter 9, GPU kernels: its exercises, and the mistakes made in them."""

from .merge import MERGE
from .offsets import OFFSETS
from .partials import PARTIALS
from .rows import LONG_ROWS, MASKED_MEAN
from .strides import STRIDES

EXERCISES = (MASKED_MEAN, LONG_ROWS, MERGE, STRIDES, PARTIALS, OFFSETS)
