"""What a claim consists of: its words, its experiment, and the rule that turns numbers into a verdict."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bncourse.claims import statistics
from bncourse.claims.experiment import Setting, Trial
from bncourse.claims.statistics import Interval

SUPPORTED, QUALIFIED = "supported", "qualified"
NOT_SUPPORTED, NOT_TESTABLE = "not supported", "not testable here"
VERDICTS = (SUPPORTED, QUALIFIED, NOT_SUPPORTED, NOT_TESTABLE)


@dataclass(frozen=True)
class Measurement:
    """A number with its 95 % interval."""

    condition: str  # of the experiment, or a comparison of two, such as "batch norm − none"
    quantity: str  # what was measured, with its unit
    interval: Interval
    values: tuple[float, ...] = ()  # one per seed, which the interval is made of

    @classmethod
    def mean(cls, condition: str, quantity: str, values: Sequence[float]) -> "Measurement":
        """The mean of values, one per seed."""
        return cls(condition, quantity, statistics.mean(values), tuple(map(float, values)))

    @classmethod
    def difference(
        cls, condition: str, quantity: str, values: Sequence[float], baseline: Sequence[float]
    ) -> "Measurement":
        """The mean of ``values`` − ``baseline``, seed by seed."""
        by_seed = tuple(float(a - b) for a, b in zip(values, baseline, strict=True))
        return cls(condition, quantity, statistics.difference(values, baseline), by_seed)


def means(trials: Mapping[str, Trial]) -> list[Measurement]:
    """The mean of every quantity in every condition."""
    return [
        Measurement.mean(condition, quantity, values)
        for condition, trial in trials.items()
        for quantity, values in trial.values.items()
    ]


@dataclass(frozen=True)
class Verdict:
    """What the rule says of the measurements, and why."""

    verdict: str  # one of VERDICTS
    because: str  # one sentence or two, with the numbers that decided

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"expected a verdict out of {VERDICTS}; got {self.verdict!r}; choose one of them")


class Findings(Mapping[tuple[str, str], Interval]):
    """Measurements by condition and quantity: ``findings["batch norm", "test accuracy (%)"].low``."""

    def __init__(self, measurements: Sequence[Measurement]) -> None:
        self._intervals = {(m.condition, m.quantity): m.interval for m in measurements}

    def __getitem__(self, key: tuple[str, str]) -> Interval:
        return self._intervals[key]

    def __iter__(self):
        return iter(self._intervals)

    def __len__(self) -> int:
        return len(self._intervals)


@dataclass(frozen=True)
class Claim:
    """A claim on trial.

    ``measure`` may look at nothing but the trials, and ``judge`` at nothing but the measurements: so the rule can be
    tested on numbers that are made up, and was written down before there were others.
    """

    id: str  # the name of its module
    number: int  # in the list of chapter 1
    claim: str  # in plain words
    source: tuple[str, ...]  # where it, and what contradicts it, is published: keys of references.bib
    hypothesis: str  # what should be seen if the claim is true
    metric: str  # what is measured, and what counts as what
    seeds: tuple[int, ...]
    conditions: Mapping[str, Callable[[Setting], Trial]]
    measure: Callable[[Mapping[str, Trial]], list[Measurement]]
    judge: Callable[[Findings], Verdict]
    slice: tuple[str, ...] = field(default=())  # conditions quick enough for a test to run them again
