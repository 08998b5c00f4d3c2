"""A sweep is a loop of single runs: the same losses, metrics and networks, whatever is trained and however."""

import copy
import math
import os
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from test_stacking import NORMS, randomized
from torch import nn
from torch.nn import functional as F

from bncourse import data
from bncourse.data import Data, Part
from bncourse.models import GPT, LSTM, MLP, RNN, ResidualCNN, ResidualMLP, StepBatchNorm
from bncourse.training import History, Sweep, fit, sweep, sweeping, together
from bncourse.training.stacking import FORMS

RATES, SEEDS = (0.03, 0.2), (0, 5)


def samples(seed=0, count=35, features=5, classes=3, dtype=torch.float64):
    """Parts of a data set: 35 samples are four batches of 8, and one of 3."""
    generator = torch.Generator().manual_seed(100 + seed)

    def part(n):
        x = torch.randn(n, features, generator=generator, dtype=dtype)
        return Part(x, torch.randint(classes, (n,), generator=generator))

    return Data(part(count), part(13), part(2))


def mlp(norm=nn.BatchNorm1d, **settings):
    return randomized(MLP([5, 8, 6, 3], norm, **settings).double())


def assert_like_single_runs(
    make, source, *, rates=RATES, seeds=SEEDS, workers=1, rtol=1e-7, atol=1e-9, epochs=2, batch_size=8, **options
):
    """The sweep, after comparing it with a loop of ``fit``."""
    options |= {"epochs": epochs, "batch_size": batch_size}
    swept = sweep(make, source, learning_rates=rates, seeds=seeds, workers=workers, **options)
    close = partial(torch.testing.assert_close, rtol=rtol, atol=atol, equal_nan=True)
    for i, rate in enumerate(rates):
        for j, seed in enumerate(seeds):
            torch.manual_seed(seed)
            network = make()
            parts = source(seed) if callable(source) else source
            history = fit(network, *parts.train, validation=parts.validation, learning_rate=rate, seed=seed, **options)
            for name, values in vars(history).items():
                close(
                    *(
                        torch.tensor(some, dtype=torch.float64)
                        for some in (getattr(swept.histories[i][j], name), values)
                    )
                )
            close(swept.networks[i][j].state_dict(), network.state_dict())
            assert [m.training for m in swept.networks[i][j].modules()] == [m.training for m in network.modules()]
    assert swept.step_loss.shape[:2] == swept.diverged.shape == (len(rates), len(seeds))
    return swept


@pytest.fixture
def stacked_only(monkeypatch):
    """No run may be trained apart."""
    monkeypatch.setattr(sweeping, "train_apart", None)


# All at once


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("norm", NORMS)
def test_a_sweep_of_mlps_is_a_loop_of_single_runs(norm, place, stacked_only):
    assert_like_single_runs(lambda: mlp(NORMS[norm], place=place), samples)


@pytest.mark.parametrize("norm", [name for name in NORMS if not name.startswith("bncourse")])
@pytest.mark.parametrize("start", ["he", "skipinit"])
def test_a_sweep_of_residual_mlps_is_a_loop_of_single_runs(start, norm, stacked_only):
    assert_like_single_runs(lambda: ResidualMLP(5, 8, 2, 3, NORMS[norm], start=start).double(), samples)


def test_a_sweep_with_fixup_is_a_loop_of_single_runs(stacked_only):
    assert_like_single_runs(lambda: ResidualMLP(5, 8, 2, 3, start="fixup").double(), samples)


def sequences(seed=0):
    parts = data.temporal_order(45, shortest=3, longest=6, seed=seed)
    return Data(*(Part((part.x[0].double(), part.x[1]), part.y) for part in parts))


@pytest.mark.parametrize("cell", ["tanh", "lstm"])
@pytest.mark.parametrize("norm", [None, nn.BatchNorm1d, nn.LayerNorm, StepBatchNorm, lambda c: StepBatchNorm(c, 4)])
def test_a_sweep_of_recurrent_networks_is_a_loop_of_single_runs(norm, cell, stacked_only):
    """Inputs are a pair there: the sequences and their mask."""
    assert_like_single_runs(lambda: randomized(RNN(6, 4, 4, norm, cell=cell).double()), sequences)


