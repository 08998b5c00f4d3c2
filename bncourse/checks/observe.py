"""Call a learner's function on probes, and note what it does; nothing is judged here.

This runs where the learner's code runs: in the notebook, or in the process that runs a submitted
notebook, which sends its observations to the parent.
"""

import contextlib
import inspect
import io
import linecache
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import TextIO

import numpy as np

from .exercise import Exercise, Outputs, Probe
from .limits import OutOfTime, time_limit

PACKAGE = Path(__file__).parent.parent  # not resolved: code objects name the path that was imported
INSIDE = (str(PACKAGE) + os.sep, str(PACKAGE.resolve()) + os.sep)
DRIVING = (
    __file__,
    *(str(Path(__file__).with_name(f"{name}_answers.py")) for name in ("torch", "triton")),
)  # no answers
SECONDS = 10.0  # for all calls of one check; the first may import a large library
MOST_PRINTED = 5000  # characters that are shown of what a function prints
LONGEST_DETAILS = 20_000  # characters of a traceback
MISALIGNED = ("broadcast together with shapes", "could not broadcast input")  # einsum speaks of broadcasting, too
FINAL = ("not attempted", "course")  # problems of the first call after which no other tells more


@dataclass(frozen=True)
class Problem:
    """Why a call gave nothing that could be compared.

    ``kind`` is one of: not attempted, signature, raised, out of time, course, nothing, container,
    count, type, dtype, shape. ``says`` is for the learner; ``details``, a traceback, may be folded away.
    """

    kind: str
    says: str
    details: str = ""
    mistake: str | None = None  # its id in the catalogue, if it has one


@dataclass(frozen=True)
class Outcome:
    """What one call did: outputs by name or a problem, and which inputs it changed."""

    outputs: Outputs | None = None
    problem: Problem | None = None
    changed: tuple[str, ...] = ()


class Unusable(Exception):
    """Carries a Problem out of the reading of a result, or out of a driver."""

    def __init__(self, kind: str, says: str, mistake: str | None = None):
        super().__init__(says)
        self.problem = Problem(kind, says, mistake=mistake)


def observe(exercise: Exercise, function: Callable, probes: Iterable[Probe], seconds: float = SECONDS) -> list[Outcome]:
    """One outcome per probe, and at the end one more for the first probe again.

    Stops early when a call shows that the function is a stub, has other parameters, or does not end.
    """
    probes = list(probes)
    arrange = _arrangement(exercise, function)
    if isinstance(arrange, Problem):
        return [Outcome(problem=arrange)]
    outcomes: list[Outcome] = []
    says = f"The calls of your {exercise.noun} took longer than {seconds:g} seconds and were stopped. Is there a loop without end?"
    with _quiet() as silence, contextlib.suppress(OutOfTime), time_limit(seconds):
        for probe in [*probes, probes[0]]:
            outcome = _call(exercise, function, arrange, probe)
            outcomes.append(outcome)
            if outcome.problem and outcome.problem.kind in FINAL and len(outcomes) == 1:
                return outcomes
            silence()  # what the first call prints is shown, the others would only repeat it
    if len(outcomes) > len(probes):  # done, perhaps just when the time ran out
        return outcomes
    return [*outcomes, Outcome(problem=Problem("out of time", says))]


@contextlib.contextmanager
def _quiet() -> Iterator[Callable]:
    """Ignore warnings and let some of what is printed through; the value silences all that is printed from then on."""
    printed = _Printed(sys.stdout, MOST_PRINTED)
    with warnings.catch_warnings(), np.errstate(all="ignore"), contextlib.redirect_stdout(printed):
        warnings.simplefilter("ignore")
        yield printed.close_ear


class _Printed(io.TextIOBase):
    """Passes on what is printed, up to a number of characters."""

    def __init__(self, stream: TextIO, limit: int):
        self.stream, self.left, self.told = stream, limit, False

    def write(self, text: str) -> int:
        """Pass on what still fits, and say once that the rest was left out."""
        if self.left > 0:
            self.stream.write(text[: self.left])
        elif not self.told:
            self.stream.write("\n… (what your function prints after this is left out)\n")
            self.told = True
        self.left -= len(text)
        return len(text)

    def close_ear(self) -> None:
        """Pass on nothing more, and say nothing of it."""
        self.left, self.told = 0, True


# Calling


