"""Losses of processes with unequal batches, scaled so that averaged gradients are those of the whole batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..chapter_02 import close
from ..exercise import Exercise, Inputs, Mistake, Operation, Outputs, Probe, Property, step
from ..observe import Unusable
from ..torch_answers import build
from .merging import CHAPTER


class Scaling(Operation):
    """loss · world size · n_local / n_total, and 0 where a process has no sample; losses and counts (k,)."""

    outputs = ("scaled",)

    @step
    def known(s):
        """The losses, with 0 for a process without samples."""
        return np.where(s.counts > 0, s.losses, 0.0)

    @step
    def world_size(s):
        return len(s.counts)

    @step
    def total(s):
        return s.counts.sum()

    @step
    def share(s):
        """The share of a process in the samples."""
        return s.counts / s.total

    @step
    def factor(s):
        return s.world_size * s.share

    @step
    def products(s):
        return s.known * s.factor

    @step
    def scaled(s):
        return s.products


def _used(s: Scaling) -> int:
    """How many processes have samples."""
    return int((s.counts > 0).sum())


LOSS_MISTAKES = (
    Mistake(
        "P06",
        "The loss of a process without samples is NaN, and so is your result for it. No factor turns a NaN into a number.",
        "What is 0 · NaN?",
        {"known": lambda s: s.losses},
    ),
    Mistake(
        "S02",
        "The losses are as they came, and their plain average counts every process alike, however many samples it has.",
        "One process has a single sample with loss 4, the other three samples with loss 0. What is the mean of the four, and "
        "what is the plain average of your two losses?",
        {"factor": lambda s: 1.0},
    ),
    Mistake(
        "S23",
        "You forgot that DDP divides by the number of processes when it averages, or you divided as well.",
        "Two processes have equally many samples. By which factor do their losses have to change?",
        {"world_size": lambda s: 1},
        {"world_size": lambda s: 1 / len(s.counts)},
        {"factor": lambda s: 1 / len(s.counts)},
    ),
    Mistake(
        "S24",
        "Your factor is the wrong way round: the fewer samples a process has, the larger it becomes.",
        "Of two processes one has 1 sample, the other 3. Which of the two losses should count more?",
        {"factor": lambda s: np.where(s.counts > 0, s.total / (s.world_size * np.maximum(s.counts, 1)), 0.0)},
        {"factor": lambda s: np.where(s.counts > 0, s.total / np.maximum(s.counts, 1), 0.0)},
        {"factor": lambda s: np.where(s.counts > 0, s.world_size * s.total / np.maximum(s.counts, 1), 0.0)},
        {"share": lambda s: 1 - s.counts / s.total},
        {"share": lambda s: 1 / np.maximum(s.counts, 1)},
        {"factor": lambda s: s.total / (s.world_size * s.counts)},
        {"factor": lambda s: s.total / s.counts},
        {"factor": lambda s: s.world_size / (np.maximum(s.counts, 1) * s.total)},
    ),
    Mistake(
        "S25",
        "As number of processes you took those that have samples. DDP averages over all, also over those that have none.",
        "Of four processes one has no sample. By which number does DDP divide the sum of the gradients?",
        {"world_size": _used},
    ),
    Mistake(
        "S26",
        "You multiplied by the counts, or by the number of processes, and did not divide by the number of all samples.",
        "Two processes have 5 samples each, all with loss 1. What should each of the two losses be?",
        {"share": lambda s: s.counts},
        {"factor": lambda s: s.counts},
        {"factor": lambda s: s.world_size},
        {"factor": lambda s: s.counts / s.world_size},
    ),
    Mistake(
        "S27",
        "You returned one number for all. Each process needs its own: it calls backward on its own loss.",
        "How many processes are there, and how many numbers in your result?",
        {"scaled": lambda s: s.products.sum()},
        {"scaled": lambda s: s.products.mean()},
        {"scaled": lambda s: np.full(len(s.counts), s.products.mean())},
        {"scaled": lambda s: np.full(len(s.counts), s.products.sum())},
        {"scaled": lambda s: np.nansum(s.losses) / _used(s)},
    ),
    Mistake(
        "S28",
        "You compared the counts with another one: the largest, the smallest, or that of the first process.",
        "If you scale all factors so that their plain average over the processes is 1: what is the factor of each?",
        {"share": lambda s: s.counts / s.counts.max()},
        {"share": lambda s: s.counts / s.counts[0]},
        {"factor": lambda s: s.counts / s.counts.max()},
        {"factor": lambda s: s.counts / s.counts[0]},
        {"factor": lambda s: s.counts / s.counts.min()},
        {"factor": lambda s: s.counts / s.counts[s.counts > 0].min()},
    ),
    Mistake(
        "P11",
        "Your result leaves out the processes without samples. They take part as well, with a loss of their own.",
        "How many losses came in, and how many go out?",
        {"scaled": lambda s: s.products[s.counts > 0]},
    ),
    Mistake(
        "S29",
        "The loss of a process without samples should be 0 in your result: nothing of it may reach the gradient.",
        "What does a process without samples add to the sum over all samples?",
        {"scaled": lambda s: np.where(s.counts > 0, s.products, 1.0)},
        {"scaled": lambda s: np.where(s.counts > 0, s.products, np.nansum(s.losses) / _used(s))},
    ),
    Mistake(
        "S56",
        "You returned the factors. Each process's loss has to be multiplied by its own.",
        "What happens to your result if all losses are doubled?",
        {"products": lambda s: s.factor},
        {"products": lambda s: s.share},
    ),
    Mistake(
        "S57",
        "You divided with //, which drops all that is behind the decimal point.",
        "What are 9 // 8 and 9 / 8?",
        {"factor": lambda s: s.world_size * s.counts // s.total},
        {"share": lambda s: s.counts // s.total},
        {"factor": lambda s: s.counts / (s.total // s.world_size)},
        {"factor": lambda s: s.counts // (s.total / s.world_size)},
        {"factor": lambda s: s.counts // (s.total // s.world_size)},
        {"products": lambda s: s.known * s.world_size * s.counts // s.total},
    ),
)


def _inputs(rng: np.random.Generator, counts: list[int], number: type = int) -> dict[str, object]:
    """Mean losses of processes with so many samples; 0 / 0 for those without."""
    count = np.array(counts)
    losses = np.where(count > 0, rng.uniform(0.4, 4, len(counts)), np.nan)
    return {"losses": losses, "counts": count.astype(number)}


def _probes(seed: int) -> tuple[Probe, ...]:
    rng = np.random.default_rng(seed)
    return (
        Probe("plain", "3 processes with 4, 3 and 1 samples.", _inputs(rng, [4, 3, 1])),
        Probe("equal", "4 processes with 8 samples each.", _inputs(rng, [8, 8, 8, 8])),
        Probe("empty last", "a last process without any sample.", _inputs(rng, [6, 5, 3, 0], float)),
        Probe("empty first", "a first process without any sample.", _inputs(rng, [0, 9, 2])),
        Probe("two empty", "7 processes, and two of them without samples.", _inputs(rng, [16, 0, 7, 12, 0, 16, 5])),
        Probe("single", "a single process.", _inputs(rng, [5])),
        Probe("two", "2 processes with 3 and 29 samples.", _inputs(rng, [3, 29], float)),
    )


def _fresh(rng: np.random.Generator) -> Inputs:
    counts = [*map(int, rng.integers(1, 40, rng.integers(2, 7))), 0]
    return _inputs(rng, [int(n) for n in rng.permutation(counts)])


def _is_mean(o: dict[str, Outputs], i: dict[str, Inputs]) -> bool:
    """Whether the plain average is the mean over all samples."""
    return all(
        close(o[n]["scaled"].mean(), np.nansum(i[n]["losses"] * i[n]["counts"]) / i[n]["counts"].sum()) for n in i
    )


def drive_scaling(answer: Callable, inputs: Inputs) -> dict[str, object]:
    """The scaled losses; a list of numbers will do."""
    scaled = build(answer, "(losses, counts)", inputs["losses"], inputs["counts"])
    if scaled is None:
        raise Unusable("nothing", "Your function returns nothing. Is there a return at its end?")
    if isinstance(scaled, list | tuple) and all(np.ndim(value) == 0 for value in scaled):
        if None in scaled:
            raise Unusable("nothing", f"scaled[{scaled.index(None)}] is None.")
        scaled = np.array(scaled, float)
    return {"scaled": scaled}


LOSSES = Exercise(
    id="scale_losses",
    chapter=CHAPTER,
    signature="(losses, counts) -> scaled of shape (k,), losses and counts of shape (k,)",
    operation=Scaling,
    probes=_probes(103),
    fresh=_fresh,
    mistakes=LOSS_MISTAKES,
    properties=(
        Property(
            "there is one loss for each process.",
            lambda o, i: all(o[n]["scaled"].shape == i[n]["counts"].shape for n in i),
        ),
        Property("no result is NaN.", lambda o, i: all(np.isfinite(o[n]["scaled"]).all() for n in i)),
        Property("a single process keeps its loss.", lambda o, i: close(o["single"]["scaled"], i["single"]["losses"])),
        Property(
            "equal batches leave the losses as they are.",
            lambda o, i: close(o["equal"]["scaled"], i["equal"]["losses"]),
        ),
        Property("the plain average of the results is the mean loss of all samples.", _is_mean),
    ),
    hints=(
        (
            "Write down the mean loss of all samples as a sum over the processes. Then write down what DDP computes: the sum of "
            "your losses, divided by the number of processes."
        ),
        "Both are sums over the processes. So make their terms equal, one process at a time.",
        (
            "After DDP, your loss of a process counts as (your loss) / k. It should count as n_r · loss / n. And where n_r is "
            "0: 0 · NaN is NaN. np.where picks one of two values, and the one that is not picked may be anything."
        ),
    ),
    container="dict",
    changing={"losses": "F24", "counts": "F24"},
    drive=drive_scaling,
)