def test_seeds_may_share_pairs_of_inputs(stacked_only):
    assert_like_single_runs(lambda: RNN(6, 4, 4, StepBatchNorm).double(), sequences(3))


OPTIMIZERS = {
    "SGD": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "nesterov": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "dampening": partial(torch.optim.SGD, momentum=0.9, dampening=0.5),
    "weight decay": partial(torch.optim.SGD, momentum=0.9, weight_decay=0.1),
    "Adam": torch.optim.Adam,
    "Adam, weight decay": partial(torch.optim.Adam, weight_decay=0.1),
    "AMSGrad": partial(torch.optim.Adam, amsgrad=True),
    "AdamW": partial(torch.optim.AdamW, weight_decay=0.3, betas=(0.5, 0.9)),
    "NAdam": partial(torch.optim.NAdam, weight_decay=0.1, decoupled_weight_decay=True),
    "RAdam": torch.optim.RAdam,
    "Adamax": torch.optim.Adamax,
    "Adagrad": partial(torch.optim.Adagrad, lr_decay=0.1, eps=1e-3),
    "Adadelta": torch.optim.Adadelta,
    "RMSprop": partial(torch.optim.RMSprop, momentum=0.5, centered=True),
    "ten times the rate": lambda parameters, lr: torch.optim.SGD(parameters, lr=10 * lr),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers_take_the_steps_of_single_runs(optimizer, stacked_only):
    assert_like_single_runs(mlp, samples, optimizer=OPTIMIZERS[optimizer])


def test_every_proportional_optimizer_is_tested():
    made = {type(optimizer([torch.zeros(1)], lr=1.0)) for optimizer in OPTIMIZERS.values()}
    assert made == set(together.PROPORTIONAL)


def in_groups(parameters, lr):
    """Weight decay for matrices alone."""
    parameters = list(parameters)
    decayed = [p for p in parameters if p.dim() > 1]
    others = [p for p in parameters if p.dim() <= 1]
    return torch.optim.SGD([{"params": decayed, "weight_decay": 0.5}, {"params": others}], lr=lr)


@pytest.mark.parametrize(
    "optimizer",
    [
        in_groups,
        lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, weight_decay=0.01 / lr),
        torch.optim.Rprop,
        torch.optim.ASGD,
        torch.optim.Adafactor,
    ],
)
def test_other_optimizers_train_one_by_one(optimizer):
    assert_like_single_runs(mlp, samples, optimizer=optimizer)


def test_in_float32_a_sweep_is_a_loop_of_single_runs_but_for_rounding(stacked_only):
    source = partial(samples, dtype=torch.float32)
    assert_like_single_runs(lambda: mlp().float(), source, rates=(0.001, 0.01), rtol=1e-3, atol=1e-5)


def test_seeds_may_share_their_data(stacked_only):
    assert_like_single_runs(mlp, samples(3))


def test_targets_that_do_not_count_do_not_count(stacked_only):
    """A batch of nothing else has a loss of NaN and no gradient, in single runs as well."""
    parts = samples(count=32)
    parts.train.y[:20] = -100
    parts.validation.y[::3] = -100
    swept = assert_like_single_runs(mlp, parts)
    assert np.isfinite(swept.step_loss).all()
    parts.train.y[:] = -100
    assert np.isnan(assert_like_single_runs(mlp, parts).step_loss).all()


@pytest.mark.parametrize(
    "loss", [F.mse_loss, lambda output, target: (output - target).abs().mean() + output.square().mean()]
)
def test_values_are_learned_with_a_loss_for_them(loss, stacked_only):
    def source(seed):
        return Data(*(Part(part.x, part.x[:, :3].sin()) for part in samples(seed)))

    assert_like_single_runs(mlp, source, loss=loss, metric=F.l1_loss)


def test_other_losses_of_classes_can_be_given(stacked_only):
    assert_like_single_runs(mlp, samples, loss=partial(F.cross_entropy, label_smoothing=0.1))


@pytest.mark.parametrize(("count", "batch_size"), [(17, 8), (17, 100), (17, 17), (16, 4), (4, 1)])
def test_batches_are_those_of_single_runs(count, batch_size, stacked_only):
    """Among them a last batch of one, which is left out."""
    assert_like_single_runs(lambda: mlp(nn.LayerNorm), partial(samples, count=count), batch_size=batch_size)


