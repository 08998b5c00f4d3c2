"""Predicted beside measured, on made-up times."""

import numpy as np
import pytest

from bncourse.benchmark import predictions
from bncourse.benchmark.ladder import Cause
from bncourse.benchmark.timing import Timing
from bncourse.benchmark.traffic import CACHE, COPY, MEMORY, READ, UPDATE, Pass, Rates, Step

SHAPE = (2, 5, 10, 10)  # 1000 values, 4000 bytes
PASSES = (Pass(READ, MEMORY), Pass(COPY, MEMORY), Pass(UPDATE, CACHE))
STEPS = [Step("alone", dict, PASSES, 5), Step("together", dict, PASSES, 5, threads=2)]


def take(monkeypatch, seconds: dict) -> list:
    """Let calls take the seconds that stand under their names, and all others one; returns the names that come."""
    names = []

    def interleave(calls, *, runs):
        names.extend(calls)
        return {name: Timing((seconds.get(name, 1.0),) * runs) for name in calls}

    monkeypatch.setattr(predictions, "interleave", interleave)
    return names


def rates(factor: float) -> Rates:
    seconds = {(READ, MEMORY): 0.5, (COPY, MEMORY): 1.0, (UPDATE, CACHE): 0.25}
    return Rates({key: factor * value for key, value in seconds.items()}, array_bytes=4000)


def test_a_row_compares_the_measured_time_with_the_prediction():
    timings = {"alone": Timing((3.5e-6,) * 2), "together": Timing((1.75e-6,) * 2)}
    alone, together = predictions.rows(STEPS, timings, {1: rates(1e-6), 2: rates(5e-7)})
    assert (alone.name, alone.memory_arrays, alone.cache_arrays, alone.threads) == ("alone", 3, 2, 1)
    assert alone.predicted == pytest.approx(1.75e-6)
    assert alone.measured.median == 3.5e-6
    assert alone.times_predicted == pytest.approx(2)
    assert alone.gflops == pytest.approx(5 * 1000 / 3.5e-6 / 1e9)
    assert alone.flops_per_byte == pytest.approx(5 * 1000 / (3 * 4000)), "of the bytes from memory"
    assert together.predicted == pytest.approx(0.875e-6), "with the rates of two threads"


def test_steps_and_simplest_calls_take_turns_in_one_run(monkeypatch):
    slow = {(2, COPY, MEMORY): 8.0}
    names = take(monkeypatch, slow)
    found, rows = predictions.measure(STEPS, SHAPE, runs=2)
    assert len(names) == len(set(names)) == 2 + 2 * 6
    in_a_row = predictions.machine.IN_A_ROW
    assert found[1].seconds[COPY, MEMORY] == 1 / in_a_row and found[2].seconds[COPY, MEMORY] == 8 / in_a_row
    assert [row.predicted for row in rows] == [3 / in_a_row, 10 / in_a_row]
    assert found[1].array_bytes == 4000


def test_a_cause_is_measured_round_by_round_and_its_pages_are_counted(monkeypatch):
    take(monkeypatch, {("c", "slow"): 6.0, ("c", "fast"): 2.0})
    monkeypatch.setattr(predictions, "page_faults", lambda call: call())
    (gap,) = predictions.measure_causes([Cause("c", lambda: 7, lambda: 0, "because")], runs=2)
    assert (gap.name, gap.why, gap.slow.median, gap.fast.median) == ("c", "because", 6, 2)
    assert gap.times.median == 3
    assert (gap.slow_faults, gap.fast_faults) == (7, 0)


def test_the_model_is_measured_in_the_order_of_the_steps():
    _, rows = predictions.measure([Step(name, lambda: np.zeros(10), PASSES, 1) for name in "ba"], SHAPE, runs=2)
    assert [row.name for row in rows] == ["b", "a"]
    assert all(row.measured.median > 0 and row.predicted > 0 for row in rows)
