"""The model of a collective's cost says what its algorithm sends, and is found again in measured times."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bncourse.distributed import cost
from bncourse.distributed.cost import (
    ALL_GATHER,
    ALL_REDUCE,
    Cost,
    Measurement,
    Network,
    Traffic,
    all_gather_time,
    all_gather_traffic,
    all_reduce_time,
    all_reduce_traffic,
    devices_until,
    fit,
    layer_time,
    measure,
)

RNG = np.random.default_rng(0)


# The algorithms, on lists


class Wires:
    """Carries the messages of devices, step by step, and counts the steps and the bytes of each one's longest."""

    def __init__(self) -> None:
        self.messages, self.bytes = 0, 0

    def step(self, sent: dict[int, tuple[int, np.ndarray]]) -> dict[int, np.ndarray]:
        """From {sender: (receiver, numbers)} to {receiver: numbers}; no device receives two at a time."""
        received = {receiver: numbers.copy() for receiver, numbers in sent.values()}
        assert len(received) == len(sent)
        self.messages += 1
        self.bytes += max(numbers.nbytes for numbers in received.values())
        return received

    @property
    def traffic(self) -> Traffic:
        return Traffic(self.messages, self.bytes)


def gather_around_a_ring(wires: Wires, given: np.ndarray) -> list[np.ndarray]:
    count = len(given)
    found = [{rank: numbers} for rank, numbers in enumerate(given)]
    for step in range(count - 1):
        # What came last began its way ``step`` places before.
        received = wires.step({r: ((r + 1) % count, found[r][(r - step) % count]) for r in range(count)})
        for rank, numbers in received.items():
            found[rank][(rank - step - 1) % count] = numbers
    return [np.array([blocks[i] for i in range(count)]) for blocks in found]


def gather_by_doubling(wires: Wires, given: np.ndarray) -> list[np.ndarray]:
    count = len(given)
    found = [numbers[None] for numbers in given]  # own numbers first, then of those before
    while (held := len(found[0])) < count:
        missing = min(held, count - held)
        received = wires.step({r: ((r + held) % count, found[r][:missing]) for r in range(count)})
        found = [np.concatenate([found[r], received[r]]) for r in range(count)]
    return [np.array([blocks[(rank - i) % count] for i in range(count)]) for rank, blocks in enumerate(found)]


def reduce_around_a_ring(wires: Wires, given: np.ndarray) -> list[np.ndarray]:
    count = len(given)
    parts = [list(np.split(numbers, count)) for numbers in given]
    for step in range(count - 1):
        received = wires.step({r: ((r + 1) % count, parts[r][(r - step) % count]) for r in range(count)})
        for rank, numbers in received.items():
            parts[rank][(rank - step - 1) % count] = parts[rank][(rank - step - 1) % count] + numbers
    for step in range(count - 1):  # each has the sum of the part after its own
        received = wires.step({r: ((r + 1) % count, parts[r][(r + 1 - step) % count]) for r in range(count)})
        for rank, numbers in received.items():
            parts[rank][(rank - step) % count] = numbers
    return [np.concatenate(own) for own in parts]


def reduce_over_a_tree(wires: Wires, given: np.ndarray) -> list[np.ndarray]:
    count, sums = len(given), [numbers.copy() for numbers in given]
    distances = [2**k for k in range(20) if 2**k < count]
    for distance in distances:
        senders = range(distance, count, 2 * distance)
        for rank, numbers in wires.step({r: (r - distance, sums[r]) for r in senders}).items():
            sums[rank] += numbers
    for distance in reversed(distances):
        receivers = range(distance, count, 2 * distance)
        for rank, numbers in wires.step({r - distance: (r, sums[r - distance]) for r in receivers}).items():
            sums[rank] = numbers
    return sums


@pytest.mark.parametrize("devices", [1, 2, 3, 4, 5, 6, 7, 8, 13, 16])
@pytest.mark.parametrize(("algorithm", "simulated"), [("ring", gather_around_a_ring), ("doubling", gather_by_doubling)])
def test_an_all_gather_sends_what_the_model_says(devices: int, algorithm: str, simulated: Callable):
    wires, given = Wires(), RNG.normal(size=(devices, 5))
    for found in simulated(wires, given):
        assert np.array_equal(found, given)
    assert all_gather_traffic(devices, 5 * 8, algorithm) == wires.traffic


@pytest.mark.parametrize("devices", [1, 2, 3, 4, 5, 6, 7, 8, 13, 16])
@pytest.mark.parametrize(("algorithm", "simulated"), [("ring", reduce_around_a_ring), ("tree", reduce_over_a_tree)])
def test_an_all_reduce_sends_what_the_model_says(devices: int, algorithm: str, simulated: Callable):
    wires, given = Wires(), RNG.normal(size=(devices, 3 * devices))
    for found in simulated(wires, given):
        assert found == pytest.approx(given.sum(0))
    assert all_reduce_traffic(devices, 3 * devices * 8, algorithm) == wires.traffic


