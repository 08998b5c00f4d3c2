import itertools
import time

import numpy as np
import pytest
import torch

from bncourse.benchmark import __main__ as benchmark
from bncourse.benchmark import composed, sweeps
from bncourse.benchmark.arrays import Arguments
from bncourse.benchmark.memory import peak_bytes, saved_bytes
from bncourse.benchmark.timing import Spread, Timing, interleave


class FakeClock:
    """A clock that only candidates advance."""

    def __init__(self):
        self.now = 100.0
        self.calls = []

    def candidate(self, name: str, durations: list[float]):
        remaining = iter(durations)

        def call():
            self.calls.append(name)
            self.now += next(remaining)

        return call


def test_candidates_take_turns_and_everybody_follows_everybody():
    clock = FakeClock()
    candidates = {name: clock.candidate(name, [1] * 24) for name in "ABC"}
    interleave(candidates, runs=22, warmup=2, clock=lambda: clock.now)
    rounds = [clock.calls[i : i + 3] for i in range(0, len(clock.calls), 3)]
    assert all(sorted(names) == ["A", "B", "C"] for names in rounds)
    assert {(before, after) for names in rounds for before, after in itertools.pairwise(names)} == {
        (before, after) for before in "ABC" for after in "ABC" if before != after
    }


def test_the_order_is_the_same_in_every_program():
    def order() -> list[str]:
        clock = FakeClock()
        interleave({name: clock.candidate(name, [1] * 9) for name in "ABC"}, runs=6, clock=lambda: clock.now)
        return clock.calls

    assert order() == order()


def test_only_runs_after_the_warmup_are_timed():
    clock = FakeClock()
    candidates = {"A": clock.candidate("A", [50, 40, 1, 2, 3]), "B": clock.candidate("B", [9, 9, 4, 6, 5])}
    timings = interleave(candidates, runs=3, warmup=2, clock=lambda: clock.now)
    assert timings == {"A": Timing((1, 2, 3)), "B": Timing((4, 6, 5))}


def test_freeing_a_result_is_not_timed():
    clock = FakeClock()

    class Result:
        def __del__(self):
            clock.now += 7

    timings = interleave({"A": Result}, runs=2, warmup=1, clock=lambda: clock.now)
    assert timings["A"].seconds == (0, 0)
    assert clock.now == 100 + 3 * 7


@pytest.mark.parametrize("runs", [-1, 0, 1])
def test_fewer_than_two_runs_are_refused(runs):
    with pytest.raises(ValueError, match=f"expected at least 2 runs.*got {runs}.*15"):
        interleave({"A": dict}, runs=runs)


def test_spread_is_the_median_and_the_20th_and_80th_percentile():
    values = (9.0, 1.0, 5.0, 3.0, 11.0, 7.0)
    low, median, high = np.percentile(values, [20, 50, 80])
    assert Timing(values).spread == Spread(median=median, low=low, high=high) == Spread(6, 3, 9)


def test_speed_compares_run_by_run():
    """A machine that slows down tenfold halfway slows both, and the ratio stays."""
    baseline, candidate = Timing((2, 4, 20, 40)), Timing((1, 2, 10, 20))
    assert candidate.speed(baseline) == Spread(2, 2, 2)
    assert baseline.speed(candidate) == Spread(0.5, 0.5, 0.5)


def test_speed_is_the_median_of_ratios_not_the_ratio_of_medians():
    assert Timing((1, 2, 8)).speed(Timing((3, 2, 4))).median == 1
    assert Timing((1, 2, 8)).spread.median * 1.5 == Timing((3, 2, 4)).spread.median


def test_timings_of_different_rounds_are_not_compared():
    with pytest.raises(ValueError, match="longer"):
        Timing((1, 2)).speed(Timing((1, 2, 3)))


def test_peak_memory_counts_what_is_held_at_one_time():
    size = 10_000_000

    def call():
        np.ones(2 * size, np.uint8)  # freed at once
        first = np.ones(size, np.uint8)
        return first, np.ones(3 * size, np.uint8)

    assert peak_bytes(call) == pytest.approx(4 * size, rel=0.01)


def test_description_gives_milliseconds_and_speed():
    timing, baseline = Timing((0.002, 0.002)), Timing((0.001, 0.001))
    assert benchmark.describe(timing, baseline) == ("2.0 (2.0 to 2.0)", "0.50 (0.50 to 0.50)")


