"""The byte model."""

import pytest

from bncourse.benchmark.traffic import CACHE, COPY, MEMORY, READ, UPDATE, Pass, Rates, arrays_moved

PASSES = (Pass(READ, MEMORY), Pass(COPY, MEMORY), Pass(UPDATE, CACHE), Pass(UPDATE, CACHE))
SECONDS = {(READ, MEMORY): 1.0, (COPY, MEMORY): 2.5, (UPDATE, CACHE): 0.25, (READ, CACHE): 100.0}
RATES = Rates(SECONDS, array_bytes=1000)


def test_a_read_moves_one_array_and_the_others_two():
    assert [arrays_moved([Pass(kind, MEMORY)]) for kind in (READ, COPY, UPDATE)] == [1, 2, 2]


def test_arrays_are_counted_apart_by_level():
    assert (arrays_moved(PASSES), arrays_moved(PASSES, MEMORY), arrays_moved(PASSES, CACHE)) == (7, 3, 4)


def test_the_prediction_is_the_sum_over_the_passes():
    assert RATES.predict(PASSES) == 1.0 + 2.5 + 2 * 0.25
    assert RATES.predict([]) == 0


def test_bandwidth_counts_what_is_read_and_what_is_written():
    assert RATES.bandwidth(READ, MEMORY) == 1000
    assert RATES.bandwidth(COPY, MEMORY) == pytest.approx(2 * 1000 / 2.5)


def test_a_pass_of_a_kind_that_was_not_measured_is_an_error():
    with pytest.raises(KeyError):
        RATES.predict([Pass(UPDATE, MEMORY)])