# Times


def test_times_are_those_of_the_formulas():
    latency, bandwidth, devices, size = 3e-6, 20e9, 100, 5000
    network = Network(latency, bandwidth)
    per_message = latency + size / bandwidth
    assert all_gather_time(network, devices, size) == pytest.approx(99 * per_message)
    assert all_gather_time(network, devices, size, "doubling") == pytest.approx(7 * latency + 99 * size / bandwidth)
    assert all_reduce_time(network, devices, size) == pytest.approx(2 * 99 * (latency + size / (100 * bandwidth)))
    assert all_reduce_time(network, devices, size, "tree") == pytest.approx(2 * 7 * per_message)


def test_a_cost_has_a_term_for_the_messages_and_one_for_the_bytes():
    found = Network(3e-6, 20e9).cost(Traffic(7, 40_000))
    assert (found.latency, found.transfer) == pytest.approx((21e-6, 2e-6))
    assert found.seconds == pytest.approx(23e-6)


@pytest.mark.parametrize(
    ("traffic", "wrong"), [(all_gather_traffic, "tree"), (all_reduce_traffic, "doubling"), (all_reduce_traffic, "Ring")]
)
def test_an_unknown_algorithm_is_refused(traffic: Callable, wrong: str):
    with pytest.raises(ValueError, match=f"expected the algorithm ring or .*; got '{wrong}'"):
        traffic(4, 8, wrong)


@pytest.mark.parametrize(("devices", "size"), [(0, 8), (2, -1)])
@pytest.mark.parametrize("traffic", [all_gather_traffic, all_reduce_traffic])
def test_no_devices_or_negative_bytes_are_refused(traffic: Callable, devices: int, size: int):
    with pytest.raises(ValueError, match=f"got {devices} and {size}"):
        traffic(devices, size)


@pytest.mark.parametrize(("latency", "bandwidth"), [(-1e-6, 1e9), (1e-6, 0), (1e-6, -1e9), (float("nan"), 1e9)])
def test_an_impossible_network_is_refused(latency: float, bandwidth: float):
    with pytest.raises(ValueError, match="expected a latency of at least 0"):
        Network(latency, bandwidth)


# The layer


def test_the_layer_sends_two_numbers_per_channel_and_forward_the_count():
    assert cost.forward_bytes(64) == 8 * 129
    assert cost.backward_bytes(64) == 8 * 128


def test_the_layers_own_time_is_that_of_its_passes():
    assert layer_time((32, 64, 112, 112), 2, 3e12) == pytest.approx(3 * 51_380_224 / 3e12)
    assert layer_time((5, 7), 4, 1e9, cost.BACKWARD_PASSES) == pytest.approx(5 * 140 / 1e9)


@pytest.mark.parametrize(("seconds", "expected"), [(0, 2), (10, 2), (10.5, 3), (15, 3), (15.1, 4), (500, 100)])
def test_the_number_of_devices_that_take_so_long_is_found(seconds: float, expected: int):
    assert devices_until(seconds, lambda p: 5.0 * p) == expected


def test_a_number_of_devices_beyond_the_search_is_none():
    assert devices_until(5 * 64.0, lambda p: 5.0 * p, most=64) == 64
    assert devices_until(5 * 64.1, lambda p: 5.0 * p, most=64) is None


# Fit and measurement


def made_up(network: Network, noise: float = 0.0, sizes: tuple[int, ...] = cost.SIZES) -> list[Measurement]:
    """What a network would give to 2, 3 and 4 processes, each time off by a share of about ``noise``."""
    found = []
    for collective, of in ((ALL_GATHER, all_gather_traffic), (ALL_REDUCE, all_reduce_traffic)):
        for count in (2, 3, 4):
            for size in sizes:
                seconds = network.cost(of(count, size)).seconds * np.exp(noise * RNG.normal())
                found.append(Measurement(collective, count, size, seconds))
    return found


@pytest.mark.parametrize(("latency", "bandwidth"), [(30e-6, 1.5e9), (2e-6, 50e9), (1e-3, 1e7)])
def test_a_fit_finds_latency_and_bandwidth_again(latency: float, bandwidth: float):
    exact = fit(made_up(Network(latency, bandwidth)))
    assert (exact.latency, exact.bandwidth) == pytest.approx((latency, bandwidth), rel=1e-9)
    noisy = fit(made_up(Network(latency, bandwidth), noise=0.1))
    assert (noisy.latency, noisy.bandwidth) == pytest.approx((latency, bandwidth), rel=0.15)


