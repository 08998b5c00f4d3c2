"""Running the conditions of claims side by side, and going on after an interruption."""

import hashlib
import json
import math
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch

from bncourse.claims import record
from bncourse.claims.claim import Claim
from bncourse.claims.experiment import Setting, Trial
from bncourse.watching import with_bar

PACKAGE = Path(__file__).parents[1]
UNFINISHED = PACKAGE.parent / "_build" / "claims"
DAY = 24 * 3600.0  # in seconds

Task = tuple[str, str]  # claim and condition


class Failed(RuntimeError):
    """Some conditions gave no trial. All others are finished, and kept."""


def _code() -> str:
    """A name for the code that a trial may depend on: the whole package, and the versions of what it computes with."""
    digest = hashlib.sha256(json.dumps(record.versions()).encode())
    for file in sorted(PACKAGE.rglob("*.py")):
        digest.update(str(file.relative_to(PACKAGE)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


CODE = _code()  # as this process imported it


def run(
    claims: Sequence[Claim],
    setting: Setting,
    *,
    workers: int | None = None,
    folder: Path | None = None,
    progress: bool | None = None,
    last_seconds: Mapping[Task, float] | None = None,
) -> Iterator[tuple[Claim, dict[str, Trial]]]:
    """Run all conditions of the claims; yield each claim with its trials as soon as it is complete.

    Every trial is kept on disk until the claims are all complete. After an interruption, the same call does what is
    left, if the setting, the package and what it computes with are still the same.

    Args:
        claims: what to run.
        setting: where, and on what.
        workers: processes, each on one core; if None, one per core, but one alone, this one, for a GPU.
        folder: where to keep trials.
        progress: whether to draw a bar; if None, when someone watches.
        last_seconds: how long each condition took, if known: of a claim, the longest start first.

    Raises:
        Failed: conditions raised; all others are finished. Or a worker process was killed.
    """
    kept = (folder or UNFINISHED) / hashlib.sha256(f"{CODE} {setting}".encode()).hexdigest()[:16]
    _remove_old(kept.parent)
    tasks = _in_order(claims, last_seconds or {})
    trials = {task: trial for task in tasks if (trial := _load(_file(kept, task)))}
    if trials:
        print(f"Going on: {len(trials)} of {len(tasks)} conditions are finished.", file=sys.stderr)
    missing = {task: condition for task, condition in tasks.items() if task not in trials}
    failures, waiting = [], list(claims)
    yield from _complete(waiting, trials)
    with closing(_outcomes(missing, setting, workers, progress)) as outcomes:
        for task, outcome in outcomes:
            if isinstance(outcome, Trial):
                _keep(outcome, _file(kept, task))
                trials[task] = outcome
                yield from _complete(waiting, trials)
            else:
                failures.append(f"{task[0]}, {task[1]}:\n{outcome}")
    if failures:
        raise Failed("\n".join(failures))
    for task in tasks:
        _file(kept, task).unlink(missing_ok=True)
    with suppress(OSError):  # another call keeps trials there, too
        kept.rmdir()


def _in_order(claims: Sequence[Claim], last_seconds: Mapping[Task, float]) -> dict[Task, Callable[[Setting], Trial]]:
    """All conditions, claim by claim; of each claim first those of which nothing is known, then the longest."""
    tasks = {}
    for claim in claims:
        own = {(claim.id, name): condition for name, condition in claim.conditions.items()}
        tasks |= dict(sorted(own.items(), key=lambda item: -last_seconds.get(item[0], math.inf)))
    return tasks


def _complete(waiting: list[Claim], trials: Mapping[Task, Trial]) -> Iterator[tuple[Claim, dict[str, Trial]]]:
    """Those of the waiting claims whose trials are all there; they wait no more."""
    for claim in list(waiting):
        if all((claim.id, name) in trials for name in claim.conditions):
            waiting.remove(claim)
            yield claim, {name: trials[claim.id, name] for name in claim.conditions}


# The workers


def _outcomes(
    tasks: Mapping[Task, Callable[[Setting], Trial]], setting: Setting, workers: int | None, progress: bool | None
) -> Iterator[tuple[Task, Trial | str]]:
    """The trial, or what went wrong, of each task, in the order in which they end."""
    from joblib import Parallel, delayed

    workers = workers or (-1 if setting.device == "cpu" else 1)
    calls = [delayed(_outcome)(task, condition, setting, CODE) for task, condition in tasks.items()]
    # Workers ignore Ctrl-C, which a terminal sends to them, too: this process ends them.
    ignoring = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
    done = Parallel(n_jobs=workers, batch_size=1, return_as="generator_unordered", **ignoring)(calls)
    try:
        for outcome in with_bar(done, len(calls), "condition", progress):  # noqa: UP028 - done is closed below
            yield outcome
    except BrokenProcessPool as error:
        raise Failed(
            "A worker process was killed, perhaps for want of memory. What is finished is kept: give the same command "
            "again, or with fewer workers."
        ) from error
    finally:
        with warnings.catch_warnings(action="ignore"):  # that tasks are cancelled, if the caller stops early
            done.close()


def _outcome(
    task: Task, condition: Callable[[Setting], Trial], setting: Setting, code: str
) -> tuple[Task, Trial | str]:
    """Run a condition, in whatever process this is."""
    if code != CODE:
        return task, "The package has changed since the run began: give the same command again."
    clock = time.process_time if setting.device == "cpu" else time.perf_counter  # not what others do on this core
    start = clock()
    try:
        with one_thread():
            trial = condition(setting)
        # As it will be read again: a trial that cannot be kept fails here, and a resumed one is the same as a new one.
        return task, Trial.from_json(replace(trial, seconds=clock() - start).to_json())
    except Exception:  # noqa: BLE001 - reported when the others are finished
        return task, traceback.format_exc()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute on one core: with more, sums are rounded in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# What is kept until all is finished


def _file(kept: Path, task: Task) -> Path:
    return kept / f"{hashlib.sha256(json.dumps(task).encode()).hexdigest()[:16]}.json"


def _keep(trial: Trial, file: Path) -> None:
    """Write the file, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(trial.to_json(), encoding="utf-8")
    part.replace(file)


def _load(file: Path) -> Trial | None:
    """The trial that is kept there, if it is one."""
    try:
        return Trial.from_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return None


def _remove_old(folder: Path) -> None:
    """Remove what other settings, or other states of the package, left unfinished more than a day ago."""
    for kept in folder.glob("*/"):
        if time.time() - kept.stat().st_mtime > DAY:
            shutil.rmtree(kept, ignore_errors=True)
