"""The bytes of a chain of calls, unfused and fused, and the time that they take."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..chapter_02 import close
from ..exercise import Exercise, Inputs, Mistake, Operation, Outputs, Probe, Property, step
from ..observe import Unusable
from ..torch_answers import build

Call = tuple[tuple[str, ...], str]  # the arrays that a call reads, and the one that it writes

# Bytes of a chain of calls


class Unfused(Operation):
    """The bytes that go to memory or come from it if every call reads its arrays and writes its result."""

    outputs = ("moved_bytes",)

    @step
    def values(s):
        """How many there are in an array."""
        return math.prod(s.shape)

    @step
    def width(s):
        """The bytes of a value."""
        return s.itemsize

    @step
    def counted(s):
        """The calls that are counted."""
        return s.calls

    @step
    def operands(s):
        """Which arrays a call reads, of those that it names."""
        return set

    @step
    def reads(s):
        return sum(len(s.operands(names)) for names, _ in s.counted)

    @step
    def writes(s):
        return len(s.counted)

    @step
    def arrays(s):
        return s.reads + s.writes

    @step
    def unit(s):
        """How many bytes the result counts as one."""
        return 1

    @step
    def moved_bytes(s):
        return s.arrays * s.values * s.width / s.unit


class Fused(Unfused):
    """The same if the calls are one loop."""

    @step
    def within(s):
        """The arrays that the chain makes itself."""
        return {output for _, output in s.counted}

    @step
    def reads(s):
        return len(set(_named(s.counted)) - s.within)

    @step
    def writes(s):
        return 1


def _named(calls: Sequence[Call]) -> list[str]:
    """All names of inputs, as often as they occur."""
    return [name for names, _ in calls for name in names]


def _unfused(s: Unfused) -> int:
    return sum(len(set(names)) + 1 for names, _ in s.counted)


def _fused(s: Unfused) -> int:
    return len(_outside(s)) + 1


def _outside(s: Unfused) -> set[str]:
    """The inputs that the chain does not make itself."""
    return set(_named(s.counted)) - {output for _, output in s.counted}


def _occurrences(s: Unfused) -> int:
    """How often the calls read something that the chain does not make."""
    return sum(len(set(names) & _outside(s)) for names, _ in s.counted)


def _not_just_made(s: Unfused) -> int:
    """The inputs that are not what the call before has made."""
    before = [None, *(output for _, output in s.counted)]
    return len({name for (names, _), made in zip(s.counted, before, strict=False) for name in names if name != made})


def _all_but_just_made(s: Unfused) -> int:
    """The reads of all calls, without what the call before has made."""
    before = [None, *(output for _, output in s.counted)]
    return sum(len(set(names) - {made}) for (names, _), made in zip(s.counted, before, strict=False))


def _read_often(s: Unfused) -> int:
    """How many arrays the chain makes and reads in more than one call."""
    calls = [set(names) for names, _ in s.counted]
    made = {output for _, output in s.counted}
    return sum(sum(name in names for names in calls) > 1 for name in made)


def _named_often(s: Unfused) -> int:
    """How many arrays the chain makes and names as an input more than once."""
    named = _named(s.counted)
    return sum(named.count(output) > 1 for _, output in s.counted)


SIZE_MISTAKES = (
    Mistake(
        "H01",
        "You counted values, not bytes.",
        "How many bytes does an array of 10 values in float32 take?",
        {"width": lambda s: 1},
    ),
    Mistake(
        "H02",
        "Your number of values is too small: an axis of the shape is missing in it.",
        "How many values does an array of the shape (2, 3, 5) hold?",
        {"values": lambda s: math.prod(s.shape[1:])},
        {"values": lambda s: math.prod(s.shape[:-1])},
        {"values": lambda s: math.prod(s.shape[2:])},
        {"values": lambda s: s.shape[0]},
    ),
    Mistake(
        "H03",
        "You added up the lengths of the axes, or counted the axes.",
        "How many values does an array of the shape (2, 3, 5) hold?",
        {"values": lambda s: sum(s.shape)},
        {"values": lambda s: len(s.shape)},
    ),
    Mistake(
        "H04",
        "The bytes of a value are off by a factor. Either bits and bytes are mixed up, or the bytes of a value come in "
        "twice: itemsize counts bytes already.",
        "What is the itemsize of a float32 array?",
        {"width": lambda s: 8 * s.itemsize},
        {"width": lambda s: s.itemsize / 8},
        {"width": lambda s: s.itemsize**2},
        {"width": lambda s: s.itemsize // 8},
    ),
    Mistake(
        "H05",
        "Your result is in kilobytes, megabytes or gigabytes. The exercise asks for bytes.",
        "By what do you divide at the end?",
        *({"unit": lambda s, unit=unit: unit} for unit in (1e3, 2**10, 1e6, 2**20, 1e9, 2**30)),
    ),
    Mistake(
        "H06",
        "You took a fixed number of bytes for a value. The caller says how many there are.",
        "What changes in your result when the arrays are float16?",
        {"width": lambda s: 4},
        {"width": lambda s: 8},
    ),
)

ALLOCATION = Mistake(
    "H18",
    "You let every write read its memory first. Some processors do that with some writes, but the exercise counts only "
    "what the calls themselves read and write.",
    "Which arrays does a call read by the rule of the exercise?",
    {"writes": lambda s: 2 * type(s).writes.compute(s)},
)

UNFUSED_MISTAKES = (
    *SIZE_MISTAKES,
    Mistake(
        "H10",
        "You counted what the calls read, and forgot what they write.",
        "A call makes a from x. Which two arrays are moved between memory and processor?",
        {"writes": lambda s: 0},
    ),
    Mistake(
        "H11",
        "You counted what the calls write, and forgot what they read.",
        "A call makes a from x. Which two arrays are moved between memory and processor?",
        {"reads": lambda s: 0},
    ),
    Mistake(
        "H12",
        "You counted one array read in each call, however many it takes.",
        "Which arrays does the call of a and residual read?",
        {"operands": lambda s: lambda names: names[:1]},
    ),
    Mistake(
        "H13",
        "A call that has the same array in both operands reads it from memory once; you counted it twice.",
        "In x · x, where does the second x come from?",
        {"operands": lambda s: list},
    ),
    Mistake(
        "H14",
        "You counted each array only once over the whole chain. Without fusing, an array that is written in one call "
        "and read in another goes to memory and comes back.",
        "For x → a → y: how many times is a moved, and which way?",
        {"arrays": lambda s: len({*_named(s.counted), *(output for _, output in s.counted)})},
        {"reads": lambda s: len(set(_named(s.counted)))},
    ),
    Mistake(
        "H15",
        "You left out arrays between the first call and the last: that they are written, that they are read, or both. "
        "Here nothing is fused.",
        "For x → a → y: which array does the first call write, and which does the second read?",
        {"arrays": _fused},
        {"reads": _occurrences},
        {"reads": _all_but_just_made},
        {"writes": lambda s: 1},
        {"arrays": lambda s: 2},
    ),
    Mistake(
        "H16",
        "You counted only one call of the chain.",
        "How many calls does your loop see before it ends, and does the sum grow with each?",
        {"counted": lambda s: s.calls[:1]},
        {"counted": lambda s: s.calls[-1:]},
    ),
    Mistake(
        "H17",
        "You left out one array at an end of the chain: what the last call writes, or what the first one reads.",
        "Write down the traffic of x → a → y, call by call. What is in your sum?",
        {"writes": lambda s: len(s.counted) - 1},
    ),
    Mistake(
        "H19",
        "You counted each array as read and as written. A call only reads its inputs, and only writes its output.",
        "What does a call do to x that makes a from it: does it read x, write it, or both?",
        {"arrays": lambda s: 2 * (s.reads + s.writes)},
        {"reads": lambda s: 2 * Unfused.reads.compute(s)},
    ),
    ALLOCATION,
)

FUSED_MISTAKES = (
    *SIZE_MISTAKES,
    Mistake(
        "H20",
        "You counted each call by itself, as if nothing were fused.",
        "In one loop over x → a → y, where is a value of a between the two steps?",
        {"arrays": _unfused},
        {"arrays": lambda s: sum(len(names) + 1 for names, _ in s.counted)},
        {"arrays": lambda s: 2 * len(s.counted)},
    ),
    Mistake(
        "H21",
        "You let an array go to memory that the chain makes itself and that only its later calls read.",
        "In one loop over x → a → y, where is a value of a between the two steps? Who needs it in memory afterwards?",
        {"within": lambda s: set()},
        {"within": lambda s: set(), "writes": lambda s: len(s.counted)},
        {"reads": lambda s: sum(len(set(names)) for names, _ in s.counted)},
        {"reads": lambda s: len(_named(s.counted))},
        {"within": lambda s: {s.counted[0][1]}},
    ),
    Mistake(
        "H23",
        "An input that several calls use, or one call twice, is read once in a fused loop; you counted it more often.",
        "If two steps of one loop need the same value of x, how often does it come from memory?",
        {"reads": _occurrences},
        {"reads": lambda s: sum(name in _outside(s) for name in _named(s.counted))},
    ),
    Mistake(
        "H24",
        "The result of the last call is missing. The chain makes it, too, but it has to reach memory.",
        "What is left of the work of the loop when it has ended?",
        {"writes": lambda s: 0},
    ),
    Mistake(
        "H11",
        "You counted what is written, and forgot what is read.",
        "Where do the values come from that the loop starts with?",
        {"reads": lambda s: 0},
    ),
    Mistake(
        "H25",
        "An input that joins the chain later is missing.",
        "In x → a, then a and residual → y: which arrays have to come from memory?",
        {"reads": lambda s: 1},
        {"reads": lambda s: len(set(s.counted[0][0]))},
        {"reads": lambda s: len({names[0] for names, _ in s.counted} - s.within)},
    ),
    Mistake(
        "H26",
        "You kept in the loop only what the call just before has made. What the chain has made stays at hand for all "
        "its later calls.",
        "In x → a → b, then a and b → y: which arrays have to come from memory?",
        {"reads": _not_just_made},
    ),
    Mistake(
        "H27",
        "You let an array go to memory because later calls use it more than once. In one loop all of them can.",
        "In x → a → b, then a and b → y: who needs a in memory?",
        {"reads": lambda s: len(_outside(s)) + _read_often(s)},
        {"writes": lambda s: 1 + _read_often(s)},
        {"reads": lambda s: len(_outside(s)) + _named_often(s)},
        {"arrays": lambda s: _fused(s) + 2 * _read_often(s)},
    ),
    Mistake(
        "H28",
        "You returned what fusing saves. The exercise asks for what is left.",
        "How many bytes does a chain of a single call move, fused, and what do you return for it?",
        {"arrays": lambda s: _unfused(s) - _fused(s)},
    ),
    Mistake(
        "H16",
        "You counted only the last call of the chain.",
        "What happens to what you noted of the first call when your loop comes to the second?",
        {"counted": lambda s: s.calls[-1:]},
    ),
    ALLOCATION,
)

# A time


class Predicting(Operation):
    """The larger of two times, for arithmetic and for traffic, with the bandwidth of a copy."""

    outputs = ("seconds",)

    @step
    def copy_traffic(s):
        """The bytes that the copy moves."""
        return 2 * s.copied_bytes

    @step
    def bandwidth(s):
        return s.copy_traffic / s.copy_seconds

    @step
    def traffic(s):
        """Seconds."""
        return s.bytes_moved / s.bandwidth

    @step
    def arithmetic(s):
        """Seconds."""
        return s.flops / s.peak_flops

    @step
    def longer(s):
        return max(s.traffic, s.arithmetic)

    @step
    def unit(s):
        """How many of the unit make a second."""
        return 1.0

    @step
    def seconds(s):
        return s.longer * s.unit


UPSIDE_DOWN = {"bandwidth": lambda s: s.copy_seconds / s.copy_traffic}

TIME_MISTAKES = (
    Mistake(
        "H30",
        "Your time for the traffic is twice too long. Either a factor of 2 is missing in the bandwidth, as a copy reads "
        "and writes every byte; or you doubled bytes_moved, where reads and writes are counted already.",
        "A copy of 1 GB takes a tenth of a second. How many bytes has it read, and how many written?",
        {"copy_traffic": lambda s: s.copied_bytes},
    ),
    Mistake(
        "H31",
        "The factor for reading and writing is on the wrong side, or there twice: the bandwidth is off by 4 or by 2.",
        "A copy of 1 GB takes a tenth of a second. Does memory move more than 10 GB a second meanwhile, or less?",
        {"copy_traffic": lambda s: s.copied_bytes / 2},
        {"copy_traffic": lambda s: 4 * s.copied_bytes},
    ),
    Mistake(
        "H32",
        "You added the two times. Arithmetic and traffic go on side by side.",
        "If the sums take 1 second and the data are under way for 3, when is everything done?",
        {"longer": lambda s: s.traffic + s.arithmetic},
    ),
    Mistake(
        "H33",
        "You took the smaller of the two times.",
        "If the sums take 1 second and the data are under way for 3, when is everything done?",
        {"longer": lambda s: min(s.traffic, s.arithmetic)},
        {"longer": lambda s: (s.flops / s.bytes_moved, min(s.traffic, s.arithmetic))[1]},  # the intensity first
    ),
    Mistake(
        "H34",
        "Your time is always that of the traffic. A large matrix product waits for arithmetic.",
        "What does your function return if no bytes move at all?",
        {"longer": lambda s: s.traffic},
    ),
    Mistake(
        "H35",
        "Your time is always that of the arithmetic. Batch norm waits for memory.",
        "What does your function return for a copy, which computes nothing?",
        {"longer": lambda s: s.arithmetic},
    ),
    Mistake(
        "H36",
        "A ratio is upside down, or a product stands where a ratio belongs.",
        "Which unit has each of your intermediate values: seconds, bytes per second, seconds per byte?",
        UPSIDE_DOWN,
        {"traffic": lambda s: s.bandwidth / s.bytes_moved},
        {"arithmetic": lambda s: s.peak_flops / s.flops},
        {"arithmetic": lambda s: s.flops * s.peak_flops},
        {"traffic": lambda s: s.bandwidth / s.bytes_moved, "arithmetic": lambda s: s.peak_flops / s.flops},
        {"traffic": lambda s: s.bytes_moved * s.bandwidth, "arithmetic": lambda s: s.flops * s.peak_flops},
    ),
    Mistake(
        "H37",
        "Units are mixed up: milli, micro, mega or giga. All times are in seconds, all traffic in bytes and all speeds "
        "in operations or bytes per second.",
        "Where in your code is a power of ten, and which unit has the number in front of it?",
        *({"unit": lambda s, unit=unit: unit} for unit in (1e3, 1e6, 1e9)),
        *({"traffic": lambda s, unit=unit: s.bytes_moved / s.bandwidth * unit} for unit in (1e9, 1e6, 1e3, 1e-3)),
        *({"arithmetic": lambda s, unit=unit: s.flops / s.peak_flops * unit} for unit in (1e9, 1e6, 1e3)),
    ),
    Mistake(
        "H38",
        "You returned a speed, operations per second. The exercise asks for a time.",
        "Which unit has your result?",
        {"seconds": lambda s: s.flops / s.longer},
        {"seconds": lambda s: min(s.peak_flops, s.flops / s.bytes_moved * s.bandwidth)},
        {"seconds": lambda s: max(s.peak_flops, s.flops / s.bytes_moved * s.bandwidth)},
    ),
    Mistake(
        "H44",
        "You divide by the bytes, by the operations, or by a speed made from them. Where there are none, the quotient "
        "does not exist, but the time does.",
        "What is the time for no bytes, or for no operations? Can you compute it without the intensity?",
        {"seconds": lambda s: s.flops / min(s.peak_flops, s.flops / s.bytes_moved * s.bandwidth)},
        {"seconds": lambda s: s.longer * (s.bytes_moved / s.bytes_moved)},
        {"seconds": lambda s: s.longer * (s.flops / s.flops)},
        {"seconds": lambda s: s.longer if s.flops else np.nan},
        {"seconds": lambda s: s.longer if s.bytes_moved else np.nan},
        {"seconds": lambda s: s.longer if s.flops and s.bytes_moved else np.nan},
    ),
    Mistake(
        "H43",
        "You rounded. Most operations take a small part of a second.",
        "What does your function return for 5 milliseconds?",
        {"seconds": lambda s: float(round(s.longer * s.unit))},
        {"seconds": lambda s: float(int(s.longer * s.unit))},
        {"longer": lambda s: max(s.flops // s.peak_flops, s.bytes_moved // s.bandwidth)},
    ),
    Mistake(
        "H39",
        "You took the mean of the two times.",
        "If the sums take 1 second and the data are under way for 3, when is everything done?",
        {"longer": lambda s: (s.traffic + s.arithmetic) / 2},
    ),
    Mistake(
        "H40",
        "The speeds are swapped: operations go with operations per second, bytes with bytes per second.",
        "Which unit has each of your two times?",
        {"traffic": lambda s: s.bytes_moved / s.peak_flops, "arithmetic": lambda s: s.flops / s.bandwidth},
    ),
    Mistake(
        "H41",
        "The seconds of the copy do not enter your time as they should, or they stand alone.",
        "If the copy had taken twice as long, what would change in your result? And if the operation moved twice the bytes?",
        {"bandwidth": lambda s: s.copy_traffic},
        {"traffic": lambda s: s.copy_seconds},
    ),
    Mistake(
        "H42",
        "You took the copied bytes for the bytes of the operation, or the other way round.",
        "Which of the two numbers of bytes belongs to copy_seconds?",
        {"traffic": lambda s: s.copy_traffic * s.copy_seconds / s.bytes_moved},
        {"traffic": lambda s: (s.bytes_moved + s.copy_traffic) / s.bandwidth},
    ),
)

# Probes


def _chain(name: str, reason: str, shape: tuple[int, ...], itemsize: int, calls: str) -> Probe:
    """``calls`` in words, such as "x -> a, a residual -> y"."""
    return Probe(name, reason, {"shape": shape, "itemsize": itemsize, "calls": _calls(calls)})


def _calls(words: str) -> tuple[Call, ...]:
    sides = [call.split("->") for call in words.split(",")]
    return tuple((tuple(inputs.split()), output.strip()) for inputs, output in sides)


CHAIN_PROBES = (
    _chain("chain", "the chain of the example, in float32.", (64, 64, 32, 32), 4, "x -> a, a residual -> y"),
    _chain("one call", "a single call, x → y.", (5, 3, 7, 11), 4, "x -> y"),
    _chain(
        "float16",
        "four calls in a row, in float16.",
        (8, 3, 10, 14),
        2,
        "x -> centered, centered -> scaled, scaled -> shifted, shifted -> y",
    ),
    _chain("square", "a square: both operands are the same array. In float64.", (7, 9), 8, "x x -> s, s s bias -> y"),
    _chain(
        "skip",
        "arrays that several calls use: x, and a, which the chain makes.",
        (3, 4, 5),
        4,
        "x -> a, a -> b, b x -> c, c a mask -> y",
    ),
    _chain(
        "branches",
        "two arrays made from x by two calls, and a third call that joins them.",
        (6, 5),
        4,
        "x -> left, x -> right, left right -> y",
    ),
    _chain(
        "many",
        "a chain with many inputs from outside, one of them used twice.",
        (1000, 3),
        8,
        "dy hat -> p, p weight -> q, q dy noise mask -> dx",
    ),
    _chain("vector", "arrays with a single axis.", (12,), 4, "x bias mask -> y, y -> z"),
)


def _fresh_chain(rng: np.random.Generator) -> Inputs:
    """Calls that each use what was made last, and at random what else there is."""
    there, calls = ["x", "residual", "mask"], []
    for k in range(int(rng.integers(2, 6))):
        names = [there[-1] if k else "x", *rng.choice(there, rng.integers(0, 3))]
        calls.append((tuple(map(str, names)), f"made_{k}"))
        there.append(f"made_{k}")
    shape = tuple(int(n) for n in rng.integers(2, 9, rng.integers(1, 5)))
    return {"shape": shape, "itemsize": int(rng.choice([2, 4, 8])), "calls": tuple(calls)}


def _job(flops: float, bytes_moved: float, peak_flops: float, copied_bytes: float, copy_seconds: float) -> Inputs:
    return dict(zip(TIME_PARAMETERS, (flops, bytes_moved, peak_flops, copied_bytes, copy_seconds), strict=True))


TIME_PARAMETERS = ("flops", "bytes_moved", "peak_flops", "copied_bytes", "copy_seconds")

TIME_PROBES = (
    Probe("memory", "much traffic and little arithmetic.", _job(4.3e11, 2.5e11, 1e11, 1.6e9, 0.2)),
    Probe("arithmetic", "little traffic and much arithmetic.", _job(9.1e12, 6e10, 3e11, 1e9, 0.125)),
    Probe("copy", "another copy, twenty times as large: nothing is computed.", _job(0, 2e11, 1e11, 5e9, 0.71)),
    Probe("no traffic", "arithmetic alone: no bytes move.", _job(6e11, 0, 2e11, 4e9, 0.5)),
    Probe("close", "nearly as much time for arithmetic as for traffic.", _job(4e11, 3.3e10, 2e11, 3e9, 0.4)),
    Probe("other machine", "a machine with slow memory.", _job(5e10, 7e9, 2e10, 1e9, 0.9)),
)


def _fresh_job(rng: np.random.Generator) -> Inputs:
    peak, copied, seconds = 10 ** rng.uniform(10, 12), 10 ** rng.uniform(8, 10), 10 ** rng.uniform(-1, 0)
    arithmetic, traffic = 10 ** rng.uniform(-0.5, 1.5, 2)
    job = (arithmetic * peak, traffic * 2 * copied / seconds, peak, copied, seconds)
    return _job(*map(float, job))


# Driving


def _result(answer: Callable, parameters: str, *arguments: object) -> object:
    """What the answer returns; ``parameters`` are those that the exercise asks for, for the learner to read."""
    result = build(answer, parameters, *arguments)
    if result is None:
        raise Unusable("nothing", "Your function returns nothing. Is there a return at its end?")
    return result


def drive_counting(answer: Callable, inputs: Inputs) -> dict[str, object]:
    """The bytes of a chain, which is handed over as a list."""
    arguments = inputs["shape"], inputs["itemsize"], list(inputs["calls"])
    return {"moved_bytes": _result(answer, "(shape, itemsize, calls)", *arguments)}


# Exercises


def _in_arrays(inputs: Inputs, got: float, expected: float) -> str:
    """A wrong number of bytes, and how many arrays that is."""
    one = math.prod(inputs["shape"]) * inputs["itemsize"]
    says = f"moved_bytes is {got:,.10g}, and that is {_arrays(got / one)}."
    return f"{says} Expected: {expected:,.10g}, and that is {_arrays(expected / one)}."


def _arrays(count: float) -> str:
    few = "less than a hundredth of an array"
    return few if count < 0.01 else f"{count:.4g} array{'' if count == 1 else 's'}"


def _bytes(o: dict[str, Outputs], name: str) -> float:
    return float(o[name]["moved_bytes"])


def _array_bytes(i: dict[str, Inputs], name: str) -> int:
    return math.prod(i[name]["shape"]) * i[name]["itemsize"]


def _moves(probe: str, arrays: int) -> Callable:
    """Whether on this probe as many arrays are moved."""
    return lambda o, i: close(_bytes(o, probe) / _array_bytes(i, probe), arrays)


UNFUSED = Exercise(
    id="unfused_bytes",
    chapter="08_counting_bytes",
    signature="(shape, itemsize, calls) -> the bytes that all calls move",
    operation=Unfused,
    probes=CHAIN_PROBES,
    fresh=_fresh_chain,
    mistakes=UNFUSED_MISTAKES,
    properties=(
        Property(
            "the result is a whole number of arrays.",
            lambda o, i: all(close(_bytes(o, n) / _array_bytes(i, n) % 1, 0.0) for n in i if n in o),
        ),
        Property("a call that makes y from x moves two arrays.", _moves("one call", 2)),
        Property("four calls in a row, with one input each, move eight arrays.", _moves("float16", 8)),
        Property("x → a moves two arrays, and a and residual → y three more.", _moves("chain", 5)),
    ),
    hints=(
        "How many bytes does one array take? How many arrays does one call move?",
        "Go through the calls one by one. Each has arrays that it reads, of which equal ones count once, and one that it writes.",
        "For x → a, then a and residual → y: the first call moves two arrays, the second three.",
    ),
    container="dict",
    drive=drive_counting,
    wording={"moved_bytes": _in_arrays},
)

FUSED = Exercise(
    id="fused_bytes",
    chapter="08_counting_bytes",
    signature="(shape, itemsize, calls) -> the bytes that one loop moves",
    operation=Fused,
    probes=CHAIN_PROBES,
    fresh=_fresh_chain,
    mistakes=FUSED_MISTAKES,
    properties=(
        Property(
            "the result is a whole number of arrays.",
            lambda o, i: all(close(_bytes(o, n) / _array_bytes(i, n) % 1, 0.0) for n in i if n in o),
        ),
        Property("a single call moves as much as it does unfused.", _moves("one call", 2)),
        Property("four calls in a row move as much as one, x and y.", _moves("float16", 2)),
        Property("what joins the chain later is read, too.", _moves("chain", 3)),
    ),
    hints=(
        "Draw the chain as a box. Which arrays go in, and which come out?",
        "Go through all inputs of all calls. Which of them has the chain made itself? And which have you seen before?",
        "For x → a, then a and residual → y: x and residual go in, y comes out.",
    ),
    container="dict",
    drive=drive_counting,
    wording={"moved_bytes": _in_arrays},
)

PREDICT = Exercise(
    id="predict_time",
    chapter="08_counting_bytes",
    signature=f"({', '.join(TIME_PARAMETERS)}) -> seconds",
    operation=Predicting,
    probes=TIME_PROBES,
    fresh=_fresh_job,
    mistakes=TIME_MISTAKES,
    properties=(
        Property("a time is positive.", lambda o, i: all(o[n]["seconds"] > 0 for n in i)),
        Property(
            "a copy that is twenty times as large takes twenty times as long.",
            lambda o, i: close(o["copy"]["seconds"], 20 * i["copy"]["copy_seconds"]),
        ),
        Property(
            "without traffic, 6 · 10¹¹ operations at 2 · 10¹¹ a second take 3 seconds.",
            lambda o, i: close(o["no traffic"]["seconds"], 3.0),
        ),
    ),
    hints=(
        "There are two times, one for the operations and one for the bytes. Which unit has each quotient?",
        "A copy of an array reads all of its bytes and writes as many. What is the bandwidth then, in bytes per second?",
        "While the data are under way, the processor computes. Which of the two is everybody waiting for at the end?",
    ),
)
