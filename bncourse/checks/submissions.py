"""Check submitted notebooks from the outside.

Each notebook runs in a process of its own (``_child``), with limits on time, memory and output. It
gets inputs and sends back what its functions returned; the answers are compared here, where the
notebook's code cannot reach. Its outputs and its own check cells count for nothing.

What the process sends is not believed beyond that. By lying, a notebook could hide that a function
changes its inputs or calls the course's own answer; to return right values it has to compute them.
This is no sandbox: a notebook runs with the rights of whoever starts it, and may read and delete
files, use the network, and leave processes behind in a session of their own.
"""

import ast
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import nbformat
from tqdm import tqdm

from ._child import EXITED, MEGABYTE, OUT_OF_MEMORY
from .exchange import unpack
from .exercise import Exercise
from .judge import judge
from .observe import SECONDS
from .registry import EXERCISES, fresh_probe

ROOT = Path(__file__).resolve().parents[2]  # what has to be on the path for ``import bncourse``
LARGEST_NOTEBOOK = 100 * MEGABYTE
LARGEST_RESULTS = 16 * MEGABYTE
LARGEST_FILE = 256  # MB, that a notebook may write
POLL = 0.02  # seconds
NOT_CHECKED = "not checked"
LINE_MAGIC = re.compile("^[%!].*", re.MULTILINE)

_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Limits:
    """What one notebook may use: seconds, and megabytes of memory and of printed output."""

    seconds: float = 60.0
    memory: int = 4096
    output: int = 10


@dataclass(frozen=True)
class Row:
    """The result of one exercise of one notebook.

    Attributes:
        notebook: its path, as it was given.
        exercise: the exercise's id; empty if the notebook could not be read or holds no exercise.
        verdict: "correct", "incorrect", "not attempted" or "not checked".
        mistakes: the ids of the mistakes that were recognized.
        message: what happened, in lines.
        seconds: that the whole notebook took.
        seed: of the fresh random probe; ``check(..., seed=seed)`` repeats it.
    """

    notebook: str
    exercise: str
    verdict: str
    mistakes: tuple[str, ...] = ()
    message: str = ""
    seconds: float = 0.0
    seed: int | None = None


def check_notebooks(
    paths: Sequence[Path], limits: Limits, jobs: int = 1, stop: threading.Event | None = None
) -> list[Row]:
    """The rows of all notebooks, in their order; ``jobs`` run at a time, with a progress bar on a terminal.

    After an interrupt (Ctrl-C) ``stop`` is set, and what was not done by then is "not checked".
    """
    stop = stop or threading.Event()
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(check_notebook, path, limits, stop) for path in paths]
        try:
            for _ in tqdm(as_completed(futures), total=len(futures), unit="notebook", disable=None):
                pass
        except KeyboardInterrupt:
            stop.set()
        return [row for future in futures for row in future.result()]


def check_notebook(path: Path, limits: Limits, stop: threading.Event | None = None) -> list[Row]:
    """One row per exercise that the notebook should hold, or one that says why there is none."""
    began, seed = time.monotonic(), secrets.randbits(32)
    try:
        submission = read(path)
        run = _run(submission, seed, limits, stop or threading.Event())
        verdicts = [_verdict(submission, exercise, run, seed) for exercise in submission.exercises]
    except Unreadable as unreadable:
        return [Row(str(path), "", NOT_CHECKED, message=str(unreadable))]
    except Exception as error:  # noqa: BLE001 - the other notebooks are still to be checked
        return [Row(str(path), "", NOT_CHECKED, message=f"The check itself failed: {type(error).__name__}: {error}")]
    seconds = round(time.monotonic() - began, 2)
    return [Row(str(path), *verdict, seconds, seed) for verdict in verdicts]


# Reading a notebook


class Unreadable(Exception):
    """Says why a file is no notebook of the course."""


@dataclass(frozen=True)
class Submission:
    """What is needed of a notebook: its code, the exercises it should hold, and those whose check cell it kept."""

    cells: tuple[str, ...]
    exercises: tuple[Exercise, ...]
    intact: frozenset[str]


def read(path: Path) -> Submission:
    """Read a notebook; nothing in it is run.

    Raises:
        Unreadable: the file is no notebook, or none with exercises of the course.
    """
    notebook = _notebook(path)
    cells = [cell for cell in notebook["cells"] if cell.get("cell_type") == "code"]
    sources = tuple(cell["source"] for cell in cells if cell["source"].strip())
    trees = [tree for tree in map(_parsed, sources) if tree]
    exercises = _by_chapter(notebook, path) or _by_name(trees)
    if not exercises:
        raise Unreadable("It holds no exercise of the course.")
    return Submission(sources, exercises, frozenset(id for tree in trees for id in _checked(tree)))