def test_validation_parts_may_be_larger_than_what_is_evaluated_at_once(monkeypatch, stacked_only):
    monkeypatch.setattr(together, "EVALUATION", 5)
    assert_like_single_runs(mlp, samples)


def test_what_is_frozen_stays_frozen(stacked_only):
    def make():
        network = mlp()
        network.layers.norm1.eval().requires_grad_(False)
        network.layers.linear2.requires_grad_(False)
        return network

    optimizer = partial(torch.optim.SGD, weight_decay=0.1)
    swept = assert_like_single_runs(make, samples, optimizer=optimizer)
    trained = swept.networks[0][0].layers
    assert not trained.norm1.training and not trained.linear2.weight.requires_grad


def test_a_sweep_without_epochs_gives_the_networks_as_they_start():
    swept = sweep(mlp, samples, learning_rates=RATES, seeds=SEEDS, epochs=0)
    torch.manual_seed(SEEDS[1])
    torch.testing.assert_close(swept.networks[1][1].state_dict(), mlp().state_dict(), rtol=0, atol=0)


def test_dropout_drops_in_training_alone_and_follows_from_the_seeds():
    def runs(seeds=(0, 1)):
        make = partial(MLP, [5, 32, 3], None, dropout=0.5)
        return sweep(make, samples(dtype=torch.float32), learning_rates=(0.0,), seeds=seeds, epochs=1)

    first, second = runs(), runs()
    assert first.histories == second.histories
    plain = sweep(
        partial(MLP, [5, 32, 3], None), samples(dtype=torch.float32), learning_rates=(0.0,), seeds=(0, 1), epochs=1
    )
    np.testing.assert_allclose(first.validation_metric, plain.validation_metric)
    assert not np.allclose(first.step_loss, plain.step_loss)


# Runs that diverge


@pytest.mark.parametrize("norm", [None, nn.BatchNorm1d, nn.LayerNorm])
def test_a_run_that_diverges_is_reported_and_harms_no_other(norm, stacked_only):
    runs = {
        rate: sweep(
            lambda: MLP([5, 8, 3], norm, bias=True),
            partial(samples, dtype=torch.float32),
            learning_rates=(0.05, rate, 0.2),
            seeds=SEEDS,
            epochs=2,
            batch_size=8,
        )
        for rate in (0.1, 1e38)
    }
    healthy, ill = runs.values()
    assert ill.diverged.tolist() == [[False, False], [True, True], [False, False]] and not healthy.diverged.any()
    assert ill.step_loss.shape == healthy.step_loss.shape  # it goes on to its end
    for i in (0, 2):
        assert ill.histories[i] == healthy.histories[i]
        for one, other in zip(ill.networks[i], healthy.networks[i], strict=True):
            torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_a_run_that_diverges_does_so_as_a_single_run(stacked_only):
    assert_like_single_runs(lambda: MLP([5, 8, 3], None).double(), samples, rates=(0.1, 1e200))


# One by one


def images(seed):
    generator = torch.Generator().manual_seed(seed)
    return Data(*(Part(torch.randn(n, 1, 6, 6, generator=generator).double(), torch.arange(n) % 3) for n in (18, 5, 2)))


def cnn(norm):
    return ResidualCNN(1, 3, norm, channels=(2, 4)).double()


CNN_NORMS = {"none": None, "batch": nn.BatchNorm2d, "group": lambda c: nn.GroupNorm(2, c)}
SEQUENCE_NORMS = {"none": None, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "RMS": nn.RMSNorm}
APART = {
    **{f"CNN, {name}": (partial(cnn, norm), images) for name, norm in CNN_NORMS.items()},
    **{
        f"LSTM, {name}": (lambda norm=norm: LSTM(6, 4, 4, norm).double(), sequences)
        for name, norm in SEQUENCE_NORMS.items()
    },
    **{
        f"GPT, {name}": (
            lambda norm=norm: GPT(4, 4, norm, width=4, blocks=1).double(),
            partial(data.copying, 40, length=2, symbols=3),
        )
        for name, norm in SEQUENCE_NORMS.items()
    },
}


@pytest.mark.parametrize("name", APART)
def test_a_sweep_of_other_networks_is_a_loop_of_single_runs(name):
    make, source = APART[name]
    assert_like_single_runs(make, lambda seed: source(seed=seed), epochs=1)


