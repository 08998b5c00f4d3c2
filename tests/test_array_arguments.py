"""Bad calls of the norms in NumPy: what was expected, what came, the fix; and nothing has changed."""

import ast
import inspect
import math
import traceback
from dataclasses import dataclass, field, replace
from types import ModuleType

import numpy as np
import pytest
from cases import SHAPES

from bncourse import array_arguments, blocked, reference

OPS = list(SHAPES)
EXTRA = {
    "layer_norm": (5,),
    "rms_norm": (5,),
    "group_norm": (2,),
}  # what a norm is given beside x: normalized_shape, num_groups


@dataclass(frozen=True)
class BadCall:
    function: str
    mistake: str
    words: tuple[str, str, str]  # what the message says was expected, what it got, and the fix
    args: tuple  # a backward is also given the cache of a good forward
    options: dict = field(default_factory=dict)
    module: ModuleType = reference


def ones(*shape: int, dtype=np.float64) -> np.ndarray:
    return np.ones(shape, dtype)


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def bad_for(op: str) -> list[BadCall]:
    """Mistakes that every norm refuses in the same words."""
    size = 5 if op in ("layer_norm", "rms_norm") else 4
    extra = EXTRA.get(op, ())
    x, good = ones(3, 4, 5), ones(size)
    floats, shape = "of dtype float16, float32 or float64", f"of shape ({size},)"
    mistakes = [
        ("integer x", (f"x {floats}", "int64", "numpy.asarray(x"), (x.astype(int), *extra), {}),
        ("complex x", (f"x {floats}", "complex128", "numpy.asarray(x"), (x.astype(complex), *extra), {}),
        ("scalar x", ("at least", "shape ()", "x[None]"), (ones(), *extra), {}),
        ("long weight", (f"weight {shape}", "(7,)", "anew"), (x, *extra, ones(7)), {}),
        ("deep weight", (f"weight {shape}", f"({size}, 1)", "anew"), (x, *extra, ones(size, 1)), {}),
        ("integer weight", (f"weight {floats}", "int64", "numpy.asarray(weight"), (x, *extra, good.astype(int)), {}),
        *(
            (f"{value!r} for eps", ("eps to be a number", f"got {value}", "1e-5"), (x, *extra), {"eps": value})
            for value in (-1e-5, math.nan, math.inf, "1e-5", True, 1j, good)
        ),
    ]
    if op != "rms_norm":
        mistakes += [
            ("long bias", (f"bias {shape}", "(7,)", "anew"), (x, *extra, good, ones(7)), {}),
            ("boolean bias", (f"bias {floats}", "bool", "numpy.asarray(bias"), (x, *extra, good, good > 0), {}),
        ]
    wrong_dy = ("dy of shape (4, 6, 5)", "(6, 5)", "same forward pass")
    return [
        *(BadCall(f"{op}_forward", *mistake) for mistake in mistakes),
        BadCall(f"{op}_backward", "dy of another shape", wrong_dy, (ones(6, 5),)),
        BadCall(
            f"{op}_backward", "integer dy", (f"dy {floats}", "int64", "numpy.asarray(dy"), (ones(4, 6, 5, dtype=int),)
        ),
    ]


