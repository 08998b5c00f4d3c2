"""The running variance of a layer whose batch is spread over many processes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import numpy as np

from ..chapter_02 import Words, chosen, close, own, told
from ..exercise import Exercise, Form, Inputs, Mistake, Probe, Property, step
from .many import LOOP, SHAPE_MISTAKES, fresh_partials, many_probes, two_empty
from .merging import CHAPTER, MERGE_MISTAKES, Merge, there


class RunningVar(Merge):
    """running_var ← (1 − momentum) · running_var + momentum · M2 / (n − 1), all of the whole batch."""

    outputs = ("new_running_var",)

    @step
    def divisor(s):
        """PyTorch remembers the unbiased variance."""
        return s.total - 1

    @step
    def batch_var(s):
        return s.combined / s.divisor

    @step
    def share(s):
        """The weight of the batch."""
        return s.momentum

    @step
    def kept(s):
        """The weight of what was remembered."""
        return 1 - s.share

    @step
    def next_var(s):
        return s.kept * s.running_var + s.share * s.batch_var

    @step
    def new_running_var(s):
        return s.next_var


# Mistakes


def _average(variances: Callable, weights: Callable) -> Form:
    """The variances of the processes, averaged; where a weight is 0, no variance counts."""

    def average(s: Merge) -> np.ndarray:
        counted = weights(s)
        known = np.where(counted > 0, variances(s), 0.0)
        return (counted * known).sum(0) / counted.sum()

    return {"batch_var": average}


def _average_of_all(variances: Callable, weights: Callable = lambda s: np.ones_like(s.sizes)) -> Form:
    """The same, with what 0 / 0 gives for a process that has no variance."""
    return {"batch_var": lambda s: (weights(s) * variances(s)).sum(0) / weights(s).sum()}


def _biased(s: Merge) -> np.ndarray:
    return s.squares / s.sizes


def _unbiased(s: Merge) -> np.ndarray:
    return s.squares / (s.sizes - 1)


def _several(s: Merge) -> np.ndarray:
    """1 for the processes with two values or more, else 0."""
    return np.where(s.sizes > 1, 1.0, 0.0)


def _as_if_equal(variances: Callable, ddof: int = 0) -> Form:
    """The mean of the variances plus the variance of the means."""
    return {"batch_var": lambda s: variances(s).mean(0) + s.centers.var(0) * _bessel(len(s.sizes), ddof)}


def _as_if_equal_without_empty(bessel: Callable) -> Form:
    """The same of the biased variances of the processes that have values, with a correction at the end."""

    def var(s: Merge) -> np.ndarray:
        full = s.counts > 0
        return (_biased(s)[full].mean(0) + s.centers[full].var(0)) * bessel(s)

    return {"batch_var": var}


def _as_if_equal_with_zeros(bessel: Callable) -> Form:
    """The same with a variance of 0 for a process without values."""
    return {"batch_var": lambda s: ((s.squares / np.maximum(s.sizes, 1)).mean(0) + s.centers.var(0)) * bessel(s)}


def _bessel(count: int, ddof: int) -> np.ndarray:
    """What makes a variance of so many values unbiased if ``ddof`` is 1."""
    return np.float64(count) / (count - ddof)


def _one_by_one(s: RunningVar, variances: Iterable[np.ndarray]) -> np.ndarray:
    """A step of the running variance with each of these."""
    new = s.running_var
    for variance in variances:
        new = s.kept * new + s.share * variance
    return new


def _corrected(count: Callable) -> Form:
    """The biased variance of the whole batch, corrected with another count than that of all values."""
    return {"divisor": lambda s: s.sizes.sum() * (count(s) - 1) / count(s)}


def _refuse_small(smallest: int) -> Form:
    """An error if a process has fewer values."""

    def refuse(s: RunningVar) -> np.ndarray:
        if s.sizes.min() < smallest:
            raise ValueError
        return RunningVar.next_var.compute(s)

    return {"next_var": refuse}


def _skip_small(smallest: int) -> Form:
    """No update if a process has fewer values."""
    return {"next_var": lambda s: s.running_var if s.sizes.min() < smallest else RunningVar.next_var.compute(s)}


def _leave_out_single(if_none_is_left: Callable) -> Form:
    """Processes with a single value are left out of the merge."""

    def next_var(s: RunningVar) -> np.ndarray:
        return RunningVar.next_var.compute(s) if (s.counts > 1).any() else if_none_is_left(s)

    return {"parts": lambda s: s.counts > 1, "next_var": next_var}


def _no_variance(s: RunningVar) -> np.ndarray:
    """NaN where a process has fewer than two values."""
    return s.combined / s.divisor + (np.nan if (s.sizes < 2).any() else 0.0)


VARIANCE_MISTAKES = (
    Mistake(
        "S01",
        "You averaged the variances of the processes. How far their means lie apart is missing.",
        "One process has 0, 0, the other 4, 4. What is the variance of the four numbers, and what is that of each process?",
        {"between": lambda s: 0.0},
        {"combined": lambda s: s.squares.sum(0), "divisor": lambda s: s.sizes.sum()},
        _average_of_all(_biased),
        _average_of_all(_biased, lambda s: s.sizes),
        _average(_biased, there),
        _average(_biased, lambda s: s.sizes),
        {"batch_var": lambda s: np.where(s.sizes > 0, s.squares / np.maximum(s.sizes, 1), 0.0).mean(0)},
    ),
    Mistake(
        "S19",
        "You corrected the variance of each process and averaged them. How far the means lie apart is missing, and "
        "the correction is that of small batches.",
        "One process has 0, 0, the other 4, 4. How many values has the batch, and what is their variance?",
        _average_of_all(_unbiased),
        _average_of_all(_unbiased, lambda s: s.sizes),
        _average(_unbiased, _several),
        _average(_unbiased, lambda s: s.sizes * _several(s)),
        {"batch_var": lambda s: s.squares.sum(0) / np.maximum(s.sizes - 1, 0).sum()},
        {"batch_var": lambda s: s.squares.sum(0) / (s.sizes - 1).sum()},
        {"batch_var": lambda s: np.where(s.sizes > 1, s.squares / np.maximum(s.sizes - 1, 1), 0.0).mean(0)},
        {
            "batch_var": lambda s: (
                (s.sizes * np.where(s.sizes > 1, s.squares / np.maximum(s.sizes - 1, 1), 0.0)).sum(0) / s.sizes.sum()
            )
        },
    ),
    Mistake(
        "S02",
        "You took the mean of the variances plus the variance of the means, as if all processes had equally many values.",
        "One process has 0, 0, 0, the other a single 4. What is the variance of the four, and what is yours?",
        _as_if_equal(_biased),
        _as_if_equal(_unbiased),
        _as_if_equal(_biased, 1),
        _as_if_equal(_unbiased, 1),
        *map(_as_if_equal_without_empty, (lambda s: 1.0, lambda s: _bessel(s.total, 1))),
        *map(_as_if_equal_with_zeros, (lambda s: 1.0, lambda s: _bessel(s.total, 1))),
    ),
    Mistake(
        "S39",
        "You updated the running variance once for each process. All processes together have one batch, and that is one step.",
        "How much of the old running variance is left after one step with 8 processes, and how much should be?",
        {"next_var": lambda s: _one_by_one(s, _unbiased(s))},
        {"next_var": lambda s: _one_by_one(s, _biased(s))},
        {"next_var": lambda s: _one_by_one(s, [s.batch_var] * len(s.sizes))},
        {"next_var": lambda s: _one_by_one(s, _unbiased(s)[s.sizes[:, 0] > 1])},
        {"next_var": lambda s: _one_by_one(s, _biased(s)[s.sizes[:, 0] > 0])},
    ),
    Mistake(
        "S20",
        "Bessel's correction has the count of one process.",
        "8 processes have 4 values each. By how much does n / (n − 1) enlarge the variance of the whole batch?",
        _corrected(lambda s: s.sizes[0, 0]),
        _corrected(lambda s: s.sizes[-1, 0]),
        _corrected(lambda s: s.sizes.max()),
        _corrected(lambda s: s.sizes.min()),
        {"divisor": lambda s: s.sizes[0, 0] - 1},
        {"divisor": lambda s: s.sizes[-1, 0] - 1},
        {"divisor": lambda s: s.sizes.max() - 1},
        {"within": lambda s: (s.sizes * _unbiased(s)).sum(0), "divisor": lambda s: s.sizes.sum()},
        {
            "within": lambda s: (s.sizes * np.where(s.sizes > 1, s.squares / np.maximum(s.sizes - 1, 1), 0.0)).sum(0),
            "divisor": lambda s: s.sizes.sum(),
        },
    ),
    Mistake(
        "S21",
        "You divided by n − k: 1 less for each process. (It is the same to correct with the average count, n / k.) The 1 is "
        "taken off for a mean that was estimated from the data and then subtracted.",
        "From how many means do the distances in M2 of the whole batch count?",
        {"divisor": lambda s: s.sizes.sum() - len(s.sizes)},
        {"divisor": lambda s: s.sizes.sum() - there(s).sum()},
    ),
    Mistake(
        "S22",
        "Bessel's correction is the wrong way round, or was made twice, or for one half of M2 only.",
        "The batch is 1, 3. What is the biased variance, what is the unbiased one, and what is yours?",
        {"divisor": lambda s: s.sizes.sum() + 1},
        {"divisor": lambda s: s.sizes.sum() ** 2 / (s.sizes.sum() - 1)},
        {"divisor": lambda s: (s.sizes.sum() - 1) ** 2 / s.sizes.sum()},
        {"divisor": lambda s: s.sizes.sum() - 2},
        {"within": lambda s: s.squares.sum(0) * (s.total - 1) / s.total},
        {"between": lambda s: Merge.between.compute(s) * (s.total - 1) / s.total},
    ),
    Mistake(
        "R02",
        "You remembered the biased variance. PyTorch stores the unbiased one: the batch stands for a population here.",
        "By what does PyTorch divide the sum of squares for running_var?",
        {"divisor": lambda s: s.sizes.sum()},
    ),
    Mistake(
        "K03",
        "You divided by the number of processes. The variance is over values.",
        "Three processes have 5, 5 and 2 values. By which number is the sum of all squared distances divided?",
        {"divisor": lambda s: len(s.sizes)},
        {"divisor": lambda s: len(s.sizes) - 1},
        {"divisor": lambda s: there(s).sum()},
        {"divisor": lambda s: there(s).sum() - 1},
    ),
    Mistake(
        "F37",
        "You took M2 for a variance: it is a sum of squared distances, not yet divided.",
        "What is M2 of 1 and 3, and what is their variance?",
        {"divisor": lambda s: 1.0},
    ),
    Mistake(
        "S08",
        "You refuse a process with few values, or leave it out. What counts is how many values the whole batch has.",
        "Six processes have one value each. Has the batch a variance?",
        _refuse_small(2),
        _refuse_small(1),
        _skip_small(2),
        _skip_small(1),
        _leave_out_single(lambda s: s.kept * s.running_var),
        _leave_out_single(lambda s: s.running_var),
        _leave_out_single(lambda s: np.nan * s.running_var),
    ),
    Mistake(
        "K34",
        "0 stands below a fraction bar: a count of 0, or of 1 less 1. 0 / 0 is NaN, and a NaN spoils every sum that it "
        "enters.",
        "If a process has no value, or a single one: which of your divisions has a 0 below the bar?",
        {"batch_var": _no_variance},
        {"batch_var": lambda s: s.combined / s.divisor + (np.nan if (s.sizes == 0).any() else 0.0)},
        {"batch_var": lambda s: s.combined / s.divisor + (np.nan if s.counts[0] == 0 else 0.0)},
        {"batch_var": lambda s: s.combined / s.divisor + (np.nan if two_empty(s) else 0.0)},
    ),
)

MOMENTUM_MISTAKES = (
    Mistake(
        "R01",
        "Your momentum weighs the old value. In PyTorch it is the weight of the new one.",
        "With momentum 0.1, how much of the batch should arrive in the running variance?",
        {"share": lambda s: 1 - s.momentum},
    ),
    Mistake(
        "R05",
        "You stored a standard deviation; running_var holds a variance.",
        "In evaluation the root is taken of running_var + ε. What would it be taken of with your value?",
        {"batch_var": lambda s: np.sqrt(s.combined / s.divisor)},
        {"new_running_var": lambda s: np.sqrt(s.next_var)},
    ),
    Mistake(
        "R07",
        "The running variance was never updated: it came back as it went in.",
        "Which of your lines uses the batch?",
        {"next_var": lambda s: s.running_var},
    ),
    Mistake(
        "R11",
        "The old running variance has no part in your result. The new one averages the old one and that of the batch.",
        "What is left of all earlier batches?",
        {"next_var": lambda s: s.batch_var},
        {"kept": lambda s: 0.0},
    ),
    Mistake(
        "R27",
        "You used a fixed momentum and ignored the argument.",
        "What changes in your function when the caller passes momentum=0.9?",
        {"share": lambda s: 0.1},
        {"share": lambda s: 0.9},
        {"share": lambda s: 0.5},
    ),
    Mistake(
        "R29",
        "The weights of the old and of the new value must add up to 1: one of the two did not shrink.",
        "What happens to your average if every batch has the variance 1?",
        {"kept": lambda s: 1.0},
        {"next_var": lambda s: s.kept * s.running_var + s.batch_var},
        {"next_var": lambda s: s.running_var + s.batch_var},
    ),
    Mistake(
        "R30",
        "You corrected the whole running variance by n/(n−1). Only the batch's variance is to be corrected.",
        "After ten steps, how often was the variance of the first batch corrected?",
        {
            "divisor": lambda s: s.sizes.sum(),
            "new_running_var": lambda s: s.next_var * s.sizes.sum() / (s.sizes.sum() - 1),
        },
    ),
    Mistake(
        "R34",
        "The running variance moves away from that of the batch: the step has the wrong sign.",
        "If the batch's variance is larger than the running one, should that grow or shrink?",
        {"next_var": lambda s: s.running_var - s.share * (s.batch_var - s.running_var)},
    ),
)

MERGED = {
    "K05": Words(
        "In the merge you took M2 for a variance. M2 is the sum of the squared distances: the counts are in it already."
    ),
}
RUNNING_MISTAKES = (
    *VARIANCE_MISTAKES,
    *told(chosen(MERGE_MISTAKES, "K05", "H52", "N20", "F06", "H58", "F19"), MERGED),
    own(
        MERGE_MISTAKES,
        "S13",
        {"distance": lambda s: s.centers - s.centers[0]},
    ),
    Mistake(
        "K06",
        "In the variance you measured how far the means are from a mean that counts all processes equally.",
        "One process has 0, 0, 0, the other a single 4. From which number are the distances of all four measured?",
        {"weights": lambda s: np.ones_like(s.sizes)},
        {"weights": there},
    ),
    LOOP,
    *(Mistake(m.id, m.says, m.asks, *(form for form in m.forms if "mean" not in form)) for m in SHAPE_MISTAKES),
    *MOMENTUM_MISTAKES,
)


# Probes


def _with_running(rng: np.random.Generator, parts: Inputs, momentum: float) -> dict[str, object]:
    """The inputs of the function, with a running variance that is not that of the batch."""
    means = parts["means"]
    running_var = rng.uniform(2, 9, means.shape[1]).astype(means.dtype)
    return {"running_var": running_var, **parts, "momentum": momentum}


def _of_processes(reason: str) -> str:
    """The same reason with the word process for each part."""
    return re.sub(r"\bpart\b", "process", re.sub(r"\bparts\b", "processes", reason))


def _probes(seed: int) -> tuple[Probe, ...]:
    rng = np.random.default_rng(seed)
    momenta = (0.3, 0.9, 0.25, 0.7, 0.35, 0.4, 0.1, 0.8, 0.3)
    return tuple(
        Probe(
            probe.name,
            f"{_of_processes(probe.reason[:-1])}; momentum {momentum}.",
            _with_running(rng, probe.inputs, momentum),
            rtol=probe.rtol,
            floor=probe.floor,
        )
        for probe, momentum in zip(many_probes(seed), momenta, strict=True)
    )


RUNNING = Exercise(
    id="update_running_var",
    chapter=CHAPTER,
    signature="(running_var, counts, means, m2s, momentum) -> new_running_var of shape (C,), means and m2s of shape (k, C)",
    operation=RunningVar,
    probes=_probes(102),
    fresh=lambda rng: _with_running(rng, fresh_partials(rng), float(rng.uniform(0.05, 0.45))),
    mistakes=RUNNING_MISTAKES,
    properties=(
        Property(
            "the running variance keeps its shape, one value per feature.",
            lambda o, i: all(o[n]["new_running_var"].shape == i[n]["running_var"].shape for n in i),
        ),
        Property("no result is NaN.", lambda o, i: all(np.isfinite(o[n]["new_running_var"]).all() for n in i)),
        Property(
            "a single process updates as a layer on one device does.",
            lambda o, i: close(o["single"]["new_running_var"], _alone(i["single"])),
        ),
        Property(
            "processes with one value each update as one process with all values does.",
            lambda o, i: close(o["ones"]["new_running_var"], _of_values(i["ones"])),
        ),
    ),
    hints=(
        "First the variance of the whole batch, from one merge. Then one step of the running average, as in chapter 4.",
        "PyTorch remembers the unbiased variance. How many values have shared one mean?",
        "new = (1 − momentum) · old + momentum · variance. The variance is M2 of the whole batch, divided once.",
    ),
    changing={"running_var": "R25", **dict.fromkeys(("counts", "means", "m2s"), "F24")},
    channels=-1,
)


def _alone(inputs: Inputs) -> np.ndarray:
    """The step of a single process."""
    return _stepped(inputs, inputs["m2s"][0] / (inputs["counts"][0] - 1))


def _of_values(inputs: Inputs) -> np.ndarray:
    """The step where each process has one value."""
    return _stepped(inputs, inputs["means"].var(0, ddof=1))


def _stepped(inputs: Inputs, var: np.ndarray) -> np.ndarray:
    return inputs["running_var"] + inputs["momentum"] * (var - inputs["running_var"])
