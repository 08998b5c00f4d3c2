"""Chapter 10, many devices: its exercises, and the mistakes made in them."""

from .backward import BACKWARD
from .losses import LOSSES
from .many import MANY
from .running import RUNNING
from .setups import SETUPS
from .two import TWO

EXERCISES = (TWO, MANY, RUNNING, LOSSES, BACKWARD, SETUPS)
