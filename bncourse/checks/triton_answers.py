"""Answers written as Triton kernels: what it takes to launch them, with an eye on every load and every store.

Kernels run under Triton's interpreter, on the CPU, whether there is a GPU or not. Their tensors stand far apart in one
buffer. A lane that reads outside of every tensor gets the number ``OUTSIDE``, and what it writes there is dropped: a
forgotten mask gives a wrong number, never a crash, and it is noted. Masked lanes hold ``UNDEFINED`` where a load has no
``other``: Triton promises nothing for them, and a NaN cannot be multiplied away.

What the interpreter lets pass and a GPU's compiler does not is refused as well, where beginners come upon it.

Triton is imported when it is needed: the checks themselves do without.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.util
import inspect
import math
import os
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .observe import Unusable, a, is_of_the_learner

if TYPE_CHECKING:
    from triton.runtime.interpreter import InterpretedFunction, TensorHandle

FILL = -555.0  # what stands in an output at first
OUTSIDE = 100.0  # what is read where no tensor is
UNDEFINED = math.nan  # what masked lanes hold if a load does not say
SLOT = 2**16  # bytes from one tensor to the next
FARTHEST = 1000.0  # places outside of a tensor; more are not counted

ASKED_ONCE = (
    "a tile is neither true nor false. `if`, `and`, `or`, `not` and a < b < c ask once, not lane by lane: "
    "tl.where(mask, a, b) chooses for each lane, (a) & (b) is true where both are, ~a where a is not"
)
RESTART = "Restart the kernel of the notebook, and run its first cell before all others."


class NoTriton(ImportError):
    """Triton is missing, or was imported too early; Jupyter shows the message without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def interpret() -> None:
    """Let Triton run kernels as Python, on the CPU. Call it before Triton is imported.

    Raises:
        NoTriton: Triton is not installed, or was imported before to run on a GPU.
    """
    if importlib.util.find_spec("triton") is None:
        raise NoTriton("These exercises need Triton, which is not installed here: it runs on Linux with an x86-64 CPU.")
    if "triton" in sys.modules and not _interpreting():
        raise NoTriton(f"Triton was imported before this line, to run on a GPU. {RESTART}")
    os.environ["TRITON_INTERPRET"] = "1"


def _interpreting() -> bool:
    """Whether Triton's own functions, such as ``tl.sum``, were made for the interpreter."""
    import triton.language as tl
    from triton.runtime.jit import JITFunction

    return not isinstance(tl.sum, JITFunction)


# Launching


def launch(kernel: object, arguments: Mapping[str, np.ndarray | int], grid: tuple[int, ...]) -> Memory:
    """Run a kernel on arrays, which it changes in place, and numbers; what it did with its memory.

    Args:
        kernel: the learner's answer.
        arguments: by the names of the parameters, in their order. Those in capitals are ``tl.constexpr``.
        grid: how many programs run.

    Raises:
        Unusable: the answer is no kernel, has other parameters, or stored nothing.
    """
    _expect_kernel(kernel, list(arguments))
    _expect_own_work(kernel)
    _expect_compilable(kernel)
    arrays = {name: value for name, value in arguments.items() if isinstance(value, np.ndarray)}
    memory = Memory(list(arrays.values()))
    given = arguments | dict(zip(arrays, memory.tensors, strict=True))
    by_name = given if set(kernel.arg_names) == set(given) else dict(zip(kernel.arg_names, given.values(), strict=True))
    with memory.watched(), _unprofiled():
        _run(kernel, by_name, grid)
    if not memory.stored:
        raise Unusable("nothing", "Your kernel stored nothing. A kernel returns nothing: results leave with tl.store.")
    for array, tensor in zip(arrays.values(), memory.tensors, strict=True):
        array[...] = tensor.numpy().reshape(array.shape)
    return memory


def _expect_kernel(answer: object, names: Sequence[str]) -> None:
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITFunction

    if isinstance(answer, JITFunction):
        raise Unusable("signature", f"Your kernel was made for a GPU, and the check interprets it. {RESTART}")
    if inspect.isfunction(answer) and answer.__module__.startswith("triton."):  # a kernel with [grid] behind it
        raise Unusable("signature", "Pass the kernel itself, without [...] or a grid: the check launches it.")
    if inspect.isfunction(answer):
        says = f"{answer.__name__} is a plain Python function: no line @triton.jit stands above its def"
        raise Unusable("signature", f"{says}.", "K21")
    if not isinstance(answer, InterpretedFunction):
        raise Unusable("signature", f"Expected a function below @triton.jit alone, got {a(answer)}.")
    if len(answer.arg_names) != len(names):
        says = f"Your kernel takes ({', '.join(answer.arg_names)}); the exercise takes ({', '.join(names)})"
        raise Unusable("signature", f"{says}.")
    marked = answer.fn.__annotations__
    for name in answer.arg_names:
        if name.isupper() and len(name) > 1 and "constexpr" not in str(marked.get(name)):
            says = f"{name} has lost its mark: {name}: tl.constexpr. The shape of a tile has to be known beforehand"
            raise Unusable("signature", f"{says}.")


