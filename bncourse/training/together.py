"""The runs of a sweep all at once, as one stacked network: see :mod:`bncourse.training.stacking`."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from bncourse.training.fitting import (
    History,
    Metric,
    batches_of,
    check,
    cross_entropy,
    evaluation_mode,
    seeded,
)
from bncourse.training.plan import Plan, Run, Samples
from bncourse.training.stacking import NotStackable, stack, unstack
from bncourse.watching import with_bar

EVALUATION = 256  # samples at a time: more of them, for all runs, would not stay in the processor's cache

# Optimizers that treat every number alike, and whose steps are proportional to the learning rate.
PROPORTIONAL = (
    *(torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.Adadelta),
    *(torch.optim.Adam, torch.optim.AdamW, torch.optim.Adamax, torch.optim.NAdam, torch.optim.RAdam),
)


def train_together(plan: Plan) -> list[Run]:
    """All runs: the first seed with every rate, then the second, and so on.

    Raises:
        NotStackable: the networks, the samples or the optimizer are of a kind that can only be trained one by one.
        ValueError: see :func:`bncourse.training.sweep`.
    """
    networks = [plan.network(seed) for seed in plan.seeds for _ in plan.learning_rates]
    if len(set(map(id, networks))) < len(networks):
        raise ValueError("expected a new network from each call of make; got the same; make it inside of make")
    whole = stack(networks)
    train, validation = _all_samples(plan)
    check(whole, train.inputs, train.y, plan.batch_size)
    histories = _train(whole, plan, train, validation)
    unstack(whole, networks)
    return list(zip(networks, histories, strict=True))


def _train(whole: nn.Module, plan: Plan, train: "_Samples", validation: "_Samples") -> list[History]:
    """As :func:`bncourse.training.fit`, for all runs."""
    step = _Step(whole, plan)
    orders = [torch.Generator().manual_seed(seed) for seed in plan.seeds]
    histories = [History() for _ in range(train.runs)]
    with seeded(plan.seeds[0], train.y.device):
        for _ in with_bar(range(plan.epochs), plan.epochs, "epoch", plan.progress):
            order = torch.stack([torch.cat(batches_of(train.count, plan.batch_size, g)) for g in orders])
            batches = train.numbers(order).split(plan.batch_size, dim=1)
            losses = torch.stack([step(*train.take(batch)) for batch in batches], dim=1)
            for history, of_run in zip(histories, losses.tolist(), strict=True):
                history.add_epoch(of_run, [batch.shape[1] for batch in batches])
            _validate(whole, plan, validation, histories)
    return histories


def _validate(whole: nn.Module, plan: Plan, samples: "_Samples", histories: list[History]) -> None:
    """Note how good every run is on its validation part."""
    numbers = samples.numbers(torch.arange(samples.count).expand(len(plan.seeds), -1))
    with evaluation_mode(whole), torch.no_grad():
        outputs = torch.cat([whole(*samples.take(some)[0]) for some in numbers.split(EVALUATION, dim=1)], dim=1)
    targets = samples.y[numbers]
    losses = _losses(plan.loss)(outputs, targets).tolist()
    for history, loss, output, target in zip(histories, losses, outputs, targets, strict=True):
        history.add_validation(loss, plan.metric(output, target))


def _all_samples(plan: Plan) -> tuple["_Samples", "_Samples"]:
    """What to train on, and what to validate on."""
    by_seed = [plan.samples(seed) for seed in plan.seeds] if callable(plan.data) else [plan.samples(plan.seeds[0])]
    return tuple(_Samples(parts, plan) for parts in zip(*by_seed, strict=True))


class _Samples:
    """The samples of all runs: those of every seed, one after the other, or those that all seeds share."""

    def __init__(self, parts: Sequence[Samples], plan: Plan) -> None:
        by_seed = [((x if isinstance(x, tuple) else (x,)), y) for x, y in parts]
        sizes = {(*(values.shape for values in inputs), y.shape) for inputs, y in by_seed}
        if len(sizes) > 1:
            raise ValueError(
                f"expected parts of the same size for every seed; got inputs and targets of {sorted(sizes)}; let the "
                "seed decide which samples a part has, not how many"
            )
        inputs, targets = zip(*by_seed, strict=True)
        self.inputs = tuple(_one_after_the_other(values) for values in zip(*inputs, strict=True))
        self.y = _one_after_the_other(targets)
        self.count = len(parts[0][1])  # for each run
        self.runs = len(plan.seeds) * len(plan.learning_rates)
        self._rates = len(plan.learning_rates)
        self._first = torch.arange(len(parts))[:, None] * self.count  # the first sample of each seed

    def numbers(self, order: Tensor) -> Tensor:
        """Where the samples of every run are, (runs, n), from their numbers in the part of each seed, (seeds, n)."""
        return (order + self._first).repeat_interleave(self._rates, dim=0).to(self.y.device)

    def take(self, numbers: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Inputs, each (runs, n, *), and targets (runs, n, *)."""
        flat = numbers.flatten()
        taken = (values.index_select(0, flat) for values in self.inputs)  # values[numbers] takes several times as long
        return tuple(values.view(*numbers.shape, *values.shape[1:]) for values in taken), self.y[numbers]


