"""The record of the claims lab: written by ``make claims``, drawn by the chapters."""

import datetime
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from bncourse.claims.claim import Claim, Findings, Measurement, Verdict
from bncourse.claims.experiment import Setting, Trial
from bncourse.claims.statistics import Interval

RESULTS = Path(__file__).parents[2] / "book" / "results"
PACKAGES = ("numpy", "scikit-learn", "scipy", "torch")


def path(setting: Setting | None = None, folder: Path = RESULTS) -> Path:
    """The record of a setting: larger runs have their own."""
    setting = setting or Setting()
    larger = "" if (setting.data, setting.device) == ("digits", "cpu") else f"-{setting.data}-{setting.device}"
    return folder / f"claims{larger}.json"


def entry(claim: Claim, trials: Mapping[str, Trial], setting: Setting, command: str) -> dict:
    """What the record says of a claim."""
    measurements = claim.measure(trials)
    verdict = claim.judge(Findings(measurements))
    return {
        "id": claim.id,
        "number": claim.number,
        "claim": claim.claim,
        "source": list(claim.source),
        "hypothesis": claim.hypothesis,
        "metric": claim.metric,
        "seeds": list(setting.seeds or claim.seeds),
        "measurements": [_flat(measurement) for measurement in measurements],
        "conditions": {name: _without_values(trial) for name, trial in trials.items()},
        "verdict": verdict.verdict,
        "because": verdict.because,
        "data": setting.data,
        "device": setting.device,
        "date": datetime.date.today().isoformat(),
        "versions": versions(),
        "command": command,
        "commit": commit(),
        "seconds": round(sum(trial.seconds for trial in trials.values()), 1),
    }


def save(entries: list[dict], file: Path) -> None:
    """Put the entries into the record, in the order of their numbers and instead of older ones of the same claims."""
    known = {e["id"]: e for e in _read(file)} | {e["id"]: e for e in entries}
    ordered = sorted(known.values(), key=lambda e: (e["number"], e["id"]))
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"claims": ordered}, indent=1, ensure_ascii=False, allow_nan=False)
    file.write_text(text + "\n", encoding="utf-8")


def _read(file: Path) -> list[dict]:
    return json.loads(file.read_text(encoding="utf-8"))["claims"] if file.exists() else []


def seconds(file: Path) -> dict[tuple[str, str], float]:
    """How long each condition took, by claim and condition."""
    return {(e["id"], name): trial["seconds"] for e in _read(file) for name, trial in e["conditions"].items()}


class Entry:
    """A claim's entry in the record, for chapters to draw."""

    def __init__(self, fields: dict) -> None:
        self.fields = fields
        self.measurements = [
            Measurement(m["condition"], m["quantity"], Interval(m["estimate"], *m["interval"]), tuple(m["values"]))
            for m in fields["measurements"]
        ]
        self.findings = Findings(self.measurements)
        self.verdict = Verdict(fields["verdict"], fields["because"])

    def __getitem__(self, name: str) -> object:
        return self.fields[name]


def load(id: str, file: Path | None = None) -> Entry:
    """The recorded entry of a claim.

    Raises:
        LookupError: there is none.
    """
    file = file or path()
    for fields in _read(file):
        if fields["id"] == id:
            return Entry(fields)
    raise LookupError(f"expected the claim {id!r} in {file.name}; got none; run python -m bncourse.claims {id}")


def _flat(measurement: Measurement) -> dict:
    fields = asdict(measurement)
    interval = fields.pop("interval")
    values = [_rounded(value) for value in fields.pop("values")]
    ends = [_rounded(interval["low"]), _rounded(interval["high"])]
    return {**fields, "estimate": _rounded(interval["estimate"]), "interval": ends, "values": values}


def _without_values(trial: Trial) -> dict:
    fields = asdict(trial)
    del fields["values"]  # they are with the measurements
    return {**fields, "seconds": round(trial.seconds, 1)}


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def versions() -> dict[str, str]:
    """Of Python and the packages that compute."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def commit() -> str:
    """The commit that the code is of; with a plus if the package has changed since; or "unknown"."""
    here = Path(__file__).parents[1]

    def git(*args: str) -> str:
        return subprocess.run(["git", "-C", here, *args], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