def numbered(norm):
    """A network that knows in which process it was made."""
    network = GPT(4, 4, norm, width=4, blocks=1)
    network.process = os.getpid()
    return network


def test_worker_processes_give_what_this_one_gives():
    """They take lambdas and local functions, and leave no warnings."""
    source = partial(data.copying, 40, length=2, symbols=3)
    make = lambda: numbered(lambda c: nn.LayerNorm(c))
    options = {"rates": (0.01, 0.1), "epochs": 1, "rtol": 1e-4, "atol": 1e-6}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        swept = assert_like_single_runs(make, lambda seed: source(seed=seed), workers=2, **options)
        here = assert_like_single_runs(make, source(), workers=1, **options)
    processes = {network.process for row in swept.networks for network in row}
    assert os.getpid() not in processes and len(processes) <= 2
    assert {network.process for row in here.networks for network in row} == {os.getpid()}


def test_errors_come_out_of_worker_processes():
    with pytest.raises(ValueError, match=r"call model.train\(\) first"):
        sweep(lambda: cnn(None).eval(), images, learning_rates=RATES, seeds=(0,), epochs=1, workers=2)


def test_a_network_that_takes_several_inputs_trains_one_by_one():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(5, 3)

        def forward(self, x, mask):
            return self.linear(x * mask)

    def source(seed):
        return Data(*(Part((part.x.float(), part.x[:, :1].float()), part.y) for part in samples(seed)))

    assert_like_single_runs(Sum, source, rtol=1e-4, atol=1e-5)
    with pytest.raises(TypeError, match="takes 2 positional arguments but 3 were given"):
        sweep(lambda: MLP([5, 8, 3]), source, learning_rates=RATES, seeds=SEEDS, epochs=1, workers=1)


def test_a_network_of_linear_layers_may_be_given_more_axes():
    def source(seed):
        return Data(*(Part(part.x[:, None].expand(-1, 2, -1), part.y[:, None].expand(-1, 2)) for part in samples(seed)))

    assert_like_single_runs(lambda: mlp(nn.LayerNorm), source)


def test_networks_that_use_not_all_parameters_train_one_by_one(monkeypatch):
    class Half(nn.Sequential):
        def forward(self, x):
            return self[0](x)

    from bncourse.training.stacking import container

    monkeypatch.setitem(FORMS, Half, container)
    make = lambda: Half(nn.Linear(5, 3), nn.Linear(5, 3)).double()
    assert_like_single_runs(make, samples, optimizer=partial(torch.optim.SGD, weight_decay=0.1))


# What stays as it was


