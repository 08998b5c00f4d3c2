"""Chapter 8, counting bytes: its exercises, and the mistakes made in them."""

from .blocks import BLOCKED
from .into import INTO
from .traffic import FUSED, PREDICT, UNFUSED

EXERCISES = (UNFUSED, FUSED, PREDICT, BLOCKED, INTO)