def _notebook(path: Path) -> nbformat.NotebookNode:
    """The notebook in the present format."""
    if path.is_dir():
        raise Unreadable("It is a folder. Name the notebooks in it, as in FOLDER/*.ipynb.")
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_NOTEBOOK:
            raise Unreadable(f"It is no file of at most {LARGEST_NOTEBOOK // MEGABYTE} MB.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Unreadable(f"It cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise Unreadable("It is no notebook: not a text in UTF-8.") from error
    if not text.strip():
        raise Unreadable("It is empty.")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"It is no notebook: not valid JSON ({str(error)[:100]}).") from error
    try:
        notebook = nbformat.convert(nbformat.reader.reads(text), 4)
        if "nbformat" not in data or any(type(cell["source"]) is not str for cell in notebook["cells"]):
            raise ValueError("cells are missing")
    except Exception as error:  # what goes wrong in malformed data is not documented
        raise Unreadable("It is no notebook: JSON, but not in the form of a notebook.") from error
    return notebook


def _by_chapter(notebook: nbformat.NotebookNode, path: Path) -> tuple[Exercise, ...]:
    """The exercises of the chapter that the metadata name, or else the name of the file."""
    chapters = {exercise.chapter for exercise in EXERCISES.values()}
    try:
        named = notebook["metadata"]["bncourse"]["chapter"]
    except (KeyError, TypeError):
        named = None
    if named not in list(chapters):
        named = next((chapter for chapter in chapters if chapter in path.name), None)
    return tuple(exercise for exercise in EXERCISES.values() if exercise.chapter == named)


def _by_name(trees: Sequence[ast.Module]) -> tuple[Exercise, ...]:
    """The exercises whose functions or classes are defined somewhere."""
    nodes = (node for tree in trees for node in ast.walk(tree))
    defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return tuple(exercise for exercise in EXERCISES.values() if exercise.id in defined)


