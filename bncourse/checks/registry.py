"""All exercises of the course, by their ids."""

import difflib

import numpy as np

from . import (
    chapter_02,
    chapter_03,
    chapter_04,
    chapter_05,
    chapter_06,
    chapter_07,
    chapter_08,
    chapter_09,
    chapter_10,
    chapter_11,
    chapter_12,
)
from .exercise import Exercise, Probe

CHAPTERS = (
    chapter_02,
    chapter_03,
    chapter_04,
    chapter_05,
    chapter_06,
    chapter_07,
    chapter_08,
    chapter_09,
    chapter_10,
    chapter_11,
    chapter_12,
)
EXERCISES: dict[str, Exercise] = {exercise.id: exercise for chapter in CHAPTERS for exercise in chapter.EXERCISES}


def exercise_named(id: str) -> Exercise:
    """The exercise with this id; ValueError if there is none."""
    if id in EXERCISES:
        return EXERCISES[id]
    near = difflib.get_close_matches(str(id), EXERCISES, n=1)
    raise ValueError(
        f"expected the id of an exercise, got {id!r}. "
        + (f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(EXERCISES)}.")
    )


def fresh_probe(exercise: Exercise, seed: int) -> Probe:
    """Random inputs of a random shape; they decide the verdict, but never the name of a mistake.

    The tolerance is wider: one seed in thousands is unkind to float32.
    """
    inputs = exercise.fresh(np.random.default_rng(seed))
    return Probe("fresh", f"fresh random data, seed {seed}.", inputs, rtol=1e-3, floor=1e-3)