BATCH_NORM = "batch_norm_forward"
ONE_VALUE = "more than one value per channel"
BAD_RUNNING = [
    ("short", ones(3), ("{name} of shape (4,)", "(3,)", "anew")),
    ("integer", ones(4, dtype=int), ("expected {name}", "int64", "numpy.asarray({name}")),
    ("listed", [1.0] * 4, ("expected {name} to be a NumPy array", "list", "numpy.array")),
    ("read-only", read_only(ones(4)), ("expected {name} to be writeable", "read-only", "{name}.copy()")),
    ("missing", None, ("running_mean and running_var together", "got only running_", "both or neither")),
]
SHARED = ones(5)
BAD_CALLS = [
    *(bad for op in OPS for bad in bad_for(op)),
    BadCall(BATCH_NORM, "vector", ("(N, C, *)", "(5,)", "x[None]"), (ones(5),)),
    BadCall(BATCH_NORM, "one sample", (ONE_VALUE, "(1, 4)", "evaluation mode"), (ones(1, 4),)),
    BadCall(BATCH_NORM, "one pixel", (ONE_VALUE, "(1, 4, 1, 1)", "larger batch"), (ones(1, 4, 1, 1),)),
    *(
        BadCall(BATCH_NORM, f"momentum {value}", ("0 to 1", f"got {value}", "0.1"), (ones(3, 4),), {"momentum": value})
        for value in (-0.1, 1.1, math.nan, math.inf, None, "0.1", True, ones(4))
    ),
    *(
        BadCall(
            BATCH_NORM,
            f"{mistake} {name}",
            tuple(word.format(name=name) for word in words),
            (ones(3, 4),),
            {"running_mean": ones(4), "running_var": ones(4)} | {name: running},
        )
        for name in ("running_mean", "running_var")
        for mistake, running, words in BAD_RUNNING
    ),
    *(
        BadCall(
            BATCH_NORM,
            f"running statistics that share memory, {kind}",
            ("two arrays", "memory that they share", "copy"),
            (ones(3, 4),),
            {"running_mean": mean, "running_var": var},
        )
        for kind, mean, var in (("all", SHARED[:4], SHARED[:4]), ("some", SHARED[:4], SHARED[1:]))
    ),
    BadCall(
        BATCH_NORM,
        "evaluation without running statistics",
        ("in evaluation mode", "got None", "training=True"),
        (ones(3, 4),),
        {"training": False, "running_mean": None, "running_var": None},
    ),
    *(
        BadCall("layer_norm_forward", f"{size!r}", ("(3, 5)", f"got {size}", "pass 5"), (ones(3, 5), size))
        for size in (4, 5.0, (5.0,), None, True)
    ),
    BadCall("layer_norm_forward", "leading axes", ("(3, 5)", "(3,)", "pass 5"), (ones(3, 5), (3,))),
    BadCall("layer_norm_forward", "too many axes", ("(5,)", "(3, 5)", "pass 5"), (ones(5), (3, 5))),
    BadCall("layer_norm_forward", "no axes", ("(3, 5)", "()", "pass 5"), (ones(3, 5), ())),
    BadCall("rms_norm_forward", "another size", ("(3, 5)", "got 4", "pass 5"), (ones(3, 5), 4)),
    BadCall("instance_norm_forward", "no positions", ("at least 3 axes", "(3, 5)", "x[None]"), (ones(3, 5),)),
    BadCall(
        "instance_norm_forward", "one pixel", (f"{ONE_VALUE} of a sample", "(3, 4, 1)", "larger"), (ones(3, 4, 1),)
    ),
    BadCall("group_norm_forward", "vector", ("(N, C, *)", "(6,)", "x[None]"), (ones(6), 2)),
    *(
        BadCall("group_norm_forward", f"{n!r} groups", ("channels, 6", f"got {n}", "divisor"), (ones(3, 6), n))
        for n in (-2, 0, 4, 12, 2.0, 1.5, True, None, "2")
    ),
]


