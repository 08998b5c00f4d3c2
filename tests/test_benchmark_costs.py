"""What norms cost: that the calls do what they are named for, that the record holds, and how it is read."""

import json
from dataclasses import asdict

import pytest
import torch
from torch.nn import functional as F

from bncourse import functional
from bncourse.benchmark import costs
from bncourse.benchmark.costs import IMPLEMENTATIONS, LAYOUTS, OPERATIONS
from bncourse.benchmark.timing import Timing
from bncourse.claims.running import one_thread

SMALL = {"images": (4, 64, 3, 5), "tokens": (6, 256)}
OVER = {  # the axes that a norm averages over, of (N, G, C / G, H, W) or (N, G, D / G)
    ("images", "batch norm"): (0, 3, 4),
    ("images", "group norm"): (2, 3, 4),
    ("images", "layer norm"): (1, 2, 3, 4),
    ("images", "instance norm"): (3, 4),
    ("tokens", "batch norm"): (0,),
    ("tokens", "group norm"): (2,),
    ("tokens", "layer norm"): (1, 2),
    ("tokens", "RMS norm"): (1, 2),
}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("layout", "norm"), OVER)
def test_each_norm_is_the_one_that_it_is_named_for(layout, norm, implementation):
    shape = SMALL[layout]
    x, weight, bias = torch.randn(*shape), torch.randn(shape[1]), torch.randn(shape[1])
    y = costs.norms(layout, IMPLEMENTATIONS[implementation])[norm](x, weight, bias, True)
    grouped, axes = x.unflatten(1, (costs.GROUPS, -1)), OVER[layout, norm]
    mean = 0 if norm == "RMS norm" else grouped.mean(axes, keepdim=True)
    var = (grouped - mean).square().mean(axes, keepdim=True)
    x_hat = ((grouped - mean) / (var + (0 if norm == "RMS norm" else 1e-5)).sqrt()).view(shape)
    per_channel = (-1, *(1 for _ in shape[2:]))
    shift = 0 if norm == "RMS norm" else bias.view(per_channel)
    torch.testing.assert_close(y, x_hat * weight.view(per_channel) + shift, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_batch_norm_in_evaluation_uses_no_statistics_of_the_batch(layout):
    norm = costs.norms(layout, F)["batch norm"]
    x, weight, bias = torch.randn(SMALL[layout]), torch.randn(SMALL[layout][1]), torch.randn(SMALL[layout][1])
    torch.testing.assert_close(norm(x, weight, bias, False)[:1], norm(x[:1], weight, bias, False))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_both_implementations_give_the_same_gradients(layout):
    results = [
        {
            name: costs.calls(norm, SMALL[layout])["forward + backward"]()
            for name, norm in costs.norms(layout, m).items()
        }
        for m in (F, functional)
    ]
    for name, (y, (dx, dweight, dbias)) in results[0].items():
        other, (dx2, dweight2, dbias2) = results[1][name]
        torch.testing.assert_close((y, dx, dweight), (other, dx2, dweight2), rtol=1e-3, atol=1e-4)
        assert (dbias is None) == (dbias2 is None) == (name == "RMS norm")


def test_times_are_multiples_round_by_round(monkeypatch):
    seconds = {"batch norm": (0.001, 0.002), "copy": (0.0005, 0.001), "layer norm": (0.003, 0.006)}
    monkeypatch.setattr(
        costs, "interleave", lambda calls, **_: {name: Timing(seconds.get(name, (1.0, 1.0))) for name in calls}
    )
    found = {(c.operation, c.norm): c for c in costs.measure("tokens", "PyTorch", 2, SMALL["tokens"])}
    cost = found["forward", "layer norm"]
    assert cost.times_batch_norm.median == pytest.approx(3) and cost.times_copy.median == pytest.approx(6)
    assert cost.milliseconds.median == pytest.approx(4.5)
    assert found["evaluation", "batch norm"].times_batch_norm.median == 1
    assert {operation for operation, _ in found} == set(OPERATIONS)


def test_a_record_is_read_as_it_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "LAYOUTS", SMALL)
    threads = torch.get_num_threads()
    costs.record(2, "a command", tmp_path / "costs.json")
    assert torch.get_num_threads() == threads
    found = costs.load(tmp_path / "costs.json")
    assert found.norms("tokens") == ["batch norm", "group norm", "layer norm", "RMS norm"]
    cost = found["tokens", "course", "evaluation", "RMS norm"]
    assert cost.times_copy.low <= cost.times_copy.median <= cost.times_copy.high
    assert found.fields["command"] == "a command" and found.fields["commit"] and found.fields["machine"]
    assert asdict(cost) in json.loads((tmp_path / "costs.json").read_text())["costs"]


# The record of the course


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_record_has_every_norm_and_says_where_it_comes_from(layout):
    recorded = costs.load()
    assert recorded.fields["shapes"][layout] == list(LAYOUTS[layout])
    for key in ("machine", "date", "versions", "command", "commit", "runs", "threads"):
        assert recorded.fields[key]
    for implementation, module in IMPLEMENTATIONS.items():
        assert recorded.norms(layout) == list(costs.norms(layout, module))
        for operation in OPERATIONS:
            for norm in recorded.norms(layout):
                assert recorded[layout, implementation, operation, norm].milliseconds.low > 0


def test_a_slice_of_the_record_comes_out_again():
    """Memory exactly; time within a factor of three, since ratios differ between processors."""
    recorded = costs.load()
    with one_thread():
        for cost in costs.measure("tokens", "PyTorch", 5):
            before = recorded["tokens", "PyTorch", cost.operation, cost.norm]
            assert cost.saved == pytest.approx(before.saved, rel=1e-3)
            if cost.operation == "forward + backward":
                assert 1 / 3 < cost.times_batch_norm.median / before.times_batch_norm.median < 3
