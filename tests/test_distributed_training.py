"""The digits CNN trained by several real processes: the curve of one process with the whole batch."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cloudpickle
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bncourse import data, layers
from bncourse.distributed import run
from bncourse.distributed.__main__ import main
from bncourse.distributed.training import Epoch, Settings, Share, network, train
from bncourse.training import evaluate

cloudpickle.register_pickle_by_value(sys.modules[__name__])

# 1077 samples: five batches of 215, and a last one of 2, which leaves the third of three processes without any.
SETTINGS = Settings(epochs=2, batch_size=215)
LOCAL = replace(SETTINGS, norm="local")
# Summation in another order changes losses and weights by less than 1e-15 here, in float64. Statistics of other
# samples, or a gradient of another scale, change the losses by 1e-3 at least, and a float32 on the way by some 1e-9.
ROUNDING = 1e-12


def trained(*chosen):
    """The curves with these settings, and the weights and running statistics after each training."""
    found = []
    for settings in chosen:
        model = network(settings)
        found.append((train(settings, model), model.state_dict()))
    return found


class Apart(nn.Module):
    """Batch norm in one process as it is in several, where each ``span`` of them share statistics.

    The running statistics are those of the first ones.
    """

    def __init__(self, norm, world, span):
        super().__init__()
        self.norm, self.world, self.span = norm, world, span

    def forward(self, x):
        if not self.training:
            return self.norm(x)
        parts = x.tensor_split(self.world)
        first, *others = (torch.cat(parts[i : i + self.span]) for i in range(0, self.world, self.span))
        affine = {"weight": self.norm.weight, "bias": self.norm.bias, "training": True}
        return torch.cat([self.norm(first), *(F.batch_norm(x, None, None, **affine) for x in others if len(x))])


def apart(model, world, span):
    """The model with :class:`Apart` in the place of each batch norm."""
    for name, child in list(model.named_children()):
        is_norm = isinstance(child, layers.BatchNorm2d)
        setattr(model, name, Apart(child, world, span) if is_norm else apart(child, world, span))
    return model


def losses(curve):
    return torch.tensor([epoch.loss for epoch in curve], dtype=torch.float64)


def assert_same_curve(curve, expected):
    torch.testing.assert_close(losses(curve), losses(expected), rtol=0, atol=ROUNDING)
    assert [epoch.accuracy for epoch in curve] == [epoch.accuracy for epoch in expected]


def distance(curve, other):
    return float((losses(curve) - losses(other)).abs().max())


@pytest.fixture(scope="module")
def alone():
    return trained(SETTINGS)[0]


@pytest.fixture(scope="module")
def ranks():
    """By the number of processes, and by rank, what each setting gives."""
    return {
        2: run(trained, SETTINGS, LOCAL, replace(SETTINGS, group_size=1), processes=2),
        3: run(trained, SETTINGS, LOCAL, processes=3),
        4: run(trained, replace(SETTINGS, group_size=2), processes=4),
    }


def kept(settings):
    """A network that trained in a group, as a copy that left the process."""
    model = network(settings)
    train(settings, model)
    return model


def test_a_network_that_trained_in_a_group_can_be_kept():
    settings = Settings(epochs=1, batch_size=1077, group_size=2)
    (first, *others) = run(kept, settings, processes=4)
    groups = [layer.process_group for layer in first.modules() if hasattr(layer, "process_group")]
    assert groups and set(groups) == {None}
    for other in others:
        assert torch.equal(first.head.weight, other.head.weight)


# The same curve


@pytest.mark.parametrize("processes", [2, 3])
def test_the_curve_is_that_of_one_process_with_the_whole_batch(ranks, alone, processes):
    for (curve, _), *_ in ranks[processes]:
        assert_same_curve(curve, alone[0])


@pytest.mark.parametrize("processes", [2, 3])
def test_weights_and_running_statistics_are_those_of_one_process(ranks, alone, processes):
    for (_, state), *_ in ranks[processes]:
        torch.testing.assert_close(dict(state), dict(alone[1]), rtol=ROUNDING, atol=ROUNDING)


def test_training_learns(alone):
    first, last = alone[0][0], alone[0][-1]
    assert last.loss < first.loss and last.accuracy > first.accuracy
    assert len(alone[0]) == SETTINGS.epochs


def test_the_accuracy_is_that_of_the_trained_model_in_evaluation_mode():
    model = network(SETTINGS)
    curve = train(SETTINGS, model)
    x, y = data.digits().validation
    assert curve[-1].accuracy == pytest.approx(evaluate(model, x.double(), y), abs=1e-6)  # a float32
    assert model.stem.norm.num_batches_tracked == 6 * SETTINGS.epochs


def test_one_process_trains_as_the_formula_says():
    """One batch of all samples: the loss before the step is that of the first weights."""
    settings = Settings(epochs=1, batch_size=1077)
    images, classes = data.digits().train
    expected = F.cross_entropy(network(settings)(images.double()), classes).item()
    assert train(settings)[0].loss == pytest.approx(expected, abs=ROUNDING)


def test_the_seed_decides_weights_and_order():
    settings = replace(SETTINGS, epochs=1)
    state = torch.get_rng_state()
    assert train(settings) == train(settings) != train(replace(settings, seed=1))
    assert torch.equal(torch.get_rng_state(), state)


# Other curves


@pytest.mark.parametrize("processes, place, span", [(2, 1, 1), (2, 2, 1), (3, 1, 1), (4, 0, 2)])
def test_statistics_of_fewer_processes_give_the_curve_of_batches_normalized_apart(ranks, alone, processes, place, span):
    expected = train(SETTINGS, apart(network(SETTINGS), processes, span))
    for results in ranks[processes]:
        assert_same_curve(results[place][0], expected)
        assert distance(results[place][0], alone[0]) > 1e-3


# Shares


def test_the_parts_of_a_batch_are_all_of_it_and_differ_by_one_sample_at_most():
    samples = torch.randperm(11)
    for world in (1, 2, 3, 4, 13):
        parts = [Share(rank, world, world).part(samples) for rank in range(world)]
        assert torch.equal(torch.cat(parts), samples)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


# Settings


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"epochs": 0}, "epochs: expected 1 or more; got 0"),
        ({"batch_size": 0}, "batch_size: expected 1 or more; got 0"),
        ({"learning_rate": 0.0}, "learning_rate: expected a number above 0; got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate: expected a number above 0; got nan"),
        ({"norm": "global"}, "norm: expected 'sync' or 'local'; got 'global'"),
        ({"dtype": torch.float16}, "dtype: expected torch.float32 or torch.float64; got torch.float16"),
        ({"group_size": 0}, "group_size: expected 1 or more; got 0"),
        ({"norm": "local", "group_size": 2}, "group_size: expected None with norm='local'; got 2"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, message):
    with pytest.raises(ValueError) as caught:
        Settings(**wrong)
    assert message in str(caught.value)


def test_a_group_size_has_to_divide_the_number_of_processes():
    with pytest.raises(ValueError, match="group_size: expected a divisor of the number of processes, 1; got 2"):
        train(replace(SETTINGS, group_size=2))


# The program

SHORT = ["--epochs", "1", "--batch-size", "215"]


def program(*launcher, arguments=SHORT):
    """The finished program, started by Python's module ``launcher`` or, without one, by itself."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if "lo" in [name for _, name in socket.if_nameindex()]:
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    command = [*(launcher or [sys.executable]), "-m", "bncourse.distributed", *arguments]
    folder = Path(__file__).parents[1]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=300, cwd=folder, env=environment
    )