def _parsed(source: str) -> ast.Module | None:
    """The syntax tree of a cell without its magics; None if it is not Python."""
    if source.startswith("%%"):
        return None
    try:
        with _one_at_a_time, warnings.catch_warnings():  # warning filters belong to all threads
            warnings.simplefilter("ignore")  # of escapes such as those in TeX
            return ast.parse(LINE_MAGIC.sub("", source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _checked(tree: ast.Module) -> Iterator[str]:
    """The ids of the calls ``check("id", id)``."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(ast.Name("check"), [ast.Constant(str(id)), ast.Name(name)], []) if id == name:
                yield id


# Running it


@dataclass(frozen=True)
class Run:
    """What a notebook's process did: what it sent, or why it did not reach the end."""

    results: dict | None = None
    failure: str = ""


def _run(submission: Submission, seed: int, limits: Limits, stop: threading.Event) -> Run:
    """Run a notebook in a scratch folder, which goes away with all that it wrote there."""
    token = secrets.token_hex()
    job = {
        "cells": submission.cells,
        "exercises": [exercise.id for exercise in submission.exercises],
        "seed": seed,
        "token": token,
        "seconds": min(SECONDS, limits.seconds / 6),  # for one function, as in the notebook unless less is allowed
        "memory": limits.memory,
        "file_size": max(LARGEST_FILE, 2 * limits.output),
        "cpu_seconds": int(2 * limits.seconds) + 10,
    }
    with tempfile.TemporaryDirectory(prefix="bncourse-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch, "exchange")
        for name in ("exchange", "work", "tmp", "ipython"):
            Path(scratch, name).mkdir()
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        failure = _watch(folder, limits, stop)
        return Run(failure=failure) if failure else _received(folder, token)


def _watch(folder: Path, limits: Limits, stop: threading.Event) -> str:
    """Start the process, wait for its end or end it, with all that it started; what went wrong, if anything."""
    end = time.monotonic() + limits.seconds
    output = folder / "output"
    with output.open("wb") as stream:
        process = _start(folder, stream)
    broken, ended = "", False
    try:
        while not (broken or ended):
            time.sleep(POLL)
            ended = process.poll() is not None
            if _size(output) > limits.output * MEGABYTE:
                broken = f"It printed more than {limits.output} MB and was stopped"
            elif time.monotonic() > end and not ended:
                broken = f"It was stopped after {limits.seconds:g} seconds"
            elif stop.is_set() and not ended:
                broken = "The grading was interrupted"
    finally:
        _end(process)
    broken = broken or _meaning(process.returncode, limits)
    return f"{broken}, {_place(folder)}." if broken else ""


def _start(folder: Path, stream) -> subprocess.Popen:
    scratch = folder.parent
    search = [str(ROOT)] if str(ROOT) != sysconfig.get_path("purelib") else []
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*search, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONIOENCODING": "utf-8:backslashreplace",
        "IPYTHONDIR": str(scratch / "ipython"),  # no configuration of whoever grades
        "TMPDIR": str(scratch / "tmp"),
        "MPLBACKEND": "agg",
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "bncourse.checks._child", str(folder)],
        cwd=scratch / "work",
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=stream,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _end(process: subprocess.Popen) -> None:
    """End the process and those that it started, also after it ended by itself."""
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # none is left; macOS says so in the second way
            pass
    else:
        process.kill()
    process.wait()


def _meaning(status: int, limits: Limits) -> str:
    """What an exit status says; empty if all is well."""
    if status >= 0:
        known = {
            0: "",
            EXITED: "It called exit",
            OUT_OF_MEMORY: f"It needed more than {limits.memory} MB of memory",
        }
        return known.get(status, f"Its process ended with the status {status}")
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = "an unknown signal"
    return f"Its process died of {name} ({signal.strsignal(-status)})"


def _place(folder: Path) -> str:
    """Where the notebook was, as its process noted."""
    try:
        with (folder / "at").open(encoding="utf-8", errors="replace") as stream:
            place = stream.read(100)
    except OSError:
        return "before the first cell"
    if re.fullmatch(r"code cell \d+", place):
        return f"in {place}"
    return f"when {place} was called" if place in EXERCISES else "nobody knows where"


def _received(folder: Path, token: str) -> Run:
    """What the process sent, if it is from the process and in the right form."""
    path = folder / "results.json"
    if not path.is_file():
        return Run(failure=f"Its process ended too early, {_place(folder)}.")
    if _size(path) > LARGEST_RESULTS:
        return Run(failure=f"Its functions returned more than {LARGEST_RESULTS // MEGABYTE} MB.")
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        genuine = results["token"] == token
        errors = [(int(number), str(text)[:300]) for number, text in results["errors"]]
        results = {"errors": errors, "observed": dict(results["observed"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        genuine = False
    return Run(results) if genuine else Run(failure="What its process sent back is not genuine.")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # deleted by the notebook
        return 0


# Judging it


def _verdict(submission: Submission, exercise: Exercise, run: Run, seed: int) -> tuple[str, str, tuple[str, ...], str]:
    """The exercise, its verdict, the mistakes and the message."""
    if run.results is None:
        return exercise.id, NOT_CHECKED, (), run.failure
    observed = run.results["observed"].get(exercise.id)
    verdict, mistakes, message = _judged(exercise, observed, seed)
    if observed is not None and exercise.id not in submission.intact:
        says = f'Its check cell, check("{exercise.id}", {exercise.id}), is missing or was changed.'
        message = f"{says} The {exercise.noun} itself: {verdict}.\n{message}"
        verdict = NOT_CHECKED
    return exercise.id, verdict, mistakes, "\n".join(filter(None, [message, _about(run.results["errors"])]))


def _judged(exercise: Exercise, observed: object, seed: int) -> tuple[str, tuple[str, ...], str]:
    """The verdict on what was observed of one function."""
    if observed is None:
        return "not attempted", (), f"No {exercise.noun} named {exercise.id} is defined."
    if isinstance(observed, str):
        return "incorrect", (), f"Calling the {exercise.noun} ended with {observed[:300]}"
    fresh = fresh_probe(exercise, seed)
    try:
        outcomes = unpack(observed, exercise)
    except (ValueError, OverflowError):
        return NOT_CHECKED, (), "What its process sent back does not have the right form."
    report = judge(exercise, fresh, outcomes, seed)
    return report.verdict, report.mistakes, report.message


def _about(errors: list[tuple[int, str]]) -> str:
    """The cells that raised errors, in one line."""
    shown = [f"code cell {number} raised {text}" for number, text in errors[:3]]
    more = [f"{len(errors) - 3} more cells raised errors"] if len(errors) > 3 else []
    return f"({'; '.join([*shown, *more])})" if errors else ""


def missing_protections() -> list[str]:
    """What this system cannot limit, a line each."""
    lines = []
    if sys.platform == "win32":
        lines.append("Windows: memory, processor time and file sizes are not limited,")
        lines.append("and processes that a notebook starts are not ended with it.")
    elif sys.platform != "linux":
        lines.append(f"{sys.platform}: the limit on memory may have no effect here.")
    return lines
