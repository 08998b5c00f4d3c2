"""The record of chapter 8: how it is made and read, and what it holds."""

import json
import math
import time
from dataclasses import asdict

import pytest
import torch

from bncourse.benchmark import cpu, ladder, machine, peers, predictions
from bncourse.benchmark.arrays import SHAPE, Arguments
from bncourse.benchmark.timing import Spread, Timing, interleave
from bncourse.benchmark.traffic import arrays_moved

SMALL = (4, 3, 6, 6)
ALWAYS = (peers.PLAIN, peers.NODES, peers.REFERENCE, peers.BLOCKED, peers.BLOCKED_OUT)
TORCH = (peers.COMPOSED, peers.FUNCTIONAL, peers.PYTORCH, peers.CHANNELS_LAST)


@pytest.fixture
def small(monkeypatch):
    """Everything on small arrays, without torch.compile."""
    monkeypatch.setattr(cpu, "SHAPE", SMALL)
    monkeypatch.setattr(cpu, "LADDERS", {name: (steps, SMALL) for name, (steps, _) in cpu.LADDERS.items()})
    monkeypatch.setattr(cpu, "SWEEPS", {"N": [(2, (2, 3, 6, 6)), (4, SMALL)], "H": [(5, (4, 3, 5, 5))]})
    monkeypatch.setattr(cpu, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(peers, "has_compiler", lambda: False)
    monkeypatch.setattr(machine, "CURVE", (2**14, 2**16))
    monkeypatch.setattr(machine, "LEAST_BYTES", 2**16)
    monkeypatch.setattr(machine, "PEAK_SIZE", 64)


def test_a_record_is_read_as_it_was_written(tmp_path, small):
    threads = torch.get_num_threads()
    cpu.record(2, 2, "a command", tmp_path / "cpu.json")
    assert torch.get_num_threads() == threads
    found = cpu.load(tmp_path / "cpu.json")
    assert found.fields["command"] == "a command" and found.fields["shape"] == list(SMALL)
    row = found.implementation(peers.BLOCKED, peers.BOTH, 2)
    assert row.milliseconds.low <= row.milliseconds.median <= row.milliseconds.high
    assert asdict(row) in json.loads((tmp_path / "cpu.json").read_text())["implementations"]
    for group, rows in found.steps.items():
        for step in rows:
            rates = found.rates[group][step.threads]
            assert step.times_predicted == pytest.approx(step.measured.median / step.predicted, rel=1e-3)
            assert rates.array_bytes == 4 * math.prod(SMALL) and len(rates.seconds) == 6
    assert [growth.size for growth in found.growing("N", 2)[peers.PYTORCH]] == [2, 4]
    assert found.growing("H", 1)[cpu.COPYING][0].values == 4 * 3 * 5 * 5
    assert set(found.curve) == set(found.peaks) == {1, 2} and set(found.curve[1]) == {2**14, 2**16}


def test_growth_per_value_is_the_time_divided_by_the_values():
    growth = cpu.Growth("copy", "N", 2, 1000, 1, Spread(2.0, 1.0, 4.0))
    assert growth.ns_per_value == Spread(2000, 1000, 4000)
    assert growth.array_bytes == 4000


def test_speeds_are_multiples_round_by_round(monkeypatch):
    seconds = {peers.PYTORCH: (0.004, 0.008), peers.PLAIN: (0.01, 0.02), peers.BLOCKED: (0.002, 0.004)}
    monkeypatch.setattr(cpu, "interleave", lambda calls, runs: {n: Timing(seconds.get(n, (1.0, 1.0))) for n in calls})
    monkeypatch.setattr(peers, "has_compiler", lambda: False)
    rows = {(r.name, r.operation): r for r in cpu.implementations(Arguments.random(SMALL), 1, 2)}
    row = rows[peers.BLOCKED, peers.FORWARD]
    assert (row.milliseconds.median, row.times_pytorch.median, row.times_plain.median) == pytest.approx((3, 2, 5))
    assert rows[peers.PYTORCH, peers.BOTH].times_pytorch.median == 1


def test_extra_memory_is_what_comes_beside_the_outputs():
    a = Arguments.random((16, 16, 32, 32))
    found = peers.peers(a, 1, (peers.PLAIN, peers.NODES, peers.PYTORCH))
    memory = {
        (name, what): cpu.extra_memory(name, what, calls, a.x.nbytes)
        for name, calls in found.items()
        for what in peers.OPERATIONS
    }
    assert memory[peers.PLAIN, peers.FORWARD] == pytest.approx(2, abs=0.1), "x̂, and γ · x̂ while β is added"
    assert memory[peers.PLAIN, peers.BOTH] > 3
    assert memory[peers.PYTORCH, peers.BOTH] is None


def test_the_roofline_has_the_steps_of_one_thread_and_a_matrix_product():
    row = predictions.Row("a", 1, 3, 2, 1.0, Spread(1, 1, 1), 1.0, 7.0, 0.5)
    other = predictions.Row("b", 2, 3, 2, 1.0, Spread(1, 1, 1), 1.0, 7.0, 0.5)
    *steps, product = cpu.points({"forward": [row, other], "backward": [row], "relu": [row]})
    assert steps == [("a, forward", 0.5, 7.0), ("a, backward", 0.5, 7.0)]
    assert product.flops_per_byte > 50


def test_the_command_decides_on_runs_threads_and_sleep(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(cpu, "record", lambda *args: asked.append(args))
    monkeypatch.setattr(machine, "let_waiting_threads_sleep", lambda: asked.append("sleep"))
    cpu.main(["--runs", "3", "--threads", "2"])
    assert asked == ["sleep", (3, 2, "python -m bncourse.benchmark.cpu --runs 3 --threads 2")]
    assert "cpu_batch_norm.json" in capsys.readouterr().out


# The record of the course


@pytest.fixture(scope="module")
def recorded():
    return cpu.load()


def test_the_record_says_where_it_comes_from(recorded):
    for key in ("machine", "date", "versions", "command", "commit", "runs", "threads"):
        assert recorded.fields[key]
    assert recorded.fields["shape"] == list(SHAPE)


def test_the_record_has_every_implementation(recorded):
    for threads in sorted({1, recorded.fields["threads"]}):
        for operation in peers.OPERATIONS:
            for name in (*ALWAYS, *TORCH, peers.COMPILED, peers.NUMBA):
                assert recorded.implementation(name, operation, threads).milliseconds.low > 0


def test_the_record_has_every_step_with_the_passes_of_today(recorded):
    a, threads = Arguments.random(SMALL), recorded.fields["threads"]
    for group, (steps, _) in cpu.LADDERS.items():
        arrays = {(s.name, s.threads, arrays_moved(s.passes)) for s in steps(a, threads)}
        assert {(r.name, r.threads, r.memory_arrays + r.cache_arrays) for r in recorded.steps[group]} == arrays
    assert [gap.name for gap in recorded.causes] == [cause.name for cause in ladder.causes(a)]


def test_no_step_is_much_faster_than_the_byte_model(recorded):
    for rows in recorded.steps.values():
        for row in rows:
            assert row.times_predicted > 0.9, row.name


def test_blocked_is_accurate_and_takes_little_memory(recorded):
    for row in recorded.implementations:
        if row.name in (peers.BLOCKED, peers.BLOCKED_OUT):
            assert row.error <= 5e-7 and row.extra_memory <= 0.5


def test_the_record_covers_all_sizes(recorded):
    for threads, curve in recorded.curve.items():
        assert tuple(curve) == machine.CURVE
        for sweep, sizes in cpu.SWEEPS.items():
            for rows in recorded.growing(sweep, threads).values():
                assert [row.size for row in rows] == [size for size, _ in sizes]


def test_the_memory_of_the_record_comes_out_again(recorded):
    with machine.use_threads(1):
        found = peers.peers(Arguments.random(SHAPE), 1, (peers.BLOCKED,))[peers.BLOCKED]
        before = recorded.implementation(peers.BLOCKED, peers.FORWARD, 1)
        assert cpu.extra_memory(peers.BLOCKED, peers.FORWARD, found, 4 * math.prod(SHAPE)) == pytest.approx(
            before.extra_memory, abs=0.02
        )


def test_blocked_takes_less_than_half_the_time_of_plain_numpy():
    """Time of the processor, the best of several rounds; on a machine with nothing else to do, a quarter."""
    found = peers.peers(Arguments.random((32, 64, 32, 32)), 1, (peers.PLAIN, peers.BLOCKED_OUT))
    calls = {name: call[peers.FORWARD] for name, call in found.items()}
    best = dict.fromkeys(calls, math.inf)
    for _ in range(10):
        for name, timing in interleave(calls, runs=2, warmup=1, clock=time.process_time).items():
            best[name] = min(best[name], *timing.seconds)
        if 2 * best[peers.BLOCKED_OUT] < best[peers.PLAIN]:
            return
    assert 2 * best[peers.BLOCKED_OUT] < best[peers.PLAIN]