def torchrun(processes):
    """The command; with an address, since the host's name may have none."""
    command = str(Path(sys.executable).with_name("torchrun"))
    return command, "--nproc-per-node", str(processes), "--local-addr", "127.0.0.1"


def test_torchrun_prints_what_one_process_prints():
    several, one = program(*torchrun(2)), program()
    assert (several.returncode, several.stderr, one.returncode, one.stderr) == (0, "", 0, "")
    assert several.stdout == one.stdout
    epoch = train(Settings(epochs=1, batch_size=215))[0]
    assert one.stdout.splitlines()[1].split() == ["1", f"{epoch.loss:.6f}", f"{epoch.accuracy:.4f}"]


def test_what_cannot_be_done_ends_the_run_with_a_message():
    failed = program(*torchrun(2), arguments=[*SHORT, "--group-size", "3"])
    assert failed.returncode != 0 and failed.stdout == ""
    assert "group_size: expected a divisor of the number of processes, 2; got 3" in failed.stderr


def test_options_become_settings(monkeypatch, capsys):
    seen = []
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr("bncourse.distributed.__main__.epochs", lambda settings: seen.append(settings) or [Epoch(2, 1)])
    numbers = ["--epochs", "3", "--batch-size", "7", "--learning-rate", "0.5", "--seed", "4"]
    main([*numbers, "--norm", "local", "--dtype", "float32"])
    assert seen == [Settings(3, 7, 0.5, 4, "local", None, torch.float32, "cpu")]
    main([])
    assert seen[1] == Settings()
    assert capsys.readouterr().out.splitlines()[1] == "    1       2.000000               1.0000"


@pytest.mark.parametrize(
    "arguments", [["--epochs", "0"], ["--timeout", "0"], ["--norm", "global"], ["--group-size", "2"]]
)
def test_wrong_options_end_the_program_with_a_message(arguments, monkeypatch, capsys):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code not in (0, None)
    assert "python -m bncourse.distributed: error: " in f"{caught.value.code}{capsys.readouterr().err}"
    assert not capsys.readouterr().out


def test_each_process_needs_a_gpu_of_its_own(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit):
        main(["--device", "cuda"])
    assert "expected a GPU for each process of this machine; got 1" in capsys.readouterr().err
