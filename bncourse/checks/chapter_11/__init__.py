"""Chapter 11, one definition and five norms: its exercises, and the mistakes made in them."""

from .images import GROUP_NORM_FORWARD, INSTANCE_NORM_FORWARD
from .rows import LAYER_NORM_BACKWARD, LAYER_NORM_FORWARD, RMS_NORM_BACKWARD, RMS_NORM_FORWARD

EXERCISES = (
    LAYER_NORM_FORWARD,
    LAYER_NORM_BACKWARD,
    GROUP_NORM_FORWARD,
    INSTANCE_NORM_FORWARD,
    RMS_NORM_FORWARD,
    RMS_NORM_BACKWARD,
)