X = ones(4, 6, 5)
DY = ones(4, 6, 5)
ANEW = "numpy.empty(x.shape, x.dtype)"
BAD_BUFFERS = [
    ("shorter", ones(3, 6, 5), ("dtype float64 and shape (4, 6, 5)", "float64 (3, 6, 5)", ANEW)),
    ("of another dtype", ones(4, 6, 5, dtype=np.float32), ("dtype float64", "float32 (4, 6, 5)", ANEW)),
    ("a list", DY.tolist(), ("dtype float64", "got list", ANEW)),
    ("in another order", np.asfortranarray(ones(4, 6, 5)), ("C-contiguous", "strides", ANEW)),
    ("read-only", read_only(ones(4, 6, 5)), ("writeable", "writeable: False", ANEW)),
]
LONGER = ones(5, 6, 5)
BAD_CALLS += [
    *(replace(bad, module=blocked) for bad in BAD_CALLS if bad.function.startswith("batch_norm")),
    *(
        BadCall(function, f"out that is {mistake}", words, (array,), {"out": out}, blocked)
        for function, array in (("batch_norm_forward", X), ("batch_norm_backward", DY))
        for mistake, out, words in BAD_BUFFERS
    ),
    BadCall("batch_norm_forward", "x as out", ("elsewhere in memory than x", "share", ANEW), (X,), {"out": X}, blocked),
    BadCall(
        "batch_norm_backward",
        "a part of dy as out",
        ("dy itself", "a part of dy", ANEW),
        (LONGER[:4],),
        {"out": LONGER[1:]},
        blocked,
    ),
    *(
        BadCall(
            f, f"{n!r} threads", ("threads to be 1 or more", f"got {n}", "leave it out"), (X,), {"threads": n}, blocked
        )
        for f in ("batch_norm_forward", "batch_norm_backward")
        for n in (0, -1, 1.5, True, "2")
    ),
]


def caught(bad: BadCall) -> ValueError:
    """The error that a bad call raises, once it is clear that the call changed none of its arrays."""
    args, options = bad.args, dict(bad.options)
    if bad.function.endswith("_backward"):
        args = (*args, good_cache(bad))
    if bad.function == BATCH_NORM and "running_mean" not in options:
        channels = np.shape(args[0])[1] if np.ndim(args[0]) > 1 else 4
        options |= {"running_mean": 2 * ones(channels), "running_var": 3 * ones(channels)}
    arrays = [value for value in (*args, *options.values()) if isinstance(value, np.ndarray)]
    before = [array.tobytes() for array in arrays]
    with pytest.raises(ValueError, match="expected") as error:
        getattr(bad.module, bad.function)(*args, **options)
    assert [array.tobytes() for array in arrays] == before
    return error.value


def good_cache(bad: BadCall):
    """What a backward needs: the cache of a forward to which nothing was wrong."""
    op = bad.function.removesuffix("_backward")
    x = np.random.default_rng(0).standard_normal((4, 6, 5))
    _, cache = getattr(bad.module, f"{op}_forward")(x, *EXTRA.get(op, ()))
    return cache


@pytest.mark.parametrize(
    "bad", BAD_CALLS, ids=lambda bad: f"{bad.module.__name__.split('.')[1]}-{bad.function}-{bad.mistake}"
)
def test_a_bad_call_is_told_what_was_expected_what_came_and_the_fix(bad):
    message = str(caught(bad))
    position = -1
    for words in bad.words:
        position = message.find(words, position + 1)
        assert position >= 0, f"{words!r} is missing, or out of order, in {message!r}"


@pytest.mark.parametrize("module", [array_arguments, reference], ids=lambda module: module.__name__)
def test_every_raise_has_a_bad_call(module):
    raises = [node for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.Raise)]
    ends = [traceback.extract_tb(caught(bad).__traceback__)[-1] for bad in BAD_CALLS]
    reached = {end.lineno for end in ends if end.filename == module.__file__}
    missed = [node.lineno for node in raises if not reached & set(range(node.lineno, node.end_lineno + 1))]
    assert raises
    assert not missed, f"no bad call reaches the raise in lines {missed} of {module.__name__}"


def test_blocked_raises_nothing_of_its_own():
    assert "raise " not in inspect.getsource(blocked)


@pytest.mark.parametrize(("module", "count"), [(reference, 10), (blocked, 2)])
def test_every_public_function_has_a_bad_call(module, count):
    public = {name for name in vars(module) if name.endswith(("_norm_forward", "_norm_backward"))}
    assert len(public) == count
    assert public == {bad.function for bad in BAD_CALLS if bad.module is module}
