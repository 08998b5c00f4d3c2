"""How batch norm is cut into programs and tiles.

A kernel sees its input as a contiguous matrix of ``rows`` × (``channels`` · ``width``). Images of shape (N, C, H, W)
are N rows in which every channel has width = H · W neighbouring columns; with channels last, and for (N, C), there
are N · H · W rows with one column a channel. A program owns a group of neighbouring channels. It reads them tile by
tile, a tile being ``block_rows`` × ``block_columns`` values; several programs, the splits, may share a group.
"""

import functools
import math
from dataclasses import dataclass, replace

from bncourse.kernels.runtime import MULTIPROCESSORS, power_of_two

RESIDENT = 16384  # values of each array that a program keeps: with x and dy, half of a multiprocessor's registers
TILE = 8192  # values of all arrays that a program reads at a time: enough bytes in flight, and 32 values a thread
CHANNELS_LAST = 32  # channels of a program whose columns are channels: runs of 64 bytes in half precision
WIDEST_GROUP = 512  # columns of several channels together
MOST_CHANNELS = 16  # of those: sums of columns by channels take columns × channels operations
WIDEST_BLOCK = 2048  # columns of a tile, each of which has its own statistics
PER_MULTIPROCESSOR = {2: 2, 4: 3}  # programs at a time, by bytes per value: one loads while others compute
MOST_SPLITS = 128
MERGED = 0.05  # what a program may read of the partial statistics of all splits, as a share of its own values
PARTIAL = 12  # bytes of the partial statistics of a channel

# Guesses of what a plan costs, in lanes; only comparisons of plans use them.
PER_TILE = 1024  # of a tile: its reductions
PER_ROW = 64  # of a row of a tile: the memory goes to another place
PENALTY = {16: 1.0, 8: 1.1, 4: 1.5, 2: 2.5}  # by the bytes that a thread can load at once


@dataclass(frozen=True)
class Plan:
    """How one call is cut into programs and tiles.

    Attributes:
        rows, channels, width: the matrix, rows × (channels · width).
        group: how many channels a program owns.
        block_rows, block_columns: the size of a tile, powers of two.
        splits: how many programs share a group.
        resident: whether one tile holds all values of a group, so that each is read once.
        num_warps: how many times 32 threads work on a program.
    """

    rows: int
    channels: int
    width: int
    group: int
    block_rows: int
    block_columns: int
    splits: int
    resident: bool
    num_warps: int

    @property
    def groups(self) -> int:
        return math.ceil(self.channels / self.group)

    @property
    def tiles(self) -> int:
        """How many tiles cover a group."""
        return math.ceil(self.rows / self.block_rows) * math.ceil(self.group * self.width / self.block_columns)

    @property
    def grid(self) -> tuple[int, int]:
        """How many programs there are: groups × splits."""
        return self.groups, self.splits

    @property
    def idle_lanes(self) -> float:
        """The share of lanes without a value: tiles have sizes that are powers of two."""
        values = self.rows * self.channels * self.width
        return 1 - values / (self.groups * self.tiles * self.block_rows * self.block_columns)


@functools.lru_cache(maxsize=4096)  # choosing takes longer than a small launch
def batch_norm_plan(
    rows: int,
    channels: int,
    width: int,
    *,
    itemsize: int,
    arrays: int = 1,
    resident: bool | None = None,
    multiprocessors: int = MULTIPROCESSORS,
) -> Plan:
    """The plan for a matrix of rows × (channels · width).

    Args:
        rows, channels, width: the matrix, each at least 1.
        itemsize: bytes per value.
        arrays: how many arrays a tile is read of: 1 in the forward pass, 2 in the backward pass.
        resident: whether to keep all values of a group on chip; None: if they fit.
        multiprocessors: of the GPU.

    Raises:
        ValueError: ``resident`` is asked for, and the values of not even one channel fit.
    """
    matrix = rows, channels, width
    fitting = _resident_plans(*matrix, arrays)
    if resident and not fitting:
        raise ValueError(
            f"expected at most {RESIDENT} values a channel, padded to powers of two, in a resident plan; got {rows} rows "
            f"of {width}; leave resident out, and the work is split"
        )
    plans = fitting if fitting and resident is not False else _split_plans(*matrix, itemsize, arrays, multiprocessors)
    return min(plans, key=lambda plan: _cost(plan, itemsize, multiprocessors))


def _groups(channels: int, width: int) -> list[int]:
    """How many channels a program may own."""
    if width == 1:
        return [min(CHANNELS_LAST, power_of_two(channels))]
    # Full groups only: masks would keep threads from loading several values at once.
    most = min(channels, MOST_CHANNELS, max(1, WIDEST_GROUP // width))
    return [group for group in range(1, most + 1) if channels % group == 0]


def _resident_plans(rows: int, channels: int, width: int, arrays: int) -> list[Plan]:
    """One tile a group."""
    plans = []
    for group in _groups(channels, width):
        block = power_of_two(rows), power_of_two(group * width)
        values = math.prod(block)
        if values <= RESIDENT:
            warps = min(16, max(4, values * arrays // 2048))
            plans.append(Plan(rows, channels, width, group, *block, splits=1, resident=True, num_warps=warps))
    return plans


def _split_plans(rows: int, channels: int, width: int, itemsize: int, arrays: int, multiprocessors: int) -> list[Plan]:
    """As many programs a group as run at the same time, have a tile to read, and do not spend long on merging."""
    # Each of s splits has 1 / s of a channel's values, and reads s partial statistics.
    worth_merging = max(1, math.isqrt(int(MERGED * rows * width * itemsize / PARTIAL)))
    plans = []
    for group in _groups(channels, width):
        for columns in _blocks(group, width):
            most_rows = min(power_of_two(rows), max(1, TILE // arrays // columns))
            for block_rows in (most_rows, max(1, most_rows // 2)):
                plan = Plan(rows, channels, width, group, block_rows, columns, splits=1, resident=False, num_warps=8)
                most = max(1, PER_MULTIPROCESSOR[itemsize] * multiprocessors // plan.groups)
                plans.append(replace(plan, splits=min(most, plan.tiles, worth_merging, MOST_SPLITS)))
    return plans


def _blocks(group: int, width: int) -> list[int]:
    """How many columns a tile may have; only a channel of its own may be cut."""
    columns = power_of_two(group * width)
    narrower = [block for block in (128, 256, 512, 1024, WIDEST_BLOCK) if group == 1 and block < columns]
    return narrower if columns > WIDEST_BLOCK else [*narrower, columns]


def _cost(plan: Plan, itemsize: int, multiprocessors: int) -> float:
    """What the tiles of all groups cost, if all splits take as long as the one with the most tiles."""
    at_once = math.gcd(plan.group * plan.width * itemsize, 16)
    tile = plan.block_rows * plan.block_columns * PENALTY[at_once] + PER_TILE + PER_ROW * plan.block_rows
    programs = plan.groups * plan.splits
    if plan.resident:  # cannot be split, so with few programs multiprocessors are idle, which costs as much as work
        programs = max(programs, multiprocessors)
    return programs * math.ceil(plan.tiles / plan.splits) * tile
