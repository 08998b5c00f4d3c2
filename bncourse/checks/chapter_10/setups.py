"""Set-ups of training on many devices: how many samples share one mean in each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..exercise import Exercise, Inputs, Mistake, Operation, Probe, step
from ..observe import Unusable, a
from .merging import CHAPTER

BATCH = 32  # samples of one step of the optimizer, in every set-up

TOGETHER = {
    "ddp": 4,
    "converted": 32,
    "groups": 16,
    "accumulation": 4,
    "accumulation_synced": 16,
    "data_parallel": 8,
    "bare_layer": 4,
    "evaluation": 0,
}


def _right(setup: str) -> step:
    return step(lambda s: float(TOGETHER[setup]))


class Sharing(Operation):
    """How many samples share a mean. Each set-up is a step, so that each can go wrong alone."""

    outputs = ("samples",)
    ddp, converted, groups, accumulation, accumulation_synced, data_parallel, bare_layer, evaluation = map(
        _right, TOGETHER
    )

    @step
    def samples(s):
        return getattr(s, s.setup)


def _wrong(id: str, setup: str, numbers: tuple[int, ...], why: str, asks: str) -> Mistake:
    """The mistake of giving one of these numbers there."""
    forms = ({setup: lambda s, number=number: float(number)} for number in numbers)
    return Mistake(id, f"{setup}: {why}", asks, *forms)


SETUP_MISTAKES = (
    _wrong(
        "S11",
        "ddp",
        (32,),
        "DistributedDataParallel averages gradients. It leaves the layers as they are, and adds nothing to what they compute "
        "in the forward pass.",
        "When do the processes talk to each other in this set-up, and has the mean been used by then?",
    ),
    _wrong(
        "S40",
        "ddp",
        (8, 16, 2, 1, 0),
        "The layer averages over all samples that it sees in one forward pass, and there is one layer in each process.",
        "How many samples does one call of the layer get?",
    ),
    _wrong(
        "S41",
        "converted",
        (2,),
        "These layers talk to each other in the forward pass, before anything is normalized. So it does not matter that a "
        "process has few samples.",
        "What does this layer send to the other processes, and what comes out when all of it is merged?",
    ),
    _wrong(
        "S42",
        "converted",
        (16, 8, 4, 1, 0),
        "That is not a number of samples that share a mean: count samples, not processes, and count all that are merged.",
        "Whose samples are in the merged count?",
    ),
    _wrong(
        "S43",
        "groups",
        (32,),
        "A layer talks only to the processes of its own group. The two groups never hear of each other before the gradients "
        "are averaged.",
        "Which processes does process 5 send its statistics to?",
    ),
    _wrong(
        "S44",
        "groups",
        (4,),
        "Within a group the layers merge their statistics, so a process does not normalize its samples alone.",
        "How many processes share a mean, and how many samples does each bring?",
    ),
    _wrong(
        "S45",
        "groups",
        (8, 2, 1, 0),
        "That is not a number of samples that share a mean: count neither processes nor groups.",
        "How many processes share a mean, and how many samples does each bring?",
    ),
    _wrong(
        "U11",
        "accumulation",
        (32,),
        "Accumulation adds up gradients. A layer has normalized the first samples, and its loss has gone backward, before "
        "the last samples come.",
        "What does the layer know of the eighth call when it normalizes the samples of the first?",
    ),
    _wrong(
        "S46",
        "accumulation",
        (8, 16, 2, 1, 0),
        "The layer averages over all samples of one forward pass, and there are eight passes one after the other.",
        "How many samples does one call of the layer get?",
    ),
    _wrong(
        "S47",
        "accumulation_synced",
        (32,),
        "Synchronising joins what the processes do at the same time. The two forward passes come one after the other, and "
        "the first has been normalized before the second begins.",
        "Which samples are on their way through the layers at the same moment?",
    ),
    _wrong(
        "S48",
        "accumulation_synced",
        (4,),
        "The layers are synchronised: in each forward pass they merge what all processes have at that moment.",
        "Which samples are on their way through the layers at the same moment?",
    ),
    _wrong(
        "S49",
        "accumulation_synced",
        (8, 2, 1, 0),
        "You joined what comes one after the other, or counted something other than samples.",
        "Which samples are on their way through the layers at the same moment?",
    ),
    _wrong(
        "S50",
        "data_parallel",
        (32,),
        "There is one process, but DataParallel copies the model to each GPU and cuts the batch into as many pieces. Each "
        "copy of the layer sees its own piece. (And only the running statistics of the first copy are kept.)",
        "How many samples does one copy of the layer get?",
    ),
    _wrong(
        "S51",
        "data_parallel",
        (4, 16, 2, 1, 0),
        "That is not the number of samples that one copy of the layer gets: DataParallel cuts the batch into as many "
        "pieces as there are GPUs.",
        "How large is a piece?",
    ),
    _wrong(
        "S52",
        "bare_layer",
        (32,),
        "The function returns the converted module. Layers inside of a module are exchanged there; a layer that is itself "
        "handed over cannot be, and what was returned here is thrown away.",
        "Which object does the name norm stand for after the second line?",
    ),
    _wrong(
        "S53",
        "bare_layer",
        (8, 16, 2, 1, 0),
        "The layer in the model is one of two kinds: it merges what all processes have, or it sees the samples of its own "
        "process. Your number belongs to neither.",
        "Of which class is the layer that stands in the model?",
    ),
    _wrong(
        "S54",
        "evaluation",
        (32,),
        "Synchronising belongs to training. After model.eval() a layer subtracts another mean than in training.",
        "Which mean does batch norm subtract after model.eval(), and from which samples does that come?",
    ),
    _wrong(
        "S55",
        "evaluation",
        (4, 8, 16, 2, 1),
        "In evaluation the layer does not synchronise, but that does not mean that each process takes a mean of its own.",
        "Which mean does batch norm subtract after model.eval(), and from which samples does that come?",
    ),
)


def drive_setups(answer: Callable, inputs: Inputs) -> dict[str, float]:
    """Ask for one set-up."""
    setup = inputs["setup"]
    call = f"samples_normalized_together({setup!r})"
    number = answer(setup)
    if number is None:
        raise Unusable("nothing", f"{call} returns nothing. Is there a return for this set-up?")
    if isinstance(number, bool | np.bool_) or not isinstance(number, int | float | np.integer | np.floating):
        raise Unusable("type", f"{call} returns {a(number)}. Expected a number of samples.")
    if not (0 <= number <= BATCH and float(number).is_integer()):
        says = f"{call} returns {number:g}. Expected a number of samples, from 0 to the {BATCH} of the whole batch."
        raise Unusable("type", says)
    return {"samples": float(number)}


def _fresh(rng: np.random.Generator) -> Inputs:
    return {"setup": str(rng.choice(list(TOGETHER)))}


SETUPS = Exercise(
    id="samples_normalized_together",
    chapter=CHAPTER,
    signature="(setup) -> the number of samples that share one mean",
    operation=Sharing,
    probes=tuple(Probe(name, f"the set-up {name}.", {"setup": name}) for name in TOGETHER),
    fresh=_fresh,
    mistakes=SETUP_MISTAKES,
    properties=(),
    hints=(
        "Follow one sample through the layer. Which other samples are in the mean that is subtracted from it?",
        "Ask of each set-up: which class has the layer, whom does it talk to, and which samples are in that forward pass?",
        (
            "Three things are no larger batch: averaged gradients, summed gradients, and running statistics. Where do you find "
            "them here?"
        ),
    ),
    container="dict",
    drive=drive_setups,
    separate=True,
)
