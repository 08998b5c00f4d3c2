"""Run one submitted notebook and call its functions, in a process that ``submissions`` starts and limits.

    python -m bncourse.checks._child FOLDER

``FOLDER`` holds ``job.json``; the observations go to ``results.json``, and ``at`` says what is
being done. Nothing is judged here: the notebook's code lives in the same process and could change
whatever it wants, so all that counts is which values its functions gave.
"""

import json
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from os import _exit  # by name: the notebook may replace os._exit
from pathlib import Path

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from .exchange import pack
from .exercise import Exercise, Probe
from .observe import describe, observe
from .progress import keep_no_progress
from .registry import EXERCISES, fresh_probe

OUT_OF_MEMORY, EXITED = 81, 82  # exit statuses of a run that did not reach the end of the notebook
MOST_ERRORS = 100  # that are listed
MEGABYTE = 2**20

Place = Callable[[str], object]


class Shell(InteractiveShell):
    """What runs the cells in every Python kernel, without a front end."""

    def ask_exit(self) -> None:
        """``exit`` in a cell."""
        raise SystemExit

    def enable_gui(self, gui: str | None = None) -> None:
        """``%matplotlib`` asks for an event loop; there is none."""


def main(folder: Path) -> None:
    """Do the job in the folder and end the process, with all threads that the notebook started."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    (folder / "job.json").unlink()  # its token shows that the results come from here
    place = (folder / "at").write_text
    limit(job)
    exercises = [EXERCISES[id] for id in job["exercises"]]
    probes = {exercise.id: [*exercise.probes, fresh_probe(exercise, job["seed"])] for exercise in exercises}
    keep_no_progress()
    forget_the_course()
    shell = Shell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    results = {"token": job["token"], "errors": run_cells(shell, job["cells"], place), "observed": {}}
    for exercise in exercises:
        place(exercise.id)
        results["observed"][exercise.id] = call(shell.user_ns, exercise, probes[exercise.id], job["seconds"])
    (folder / "results.part").write_text(json.dumps(results), encoding="utf-8")
    (folder / "results.part").replace(folder / "results.json")


def forget_the_course() -> None:
    """Let the notebook import the course anew, so that what it replaces there is not what observes it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "bncourse"]:
        del sys.modules[name]


def run_cells(shell: InteractiveShell, cells: list[str], place: Place) -> list[tuple[int, str]]:
    """Run all cells, as "Run All" does but past errors; which cells raised what, counted from 1."""
    errors = []
    for number, source in enumerate(cells, 1):
        place(f"code cell {number}")
        result = shell.run_cell(source, store_history=False)
        error = result.error_before_exec or result.error_in_exec
        if isinstance(error, SystemExit):
            _exit(EXITED)
        if isinstance(error, MemoryError):
            _exit(OUT_OF_MEMORY)
        if error is not None and len(errors) < MOST_ERRORS:
            errors.append((number, describe(error)))
    return errors


def call(names: dict[str, object], exercise: Exercise, probes: list[Probe], seconds: float) -> list[dict] | str | None:
    """What the exercise's function or class does; None if there is none, and an error if it got past ``observe``."""
    if exercise.id not in names:
        return None
    try:
        return [pack(outcome) for outcome in observe(exercise, names[exercise.id], probes, seconds)]
    except BaseException as error:  # noqa: BLE001 - such as KeyboardInterrupt, or a __signature__ that raises
        return describe(error)


def limit(job: dict) -> None:
    """Limit what this process and each of its children may use; does nothing on Windows."""
    with suppress(ImportError):
        import resource

        limits = {
            resource.RLIMIT_DATA: job["memory"] * MEGABYTE,  # not AS: CUDA libraries map far more than they use
            resource.RLIMIT_FSIZE: job["file_size"] * MEGABYTE,
            resource.RLIMIT_CPU: job["cpu_seconds"],  # ends also what escapes the parent
            resource.RLIMIT_CORE: 0,
        }
        for which, value in limits.items():
            hard = resource.getrlimit(which)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            with suppress(ValueError, OSError):  # a system without this limit
                resource.setrlimit(which, (value, value))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except MemoryError:
        _exit(OUT_OF_MEMORY)
    except BaseException:  # noqa: BLE001 - threads of the notebook must not keep the process
        traceback.print_exc()
        _exit(1)
    _exit(0)