def _expect_own_work(kernel: InterpretedFunction) -> None:
    """Refuse a kernel that calls the course's, directly or not: such calls go through global names."""
    waiting, seen = [kernel.fn], []
    while waiting:
        function = waiting.pop()
        seen.append(function)
        known = [function.__globals__.get(name) for name in function.__code__.co_names]
        for called in [inspect.unwrap(getattr(value, "fn", value)) for value in known if value is not None]:
            module = getattr(called, "__name__" if inspect.ismodule(called) else "__module__", None) or ""
            if module.partition(".")[0] == "bncourse":
                name = getattr(called, "__name__", module)
                raise Unusable("course", f"Your kernel calls {name} of {module}, the course's own work.")
            if inspect.isfunction(called) and called not in seen and not module.startswith("triton"):
                waiting.append(called)


@functools.lru_cache(maxsize=1)  # a check launches the same kernel again and again
def _expect_compilable(kernel: InterpretedFunction) -> None:
    """Refuse what the interpreter runs as Python, and the compiler of a GPU does not know."""
    try:
        code = ast.parse(textwrap.dedent(inspect.getsource(kernel.fn)))
    except (OSError, TypeError, SyntaxError):  # its lines cannot be had
        return
    for node in ast.walk(code):
        if isinstance(node, ast.Try | ast.ListComp):
            name = "try" if isinstance(node, ast.Try) else "list comprehensions"
            raise _not_compiled(kernel, node, f"Triton compiles a kernel for a GPU, and knows no {name} there")
    changing = _set_while_running(code.body[0])
    for call in [node for node in ast.walk(code) if isinstance(node, ast.Call)]:
        name = getattr(call.func, "attr", None)
        sizes = {"arange": call.args, "zeros": call.args[:1], "full": call.args[:1]}.get(name, [])
        for found in sorted({name for size in sizes for name in _names(size)} & changing):
            says = f"The size of a tile has to be known before the kernel runs, and {found} is not"
            raise _not_compiled(kernel, call, f"{says}: in tl.{name} only numbers and what is tl.constexpr may stand")