def test_memory_saved_for_backward_counts_shared_memory_once():
    x = torch.randn(1000, requires_grad=True)
    assert saved_bytes(lambda: x * x) == 4000
    assert saved_bytes(lambda: (x * 2) * (x * 3)) == 8000
    assert saved_bytes(lambda: x + 1) == 0


def test_composed_batch_norm_keeps_the_running_statistics_of_pytorch():
    a = Arguments.random((4, 3, 5, 5), "float64")
    results = []
    for batch_norm in (composed.batch_norm, torch.nn.functional.batch_norm):
        running = torch.tensor(a.running_mean), torch.tensor(a.running_var)
        for scale in (1, 2, 3):
            batch_norm(torch.tensor(a.x * scale), *running, torch.tensor(a.weight), torch.tensor(a.bias), training=True)
        results.append(running)
    torch.testing.assert_close(*results)


def test_the_table_has_a_row_for_each_operation_and_implementation(monkeypatch):
    monkeypatch.setattr(
        benchmark, "interleave", lambda calls, runs: {name: Timing((n + 1.0,) * runs) for n, name in enumerate(calls)}
    )
    lines = benchmark.rows(Arguments.random((4, 3, 5, 5), "float32"), runs=2)
    names = ("reference", "blocked", "composed", "functional", "PyTorch")
    assert [line[:2] for line in lines] == [
        (what, name) for what in ("forward", "forward + backward") for name in names
    ]
    speeds = [f"{speed} ({speed} to {speed})" for speed in ("5.00", "2.50", "1.67", "1.25", "1.00")]
    assert [line[3] for line in lines] == speeds * 2
    assert [line[4] == "not seen" for line in lines] == [False, False, True, True, True] * 2
    saved = {line[1]: float(line[5]) for line in lines if line[5] != "-"}
    assert saved["functional"] < 1.4
    assert saved["composed"] > 2.9
    assert all(float(line[6]) < 1e-5 for line in lines)


def test_table_lines_up_its_columns():
    assert benchmark.table(("a", "bb"), [("ccc", "d"), ("e", "f")]) == "a    bb\nccc  d\ne    f"


# Sweeps


@pytest.mark.parametrize("norm", sweeps.NORMS)
def test_a_sweep_does_the_work_of_the_loop(norm, monkeypatch):
    monkeypatch.setattr(sweeps, "EPOCHS", 1)
    data = sweeps.digits("vectors")
    loop, sweep = (call() for call in sweeps.candidates(norm, data).values())
    for mine, theirs in zip(sweep.histories, loop, strict=True):
        for one, other in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(one.step_loss[:10], other.step_loss[:10], rtol=1e-3)
            assert len(one.step_loss) == len(other.step_loss) and len(one.validation_metric) == 1


def test_a_sweep_of_16_networks_with_batch_norm_is_at_least_4_times_as_fast_as_the_loop(monkeypatch):
    """Time of the processor, the best of several rounds: 5 to 6 times on a machine with nothing else to do."""
    monkeypatch.setattr(sweeps, "EPOCHS", 3)
    candidates = sweeps.candidates("batch norm", sweeps.digits("vectors"))
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(8):
        for name, timing in interleave(candidates, runs=2, warmup=0, clock=time.process_time).items():
            best[name] = min(best[name], *timing.seconds)
        if best[sweeps.LOOP] >= 4 * best[sweeps.SWEEP]:
            return
    assert best[sweeps.LOOP] >= 4 * best[sweeps.SWEEP]


def test_the_table_of_sweeps_has_a_row_for_each_norm_and_number_of_threads(monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.setattr(
        sweeps,
        "interleave",
        lambda calls, runs, warmup: {n: Timing((2.0 / (i + 1),) * runs) for i, n in enumerate(calls)},
    )
    try:
        lines = benchmark.sweep_rows(2, {2, 1})
    finally:
        torch.set_num_threads(threads)
    assert [line[:2] for line in lines] == [(count, norm) for count in ("1", "2") for norm in sweeps.NORMS]
    assert {line[2:] for line in lines} == {
        ("2000.0 (2000.0 to 2000.0)", "1000.0 (1000.0 to 1000.0)", "2.00 (2.00 to 2.00)")
    }
