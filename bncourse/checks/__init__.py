"""Checks that name the mistake: ``check("batch_norm_forward", batch_norm_forward)``.

``observe`` calls the learner's function on the probes of an exercise, ``judge`` says what it saw.
The exercises stand in one module per chapter, ``chapter_02`` and so on, each with its signature,
probes, mistakes and hints.
"""

import secrets
from collections.abc import Callable

from .judge import judge
from .observe import observe
from .progress import hint, keep_no_progress, progress, record
from .registry import EXERCISES, exercise_named, fresh_probe
from .report import Report
from .triton_answers import interpret

__all__ = [
    "EXERCISES",
    "Report",
    "check",
    "exercise_named",
    "fresh_probe",
    "hint",
    "interpret",
    "keep_no_progress",
    "progress",
]


def check(exercise: str, function: Callable, *, seed: int | None = None) -> Report:
    """Call ``function`` on the probes of an exercise and say whether it is right, or which mistake it makes.

    Args:
        exercise: the exercise's id, such as "batch_norm_forward".
        function: the learner's answer.
        seed: of the fresh random probe; by default another one each time. The report names it.

    Returns:
        A report with ``verdict``, ``mistakes`` and ``message``; Jupyter shows it as a box.

    Raises:
        ValueError: there is no exercise of this id.
    """
    task = exercise_named(exercise)
    seed = secrets.randbits(32) if seed is None else seed
    fresh = fresh_probe(task, seed)
    report = judge(task, fresh, observe(task, function, [*task.probes, fresh]), seed)
    record(task.id, report.verdict)
    return report