def _arrangement(exercise: Exercise, function: Callable) -> Callable | Problem:
    """How to hand over inputs: by name where the function knows the names, else in order."""
    names = exercise.parameters
    if not callable(function):
        return Problem(
            "signature",
            f"Expected the {exercise.noun} {exercise.id}, got {a(function)}. Pass it without parentheses.",
        )
    if exercise.drive:
        return exercise.drive
    try:
        signature = inspect.signature(function)
    except Exception:  # noqa: BLE001 - some compiled functions have none, and a learner's object may raise anything
        return _in_order
    by_name, in_order = _by_name, _in_order
    if not set(names) <= signature.parameters.keys():  # other names, or *args of a wrapper
        by_name, in_order = in_order, by_name
    for arrange in (by_name, in_order):
        with contextlib.suppress(TypeError):
            arrange(signature.bind, dict.fromkeys(names))
            return arrange
    return Problem("signature", f"Your function takes {signature}; the exercise takes {exercise.signature}.")


def _by_name(function: Callable, inputs: Mapping[str, object]) -> object:
    return function(**inputs)


def _in_order(function: Callable, inputs: Mapping[str, object]) -> object:
    return function(*inputs.values())


def _call(exercise: Exercise, function: Callable, arrange: Callable, probe: Probe) -> Outcome:
    """Call the function on copies of the inputs, and read what it returns."""
    inputs = probe.copy_of_inputs()
    try:
        with _no_course_calls(exercise):
            result = arrange(function, inputs)
        return Outcome(outputs=_read(exercise, result), changed=_changed(inputs, probe.inputs))
    except Unusable as unusable:
        return Outcome(problem=unusable.problem)
    except (KeyboardInterrupt, OutOfTime):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a learner's code raises is a result
        return Outcome(problem=_raised(error, exercise, function), changed=_changed(inputs, probe.inputs))


def _changed(inputs: Mapping[str, object], original: Mapping[str, object]) -> tuple[str, ...]:
    """The names of the arrays that are not what they were."""
    arrays = [name for name, value in original.items() if isinstance(value, np.ndarray)]
    return tuple(name for name in arrays if inputs[name].tobytes() != original[name].tobytes())


@contextlib.contextmanager
def _no_course_calls(exercise: Exercise) -> Iterator[None]:
    """Refuse an answer that calls the course's functions, directly or not; what drives it is none of them."""
    found: list[str] = []
    driving = (*DRIVING, exercise.drive.__code__.co_filename) if exercise.drive else DRIVING

    def notice(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(INSIDE) and code.co_filename not in driving:
            module = frame.f_globals.get("__name__", "bncourse")
            found.append(f"{module}.{code.co_qualname}")

    before, before_in_threads = sys.getprofile(), threading.getprofile()
    sys.setprofile(notice)
    threading.setprofile(notice)
    try:
        yield
    except Exception:
        if not found:
            raise
    finally:
        threading.setprofile(before_in_threads)
        if before is None or callable(before):
            sys.setprofile(before)
        else:  # cProfile, which is no function
            sys.setprofile(None)
            before.enable()
    if found:
        raise Unusable("course", f"Your {exercise.noun} calls {found[0]}, the course's own answer.")


def _raised(error: BaseException, exercise: Exercise, answer: Callable) -> Problem:
    """The error, and the line of the learner's code where it arose; the traceback as details."""
    stub = _stub(error, exercise, answer)
    if stub:
        return stub
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(INSIDE)]
    own = list(filter(is_of_the_learner, frames))
    where = f", in your line {own[-1].lineno}: {_source(own[-1])}." if own else "."
    text = describe(error)
    misaligned = any(words in text for words in MISALIGNED)
    align = " NumPy aligns shapes from the right: which axis meets which?" if misaligned else ""
    if "is ambiguous" in text:  # the truth value of an array, or of a tensor
        align = " To ask whether something is there at all, write `is None`."
    if "out of bounds for shape []" in text:  # in a kernel
        align = " What is added up here is one number, not a tile."
    details = "".join([*traceback.format_list(frames[-10:]), text])[-LONGEST_DETAILS:]
    return Problem("raised", f"Your {exercise.noun} raised {text}{where}{align}", details)


def _stub(error: BaseException, exercise: Exercise, answer: Callable) -> Problem | None:
    """That something is not written yet, if this is what the error says.

    A class is not attempted as long as all its methods are stubs; else the missing method is named.
    """
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    own = [code for code in codes if not (code.co_filename.startswith(INSIDE) or _installed(code.co_filename))]
    if not (isinstance(error, NotImplementedError) and own and _raises_it(own[-1])):
        return None
    methods = _methods(answer)
    if all(map(_raises_it, methods)) if methods else len(own) == 1 or own[-1].co_name == exercise.id:
        return Problem("not attempted", "Replace the line that raises NotImplementedError with your code.")
    name = own[-1].co_qualname.rpartition("<locals>.")[2]
    if own[-1] in methods:
        return Problem("raised", f"Your {exercise.noun} is not complete: {name} is not written yet.")
    return Problem("raised", f"Your {exercise.noun} calls {name}, which is not written yet.")


