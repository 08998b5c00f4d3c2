"""Claim 9: batch norm may stand before or after the activation, usually before."""

from collections.abc import Iterable, Mapping
from functools import partial

from torch import nn

from bncourse.claims.claim import (
    NOT_SUPPORTED,
    NOT_TESTABLE,
    QUALIFIED,
    SUPPORTED,
    Claim,
    Findings,
    Measurement,
    Verdict,
)
from bncourse.claims.experiment import CLASSES, Setting, Trial, tune
from bncourse.models import MLP

SEEDS = tuple(range(10))
HIDDEN = [64] * 4
RATES = tuple(2.0**k for k in range(-6, 6))
EPOCHS, BATCH_SIZE = 30, 128
TRAINS = 90.0  # percent of the test digits: a network below has not learned the task
SAME = 1.0  # points: places that differ by less are as good as each other

ACCURACY = "test accuracy (%)"
DIFFERENCE = "difference (points)"

# Each activation with the initialization that suits it best, so that no place wins for a bad start.
ACTIVATIONS = {
    "ReLU": (nn.ReLU, nn.init.kaiming_normal_),
    "tanh": (nn.Tanh, partial(nn.init.orthogonal_, gain=nn.init.calculate_gain("tanh"))),
    "sigmoid": (nn.Sigmoid, partial(nn.init.xavier_normal_, gain=4.0)),  # the sigmoid's slope at 0 is 1/4
}
PLACES = ("before", "after", "none")


def run(activation: str, place: str, setting: Setting) -> Trial:
    """Test accuracy with batch norm in one place, or without."""
    kind, init = ACTIVATIONS[activation]
    norm = {"norm": None} if place == "none" else {"norm": nn.BatchNorm1d, "place": place}
    make = partial(MLP, [setting.features, *HIDDEN, CLASSES], activation=kind, init=init, **norm)
    tuned = tune(make, setting, seeds=SEEDS, grid=RATES, epochs=EPOCHS, batch_size=BATCH_SIZE)
    return tuned.trial({ACCURACY: tuned.accuracy()})


def measure(trials: Mapping[str, Trial]) -> list[Measurement]:
    """The accuracy of each, and after − before for each activation."""
    accuracies = {name: trial.values[ACCURACY] for name, trial in trials.items()}
    found = [Measurement.mean(name, ACCURACY, values) for name, values in accuracies.items()]
    for activation in ACTIVATIONS:
        pair = accuracies[f"{activation}, after"], accuracies[f"{activation}, before"]
        found.append(Measurement.difference(f"{activation}, after − before", DIFFERENCE, *pair))
    return found


def judge(findings: Findings) -> Verdict:
    """The rule.

    A network trains if all of the interval of its accuracy is ``TRAINS`` or more, and fails if all of it is less. The places are
    as good as each other if the interval of the paired difference lies within ``SAME`` points.

    Not testable here: no network trains, with batch norm or without. Not supported: with some activation, batch norm
    fails in one place, where the network with it in the other, or the one without, trains. Supported: in both places,
    with every activation, the network trains, and the places are as good as each other. Qualified: all else.
    """
    accuracies = {(a, p): findings[f"{a}, {p}", ACCURACY] for a in ACTIVATIONS for p in PLACES}
    trains = {condition for condition, accuracy in accuracies.items() if accuracy.low >= TRAINS}
    if not trains:
        best = max(accuracy.estimate for accuracy in accuracies.values())
        return Verdict(NOT_TESTABLE, f"No network trains: the best reaches {best:.1f} %.")
    failed = [
        (a, p)
        for a in ACTIVATIONS
        for p in ("before", "after")
        if accuracies[a, p].high < TRAINS and any((a, other) in trains for other in PLACES)
    ]
    if failed:
        which = _listed(f"{p} {a} ({accuracies[a, p].estimate:.1f} %)" for a, p in failed)
        return Verdict(NOT_SUPPORTED, f"The network fails with batch norm {which}, and trains otherwise.")
    differences = {a: findings[f"{a}, after − before", DIFFERENCE] for a in ACTIVATIONS}
    numbers = _listed(f"{d:+.1f} with {a}" for a, d in differences.items())
    numbers = f"After − before, in points: {numbers}."
    unsure = [f"{p} {a}" for a in ACTIVATIONS for p in ("before", "after") if (a, p) not in trains]
    if unsure:
        return Verdict(QUALIFIED, f"With batch norm {_listed(unsure)} the network does not train for sure. {numbers}")
    unlike = [a for a, d in differences.items() if not -SAME < d.low <= d.high < SAME]
    if unlike:
        reason = f"but with {_listed(unlike)} they may differ by more than {SAME:.0f} point"
        return Verdict(QUALIFIED, f"The network trains in both places, {reason}. {numbers}")
    return Verdict(SUPPORTED, f"The network trains in both places, and equally well within {SAME:.0f} point. {numbers}")


def _listed(parts: Iterable[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


CLAIM = Claim(
    id="placement",
    number=9,
    claim="Batch norm may stand before or after the activation, usually before",
    source=("ioffe2015batch", "he2016deep", "he2016identity"),
    hypothesis=(
        "A network with batch norm after the activation learns as well as one with batch norm before it. That before "
        "is usual is a custom, which no run can test."
    ),
    metric=(
        f"Test accuracy after {EPOCHS} epochs of SGD, batches of {BATCH_SIZE} and {len(HIDDEN)} hidden layers of "
        f"{HIDDEN[0]} units, at the best of {len(RATES)} learning rates from {RATES[0]:.2g} to {RATES[-1]:.2g} on "
        f"validation data. A network trains if all of the interval of its accuracy is {TRAINS:.0f} % or more, and "
        f"fails if all of it is less; two places are as good as each other if the interval of the paired difference lies within "
        f"{SAME:.0f} point"
    ),
    seeds=SEEDS,
    conditions={f"{a}, {p}": partial(run, a, p) for a in ACTIVATIONS for p in PLACES},
    measure=measure,
    judge=judge,
    slice=("ReLU, after",),
)
