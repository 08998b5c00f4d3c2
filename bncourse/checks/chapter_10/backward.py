"""The backward pass of synchronised batch norm, for all processes at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..chapter_02 import chosen, close
from ..chapter_03 import PARAM_MISTAKES
from ..exercise import Exercise, Form, Inputs, Mistake, Operation, Outputs, Probe, Property, step
from ..observe import Unusable, a
from ..torch_answers import build
from .merging import CHAPTER


class ShardedBackward(Operation):
    """dx of every process with sums over all processes; dweight and dbias with its own rows alone.

    The rows of all processes stand one after the other, and ``sizes`` says how many each has.
    """

    outputs = ("dxs", "dweights", "dbiases")

    @step
    def cuts(s):
        return np.cumsum(s.sizes)[:-1]

    @step
    def dx_hat(s):
        return s.dys * s.weight

    @step
    def m(s):
        """What the sums are divided by; a number, or one for each row."""
        return len(s.dys)

    @step
    def first_sum(s):
        """Σ dx̂, as each row sees it."""
        return s.dx_hat.sum(0)

    @step
    def second_sum(s):
        """Σ dx̂ · x̂, as each row sees it."""
        return (s.dx_hat * s.x_hats).sum(0)

    @step
    def mean_term(s):
        return s.first_sum / s.m

    @step
    def var_term(s):
        return s.x_hats * s.second_sum / s.m

    @step
    def scale(s):
        return s.inv_std

    @step
    def dx(s):
        return s.scale * (s.dx_hat - s.mean_term - s.var_term)

    @step
    def weight_sums(s):
        """Σ dy · x̂ of each process."""
        return by_process(s, s.dys * s.x_hats)

    @step
    def bias_sums(s):
        return by_process(s, s.dys)

    @step
    def dxs(s):
        return padded(np.split(s.dx, s.cuts))

    @step
    def dweights(s):
        return s.weight_sums

    @step
    def dbiases(s):
        return s.bias_sums


def by_process(s: ShardedBackward, values: np.ndarray) -> np.ndarray:
    """Sums over the rows of each process, (k, C)."""
    return np.stack([part.sum(0) for part in np.split(values, s.cuts)])


def padded(parts: list[np.ndarray]) -> np.ndarray:
    """Tables of unequal lengths as one array (k, longest, C), with zeros behind the shorter ones."""
    result = np.zeros((len(parts), max(map(len, parts)), parts[0].shape[1]), np.result_type(*parts))
    for row, part in zip(result, parts, strict=True):
        row[: len(part)] = part
    return result


# Mistakes


def _rows(s: ShardedBackward, values: np.ndarray) -> np.ndarray:
    """One value for each process, (k, ...), as its rows see it."""
    return np.repeat(values, s.sizes, axis=0)


def _own_sum(values: Callable) -> Callable:
    return lambda s: _rows(s, by_process(s, values(s)))


def _first(s: ShardedBackward) -> np.ndarray:
    return s.dx_hat


def _second(s: ShardedBackward) -> np.ndarray:
    return s.dx_hat * s.x_hats


def _own_count(s: ShardedBackward) -> np.ndarray:
    return _rows(s, np.array(s.sizes, float)[:, None])


def _sum_so_far(values: Callable) -> Callable:
    """The sum over the rows of a process and of those before it."""
    return lambda s: _rows(s, by_process(s, values(s)).cumsum(0))


def _count_so_far(s: ShardedBackward) -> np.ndarray:
    return _rows(s, np.cumsum(s.sizes)[:, None])


def _used(s: ShardedBackward) -> int:
    """How many processes have rows."""
    return sum(size > 0 for size in s.sizes)


def _mean_of_means(values: Callable, count: Callable) -> Callable:
    """The means of the processes, averaged; NaN or 0 for a process without rows, as ``count`` says."""

    def average(s: ShardedBackward) -> np.ndarray:
        sums, sizes = by_process(s, values(s)), np.array(s.sizes, float)[:, None]
        means = sums / (sizes if count is None else np.maximum(sizes, 1))
        return means.sum(0) / (len(s.sizes) if count is None else count(s))

    return average


def _averaged(count: Callable | None) -> Form:
    """Both terms with means of means."""
    return {
        "mean_term": _mean_of_means(_first, count),
        "var_term": lambda s: s.x_hats * _mean_of_means(_second, count)(s),
    }


def _each(s: ShardedBackward, sums: np.ndarray) -> np.ndarray:
    """The same sum for every process."""
    return np.repeat(sums.sum(0, keepdims=True), len(s.sizes), axis=0)


def _both(change: Callable) -> tuple[Form, Form, Form]:
    """dweights and dbiases changed in the same way, or one of them."""
    weights = {"dweights": lambda s: change(s, s.weight_sums)}
    biases = {"dbiases": lambda s: change(s, s.bias_sums)}
    return weights | biases, weights, biases


def _sizes(s: ShardedBackward) -> np.ndarray:
    return np.array(s.sizes, float)[:, None]


SUM_MISTAKES = (
    Mistake(
        "S05",
        "In dx each process uses its own sums and its own count, as if it had normalized its rows alone.",
        "A row of process 0 changes. Which outputs of process 1 change, by way of the mean that they share?",
        {"first_sum": _own_sum(_first), "second_sum": _own_sum(_second), "m": _own_count},
        {"mean_term": lambda s: _own_sum(_first)(s) / _own_count(s)},
        {"var_term": lambda s: s.x_hats * _own_sum(_second)(s) / _own_count(s)},
    ),
    Mistake(
        "S30",
        "In dx a sum over the rows of one process is divided by the number of all rows. The sums of the others are missing.",
        "Which numbers does a process need from the others, and which of them are in your terms?",
        {"first_sum": _own_sum(_first), "second_sum": _own_sum(_second)},
        {"first_sum": _own_sum(_first)},
        {"second_sum": _own_sum(_second)},
    ),
    Mistake(
        "S31",
        "In dx the sums over all processes are divided by the number of rows of one process.",
        "How many rows have shared one mean in the forward pass?",
        {"m": _own_count},
        {"mean_term": lambda s: s.first_sum / _own_count(s)},
        {"var_term": lambda s: s.x_hats * s.second_sum / _own_count(s)},
        {"m": lambda s: s.sizes[0]},
        {"m": lambda s: max(s.sizes)},
        {"m": lambda s: len(s.dys) / len(s.sizes)},
        {"m": lambda s: len(s.dys) / _used(s)},
    ),
    Mistake(
        "S02",
        "You averaged the means of the processes as if all had equally many rows.",
        "One process has the rows 0, 0, 0, the other a single 4. What is the mean of the four?",
        _averaged(lambda s: len(s.sizes)),
        _averaged(_used),
        _averaged(None),
        {"m": lambda s: len(s.sizes) * _own_count(s)},
    ),
    Mistake(
        "B04",
        "In dx you subtract sums where means belong, or divide by the number of processes.",
        "What is Σ dx over all rows in your answer, and what must it be?",
        {"m": lambda s: 1.0},
        {"mean_term": lambda s: s.first_sum},
        {"var_term": lambda s: s.x_hats * s.second_sum},
        {"m": lambda s: len(s.sizes)},
    ),
    Mistake(
        "S58",
        "In dx each process uses the sums as far as your loop has come. Those of the processes after it are missing.",
        "When does the loop know the sums over all processes?",
        {"first_sum": _sum_so_far(_first), "second_sum": _sum_so_far(_second)},
        {"first_sum": _sum_so_far(_first), "second_sum": _sum_so_far(_second), "m": _count_so_far},
    ),
    Mistake(
        "F01",
        "In dx you divided by n − 1. The variance of the forward pass is the biased one, so both terms are means over n.",
        "By what was the sum of the squared distances divided in the forward pass?",
        {"m": lambda s: len(s.dys) - 1},
        {"mean_term": lambda s: s.first_sum / (len(s.dys) - 1)},
        {"var_term": lambda s: s.x_hats * s.second_sum / (len(s.dys) - 1)},
    ),
    Mistake(
        "S59",
        "You divided dx by the number of processes, or multiplied by it. dx belongs to the rows of one process: no one "
        "averages or adds it up.",
        "Which gradients does DDP average, those of the parameters or those of the inputs?",
        {"dx": lambda s: ShardedBackward.dx.compute(s) / len(s.sizes)},
        {"dx": lambda s: ShardedBackward.dx.compute(s) * len(s.sizes)},
    ),
    Mistake(
        "S32",
        "In dx the two sums have changed places.",
        "Which of the two sums belongs to the mean, and which is multiplied by x̂?",
        {"first_sum": lambda s: _second(s).sum(0), "second_sum": lambda s: s.dx_hat.sum(0)},
    ),
    Mistake(
        "B01",
        "You treated the mean and the variance as constants. Both depend on the rows of all processes, so gradients flow "
        "back through them.",
        "If one row moves, which other outputs move?",
        {"mean_term": lambda s: 0.0, "var_term": lambda s: 0.0},
    ),
    Mistake(
        "B02",
        "The path through the variance is missing in dx.",
        "Stretch the batch about its mean. Does y change? What does that say about Σ dx · x̂?",
        {"var_term": lambda s: 0.0},
    ),
    Mistake(
        "B03",
        "You treated the mean as a constant: the path through it is missing.",
        "Add the same number to all x. Does y change? What does that say about Σ dx?",
        {"mean_term": lambda s: 0.0},
    ),
    Mistake(
        "B05",
        "γ is missing in dx: the gradient with respect to x̂ is dy multiplied by γ.",
        "What is ∂y/∂x̂?",
        {"dx_hat": lambda s: s.dys},
    ),
    Mistake(
        "B48",
        "γ is in some terms of dx, but not in all.",
        "Which of your terms contain dy itself?",
        {"first_sum": lambda s: s.dys.sum(0), "second_sum": lambda s: (s.dys * s.x_hats).sum(0)},
        {"first_sum": lambda s: s.dys.sum(0)},
        {"second_sum": lambda s: (s.dys * s.x_hats).sum(0)},
        {"dx": lambda s: s.scale * (s.dys - s.mean_term - s.var_term)},
    ),
    Mistake(
        "B06",
        "The factor 1/√(σ² + ε) is missing in dx, or is in some terms only.",
        "If all x are doubled, y stays. What happens to dx?",
        {"scale": lambda s: 1.0},
        {"dx": lambda s: s.inv_std * s.dx_hat - s.mean_term - s.var_term},
    ),
    Mistake(
        "B08",
        "You divided dx by 1/√(σ² + ε), or multiplied by its square.",
        "If all x are doubled, y stays. What happens to dx?",
        {"scale": lambda s: 1 / s.inv_std},
        {"scale": lambda s: s.inv_std**2},
    ),
    Mistake(
        "B09",
        "A path has the wrong sign in dx: both are subtracted.",
        "What are Σ dx and Σ dx · x̂ in your answer, and what must they be, but for ε?",
        {"var_term": lambda s: -s.x_hats * s.second_sum / s.m},
        {"mean_term": lambda s: -s.first_sum / s.m},
    ),
    Mistake(
        "B54",
        "In the path through the variance the x̂ in front is missing: it is the x̂ of each row.",
        "Which of your terms differ from row to row?",
        {"var_term": lambda s: s.second_sum / s.m},
    ),
)

PARAMETER_MISTAKES = (
    Mistake(
        "S06",
        "dweight or dbias of each process holds the sum over all processes. DDP adds up once more what the processes have: "
        "then everything is counted as often as there are processes.",
        "What does DDP do with dweight after your function, and what comes out of k equal numbers?",
        *_both(_each),
    ),
    Mistake(
        "S33",
        "You averaged dweight or dbias over the processes. What DDP does afterwards would be done twice.",
        "What does DDP do with dweight after your function, and what with a loss before it?",
        *_both(lambda s, sums: _each(s, sums) / len(s.sizes)),
        *_both(lambda s, sums: sums / len(s.sizes)),
        *_both(lambda s, sums: _each(s, sums) / _used(s)),
    ),
    Mistake(
        "S34",
        "You multiplied dweight or dbias by the number of processes. The losses have this factor already.",
        "By what was each loss multiplied before backward began?",
        *_both(lambda s, sums: sums * len(s.sizes)),
        *_both(lambda s, sums: sums * len(s.sizes) * _sizes(s) / len(s.dys)),
    ),
    Mistake(
        "B25",
        "You averaged dweight or dbias over rows. All rows use the same γ and β, so the gradients add up.",
        "Put every row into the batch twice: what happens to dweight?",
        *_both(lambda s, sums: sums / len(s.dys)),
        *_both(lambda s, sums: sums / _sizes(s)),
        *_both(lambda s, sums: sums / np.maximum(_sizes(s), 1)),
        *_both(lambda s, sums: _each(s, sums) / len(s.dys)),
    ),
    Mistake(
        "B26",
        "dweight must not be multiplied by γ.",
        "y = γ · x̂ + β: what is ∂y/∂γ?",
        {"weight_sums": lambda s: by_process(s, s.dys * s.weight * s.x_hats)},
    ),
    Mistake(
        "B27",
        "dbias must not be multiplied by γ.",
        "y = γ · x̂ + β: what is ∂y/∂β?",
        {"bias_sums": lambda s: by_process(s, s.dys * s.weight)},
    ),
    *(
        Mistake(m.id, m.says, m.asks, {"dweights": lambda s: s.bias_sums, "dbiases": lambda s: s.weight_sums})
        for m in chosen(PARAM_MISTAKES, "B28")
    ),
)


# Probes


def _inputs(rng: np.random.Generator, sizes: tuple[int, ...], features: int, *, eps: float = 1e-5) -> dict[str, object]:
    """dy and x̂ of the rows of all processes, standardized together; the processes differ."""
    rows = sum(sizes)
    lifts = np.repeat(rng.normal(0, 1.5, (len(sizes), features)), sizes, axis=0)
    x = rng.uniform(0.4, 3, features) * (rng.normal(size=(rows, features)) + lifts)
    inv_std = 1 / np.sqrt(x.var(0) + eps)
    weight = rng.uniform(1.3, 3, features) * np.where(np.arange(features) % 2, 1, -1)
    dys = rng.normal(0.4, 1, (rows, features)) + 0.5 * lifts
    return {"dys": dys, "x_hats": (x - x.mean(0)) * inv_std, "weight": weight, "inv_std": inv_std, "sizes": sizes}


def _probes(seed: int) -> tuple[Probe, ...]:
    rng = np.random.default_rng(seed)
    return (
        Probe("plain", "3 processes with 4, 2 and 5 rows of 3 features.", _inputs(rng, (4, 2, 5), 3)),
        Probe("square", "4 processes with 4 rows of 4 features each.", _inputs(rng, (4, 4, 4, 4), 4)),
        Probe("empty", "a process without rows.", _inputs(rng, (3, 0, 6), 2)),
        Probe("empty first", "a first process without rows.", _inputs(rng, (0, 5, 2, 1), 3)),
        Probe("single", "a single process.", _inputs(rng, (6,), 3)),
        Probe("ones", "5 processes with one row each.", _inputs(rng, (1, 1, 1, 1, 1), 2)),
        Probe("epsilon", "an ε so large that x̂ is smaller than usual.", _inputs(rng, (5, 3), 3, eps=2.0)),
    )


def _fresh(rng: np.random.Generator) -> Inputs:
    sizes = [*map(int, rng.integers(1, 9, rng.integers(2, 5))), 0]
    return _inputs(rng, tuple(int(n) for n in rng.permutation(sizes)), int(rng.integers(2, 5)))


# What the answer returns

PARAMETERS = "(dys, x_hats, weight, inv_std)"


def drive_backward(answer: Callable, inputs: Inputs) -> dict[str, np.ndarray]:
    """The gradients of all processes, each kind as one array; the answer gets and returns lists of arrays."""
    cuts = np.cumsum(inputs["sizes"])[:-1]
    dys, x_hats = (np.split(inputs[name], cuts) for name in ("dys", "x_hats"))
    result = build(answer, PARAMETERS, dys, x_hats, inputs["weight"], inputs["inv_std"])
    if result is None:
        raise Unusable("nothing", "Your function returns nothing. Is there a return at its end?")
    if isinstance(result, tuple | list) and len(result) == len(dys) and all(map(_is_triple, result)):
        says = "Your result has three values for each process. Expected three lists, (dxs, dweights, dbiases)."
        raise Unusable("container", says)
    if not isinstance(result, tuple | list) or len(result) != 3:
        got = f"{len(result)} values" if isinstance(result, tuple | list) else a(result)
        raise Unusable("container", f"Expected three values, (dxs, dweights, dbiases), got {got}.")
    rows, one = [dy.shape for dy in dys], inputs["weight"].shape
    shapes = {"dxs": rows, "dweights": [one] * len(dys), "dbiases": [one] * len(dys)}
    parts = {name: _parts(name, value, shapes[name]) for name, value in zip(shapes, result, strict=True)}
    return {"dxs": padded(parts.pop("dxs")), **{name: np.stack(values) for name, values in parts.items()}}


def _is_triple(value: object) -> bool:
    """Whether this is the dx of a process, of two axes, with its dweight and dbias, of one."""
    return isinstance(value, tuple | list) and [getattr(each, "ndim", None) for each in value] == [2, 1, 1]


def _parts(name: str, value: object, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """The arrays of the processes, if they have the right shapes."""
    if not isinstance(value, tuple | list | np.ndarray):
        raise Unusable("container", f"Expected a list with one array for each process in {name}, got {a(value)}.")
    if isinstance(value, np.ndarray) and value.ndim != 1 + len(shapes[0]):
        raise Unusable(
            "container", f"{name} is one array, of the shape {value.shape}. Expected a list with one for each process."
        )
    if len(value) != len(shapes):
        raise Unusable("count", f"Expected {len(shapes)} arrays in {name}, one for each process, got {len(value)}.")
    return [_part(f"{name}[{i}]", each, shape) for i, (each, shape) in enumerate(zip(value, shapes, strict=True))]


def _part(name: str, value: object, shape: tuple[int, ...]) -> np.ndarray:
    if value is None:
        raise Unusable("nothing", f"{name} is None.")
    if not isinstance(value, np.ndarray | np.generic | float | int):
        raise Unusable("type", f"Expected a NumPy array for {name}, got {a(value)}.")
    array = np.asarray(value)
    if array.shape != shape:
        number = " Python's sum of no rows is the number 0." if not array.ndim and array == 0 else ""
        raise Unusable("shape", f"{name} has the shape {array.shape}, expected {shape}.{number}")
    if array.dtype not in (np.float32, np.float64):
        raise Unusable("dtype", f"{name} has the dtype {array.dtype}, expected float32 or float64.", "C15")
    return array


# Properties


def _sums(o: dict[str, Outputs], i: dict[str, Inputs], weight: str | None) -> float:
    """The largest of the sums over all rows of dx, or of dx · x̂, which are 0."""
    x_hats = np.split(i["plain"]["x_hats"], np.cumsum(i["plain"]["sizes"])[:-1])
    factors = padded(x_hats) if weight else 1.0
    return np.abs((o["plain"]["dxs"] * factors).sum((0, 1))).max()


def _total(o: dict[str, Outputs], i: dict[str, Inputs], name: str, values: Callable) -> bool:
    """Whether the gradients of all processes add up to that of the whole batch."""
    return all(close(o[n][name].sum(0), values(i[n]).sum(0)) for n in i)


BACKWARD = Exercise(
    id="backward_of_shards",
    chapter=CHAPTER,
    signature=f"{PARAMETERS} -> (dxs, dweights, dbiases), lists with one array for each process",
    operation=ShardedBackward,
    probes=_probes(104),
    fresh=_fresh,
    mistakes=(*SUM_MISTAKES, *PARAMETER_MISTAKES),
    properties=(
        Property(
            "no result is NaN.",
            lambda o, i: all(np.isfinite(value).all() for n in i for value in o[n].values()),
        ),
        Property("dx of all processes adds up to 0.", lambda o, i: _sums(o, i, None) < 1e-3),
        Property("dx · x̂ of all processes adds up to 0, as ε is small.", lambda o, i: _sums(o, i, "x_hats") < 1e-2),
        Property(
            "the dbias of all processes add up to that of the whole batch.",
            lambda o, i: _total(o, i, "dbiases", lambda inputs: inputs["dys"]),
        ),
        Property(
            "the dweight of all processes add up to that of the whole batch.",
            lambda o, i: _total(o, i, "dweights", lambda inputs: inputs["dys"] * inputs["x_hats"]),
        ),
        Property(
            "a process without rows has the gradients 0 for γ and β.",
            lambda o, i: close(o["empty"]["dweights"][1], 0.0) and close(o["empty"]["dbiases"][1], 0.0),
        ),
    ),
    hints=(
        "Which values are shared by all processes? Only for these do the processes have to talk to each other.",
        "First a loop over the processes for what each has of the two sums; then the totals; then a second loop for dx.",
        (
            "dx = γ/√(σ² + ε) · (dy − Σ dy / n − x̂ · Σ dy·x̂ / n). Whose rows are in the two sums, and what is n? And whose "
            "rows are in dweight, if DDP adds up afterwards?"
        ),
    ),
    container="dict",
    changing={"dys": "F24", "x_hats": "F24", "weight": "F24", "inv_std": "F24"},
    drive=drive_backward,
    channels=-1,
)