@pytest.mark.parametrize("make", [lambda: MLP([5, 8, 3], dropout=0.5), lambda: LSTM(5, 4, 3, nn.LayerNorm)])
def test_the_global_generator_goes_on_as_if_nothing_had_been(make):
    def source(seed):
        torch.rand(1)  # a function that draws from it
        parts = samples(dtype=torch.float32)
        return parts if isinstance(make(), MLP) else Data(*(Part(part.x[:, None], part.y) for part in parts))

    state = torch.get_rng_state()
    sweep(make, source, learning_rates=RATES, seeds=SEEDS, epochs=1, workers=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_data_stay_as_they_are():
    parts = samples()
    before = copy.deepcopy(parts)
    sweep(mlp, parts, learning_rates=RATES, seeds=SEEDS, epochs=1)
    assert all(
        torch.equal(old, new) for some in zip(before, parts, strict=True) for old, new in zip(*some, strict=True)
    )


# What a sweep says


def made_up(metrics, rates=None, losses=None):
    """A sweep with these metrics after the last epoch, (rates, seeds)."""
    losses = losses or [[0.0] * len(row) for row in metrics]
    rows = [
        tuple(
            History(step_loss=[1.0, loss, 1.0], validation_metric=[0.5, value])
            for value, loss in zip(*pair, strict=True)
        )
        for pair in zip(metrics, losses, strict=True)
    ]
    rates = rates or tuple(range(1, len(metrics) + 1))
    return Sweep(tuple(map(float, rates)), tuple(range(len(metrics[0]))), ((),), tuple(rows))


@pytest.mark.parametrize(
    ("metrics", "rates", "largest", "index", "on_edge"),
    [
        ([[1, 2], [3, 4], [2, 2]], (0.1, 0.2, 0.3), True, 1, False),
        ([[1, 2], [3, 4], [2, 2]], (0.1, 0.2, 0.3), False, 0, True),
        ([[0, 9], [4, 4], [3, 3]], (0.1, 0.2, 0.3), True, 0, True),  # on average
        ([[1, 2], [3, 4], [2, 2]], (0.1, 0.3, 0.2), True, 1, True),  # the largest rate, in the middle
        ([[2, 2], [1, 3], [2, 2]], (0.3, 0.2, 0.1), True, 2, True),  # of equals the lowest
        ([[0, 0], [2, 2], [2, 2], [0, 0]], (4, 3, 2, 1), True, 2, False),
        ([[5, math.nan], [1, 1], [0, 0]], (0.1, 0.2, 0.3), True, 1, False),
        ([[0, math.nan], [1, 1], [2, 2]], (0.1, 0.2, 0.3), False, 1, False),
        ([[-math.inf, math.nan], [1, 1], [math.inf, 2]], (0.1, 0.2, 0.3), False, 1, False),
        ([[math.inf, math.inf], [math.inf, math.inf]], (0.2, 0.1), False, 1, True),
        ([[math.nan]], (0.1,), True, 0, True),
    ],
)
def test_the_best_rate_has_the_best_metric_on_average(metrics, rates, largest, index, on_edge):
    choice = made_up(metrics, rates).best(largest=largest)
    assert (choice.index, choice.learning_rate, choice.on_edge) == (index, rates[index], on_edge)


def test_a_run_with_an_infinite_loss_has_diverged():
    swept = made_up([[1, 1], [1, 1]], losses=[[0.0, math.inf], [math.nan, 1e30]])
    assert swept.diverged.tolist() == [[False, True], [True, False]]
    assert swept.step_loss.shape == (2, 2, 3) and swept.validation_metric.shape == (2, 2, 2)


# Wrong arguments


@pytest.mark.parametrize(("rates", "seeds"), [((), (0,)), ((0.1,), ())])
def test_nothing_to_train_is_an_error(rates, seeds):
    with pytest.raises(ValueError, match=r"at least one learning rate and one seed; got . and .; name"):
        sweep(mlp, samples, learning_rates=rates, seeds=seeds, epochs=1)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.InstanceNorm1d])
def test_a_network_in_evaluation_mode_is_not_trained(norm):
    with pytest.raises(ValueError, match=r"call model.train\(\) first"):
        sweep(lambda: MLP([5, 8, 3], norm).eval(), samples, learning_rates=RATES, seeds=SEEDS, epochs=1, workers=1)


def test_the_same_network_twice_is_an_error():
    network = mlp()
    with pytest.raises(ValueError, match="expected a new network from each call of make; got the same"):
        sweep(lambda: network, samples, learning_rates=RATES, seeds=SEEDS, epochs=1)


def test_parts_of_different_sizes_are_an_error():
    def longer(seed):
        return data.temporal_order(40, longest=8 + seed, seed=seed)

    with pytest.raises(ValueError, match="expected parts of the same size for every seed; got .*; let the seed"):
        sweep(lambda: RNN(6, 4, 4), longer, learning_rates=RATES, seeds=SEEDS, epochs=1)
    with pytest.raises(ValueError, match="expected parts of the same size for every seed; got .*; let the seed"):
        sweep(mlp, lambda seed: samples(count=30 + seed), learning_rates=RATES, seeds=SEEDS, epochs=1)


def test_inputs_and_targets_that_do_not_match_are_an_error():
    parts = samples()
    parts = parts._replace(train=Part(parts.train.x, parts.train.y[:-1]))
    with pytest.raises(ValueError, match="expected as many inputs as targets"):
        sweep(mlp, parts, learning_rates=RATES, seeds=SEEDS, epochs=1)


@pytest.mark.parametrize("rate", [-0.1])
def test_a_rate_that_the_optimizer_refuses_is_an_error(rate):
    with pytest.raises(ValueError, match="Invalid learning rate: -0.1"):
        sweep(mlp, samples, learning_rates=(rate,), seeds=SEEDS, epochs=1)
