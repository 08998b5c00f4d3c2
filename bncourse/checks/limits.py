"""A time limit that interrupts an endless loop, where the system allows it."""

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Self

REPEAT = 0.002  # seconds; a bare `except:` swallows the interrupt, unless it comes between two tries


class OutOfTime(BaseException):
    """The time limit was reached. No Exception, so that `except Exception` does not catch it."""


def can_interrupt() -> bool:
    """Whether code that runs here can be interrupted: by signals, which only the main thread gets."""
    return hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()


class time_limit:
    """Raise OutOfTime in the code inside after some seconds, and again until it ends.

    Does nothing on Windows and outside the main thread. An array operation that is under way
    ends first.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.active = can_interrupt()

    def __enter__(self) -> Self:
        if self.active:
            self.before = signal.signal(signal.SIGALRM, self._interrupt)
            self.began = time.monotonic()
            self.outer = signal.setitimer(signal.ITIMER_REAL, self.seconds, REPEAT)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.active:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self.before)
            self._resume_outer()

    def _resume_outer(self) -> None:
        """Let a timer that ran before run on, at once if its time has come meanwhile."""
        left, interval = self.outer
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - self.began), REPEAT), interval)

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        """Interrupt the code inside, but not the end of the limit, which would then stay on."""
        if frame is None or frame.f_code is not time_limit.__exit__.__code__:
            raise OutOfTime
