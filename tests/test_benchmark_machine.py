"""What a machine can do: that the calls do what they are named for. How long they take is not tested."""

import os
import threading

import numpy as np
import pytest
import torch
from counted_passes import Ledger, counted
from threadpoolctl import threadpool_info

from bncourse.benchmark import machine
from bncourse.benchmark.memory import peak_bytes
from bncourse.benchmark.timing import Timing
from bncourse.benchmark.traffic import ARRAYS, CACHE, COPY, LEVELS, MEMORY, READ, UPDATE

SHAPE = (16, 4, 32, 32)
BYTES = machine.array_bytes(SHAPE, "float32")


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture
def ledger(monkeypatch):
    """What the probes write, in blocks of two samples."""
    found = Ledger(small=SHAPE[1] * 32 * 32 * 4, block_bytes=0)
    monkeypatch.setattr(machine, "blocks_of", lambda x: [slice(i, i + 2) for i in range(0, len(x), 2)])
    zeros_like = np.zeros_like
    monkeypatch.setattr(np, "zeros_like", lambda a: counted(zeros_like(a), found))
    return found


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("level", LEVELS)
def test_the_probe_of_an_update_moves_two_arrays_however_many_threads_there_are(ledger, level, threads):
    machine.probes(SHAPE, threads=threads, in_a_row=1)[UPDATE, level]()
    assert sum(ledger.moved.values()) == ARRAYS[UPDATE] * BYTES
    assert len(ledger.touched) == threads, "each has its own part, and in a cache the same block again and again"


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_parts_of_all_threads_are_the_whole(threads):
    x = np.empty((16, 2, 3))
    shares = [slice(round(i * 16 / threads), round((i + 1) * 16 / threads)) for i in range(threads)]
    for share in shares:
        parts = machine._same_block(x, share)
        assert sum(part.stop - part.start for part in parts) == share.stop - share.start
        assert {part.start for part in parts} == {share.start}


def test_probes_of_every_kind_and_level_run():
    calls = machine.probes((5, 2, 3, 3), threads=2)
    assert set(calls) == {(kind, level) for kind in (READ, COPY, UPDATE) for level in (MEMORY, CACHE)}
    for call in calls.values():
        call()


@pytest.mark.parametrize("threads", [1, 3, 16])
def test_few_samples_are_shared_by_few_threads(threads):
    calls = machine.probes((2, 6, 3, 3), threads=threads)
    for call in calls.values():
        call()


def test_the_small_operand_of_an_update_divides_the_channels_and_stays_small():
    for channels, row_bytes in ((64, 4096), (64, 4 * 56 * 56), (7, 2**20), (6, 100)):
        few = machine._few_channels(channels, row_bytes)
        assert channels % few == 0 and (few == 1 or few * row_bytes <= machine.SMALL_OPERAND)
    assert machine._few_channels(64, 4096) == 64
    assert machine._few_channels(64, 4 * 56 * 56) == 16


def test_the_curve_of_copies_takes_one_pair_of_arrays_a_thread(monkeypatch):
    monkeypatch.setattr(machine, "LEAST_BYTES", 2**16)
    sizes = [2**k for k in range(16, 23)]
    assert peak_bytes(lambda: machine.copy_curve(sizes, threads=2, runs=2)) < 2 * 2 * 1.1 * sizes[-1]


def test_rates_are_those_of_fast_runs(monkeypatch):
    monkeypatch.setattr(
        machine, "interleave", lambda calls, runs: {key: Timing((5.0, 2.0, 4.0, 1.0, 3.0, 6.0)) for key in calls}
    )
    rates = machine.rates(SHAPE)
    assert set(rates.seconds.values()) == {2.0 / machine.IN_A_ROW}
    assert rates.array_bytes == 16 * 4 * 32 * 32 * 4


def test_calls_side_by_side_run_at_the_same_time():
    meeting = threading.Barrier(3, timeout=20)
    machine._side_by_side([meeting.wait] * 3)()


def test_an_error_in_another_thread_is_not_lost():
    def fail():
        raise ValueError("in the other thread")

    with pytest.raises(ValueError, match="other thread"):
        machine._side_by_side([dict, fail])()


def test_the_curve_counts_bytes_read_and_written_by_all_threads(monkeypatch):
    monkeypatch.setattr(machine, "interleave", lambda calls, **_: {key: Timing((0.5, 0.5)) for key in calls})
    curve = machine.copy_curve([2**20, 2**26], threads=2)
    assert curve[2**20].median == pytest.approx(2 * 2 * machine.LEAST_BYTES / 0.5 * 1e-9)
    assert curve[2**26].low == pytest.approx(2 * 2 * 2**26 / 0.5 * 1e-9), "once, since it is large"


def test_a_copy_copies():
    source, target = np.arange(10), np.zeros(10, int)
    machine._copy(source, target, 2)
    np.testing.assert_array_equal(source, target)


def test_caches_are_read_from_the_system(tmp_path, monkeypatch):
    for index, (kind, level, size) in enumerate(
        [("Data", 1, "48K"), ("Instruction", 1, "32K"), ("Unified", 2, "1024K"), ("Unified", 3, "32M")]
    ):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, text in (("type", kind), ("level", level), ("size", size)):
            (folder / name).write_text(f"{text}\n")
    (tmp_path / "index4").mkdir()  # says nothing
    monkeypatch.setattr(machine, "CACHES", tmp_path)
    assert machine.caches() == {"L1": 48 * 2**10, "L2": 2**20, "L3": 2**25}


def test_a_system_that_says_nothing_has_no_caches(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CACHES", tmp_path / "nowhere")
    assert machine.caches() == {}


def test_a_matrix_product_is_a_point_of_the_roofline(monkeypatch):
    seen = []
    monkeypatch.setattr(
        machine, "interleave", lambda calls, runs: seen.append(blas_threads()) or {"matmul": Timing((0.5, 0.5))}
    )
    name, flops_per_byte, gflops = machine.matmul_point(1, size=60)
    assert "60" in name and seen == [{1}]
    assert flops_per_byte == 2 * 60**3 / (3 * 60 * 60 * 4) == 10
    assert gflops == pytest.approx(2 * 60**3 / 0.5 * 1e-9)


def test_threads_are_given_back():
    before = torch.get_num_threads(), blas_threads()
    with machine.use_threads(3):
        assert (torch.get_num_threads(), blas_threads()) == (3, {1})
    assert (torch.get_num_threads(), blas_threads()) == before


def test_waiting_threads_sleep_unless_someone_decided_otherwise(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    machine.let_waiting_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == "active"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    machine.let_waiting_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == "passive"