def _set_while_running(function: ast.FunctionDef) -> set[str]:
    """The names of what a kernel learns when it runs: parameters that are no constants, and what is assigned."""
    parameters = {arg.arg for arg in function.args.args if "constexpr" not in ast.unparse(arg.annotation or arg)}
    fixed = [node for node in ast.walk(function) if isinstance(node, ast.AnnAssign)]
    fixed += [node for node in ast.walk(function) if isinstance(node, ast.For) and "static" in ast.unparse(node.iter)]
    constant = {name for node in fixed for name in _names(node.target)}
    stored = [node for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    return (parameters | {node.id for node in stored}) - constant


def _names(expression: ast.expr) -> Iterator[str]:
    """The names in an expression; the shape of a tile is known, whatever the tile holds."""
    if isinstance(expression, ast.Name):
        yield expression.id
    elif not (isinstance(expression, ast.Attribute) and expression.attr == "shape"):
        for part in ast.iter_child_nodes(expression):
            yield from _names(part)


def _not_compiled(kernel: InterpretedFunction, node: ast.AST, says: str) -> Unusable:
    line = kernel.fn.__code__.co_firstlineno + node.lineno - 1
    return Unusable("signature", f"{says}. It is in your line {line}: {ast.unparse(node).splitlines()[0]}", "K54")


@contextlib.contextmanager
def _unprofiled() -> Iterator[None]:
    """Without the profile function that watches for calls of the course: the interpreter makes calls by thousands."""
    before = sys.getprofile()
    if callable(before):
        sys.setprofile(None)
    try:
        yield
    finally:
        if callable(before):
            sys.setprofile(before)


def _run(kernel: InterpretedFunction, arguments: Mapping[str, object], grid: tuple[int, ...]) -> None:
    """Run all programs; an error arises as if the learner's lines had been called directly."""
    from triton.runtime.errors import InterpreterError

    try:
        kernel[grid](**arguments)
    except InterpreterError as error:
        causes: list[BaseException] = [error]  # one for each function of Triton's on the way, such as tl.sum
        while isinstance(causes[-1], InterpreterError) and causes[-1].__cause__:
            causes.append(causes[-1].__cause__)
        own = [each for each in causes if any(map(is_of_the_learner, traceback.extract_tb(each.__traceback__)))]
        raise causes[-1].with_traceback((own or causes)[-1].__traceback__) from None


# Memory


class Memory:
    """The tensors of a launch, and what a kernel does with them.

    Attributes:
        reads_beyond, writes_beyond: how many places the farthest lane was outside of its tensor; 0 if none was.
        atomics: whether there was an atomic operation.
        stored: whether anything was written.
    """

    def __init__(self, arrays: Sequence[np.ndarray]):
        import torch

        buffer = torch.zeros(len(arrays) * SLOT, dtype=torch.uint8)
        first = np.arange(len(arrays)) * SLOT + SLOT // 2  # room on both sides of each tensor
        self.tensors = []
        for start, values in zip(first.tolist(), arrays, strict=True):
            tensor = buffer[start : start + values.nbytes].view(torch.from_numpy(values).dtype)
            self.tensors.append(tensor.copy_(torch.from_numpy(values.ravel())))
        self.base = buffer.data_ptr()
        self.first, self.last = first, first + [values.nbytes for values in arrays]
        self.reads_beyond = self.writes_beyond = 0.0
        self.atomics = self.stored = self.says_other = False

    @property
    def facts(self) -> dict[str, float]:
        """How far away lanes were, as the exercises compare it."""
        return {"reads_beyond": self.reads_beyond, "writes_beyond": self.writes_beyond}

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Let all loads and stores of the interpreter go through here."""
        from triton.runtime import interpreter
        from triton.runtime.interpreter import interpreter_builder as builder
        from triton.runtime.interpreter import interpreter_semantic as semantic

        ways = {
            "create_masked_load": self._load,
            "create_masked_store": self._store,
            "create_atomic_rmw": self._atomic,
            "create_atomic_cas": self._compare,
            "options": replace(builder.options, sanitize_overflow=False),  # integers wrap around, as on a GPU
        }
        before, patch = builder.options, interpreter._patch_lang_tensor
        try:
            for name, way in ways.items():
                setattr(builder, name, way)
            semantic.load = self._load_with_other
            interpreter._patch_lang_tensor = lambda tensor, scope: _ask_once(tensor, scope, patch)
            yield
        finally:
            interpreter._patch_lang_tensor = patch
            vars(semantic).pop("load", None)
            builder.options = before
            for name in ways.keys() - {"options"}:
                vars(builder).pop(name, None)

    def _lanes(self, pointers: TensorHandle, mask: object) -> tuple[np.ndarray, np.ndarray, float]:
        """Which lanes the mask lets through, which of them point to something, and how far away the others are."""
        size = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        places = (pointers.data - np.uint64(self.base)).astype(np.int64)
        slot = np.clip(places // SLOT, 0, len(self.first) - 1)
        outside = np.maximum(places + size - self.last[slot], self.first[slot] - places) / size
        wanted = np.broadcast_to(
            np.asarray(getattr(mask, "data", mask), bool), outside.shape
        )  # of block pointers: bare
        return wanted, wanted & (outside <= 0), float(np.clip((outside * wanted).max(), 0, FARTHEST))

    def _load_with_other(self, pointers: object, mask: object, other: object, *how: object) -> object:
        """Note whether a load says what masked lanes hold: of a single number Triton drops an ``other`` that is 0."""
        from triton.runtime.interpreter import interpreter_semantic as semantic

        self.says_other = other is not None
        return type(semantic).load(semantic, pointers, mask, other, *how)

    def _load(
        self, pointers: TensorHandle, mask: object, other: TensorHandle | None, *how: object, **further: object
    ) -> TensorHandle:
        wanted, there, beyond = self._lanes(pointers, mask)
        self.reads_beyond = max(self.reads_beyond, beyond)
        loaded = _original("create_masked_load")(pointers, _handle(there), other, *how, **further)
        loaded.data[wanted & ~there] = OUTSIDE
        if other is None and not self.says_other:
            loaded.data[~wanted] = UNDEFINED if loaded.data.dtype.kind == "f" else OUTSIDE
        return loaded

    def _store(self, pointers: TensorHandle, value: TensorHandle, mask: object, *how: object) -> object:
        return _original("create_masked_store")(pointers, value, self._written(pointers, mask), *how)

    def _atomic(
        self, operation: object, pointers: TensorHandle, value: TensorHandle, mask: object, *how: object
    ) -> TensorHandle:
        self.atomics = True
        there = self._written(pointers, mask)
        return _original("create_atomic_rmw")(operation, pointers, value, there, *how)

    def _compare(self, pointers: TensorHandle, *how: object) -> TensorHandle:
        self.atomics = True
        if not self._written(pointers, True).data.all():
            raise IndexError("tl.atomic_cas outside of all tensors")
        return _original("create_atomic_cas")(pointers, *how)

    def _written(self, pointers: TensorHandle, mask: object) -> TensorHandle:
        _, there, beyond = self._lanes(pointers, mask)
        self.writes_beyond = max(self.writes_beyond, beyond)
        self.stored |= bool(there.any())
        return _handle(there)


def _ask_once(tensor: type, scope: object, patch: Callable) -> None:
    """Let Triton prepare its tensors, and refuse the truth value of a tile, which its compiler has none of either."""
    patch(tensor, scope)
    usual = tensor.__bool__

    def ask(self: object) -> bool:
        asking = sys._getframe(1).f_globals.get("__name__") or ""
        if self.handle.data.size > 1 and not asking.startswith("triton."):
            raise TypeError(ASKED_ONCE)
        return usual(self)

    scope.set_attr(tensor, "__bool__", ask)


def _original(name: str) -> object:
    """A method of the interpreter, as it was."""
    from triton.runtime.interpreter import interpreter_builder as builder

    return getattr(type(builder), name).__get__(builder)


def _handle(mask: np.ndarray) -> TensorHandle:
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    return TensorHandle(mask, tl.int1)
