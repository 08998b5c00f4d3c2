"""One network, trained and evaluated."""

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bncourse.watching import with_bar

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Inputs = Tensor | tuple[Tensor, ...]
Metric = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of logits (N, K) or (N, L, K) and classes (N,) or (N, L); classes of -100 do not count."""
    return F.cross_entropy(output.flatten(0, -2), target.flatten())


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Share of the classes (N,) or (N, L) whose logit, of (N, K) or (N, L, K), is the largest; -100 do not count.

    Raises:
        ValueError: if the target holds no classes.
    """
    if target.is_floating_point():
        raise ValueError(
            f"expected classes, int64; got {target.dtype}; for values, choose another metric, such as "
            "torch.nn.functional.mse_loss"
        )
    return (output.argmax(-1) == target)[target != -100].float().mean()


@dataclass(frozen=True)
class History:
    """What :func:`fit` measured, one number per epoch; ``step_loss``, one per step."""

    train_loss: list[float] = field(default_factory=list)  # mean over the epoch, in which the weights change
    validation_loss: list[float] = field(default_factory=list)  # after the epoch; empty without validation
    validation_metric: list[float] = field(default_factory=list)  # likewise
    step_loss: list[float] = field(default_factory=list)  # of the step's batch, before the step

    def add_epoch(self, losses: Sequence[float], sizes: Sequence[int]) -> None:
        """Note the losses of an epoch's batches, and their mean over the samples."""
        self.step_loss.extend(losses)
        self.train_loss.append(sum(map(operator.mul, losses, sizes)) / sum(sizes))

    def add_validation(self, loss: Tensor, metric: Tensor) -> None:
        """Note how good the outputs for the validation part are."""
        self.validation_loss.append(float(loss))
        self.validation_metric.append(float(metric))

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the losses of the training and, if there is one, of the validation part."""
        from bncourse import plots

        curves = {"training": self.train_loss, "validation": self.validation_loss}
        return plots.plot_history({name: curve for name, curve in curves.items() if curve}, ax=ax)


def fit(
    model: nn.Module,
    x: Inputs,
    y: Tensor,
    *,
    epochs: int,
    batch_size: int = 32,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
    learning_rate: float = 0.1,
    loss: Metric = cross_entropy,
    seed: int = 0,
    validation: tuple[Inputs, Tensor] | None = None,
    metric: Metric = accuracy,
    progress: bool | None = None,
) -> History:
    """Train ``model``, in place.

    Every epoch goes through the samples in a new order. If one sample is left over for the last batch, the
    epoch leaves it out, whatever the network: batch norm cannot be trained with one value per channel. PyTorch's
    global generator, from which dropout draws, is seeded too, and put back afterwards.

    Args:
        model: in training mode; its modules that are not, stay as they are.
        x: inputs (N, ...), or a tuple of them: the arguments of ``model``.
        y: targets (N, ...).
        epochs: how often to go through the samples.
        batch_size: the number of samples in a batch.
        optimizer: makes one from parameters and ``lr``: a class of ``torch.optim``, or a ``functools.partial`` of it.
        learning_rate: ``lr`` of the optimizer.
        loss: of outputs and targets; the mean over the batch.
        seed: decides the order of the samples, and what dropout drops.
        validation: inputs and targets to evaluate after each epoch.
        metric: what to measure beside the loss after each epoch.
        progress: whether to draw a bar; if None, when someone watches: in a terminal, or a notebook with a reader.

    Raises:
        ValueError: if ``model`` is in evaluation mode, inputs and targets differ in number, or there are none.
    """
    inputs = _tuple(x)
    check(model, inputs, y, batch_size)
    steps = optimizer(model.parameters(), lr=learning_rate)
    order = torch.Generator().manual_seed(seed)  # of its own: with or without dropout, the same batches
    history = History()
    with seeded(seed, y.device):
        for _ in with_bar(range(epochs), epochs, "epoch", progress):
            batches = batches_of(len(y), batch_size, order)
            history.add_epoch(_train(model, inputs, y, batches, steps, loss), [len(batch) for batch in batches])
            if validation is not None:
                output, target = predict(model, validation[0]), validation[1]
                history.add_validation(loss(output, target), metric(output, target))
    return history


def predict(model: nn.Module, x: Inputs, *, batch_size: int = 1024) -> Tensor:
    """Outputs of ``model`` in evaluation mode, without gradients, in batches; afterwards all modes are as before."""
    batches = zip(*(values.split(batch_size) for values in _tuple(x)), strict=True)
    with evaluation_mode(model), torch.no_grad():
        return torch.cat([model(*batch) for batch in batches])


def evaluate(model: nn.Module, x: Inputs, y: Tensor, metric: Metric = accuracy, *, batch_size: int = 1024) -> float:
    """A metric of the outputs of :func:`predict` for all of ``x`` together and the targets ``y``."""
    return float(metric(predict(model, x, batch_size=batch_size), y))


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put ``model`` into evaluation mode, and afterwards each of its modules back into the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _tuple(x: Inputs) -> tuple[Tensor, ...]:
    """The arguments that a model is called with."""
    return x if isinstance(x, tuple) else (x,)


def check(model: nn.Module, inputs: tuple[Tensor, ...], y: Tensor, batch_size: int) -> None:
    """Raise if there is nothing to train, or nothing to train with."""
    if not model.training:
        raise ValueError(
            "expected a model in training mode; got one in evaluation mode, which would keep its statistics; call "
            "model.train() first, then eval() on what is to stay frozen"
        )
    if {len(values) for values in inputs} != {len(y)} or len(y) == 0:
        raise ValueError(
            f"expected as many inputs as targets, one at least; got {[len(values) for values in inputs]} inputs and "
            f"{len(y)} targets; pass x and y of the same samples"
        )
    if batch_size < 1:
        raise ValueError(f"expected a batch_size of at least 1; got {batch_size}; choose 32, say")


def batches_of(samples: int, batch_size: int, order: torch.Generator) -> list[Tensor]:
    """Numbers of samples, shuffled; without a last batch of one, unless all are."""
    batches = list(torch.randperm(samples, generator=order).split(batch_size))
    return batches[:-1] if len(batches[-1]) == 1 and 1 < batch_size < samples else batches


def _train(
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    y: Tensor,
    batches: list[Tensor],
    optimizer: torch.optim.Optimizer,
    loss: Metric,
) -> list[float]:
    """One step per batch; the loss of each."""
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        value = loss(model(*(values[batch] for values in inputs)), y[batch])
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Let the global generator of ``device`` start from ``seed``, and afterwards go on as if nothing had been."""
    cuda = device.type == "cuda"
    generator = torch.cuda.default_generators[device.index] if cuda else torch.default_generator
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(state)
