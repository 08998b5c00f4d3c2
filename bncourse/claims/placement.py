"""Claim 9: batch norm may stand before or after the activation, usually before."""

from collections.abc import Mapping
from functools import partial

from torch import nn

from bncourse.claims.claim import NOT_SUPPORTED, QUALIFIED, SUPPORTED, Claim, Findings, Measurement, Verdict
from bncourse.claims.experiment import CLASSES, Setting, Trial, tune
from bncourse.claims.statistics import difference, mean
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
    found = [Measurement(name, ACCURACY, mean(values), tuple(values)) for name, values in accuracies.items()]
    for activation in ACTIVATIONS:
        pair = accuracies[f"{activation}, after"], accuracies[f"{activation}, before"]
        values = tuple(a - b for a, b in zip(*pair, strict=True))
        found.append(Measurement(f"{activation}, after − before", DIFFERENCE, difference(*pair), values))
    return found


def judge(findings: Findings) -> Verdict:
    """The rule.

    Supported: in both places, with every activation, the network trains, and the places are as good as each other.
    Not supported: with some activation it trains in one place only. Qualified: all else.
    """
    trains = {(a, p): findings[f"{a}, {p}", ACCURACY].low >= TRAINS for a in ACTIVATIONS for p in PLACES[:2]}
    one_only = [a for a in ACTIVATIONS if trains[a, "before"] != trains[a, "after"]]
    if one_only:
        return Verdict(NOT_SUPPORTED, f"With {_names(one_only)} the network trains in one of the two places only.")
    differences = {a: findings[f"{a}, after − before", DIFFERENCE] for a in ACTIVATIONS}
    unlike = [a for a, d in differences.items() if not (-SAME < d.low and d.high < SAME)]
    if unlike or not all(trains.values()):
        return Verdict(
            QUALIFIED, f"With {_names(unlike)} the places are not as good as each other within {SAME} point."
        )
    return Verdict(SUPPORTED, f"In both places the network trains, with accuracies within {SAME} point of each other.")


def _names(activations: list[str]) -> str:
    return " and ".join(activations)


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
        f"Test accuracy after {EPOCHS} epochs at the learning rate that is best on validation data, 4 hidden layers of "
        f"64 units; a network trains if the interval of its accuracy lies above {TRAINS:.0f} %; two places are as good "
        f"as each other if the interval of the paired difference lies within {SAME:.0f} point"
    ),
    seeds=SEEDS,
    conditions={f"{a}, {p}": partial(run, a, p) for a in ACTIVATIONS for p in PLACES},
    measure=measure,
    judge=judge,
    slice=("ReLU, after",),
)
