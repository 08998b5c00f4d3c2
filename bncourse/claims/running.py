"""Running the conditions of claims side by side, and going on after an interruption."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bncourse.claims.claim import Claim
from bncourse.claims.experiment import Setting, Trial

PACKAGE = Path(__file__).parents[1]
UNFINISHED = PACKAGE.parent / "_build" / "claims"


def run(
    claims: Sequence[Claim],
    setting: Setting,
    *,
    workers: int | None = None,
    folder: Path = UNFINISHED,
    progress: bool | None = None,
    last_seconds: dict[tuple[str, str], float] | None = None,
) -> dict[str, dict[str, Trial]]:
    """Run all conditions of the claims; return the trials by claim and condition.

    Each trial is kept in ``folder`` until all are there. After an interruption, the same call does what is left, if
    the package and the setting are still the same.

    Args:
        claims: what to run.
        setting: where, and on what.
        workers: processes, each on one core; if None, one per core, but on a GPU only this one.
        folder: where to keep trials.
        progress: whether to draw a bar; if None, when someone watches.
        last_seconds: how long each condition took, if known: the longest start first.
    """
    from joblib import Parallel, cpu_count, delayed

    from bncourse.training.fitting import with_bar

    folder = folder / fingerprint(setting)
    expected = last_seconds or {}
    tasks = [(claim.id, name) for claim in claims for name in claim.conditions]
    missing = [task for task in tasks if not _file(folder, task).exists()]
    missing.sort(key=lambda task: -expected.get(task, float("inf")))
    workers = workers or (1 if setting.device != "cpu" else cpu_count())
    calls = [delayed(_run_one)(task, setting, folder) for task in missing]
    done = Parallel(n_jobs=workers, return_as="generator_unordered")(calls)
    for _ in with_bar(done, len(calls), "condition", progress):
        pass
    trials = {claim.id: {name: _load(folder, (claim.id, name)) for name in claim.conditions} for claim in claims}
    for task in tasks:
        _file(folder, task).unlink()
    return trials


def _run_one(task: tuple[str, str], setting: Setting, folder: Path) -> None:
    """Run a condition on one core, and keep what it gave."""
    import torch

    from bncourse.claims import CLAIMS

    if setting.device == "cpu":
        torch.set_num_threads(1)
    start = time.perf_counter()
    trial = CLAIMS[task[0]].conditions[task[1]](setting)
    file = _file(folder, task)
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".part")
    unfinished.write_text(replace(trial, seconds=time.perf_counter() - start).to_json(), encoding="utf-8")
    unfinished.rename(file)  # whole, or not there


def _load(folder: Path, task: tuple[str, str]) -> Trial:
    return Trial.from_json(_file(folder, task).read_text(encoding="utf-8"))


def _file(folder: Path, task: tuple[str, str]) -> Path:
    name = hashlib.sha256(" ".join(task).encode()).hexdigest()[:16]
    return folder / f"{task[0]}-{name}.json"


def fingerprint(setting: Setting) -> str:
    """A name for the setting and the state of all the code that a trial may depend on."""
    digest = hashlib.sha256(repr(setting).encode())
    for file in sorted(PACKAGE.rglob("*.py")):
        digest.update(str(file.relative_to(PACKAGE)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