def _raises_it(code: CodeType) -> bool:
    return "NotImplementedError" in code.co_names


def _methods(answer: Callable) -> list[CodeType]:
    """The code of the methods that a class itself defines; none for a function."""
    defined = vars(answer).values() if isinstance(answer, type) else ()
    functions = [getattr(value, "__func__", value) for value in defined]  # of a static method, what it wraps
    return [inspect.unwrap(function).__code__ for function in functions if inspect.isfunction(function)]


def describe(error: BaseException) -> str:
    """The error with its message, which is cut; its ``__str__`` may be a learner's code."""
    says = ""
    with contextlib.suppress(Exception):
        says = str(error).strip()[:300]
    return f"{type(error).__name__}: {says}".removesuffix(": ")


def _source(frame: traceback.FrameSummary) -> str:
    return (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()


def is_of_the_learner(frame: traceback.FrameSummary) -> bool:
    """Whether a line of a traceback is neither the course's nor that of a package."""
    return not (frame.filename.startswith(INSIDE) or _installed(frame.filename))


def _installed(filename: str) -> bool:
    """Whether a file belongs to Python or to a package, rather than to the learner."""
    return filename.startswith((sys.prefix, sys.base_prefix, "<frozen", "<__array_function__"))


# Reading what came back


def _read(exercise: Exercise, result: object) -> Outputs:
    """The outputs by name, as arrays of their own."""
    names = exercise.outputs
    if result is None:
        raise Unusable("nothing", f"Your {exercise.noun} returns nothing. Is there a return at its end?")
    if exercise.container == "dict":
        values = _from_dict(names, result)
    elif len(names) == 1:
        values = (_one(names[0], result),)
    else:
        values = _from_sequence(names, result)
    return {name: _array(name, value) for name, value in zip(names, values, strict=True)}


def _one(name: str, result: object) -> object:
    if isinstance(result, tuple):
        raise Unusable("count", f"Expected {name} alone, got {len(result)} values.")
    return result


def _from_dict(names: tuple[str, ...], result: object) -> tuple:
    if not isinstance(result, dict):
        raise Unusable("container", f"Expected a dict with the keys {', '.join(names)}, got {a(result)}.")
    missing = [name for name in names if name not in result]
    if missing:
        unexpected = [str(key) for key in result if key not in names]
        instead = f" It has these instead: {', '.join(unexpected)}." if unexpected else ""
        raise Unusable("count", f"What your function returns lacks the keys {', '.join(missing)}.{instead}")
    return tuple(result[name] for name in names)


def _from_sequence(names: tuple[str, ...], result: object) -> tuple:
    listed = ", ".join(names)
    if type(result) is np.ndarray and result.ndim and len(names) == len(result) > 1:  # stacked
        return tuple(result)
    if not isinstance(result, tuple | list):
        raise Unusable("container", f"Expected {len(names)} values, ({listed}), got {a(result)}.")
    if len(result) != len(names):
        raise Unusable("count", f"Expected {len(names)} values, ({listed}), got {len(result)}.")
    return tuple(result)


def _array(name: str, value: object) -> np.ndarray:
    """A copy of the value that nobody else holds."""
    if value is None:
        raise Unusable("nothing", f"Your function returns None for {name}.")
    number = isinstance(value, float | int | np.generic) and not isinstance(value, bool)
    if not number and type(value) is not np.ndarray:
        raise Unusable("type", f"Expected a NumPy array or a number for {name}, got {a(value)}.")
    array = np.array(value)
    counts = array.ndim == 0 and array.dtype.kind == "i"
    if array.dtype not in (np.float32, np.float64) and not counts:
        raise _wrong_dtype(name, array)
    return array


def _wrong_dtype(name: str, array: np.ndarray) -> Unusable:
    says = f"{name} has the dtype {array.dtype}, expected float32 or float64."
    if array.dtype.kind in "iu" and array.size > 1:
        return Unusable("dtype", f"{says} Integers cannot hold normalized values.", "F26")
    return Unusable("dtype", says, "C15")


def a(value: object) -> str:
    """What kind of thing a value is, in words."""
    if value is None:
        return "None"
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
