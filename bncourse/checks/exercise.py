"""What an exercise consists of: an operation in named steps, probes, and the mistakes known to happen.

An operation is written once, as steps that use each other. A mistake replaces steps, so two
mistakes together are the steps of both: nothing wrong is ever written out as a whole.

    class Mean(Operation):
        outputs = ("mean",)

        @step
        def count(s):
            return len(s.x)

        @step
        def mean(s):
            return s.x.sum(0) / s.count

    Mean.run({"x": x})  # right
    Mean.run({"x": x}, {"count": lambda s: len(s.x) - 1})  # wrong
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

Inputs = Mapping[str, object]
Outputs = dict[str, np.ndarray]
Form = Mapping[str, Callable]  # steps to replace, by name
Wording = Mapping[str, Callable[[Inputs, float, float], str]]  # of wrong numbers, by output

ERRORS_OF_MISTAKES = (ValueError, IndexError, TypeError, ArithmeticError)  # such as shapes that do not fit

RTOL = 1e-4  # of each value; mistakes exceed it, float32 stays far below
FLOOR = 3e-5  # of the typical size of an output, for values near zero
PAIRED_FORMS = 2  # of each mistake; with all of them, some exercises would have thousands of pairs


class step:
    """A value of an operation, computed on first use, by the step itself or by what replaces it."""

    def __init__(self, compute: Callable):
        self.compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str):
        self.name = name

    def __get__(self, operation: "Operation", owner: type):
        if operation is None:
            return self
        value = operation.replaced.get(self.name, self.compute)(operation)
        operation.__dict__[self.name] = value
        return value


class Operation:
    """A computation in named steps; the inputs are attributes as well, as floating-point numbers of ``dtype``."""

    outputs: tuple[str, ...]

    def __init__(self, inputs: Inputs, replaced: Form, dtype: type):
        self.replaced = replaced
        self.inputs = inputs
        for name, value in inputs.items():
            self.__dict__[name] = value.astype(dtype) if isinstance(value, np.ndarray) else value

    @classmethod
    def run(cls, inputs: Inputs, replaced: Form | None = None, dtype: type = np.float64) -> Outputs:
        """The outputs by name, with some steps replaced."""
        operation = cls(inputs, replaced or {}, dtype)
        with np.errstate(all="ignore"):
            return {name: np.asarray(getattr(operation, name)) for name in cls.outputs}

    @classmethod
    def steps(cls) -> set[str]:
        """The names of all steps."""
        return {name for owner in cls.__mro__ for name, value in vars(owner).items() if isinstance(value, step)}


@dataclass(frozen=True)
class Mistake:
    """A mistake that people make: one or more forms of it, one sentence, one question.

    ``id`` is its entry in the catalogue. Each form says which steps it replaces; forms are ways to
    make the same mistake. On a probe that is ``rough`` any wrong number fits: its digits are noise.
    """

    id: str
    says: str
    asks: str
    forms: tuple[Form, ...]

    def __init__(self, id: str, says: str, asks: str, *forms: Form):
        for name, value in {"id": id, "says": says, "asks": asks, "forms": forms}.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Probe:
    """Inputs chosen to expose mistakes, and the reason, for the learner to read."""

    name: str
    reason: str
    inputs: Inputs
    rtol: float = RTOL
    floor: float = FLOOR

    @property
    def rough(self) -> bool:
        """Whether a right answer in float32 loses digits here, and a wrong one may lose all."""
        return self.rtol > RTOL

    def copy_of_inputs(self) -> dict[str, object]:
        """Inputs that may be changed, with the same order in memory."""
        return {name: v.copy(order="K") if isinstance(v, np.ndarray) else v for name, v in self.inputs.items()}


@dataclass(frozen=True)
class Property:
    """Something that the right answer does, told apart from the numbers.

    ``holds`` gets the outputs by probe name and the inputs by probe name.
    """

    says: str
    holds: Callable[[Mapping[str, Outputs], Mapping[str, Inputs]], bool]


@dataclass(frozen=True)
class Exercise:
    """An exercise of the course: all that a check needs to know of it.

    Attributes:
        id: the name of the exercise, and of the function or class that solves it.
        chapter: the stem of its notebook, such as ``02_forward``.
        signature: the parameters and what is returned, for the learner to read; of a class, those of its methods.
        operation: the right answer, in steps.
        probes: fixed inputs; the name of a mistake comes from these alone.
        fresh: makes the inputs of one more probe from a random generator.
        mistakes: what is known to go wrong.
        properties: what holds for every right answer, the most basic first.
        hints: from a nudge to nearly the answer.
        container: how several outputs are returned, "tuple" or "dict".
        changing: the ids of the mistake of changing an input, by the input's name.
        drive: tries out an answer that does not itself turn the inputs into the outputs, such as a class: it gets
            the answer and the inputs, and returns the outputs in a dict. ``torch_answers`` helps to write one.
        channels: the axis of the channels in arrays shaped like x; where it is -1, messages call them features, where 0,
            rows.
        wording: for outputs that are a single number, a sentence on a wrong one, where "name is 0, expected 1" would
            not help a learner: it gets the inputs, the number and the expected one.
        separate: whether each probe is a question of its own, with mistakes of its own: then all that are wrong are
            spoken of, however many, and the outputs are codes that a learner never sees.
    """

    id: str
    chapter: str
    signature: str
    operation: type[Operation]
    probes: tuple[Probe, ...]
    fresh: Callable[[np.random.Generator], Inputs]
    mistakes: tuple[Mistake, ...]
    properties: tuple[Property, ...]
    hints: tuple[str, ...]
    container: str = "tuple"
    changing: Mapping[str, str] = field(default_factory=dict)
    drive: Callable[[object, Inputs], Mapping[str, object]] | None = None
    channels: int = 1
    wording: Wording = field(default_factory=dict)
    separate: bool = False

    @property
    def noun(self) -> str:
        """What the answer is; names of classes begin with a capital letter, those of kernels end in _kernel."""
        if self.id.endswith("_kernel"):
            return "kernel"
        return "class" if self.id[0].isupper() else "function"

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the inputs, in order; if nothing drives the answer, they are the function's parameters."""
        return tuple(self.probes[0].inputs)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what is compared, in order; if nothing drives the answer, it is what the function returns."""
        return self.operation.outputs

    def expected(self, probe: Probe) -> Outputs:
        """The right outputs."""
        return self.operation.run(probe.inputs)

    @cached_property
    def singles(self) -> tuple["Explanation", ...]:
        """Every form of every mistake."""
        return tuple(
            Explanation((mistake,), form, self.operation) for mistake in self.mistakes for form in mistake.forms
        )

    @cached_property
    def pairs(self) -> tuple["Explanation", ...]:
        """Every two mistakes that can be made together, each in its first forms: they replace different steps."""
        plain = [single for single in self.singles if single.form in single.mistakes[0].forms[:PAIRED_FORMS]]
        return tuple(
            Explanation(one.mistakes + other.mistakes, {**one.form, **other.form}, self.operation)
            for one, other in itertools.combinations(plain, 2)
            if one.mistakes != other.mistakes and not one.form.keys() & other.form.keys()
        )


@dataclass(frozen=True)
class Explanation:
    """One mistake or two at once, as a computation."""

    mistakes: tuple[Mistake, ...]
    form: Form
    operation: type[Operation]
    _known: dict[str, Outputs | None] = field(default_factory=dict, repr=False)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the mistakes."""
        return tuple(mistake.id for mistake in self.mistakes)

    def outputs(self, probe: Probe) -> Outputs | None:
        """What comes out for one of the exercise's probes; None for an error, such as shapes that do not fit."""
        if probe.name not in self._known:
            try:
                self._known[probe.name] = self.operation.run(probe.inputs, self.form)
            except ERRORS_OF_MISTAKES:
                self._known[probe.name] = None
        return self._known[probe.name]
