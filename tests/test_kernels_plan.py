"""How batch norm is cut into programs and tiles: everything once, within limits, and well where it counts."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bncourse.kernels.plan import (
    MOST_SPLITS,
    PER_MULTIPROCESSOR,
    RESIDENT,
    TILE,
    Plan,
    batch_norm_plan,
)

SMALL = st.tuples(st.integers(1, 300), st.integers(1, 80), st.integers(1, 300))
MATRICES = st.one_of(
    SMALL,
    st.tuples(st.integers(1, 300_000), st.integers(1, 3000), st.just(1)),
    st.tuples(st.integers(1, 300), st.integers(1, 3000), st.integers(1, 70_000)),
)
CHOICES = {
    "itemsize": st.sampled_from((2, 4)),
    "arrays": st.sampled_from((1, 2)),
    "resident": st.sampled_from((None, False)),
}


@given(matrix=MATRICES, **CHOICES)
def test_plans_keep_to_their_limits(matrix, itemsize, arrays, resident):
    plan = batch_norm_plan(*matrix, itemsize=itemsize, arrays=arrays, resident=resident)
    _, channels, width = matrix
    assert (plan.rows, plan.channels, plan.width) == matrix
    blocks = plan.block_rows, plan.block_columns
    assert all(size & (size - 1) == 0 for size in blocks)
    values = math.prod(blocks)
    assert values <= (RESIDENT if plan.resident else max(TILE // arrays, plan.block_columns))
    assert 1 <= plan.splits <= min(plan.tiles, MOST_SPLITS)
    assert plan.group <= channels or width == 1
    if plan.group > 1:  # a program's channels lie in one tile, side by side
        assert plan.group * width <= plan.block_columns
        assert channels % plan.group == 0 or width == 1  # which the masks of the kernels count on
    if plan.resident:
        assert plan.tiles == 1 and plan.splits == 1 and resident is None
    assert 0 <= plan.idle_lanes < 1


@given(matrix=SMALL, **CHOICES)
def test_tiles_hold_every_value_once(matrix, itemsize, arrays, resident):
    plan = batch_norm_plan(*matrix, itemsize=itemsize, arrays=arrays, resident=resident)
    chunks = math.ceil(plan.group * plan.width / plan.block_columns)
    columns = min(plan.group, plan.channels) * plan.width
    seen = sum(
        min(plan.block_rows, plan.rows - tile // chunks * plan.block_rows)
        * min(plan.block_columns, columns - tile % chunks * plan.block_columns)
        for split in range(plan.splits)
        for tile in range(split, plan.tiles, plan.splits)
    )
    assert seen == plan.rows * columns


IMAGENET = {  # of a ResNet: (N, C, H · W), and whether one program can keep a channel
    (64, 64, 112 * 112): False,
    (64, 256, 56 * 56): False,
    (64, 512, 28 * 28): False,
    (64, 1024, 14 * 14): True,
    (64, 2048, 7 * 7): True,
}


@pytest.mark.parametrize("arrays", [1, 2])
@pytest.mark.parametrize("matrix", IMAGENET, ids=str)
def test_small_images_are_resident(matrix, arrays):
    assert batch_norm_plan(*matrix, itemsize=4, arrays=arrays).resident == IMAGENET[matrix]


@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("matrix", [*IMAGENET, (20, 6, 256 * 256), (64 * 56 * 56, 256, 1)], ids=str)
def test_work_is_spread_and_loads_are_wide(matrix, itemsize):
    plan = batch_norm_plan(*matrix, itemsize=itemsize)
    programs = math.prod(plan.grid)
    assert programs >= 132  # one for each multiprocessor
    assert plan.resident or programs <= 132 * max(
        PER_MULTIPROCESSOR[itemsize], plan.groups / 132
    )  # all at the same time
    aligned = math.gcd(plan.group * plan.width * itemsize, 16)
    assert aligned == 16 or (itemsize == 2 and plan.width in (49, 196) and aligned == 8)
    assert plan.idle_lanes < 0.25


def test_7x7_gives_a_program_four_channels():
    plan = batch_norm_plan(64, 2048, 49, itemsize=4)
    assert (plan.group, plan.block_rows, plan.block_columns) == (4, 64, 256)
    assert plan.grid == (512, 1)
    assert plan.idle_lanes == pytest.approx(1 - 4 * 49 / 256)


def test_a_small_input_is_spread_over_many_programs():
    assert batch_norm_plan(32, 64, 64, itemsize=4).grid == (64, 1)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=f"at most {RESIDENT} values a channel.*64 rows of 12544.*leave resident out"):
        batch_norm_plan(64, 64, 12544, itemsize=4, resident=True)


def test_splits_have_about_equally_many_tiles():
    for itemsize, arrays in ((2, 1), (2, 2), (4, 1), (4, 2)):
        for matrix in ((64, 64, 112 * 112), (64, 256, 56 * 56), (20, 6, 256 * 256)):
            plan = batch_norm_plan(*matrix, itemsize=itemsize, arrays=arrays, resident=False)
            assert math.ceil(plan.tiles / plan.splits) * plan.splits <= 1.15 * plan.tiles


def test_merging_takes_a_small_share_of_a_program():
    plan = batch_norm_plan(12544, 1024, 1, itemsize=2)
    assert plan.splits > 1
    read_of_others = plan.splits * plan.group * 12
    own = plan.rows / plan.splits * plan.group * 2
    assert read_of_others <= 0.06 * own


def test_more_multiprocessors_get_more_programs():
    few, many = (batch_norm_plan(64, 64, 12544, itemsize=4, multiprocessors=n) for n in (20, 200))
    assert few.splits < many.splits
    assert isinstance(few, Plan)
