"""The record of the claims lab: written by ``make claims``, drawn by the chapters."""

import datetime
import json
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from bncourse import provenance
from bncourse.claims.claim import Claim, Findings, Measurement, Verdict
from bncourse.claims.experiment import Setting, Trial
from bncourse.claims.statistics import Interval
from bncourse.provenance import RESULTS

PACKAGES = ("numpy", "scikit-learn", "scipy", "torch")


def path(setting: Setting | None = None, folder: Path | None = None) -> Path:
    """The record of a setting: larger runs have their own."""
    setting = setting or Setting()
    larger = "" if (setting.data, setting.device) == ("digits", "cpu") else f"-{setting.data}-{setting.device}"
    return (folder or RESULTS) / f"claims{larger}.json"


def entry(claim: Claim, trials: Mapping[str, Trial], setting: Setting, command: str) -> dict:
    """What the record says of a claim. The rule judges the numbers as they are recorded, which are rounded.

    Raises:
        ValueError: a measurement is infinite or NaN.
    """
    measurements = [_as_recorded(measurement) for measurement in claim.measure(trials)]
    return {
        **_words(claim),
        "seeds": list(setting.seeds or claim.seeds),
        "measurements": [_flat(measurement) for measurement in measurements],
        "conditions": {name: _without_values(trial) for name, trial in trials.items()},
        **_judged(claim, Findings(measurements)),
        "data": setting.data,
        "device": setting.device,
        "machine": provenance.machine(setting.device),
        "date": datetime.date.today().isoformat(),
        "versions": versions(),
        "command": command,
        "commit": provenance.commit(),
        "seconds": round(sum(trial.seconds for trial in trials.values()), 1),
    }


def judged_again(claim: Claim, file: Path) -> dict:
    """The recorded entry of a claim, with the claim's words and the rule's verdict as they are now."""
    recorded = load(claim.id, file)
    return {**recorded.fields, **_words(claim), **_judged(claim, recorded.findings)}


def _words(claim: Claim) -> dict:
    return {
        "id": claim.id,
        "number": claim.number,
        "claim": claim.claim,
        "source": list(claim.source),
        "hypothesis": claim.hypothesis,
        "metric": claim.metric,
    }


def _judged(claim: Claim, findings: Findings) -> dict:
    verdict = claim.judge(findings)
    return {"verdict": verdict.verdict, "because": verdict.because}


def save(entries: list[dict], file: Path) -> None:
    """Put the entries into the record, in the order of their numbers and instead of older ones of the same claims."""
    known = {e["id"]: e for e in _read(file)} | {e["id"]: e for e in entries}
    ordered = sorted(known.values(), key=lambda e: (e["number"], e["id"]))
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"claims": ordered}, indent=1, ensure_ascii=False, allow_nan=False)
    part = file.with_suffix(".part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(file)  # whole, or as it was


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

    def table(
        self, conditions: Mapping[str, str] | Sequence[str], quantities: Sequence[str], *, digits: int = 1
    ) -> str:
        """A table as text: a line per condition, a column per quantity, cells such as "97.2 (96.8 to 97.6)".

        Args:
            conditions: their names; or by name what to call them in the table.
            quantities: their names.
            digits: after the decimal point.

        Raises:
            LookupError: of a condition nothing was measured, or a quantity was measured nowhere.
        """
        self._check(conditions, {condition for condition, _ in self.findings})
        self._check(quantities, {quantity for _, quantity in self.findings})
        labels = conditions if isinstance(conditions, Mapping) else {name: name for name in conditions}
        rows = [
            [label, *(_cell(self.findings.get((name, quantity)), digits) for quantity in quantities)]
            for name, label in labels.items()
        ]
        return _table(["", *quantities], rows)

    def rates(self, conditions: Mapping[str, str] | Sequence[str] | None = None) -> str:
        """A table as text: the learning rate that each condition got on validation data, and out of which grid.

        It says of how many runs the loss became infinite or NaN, and whether the rate is the lowest or highest of the
        grid. Without names, of all conditions that chose one.
        """
        trials = self.fields["conditions"]
        chosen = [name for name, trial in trials.items() if trial["learning_rate"] is not None]
        self._check(conditions or [], set(chosen))
        labels = conditions if isinstance(conditions, Mapping) else {name: name for name in conditions or chosen}
        rows = [[label, *self._rate(trials[name])] for name, label in labels.items()]
        return _table(["", "learning rate", "grid", "diverged", "choice"], rows)

    def _rate(self, trial: dict) -> list[str]:
        runs = len(trial["grid"]) * len(self.fields["seeds"])
        grid = f"{min(trial['grid']):.3g} to {max(trial['grid']):.3g}"
        edge = "on the edge" if trial["on_edge"] else ""
        return [f"{trial['learning_rate']:.3g}", grid, f"{trial['diverged']} of {runs}", edge]

    @staticmethod
    def _check(names: Iterable[str], known: set[str]) -> None:
        if unknown := [name for name in names if name not in known]:
            raise LookupError(f"expected names out of {sorted(known)}; got {unknown}; see what the claim measures")


def _cell(interval: Interval | None, digits: int) -> str:
    return "" if interval is None else format(interval, f".{digits}f")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns no wider than their cells: long headers go on in a second line."""
    from tabulate import tabulate

    widths = [max(map(len, [*column, *title.split()])) for title, *column in zip(header, *rows, strict=True)]
    titles = [textwrap.fill(title, max(width, 1)) for title, width in zip(header, widths, strict=True)]
    return tabulate(rows, titles, tablefmt="simple", disable_numparse=True)


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


def _as_recorded(measurement: Measurement) -> Measurement:
    """With six significant digits."""
    numbers = (measurement.interval.estimate, measurement.interval.low, measurement.interval.high)
    if not all(map(math.isfinite, (*numbers, *measurement.values))):
        raise ValueError(
            f"expected finite numbers; got {measurement}; decide in the experiment what a run that has none counts as"
        )
    values = tuple(_rounded(value) for value in measurement.values)
    return replace(measurement, interval=Interval(*map(_rounded, numbers)), values=values)


def _flat(measurement: Measurement) -> dict:
    """As JSON has it."""
    interval = measurement.interval
    return {
        "condition": measurement.condition,
        "quantity": measurement.quantity,
        "estimate": interval.estimate,
        "interval": [interval.low, interval.high],
        "values": list(measurement.values),
    }


def _without_values(trial: Trial) -> dict:
    fields = asdict(trial)
    del fields["values"]  # they are with the measurements
    return {**fields, "seconds": round(trial.seconds, 1)}


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def versions() -> dict[str, str]:
    """Of all that the lab computes with."""
    return provenance.versions(PACKAGES)
