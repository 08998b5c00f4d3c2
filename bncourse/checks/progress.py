"""What a learner has solved and which hints were opened, kept beside the notebooks.

One small file per exercise, in the folder ``.bncourse-progress`` of the directory that the kernel
works in: Jupyter starts kernels in the notebook's folder. git ignores it. Deleting it starts anew.
"""

import html
import json
import os
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from .registry import EXERCISES, exercise_named

FOLDER = ".bncourse-progress"
LEFT = 'style="text-align: left; font-weight: normal"'  # Jupyter aligns cells right
SWITCH = "BNCOURSE_KEEP_NO_PROGRESS"  # in the environment, so that it holds for child processes


def keep_no_progress() -> None:
    """From now on remember nothing in this process: for worked solutions, and for grading."""
    os.environ[SWITCH] = "1"


def record(exercise: str, verdict: str) -> None:
    """Remember the day on which an exercise was first solved."""
    known = _read(exercise)
    if verdict == "correct" and not isinstance(known.get("solved"), str):
        _write(exercise, {**known, "solved": date.today().isoformat()})


@dataclass(frozen=True)
class Progress:
    """Which exercises are solved, chapter by chapter.

    Attributes:
        solved: the day of the first right answer, by the exercise's id.
    """

    solved: dict[str, str]

    def rows(self) -> list[tuple[str, str, str]]:
        """Chapter, exercise and state of every exercise."""
        return [(exercise.chapter[:2].lstrip("0"), id, self._state(id)) for id, exercise in EXERCISES.items()]

    def _state(self, id: str) -> str:
        return f"✓ solved {self.solved[id]}" if id in self.solved else "○ open"

    def __str__(self) -> str:
        lines = (f"chapter {chapter:2} {id:28} {state}" for chapter, id, state in self.rows())
        return "\n".join([f"{len(self.solved)} of {len(EXERCISES)} exercises solved", *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        body = "".join(f"<tr>{_cells(row)}</tr>" for row in self.rows())
        head = "".join(f'<th scope="col" {LEFT}>{title}</th>' for title in ("Chapter", "Exercise", "State"))
        caption = f"{len(self.solved)} of {len(EXERCISES)} exercises solved"
        table = f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f'<div class="bn-report">{table}</div>'


def _cells(row: tuple[str, str, str]) -> str:
    chapter, exercise, state = map(html.escape, row)
    return f'<td {LEFT}>{chapter}</td><th scope="row" {LEFT}>{exercise}</th><td {LEFT}>{state}</td>'


def progress() -> Progress:
    """What has been solved in this folder, also before the kernel was restarted."""
    known = {id: _read(id).get("solved") for id in EXERCISES}
    return Progress({id: day for id, day in known.items() if isinstance(day, str)})


@dataclass(frozen=True)
class Hints:
    """The hints opened so far."""

    opened: tuple[str, ...]
    total: int

    def __str__(self) -> str:
        return "\n".join(f"Hint {n} of {self.total}: {text}" for n, text in enumerate(self.opened, 1))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(text)}</li>" for text in self.opened)
        return f'<div class="bn-report">{len(self.opened)} of {self.total} hints:<ol>{items}</ol></div>'


_opened_here: dict[str, int] = {}  # where nothing can be kept, hints still open one by one


def hint(exercise: str) -> Hints:
    """Open one more hint; the earlier ones are shown as well.

    Raises:
        ValueError: there is no exercise of this id.
    """
    hints = exercise_named(exercise).hints
    known = _read(exercise)
    before = max(_count(known.get("hints")), _opened_here.get(exercise, 0))
    opened = min(before + 1, len(hints))
    _opened_here[exercise] = opened
    _write(exercise, {**known, "hints": opened})
    return Hints(hints[:opened], len(hints))


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _read(exercise: str) -> dict:
    """What is known of an exercise; nothing if the file is missing or damaged."""
    try:
        known = json.loads((Path(FOLDER) / f"{exercise}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(exercise: str, known: dict) -> None:
    """Replace the file in one step; a folder that cannot be written to only costs the memory."""
    if SWITCH in os.environ:
        return
    path = Path(FOLDER) / f"{exercise}.json"
    draft = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(exist_ok=True)
        draft.write_text(json.dumps(known), encoding="utf-8")
        draft.replace(path)
    except OSError:
        print(f"(Your progress could not be saved in the folder {FOLDER} beside this notebook.)")