def test_errors_count_in_proportion_to_the_time():
    network = Network(30e-6, 1.5e9)
    found = made_up(network, sizes=(64, 512, 4096, 2**19, 2**20))
    share = {2**19: 1.2, 2**20: 0.8}
    found = fit(replace(m, fastest=m.fastest * share.get(m.bytes, 1)) for m in found)
    assert found.latency == pytest.approx(network.latency, rel=0.01), "20 % of a millisecond are more than all of α"


@pytest.mark.parametrize("pick", [slice(0), slice(2), slice(None, None, 6)])
def test_a_fit_of_too_few_sizes_is_refused(pick: slice):
    gathers = [m for m in made_up(Network(30e-6, 1.5e9)) if m.collective == ALL_GATHER]
    with pytest.raises(ValueError, match="at least three measurements, of different sizes"):
        fit(gathers[pick])


@pytest.mark.parametrize("power", [-1, 2])
def test_a_fit_to_times_that_fall_with_the_size_or_come_from_below_0_is_refused(power: int):
    strange = [Measurement(ALL_GATHER, 2, size, 1e-9 * float(size) ** power) for size in (1000, 2000, 4000)]
    with pytest.raises(ValueError, match="expected times that rise"):
        fit(strange)


def test_the_time_of_a_collective_is_that_of_the_slowest_process(monkeypatch: pytest.MonkeyPatch):
    seconds = RNG.uniform(1, 2, size=(3, 2, 4, 7))  # processes, collectives, sizes, repeats
    asked = []
    monkeypatch.setattr(cost, "run", lambda *given, **named: asked.append((given[1:], named)) or list(seconds))
    found = measure(3, (8, 16, 24, 32), repeats=7)
    assert asked == [(([8, 16, 24, 32], 7, 3), {"processes": 3})]
    assert [(m.collective, m.bytes) for m in found] == [
        (c, s) for c in (ALL_GATHER, ALL_REDUCE) for s in (8, 16, 24, 32)
    ]
    assert {m.processes for m in found} == {3}
    slowest = seconds.max(axis=0)
    assert [m.fastest for m in found] == pytest.approx(slowest.min(axis=-1).ravel())


def test_every_collective_begins_after_a_barrier(monkeypatch: pytest.MonkeyPatch):
    log = []
    monkeypatch.setattr(cost, "track", list)
    stand_in = SimpleNamespace(
        get_world_size=lambda: 3,
        barrier=lambda: log.append("barrier"),
        all_gather_single=lambda received, sent: log.append((len(received), len(sent))),
        all_reduce=lambda sent: log.append(len(sent)),
    )
    monkeypatch.setattr(cost, "dist", stand_in)
    clock = SimpleNamespace(perf_counter=lambda: log.append("clock") or log.count("clock") ** 2)
    monkeypatch.setattr(cost, "time", clock)
    seconds = cost._seconds([8, 40], repeats=2, warmup=1)
    calls = [what for what in ((3, 1), 1, (15, 5), 5) for _ in range(3)]
    assert log == [event for what in calls for event in ("barrier", "clock", what, "clock")]
    # Call i is timed from (2 i + 1)² to (2 i + 2)²; the first of every three is left out.
    taken = np.array([(2 * i + 2) ** 2 - (2 * i + 1) ** 2 for i in range(12)]).reshape(2, 2, 3)[:, :, 1:]
    assert np.array_equal(seconds, taken.swapaxes(0, 1))


def test_two_processes_are_measured():
    found = measure(2, (8, 4096, 2**18), repeats=5)
    assert [(m.collective, m.processes, m.bytes) for m in found] == [
        (collective, 2, size) for collective in (ALL_GATHER, ALL_REDUCE) for size in (8, 4096, 2**18)
    ]
    for m in found:
        assert 1e-7 < m.fastest < 10


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"processes": 1}, "at least 2 processes"),
        ({"processes": 2, "repeats": 0}, "at least 2 processes and 1 repeat; got 2 and 0"),
        ({"processes": 2, "sizes": [8, 12]}, r"got \[12\]"),
        ({"processes": 2, "sizes": [0]}, r"got \[0\]"),
    ],
)
def test_a_measurement_of_nothing_is_refused(given: dict, message: str):
    with pytest.raises(ValueError, match=message):
        measure(**given)


def test_what_was_measured_is_compared_with_a_ring():
    gather, reduce = (Measurement(name, 3, 600, 1.0) for name in (ALL_GATHER, ALL_REDUCE))
    assert gather.traffic == Traffic(2, 1200)
    assert reduce.traffic == Traffic(4, 800)
    assert Cost(1.0, 2.0).seconds == 3.0
