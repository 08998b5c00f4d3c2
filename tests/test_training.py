"""Training learns, repeats itself for the same seed, and leaves modes and global state as it found them."""

import copy
import functools
import io
import math
import sys
from itertools import chain

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import pytest
import torch
from jupyter_client.manager import start_new_kernel
from torch import nn
from torch.nn import functional as F

from bncourse import data, layers
from bncourse.models import GPT, LSTM, MLP
from bncourse.training import History, accuracy, cross_entropy, evaluate, evaluation_mode, fit, predict

X, Y = torch.randn(33, 5, generator=torch.Generator().manual_seed(0)), torch.arange(33) % 3


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def small(norm=layers.BatchNorm1d, **settings):
    torch.manual_seed(0)
    return MLP([5, 8, 3], norm, **settings)


class Recorder(nn.Module):
    """Remembers the batches and the modes that it saw."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.batches, self.modes = [], []

    def forward(self, x):
        self.batches.append(x[:, 0].detach().tolist())
        self.modes.append((self.training, torch.is_grad_enabled()))
        return self.scale * x[:, :3]


# Learning


def test_an_mlp_with_batch_norm_learns_the_digits():
    digits = data.digits("vectors")
    model = MLP([64, 32, 10])
    history = fit(model, *digits.train, epochs=8, validation=digits.validation)
    assert evaluate(model, *digits.test) > 0.92  # 0.94 to 0.96 for 20 seeds
    assert history.validation_metric[-1] > 0.92
    assert history.train_loss[-1] < 0.25 and history.train_loss[0] > 1


def test_an_lstm_learns_from_sequences_with_padding():
    sequences = data.temporal_order(500)
    model = LSTM(6, 16, 4)
    fit(model, *sequences.train, epochs=12, optimizer=torch.optim.Adam, learning_rate=0.03)
    assert evaluate(model, *sequences.test) > 0.95


def test_a_gpt_learns_to_copy():
    tokens = data.copying(300, length=3, symbols=4)
    model = GPT(5, 6, width=16, blocks=1)
    assert evaluate(model, *tokens.test) < 0.5
    fit(model, *tokens.train, epochs=15, optimizer=torch.optim.Adam, learning_rate=0.02)
    assert evaluate(model, *tokens.test) > 0.95


def test_values_are_learned_with_a_loss_and_a_metric_for_them():
    diabetes = data.diabetes()
    settings = {"epochs": 20, "learning_rate": 0.01, "loss": F.mse_loss, "metric": F.mse_loss}
    model = MLP([10, 20, 1])
    history = fit(model, *diabetes.train, validation=diabetes.validation, **settings)
    assert history.validation_loss == history.validation_metric
    assert evaluate(model, *diabetes.test, F.mse_loss) < 0.75  # saying the mean of all patients: about 1


# One step


def test_one_batch_is_one_step_of_the_optimizer():
    model = small()
    by_hand = copy.deepcopy(model)
    history = fit(model, X, Y, epochs=1, batch_size=33, learning_rate=0.5)
    loss = F.cross_entropy(by_hand(X), Y)
    loss.backward()
    torch.optim.SGD(by_hand.parameters(), lr=0.5).step()
    torch.testing.assert_close(model.state_dict(), by_hand.state_dict(), rtol=1e-4, atol=1e-5)
    assert history.train_loss == [pytest.approx(loss.item())]


def test_gradients_of_one_step_are_gone_in_the_next():
    model = small(None)
    by_hand = copy.deepcopy(model)
    fit(model, X, Y, epochs=3, batch_size=33)
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(by_hand(X), Y).backward()
        optimizer.step()
    torch.testing.assert_close(model.state_dict(), by_hand.state_dict(), rtol=1e-4, atol=1e-5)


def test_optimizers_are_made_from_a_class_or_a_partial_and_the_learning_rate():
    made = []

    def adam(parameters, lr):
        made.append(torch.optim.Adam(parameters, lr=lr, weight_decay=0.01))
        return made[-1]

    momentum = functools.partial(torch.optim.SGD, momentum=0.9)
    models = {make: small() for make in (torch.optim.SGD, momentum, adam)}
    for make, model in models.items():
        fit(model, X, Y, epochs=2, batch_size=16, optimizer=make, learning_rate=0.03)
    weights = [model.layers.linear1.weight for model in models.values()]
    assert not any(torch.allclose(a, b) for a, b in zip(weights, weights[1:] + weights[:1], strict=True))
    assert (made[0].defaults["lr"], made[0].defaults["weight_decay"]) == (0.03, 0.01)


def test_the_training_loss_is_the_mean_over_samples_not_batches():
    loss = fit(small(None), X, Y, epochs=1, batch_size=20, learning_rate=0.0).train_loss[0]
    assert loss == pytest.approx(F.cross_entropy(small(None)(X), Y).item())


def test_a_model_may_take_several_inputs():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(5, 3)

        def forward(self, x, offset):
            return self.linear(x + offset)

    model = Sum()
    offset = torch.randn(33, 1)
    history = fit(model, (X, offset), Y, epochs=2, validation=((X, offset), Y))
    assert evaluate(model, (X, offset), Y, cross_entropy) == history.validation_loss[-1]
    torch.testing.assert_close(predict(model, (X, offset), batch_size=7), model(X, offset))


# Batches


def test_every_epoch_shows_every_sample_once_in_a_new_order():
    model = Recorder()
    fit(model, X[:32], Y[:32], epochs=2, batch_size=10)
    assert [len(batch) for batch in model.batches] == [10, 10, 10, 2] * 2
    first, second = list(chain(*model.batches[:4])), list(chain(*model.batches[4:]))
    assert sorted(first) == sorted(second) == sorted(X[:32, 0].tolist())
    assert first != second and first != X[:32, 0].tolist()


def test_inputs_and_targets_stay_together():
    pairs = set()

    def loss(output, target):
        pairs.update(zip(output[:, 0].tolist(), target.tolist(), strict=True))
        return output.sum() * 0

    fit(Recorder(), X, Y, epochs=1, batch_size=10, loss=loss)
    assert pairs == set(zip(X[:, 0].tolist(), Y.tolist(), strict=True))


@pytest.mark.parametrize("package", [nn, layers])
def test_a_last_batch_of_one_is_left_out(package):
    """33 samples in batches of 16 and 16, and one for which batch norm would raise."""
    history = fit(small(package.BatchNorm1d), X, Y, epochs=2, batch_size=16)
    assert len(history.train_loss) == 2
    model = Recorder()
    fit(model, X, Y, epochs=2, batch_size=16)
    assert [len(batch) for batch in model.batches] == [16] * 4


@pytest.mark.parametrize(("samples", "batch_size", "sizes"), [(3, 1, [1, 1, 1]), (1, 16, [1])])
def test_batches_of_one_stay_where_all_are(samples, batch_size, sizes):
    model = Recorder()
    fit(model, X[:samples], Y[:samples], epochs=1, batch_size=batch_size)
    assert [len(batch) for batch in model.batches] == sizes


# Seeds


def test_equal_seeds_give_equal_histories_and_weights():
    runs = []
    for state in (1, 2):
        model = small(dropout=0.5)
        torch.manual_seed(state)  # does not matter
        history = fit(model, X, Y, epochs=3, batch_size=8, seed=3, validation=(X, Y))
        runs.append((history, model.state_dict()))
    assert runs[0][0] == runs[1][0]
    torch.testing.assert_close(runs[0][1], runs[1][1], rtol=0, atol=0)


def test_other_seeds_give_another_order_and_drop_others():
    orders, dropped = [], []
    for seed in (3, 4):
        model = Recorder()
        fit(model, X, Y, epochs=1, batch_size=8, seed=seed)
        orders.append(model.batches)
        model = Recorder()
        fit(nn.Sequential(nn.Dropout(), model), torch.ones(33, 5), Y, epochs=1, batch_size=33, seed=seed)
        dropped.append(model.batches)
    assert orders[0] != orders[1]
    assert dropped[0] != dropped[1]


def test_the_global_generator_goes_on_as_if_nothing_had_been():
    model = small(dropout=0.5)
    state = torch.get_rng_state()
    fit(model, X, Y, epochs=2, batch_size=8, seed=5, validation=(X, Y))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_global_generator_is_put_back_after_an_error():
    model = nn.Sequential(nn.Dropout(), nn.Linear(7, 3))
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fit(model, X, Y, epochs=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_does_not_change_the_batches():
    plain, dropping = Recorder(), Recorder()
    fit(plain, X, Y, epochs=2, batch_size=8)
    fit(nn.Sequential(dropping, nn.Dropout()), X, Y, epochs=2, batch_size=8)
    assert plain.batches == dropping.batches


# Modes


def frozen():
    """A network whose first norm is frozen, and the modes of all its modules."""
    model = MLP([5, 8, 8, 3], dropout=0.5)
    model.layers.norm1.eval()
    return model, [module.training for module in model.modules()]


def modes(model):
    return [module.training for module in model.modules()]


def test_evaluation_leaves_every_module_in_its_mode():
    model, before = frozen()
    evaluate(model, X, Y)
    assert modes(model) == before
    model.eval()
    predict(model, X)
    assert not any(modes(model))


def test_modes_come_back_after_an_error_too():
    model, before = frozen()
    with pytest.raises(RuntimeError), evaluation_mode(model):
        assert not any(modes(model))
        raise RuntimeError
    assert modes(model) == before


def test_training_keeps_a_frozen_norm_frozen():
    model, before = frozen()
    statistics = copy.deepcopy(dict(model.named_buffers()))
    fit(model, X, Y, epochs=2, batch_size=8, validation=(X, Y))
    assert modes(model) == before
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, statistics[name]) == ("norm1" in name), name


def test_validation_is_in_evaluation_mode_and_training_goes_on_in_training_mode():
    model = Recorder()
    fit(model, X, Y, epochs=2, batch_size=33, validation=(X, Y))
    assert model.modes == [(True, True), (False, False)] * 2


def test_validation_changes_nothing():
    with_it, without = small(dropout=0.5), small(dropout=0.5)
    history = fit(with_it, X, Y, epochs=3, batch_size=8, validation=(X, Y))
    assert fit(without, X, Y, epochs=3, batch_size=8).train_loss == history.train_loss
    torch.testing.assert_close(with_it.state_dict(), without.state_dict(), rtol=0, atol=0)


def test_a_compiled_model_is_trained_and_evaluated_like_any_other():
    model, twin = small(nn.BatchNorm1d), small(nn.BatchNorm1d)
    compiled = torch.compile(model, backend="eager")
    history = fit(compiled, X, Y, epochs=2, batch_size=11, validation=(X, Y))
    assert history.train_loss == pytest.approx(fit(twin, X, Y, epochs=2, batch_size=11).train_loss)
    assert evaluate(compiled, X, Y) == evaluate(twin, X, Y)
    assert all(modes(compiled)) and all(modes(model))


def test_a_model_in_evaluation_mode_is_not_trained():
    model = small().eval()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"expected a model in training mode; got .* call model.train\(\) first"):
        fit(model, X, Y, epochs=1)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


# Evaluation


@pytest.mark.parametrize("batch_size", [1, 7, 33, 100])
def test_evaluation_does_not_depend_on_the_batch_size(batch_size):
    model = small()
    fit(model, X, Y, epochs=3, batch_size=8)
    outputs = predict(model, X, batch_size=batch_size)
    torch.testing.assert_close(outputs, model.eval()(X))
    loss = evaluate(model, X, Y, cross_entropy, batch_size=batch_size)
    assert loss == pytest.approx(F.cross_entropy(outputs, Y).item())


def test_outputs_of_evaluation_have_no_gradients_and_statistics_stay():
    model = small()
    before = copy.deepcopy(model.state_dict())
    assert not predict(model, X).requires_grad
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_a_history_holds_the_validation_after_each_epoch():
    short, long = small(), small()
    after_two = fit(short, X, Y, epochs=2, batch_size=8, validation=(X, Y))
    after_four = fit(long, X, Y, epochs=4, batch_size=8, validation=(X, Y))
    assert after_four.train_loss[:2] == after_two.train_loss
    assert after_four.validation_metric[1] == evaluate(short, X, Y)
    assert after_four.validation_loss[1] == evaluate(short, X, Y, cross_entropy)
    assert after_four.validation_loss[3] == evaluate(long, X, Y, cross_entropy)
    assert [len(values) for values in vars(after_four).values()] == [4, 4, 4, 4 * 4]  # four batches an epoch
    assert all(type(value) is float for values in vars(after_four).values() for value in values)


def test_without_validation_a_history_has_the_training_loss_only():
    assert [len(values) for values in vars(fit(small(), X, Y, epochs=2)).values()] == [2, 0, 0, 2]


def test_a_run_that_diverges_is_reported_not_dropped():
    history = fit(small(None), X * 1e20, Y, epochs=3, learning_rate=1e20)
    assert len(history.train_loss) == 3 and math.isnan(history.train_loss[-1])


def test_accuracy_is_the_share_of_right_classes_that_count():
    output = torch.tensor([[[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]])
    assert accuracy(output, torch.tensor([[1, 1, -100]])) == 0.5
    assert accuracy(output[0], torch.tensor([1, 0, 0])).item() == pytest.approx(2 / 3)


def test_cross_entropy_of_sequences_is_that_of_all_their_positions():
    output, target = torch.randn(4, 6, 3), torch.randint(3, (4, 6))
    target[:, 2] = -100
    kept = [0, 1, 3, 4, 5]
    expected = F.cross_entropy(output[:, kept].reshape(-1, 3), target[:, kept].reshape(-1))
    torch.testing.assert_close(cross_entropy(output, target), expected)


# Wrong arguments


def test_accuracy_of_values_is_an_error():
    with pytest.raises(ValueError, match=r"expected classes, int64; got torch.float32; for values, choose"):
        evaluate(small(), X, Y.float())


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, Y[:-1], r"got \[33\] inputs and 32 targets; pass"),
        ((X, X[:5]), Y, r"got \[33, 5\] inputs and 33 targets; pass"),
        (X[:0], Y[:0], r"got \[0\] inputs and 0 targets; pass"),
    ],
)
def test_inputs_and_targets_that_do_not_match_are_an_error(x, y, message):
    with pytest.raises(ValueError, match=message):
        fit(small(), x, y, epochs=1)


def test_batches_of_nothing_are_an_error():
    with pytest.raises(ValueError, match="expected a batch_size of at least 1; got 0; choose"):
        fit(small(), X, Y, epochs=1, batch_size=0)


# Progress


class Stream(io.StringIO):
    """An error stream that is a terminal, or not."""

    def __init__(self, terminal):
        super().__init__()
        self.isatty = lambda: terminal


@pytest.mark.parametrize(
    ("terminal", "progress", "drawn"),
    [(False, None, False), (True, None, True), (False, True, True), (True, False, False)],
)
def test_progress_is_drawn_in_a_terminal_or_on_request(terminal, progress, drawn, monkeypatch, capsys):
    stream = Stream(terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    fit(small(), X, Y, epochs=2, progress=progress)
    assert ("2/2" in stream.getvalue()) == drawn == bool(stream.getvalue())
    assert capsys.readouterr().out == ""


TRAINING = """
import torch
from bncourse.training import fit
fit(torch.nn.Linear(2, 2), torch.randn(8, 2), torch.arange(8) % 2, epochs=2);
"""


def test_a_notebook_shows_progress_to_a_reader_and_nothing_to_a_program():
    """A frontend with a reader lets code ask questions; what executes the book's notebooks does not."""
    manager, client = start_new_kernel()
    try:
        shown = {}
        for reader in (False, True):
            seen = []
            client.execute_interactive(TRAINING, allow_stdin=reader, output_hook=seen.append, timeout=60)
            shown[reader] = [
                message["msg_type"] for message in seen if message["msg_type"] not in ("status", "execute_input")
            ]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert shown[False] == []
    assert "display_data" in shown[True] and "error" not in shown[True]


# Figures


def test_a_history_draws_its_losses():
    history = History([3.0, 2.0, 1.0], [3.5, 2.5, 2.0], [0.1, 0.2, 0.3])
    axes = history.plot()
    assert {line.get_label(): line.get_ydata().tolist() for line in axes.lines} == {
        "training": [3.0, 2.0, 1.0],
        "validation": [3.5, 2.5, 2.0],
    }
    plt.close(axes.figure)


def test_a_history_without_validation_draws_one_curve():
    _, axes = plt.subplots()
    assert History([3.0, 2.0]).plot(axes) is axes
    assert [line.get_label() for line in axes.lines] == ["training"]
    plt.close(axes.figure)