def _one_after_the_other(values: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(values)) if len(values) > 1 else values[0]


class _Step:
    """One step of every run: loss, gradients, and an update with the run's own learning rate.

    All parameters are parts of one vector: the optimizer has one tensor to update.
    """

    def __init__(self, whole: nn.Module, plan: Plan) -> None:
        self.whole = whole
        self.losses = _losses(plan.loss)
        self.params = [param for param in whole.parameters() if param.requires_grad]
        self.vector = parameters_to_vector(self.params).detach()
        vector_to_parameters(self.vector, self.params)
        self.optimizer, factors = _optimizer(plan, self.vector)
        factors = self.vector.new_tensor(factors).repeat(len(plan.seeds))  # one per run
        self.factors = torch.cat([factors.repeat_interleave(len(p.flatten()) // len(factors)) for p in self.params])

    def __call__(self, inputs: tuple[Tensor, ...], y: Tensor) -> Tensor:
        """The loss of each run, (runs,), before the step."""
        losses = self.losses(self.whole(*inputs), y)
        gradients = torch.autograd.grad(losses, self.params, torch.ones_like(losses), allow_unused=True)
        if any(gradient is None for gradient in gradients):
            raise NotStackable("expected a gradient for every parameter; got None; train such networks one by one")
        self.vector.grad = torch.cat([gradient.flatten() for gradient in gradients])
        before = self.vector.clone()
        self.optimizer.step()
        torch.lerp(before, self.vector, self.factors, out=self.vector)
        return losses.detach()


def _optimizer(plan: Plan, vector: Tensor) -> tuple[torch.optim.Optimizer, list[float]]:
    """One for a learning rate of 1, and by what its steps are to be multiplied for each of the learning rates."""
    one, *others = (plan.optimizer([vector], lr=rate) for rate in (1.0, *plan.learning_rates))
    settings = [[{**group, "lr": None, "params": None} for group in made.param_groups] for made in (one, *others)]
    if type(one) not in PROPORTIONAL or len(settings[0]) > 1 or any(other != settings[0] for other in settings):
        raise NotStackable(
            f"expected one of {[kind.__name__ for kind in PROPORTIONAL]}, which differ in nothing but lr; got others; "
            "train with them one by one"
        )
    return one, [made.param_groups[0]["lr"] / one.param_groups[0]["lr"] for made in others]


def _losses(loss: Metric) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of each run, (runs,), from outputs (runs, N, *) and targets (runs, N, *)."""
    return _cross_entropies if loss is cross_entropy else torch.vmap(loss)


def _cross_entropies(outputs: Tensor, targets: Tensor) -> Tensor:
    """``cross_entropy`` of each run; what vmap makes of it takes several times as long."""
    values = F.cross_entropy(outputs.movedim(-1, 1), targets, reduction="none")
    return values.flatten(1).sum(1) / (targets != -100).flatten(1).sum(1)
