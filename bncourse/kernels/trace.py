"""Each load and store that kernels make, recorded while Triton's interpreter runs them.

In a trace, kernels get addresses that no memory has: each tensor argument has a range of its own, far from all
others. So the address alone tells to which argument an access belongs, even one beyond the end of its tensor, and
also where two arguments share memory. The recorder turns these addresses into real ones before memory is touched.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from unittest.mock import patch

import numpy as np
from torch import Tensor
from triton.runtime import interpreter
from triton.tools.tensor_descriptor import TensorDescriptor

from bncourse.kernels.runtime import INTERPRETED

SECTOR = 32  # bytes: the least that a GPU's memory moves
SHIFT = 44  # each argument has 2⁴⁴ bytes of addresses, half of them before its first element
NO_ARGUMENT = "outside"  # the tensor of an access whose address comes from no argument


@dataclass(frozen=True, eq=False)
class Access:
    """One load, store or atomic operation of one program.

    Attributes:
        kernel: the name of the kernel's function.
        launch: how many kernels were launched before this one.
        program: (x, y, z).
        kind: "load", "store" or "atomic", which is both.
        tensor: the argument's name without ``_ptr``; "outside" if the address comes from no argument.
        tile: for each lane, how many elements after the tensor's first one it points, in memory order.
        mask: which lanes take part, the shape of ``tile``.
        size: how many elements of memory the tensor spans.
        itemsize: bytes per element.
        start: bytes from the last boundary of a sector to the tensor's first element.
    """

    kernel: str
    launch: int
    program: tuple[int, int, int]
    kind: str
    tensor: str
    tile: np.ndarray
    mask: np.ndarray
    size: int
    itemsize: int
    start: int

    @property
    def offsets(self) -> np.ndarray:
        """The offsets of the lanes that the mask lets through, in lane order."""
        return self.tile[self.mask]

    @property
    def outside(self) -> np.ndarray:
        """Those of ``offsets`` at which the tensor has no element."""
        return self.offsets[(self.offsets < 0) | (self.offsets >= self.size)]

    @property
    def lanes(self) -> int:
        """How many lanes the tile has, masked ones included."""
        return self.tile.size

    @property
    def sectors(self) -> int:
        """How many separate sectors of 32 bytes the access touches."""
        return np.unique((self.start + self.offsets * self.itemsize) // SECTOR).size


@dataclass(frozen=True, eq=False)
class Trace:
    """What kernels did in one call.

    Attributes:
        accesses: in the order in which they happened. The interpreter runs the programs of a kernel one after the
            other; a GPU runs many at once.
        launches: the kernels' names in the order of their launches.
        tensors: the names of their tensor arguments, without ``_ptr``.
    """

    accesses: list[Access]
    launches: list[str]
    tensors: list[str]

    def of(
        self,
        *,
        kernel: str | None = None,
        program: int | Sequence[int] | None = None,
        tensor: str | None = None,
        kind: str | None = None,
    ) -> "Trace":
        """The accesses of one kernel, program, tensor or kind, or of several of these together.

        Args:
            kernel: its name.
            program: x, (x, y) or (x, y, z); what is left out is 0.
            tensor: the argument's name without ``_ptr``.
            kind: "load", "store" or "atomic".

        Raises:
            ValueError: no launched kernel has this name, or an argument with this one.
        """
        _check_name("kernel", kernel, self.launches)
        _check_name("tensor", tensor, [*self.tensors, NO_ARGUMENT])
        wanted = {"kernel": kernel, "program": _program(program), "tensor": tensor, "kind": kind}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        accesses = [a for a in self.accesses if all(getattr(a, name) == value for name, value in wanted.items())]
        return Trace(accesses, [name for name in self.launches if kernel in (None, name)], self.tensors)

    def elements(self, tensor: str | None = None, kind: str | None = None) -> int:
        """How many elements were touched; one that is read twice counts twice."""
        return sum(access.offsets.size for access in self.of(tensor=tensor, kind=kind).accesses)

    def bytes(self, tensor: str | None = None, kind: str | None = None) -> int:
        """The bytes of these elements."""
        return sum(access.offsets.size * access.itemsize for access in self.of(tensor=tensor, kind=kind).accesses)

    def sectors(self, tensor: str | None = None, kind: str | None = None) -> int:
        """How many sectors of 32 bytes were touched, counted anew in each access.

        ``32 * sectors`` is what memory moves if caches keep nothing from one access to the next. Where that is much
        more than ``bytes``, neighbouring lanes do not read neighbouring elements.
        """
        return sum(access.sectors for access in self.of(tensor=tensor, kind=kind).accesses)

    @property
    def wasted_lanes(self) -> float:
        """The share of lanes that are masked: they do nothing."""
        lanes = sum(access.lanes for access in self.accesses)
        return 1 - self.elements() / lanes if lanes else 0.0

    @property
    def outside(self) -> "Trace":
        """The accesses that touch something outside of their tensor."""
        return Trace([access for access in self.accesses if access.outside.size], self.launches, self.tensors)


def trace(call: Callable[[], object]) -> Trace:
    """Run ``call()``, which launches Triton kernels in the interpreter, and record each load and store they make.

        seen = trace(lambda: first.batch_norm_forward(x, weight, bias, eps=1e-5))
        seen.elements("x", "load")  # 2 * x.numel(): each element is read twice

    Where a kernel leaves its tensors, the trace says so (:attr:`Trace.outside`) and goes on: it reads 0, or the
    ``other`` of the load, and writes nothing. Memory outside of all tensors is never touched.

    Raises:
        RuntimeError: kernels are compiled here, not interpreted, or ``call`` itself makes a trace.
        Exception: what ``call`` raises.
    """
    if not INTERPRETED:
        raise RuntimeError(
            "expected kernels in Triton's interpreter, but here they are compiled, and compiled kernels leave no trace; "
            "in a new Python process, set the environment variable TRITON_INTERPRET=1 before triton is imported"
        )
    if "create_masked_load" in vars(interpreter.interpreter_builder):
        raise RuntimeError("expected one trace at a time, got a trace within the call of another; trace them in turn")
    recorder = _Recorder()
    with ExitStack() as stack:
        for place, name, replacement in recorder.replacements():
            stack.enter_context(patch.object(place, name, replacement))
        call()
    return Trace(recorder.accesses, recorder.launches, recorder.tensors)


@dataclass(frozen=True, eq=False)
class _Argument:
    """A tensor argument, and the addresses that the kernel is given for it."""

    name: str
    tensor: Tensor
    number: int  # from 1

    @property
    def start(self) -> int:
        """Where the tensor lies in a sector."""
        return self.tensor.data_ptr() % SECTOR

    @property
    def address(self) -> int:
        """The address that the kernel is given."""
        return self.number << SHIFT

    @property
    def size(self) -> int:
        shape, strides = self.tensor.shape, self.tensor.stride()
        return 1 + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) if self.tensor.numel() else 0

    def real(self, addresses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The real addresses, and which of them are memory of this tensor, or of the one that it is a view of."""
        storage = self.tensor.untyped_storage()
        real = addresses - self.address + self.tensor.data_ptr()
        end = storage.data_ptr() + storage.nbytes() - self.tensor.element_size()
        return real, (real >= storage.data_ptr()) & (real <= end)


@dataclass
class _Recorder:
    """Gives kernels their addresses, and writes down what they do with them."""

    accesses: list[Access] = field(default_factory=list)
    launches: list[str] = field(default_factory=list)
    tensors: list[str] = field(default_factory=list)
    arguments: list[_Argument] = field(default_factory=list)  # of the kernel that runs

    def replacements(self) -> list[tuple[object, str, Callable]]:
        """What stands in for a part of the interpreter: its owner, its name, and the new function.

        ``create_load`` and ``create_store``, and those of block pointers and descriptors, call the masked ones.
        """
        builder = interpreter.interpreter_builder
        copy_arguments, convert = interpreter.GridExecutor._init_args_hst, interpreter._implicit_cvt
        load, store = builder.create_masked_load, builder.create_masked_store
        atomic, compare_and_swap = builder.create_atomic_rmw, builder.create_atomic_cas

        def launch(executor, args, kwargs):
            copies = copy_arguments(executor, args, kwargs)
            self._begin(executor.fn.__name__, {**dict(zip(executor.arg_names, copies[0], strict=False)), **copies[1]})
            return copies

        def traced_compare_and_swap(pointers, *rest):
            everyone = interpreter.TensorHandle(np.ones_like(pointers.data, dtype=bool), interpreter.tl.int1)
            real, mask = self._record("atomic", pointers, everyone)
            if not mask.data.all():  # it has no mask that could keep it from foreign memory
                raise IndexError("an atomic compare-and-swap outside of its tensor")
            return compare_and_swap(real, *rest)

        def traced_load(pointers, mask, *rest, **named):
            return load(*self._record("load", pointers, mask), *rest, **named)

        def traced_store(pointers, value, mask, *rest):
            real, mask = self._record("store", pointers, mask)
            return store(real, value, mask, *rest)

        def traced_atomic(operation, pointers, value, mask, *rest):
            real, mask = self._record("atomic", pointers, mask)
            return atomic(operation, real, value, mask, *rest)

        return [
            (interpreter.GridExecutor, "_init_args_hst", launch),
            (interpreter, "_implicit_cvt", lambda value: self._with_our_address(value, convert(value))),
            (builder, "create_masked_load", traced_load),
            (builder, "create_masked_store", traced_store),
            (builder, "create_atomic_rmw", traced_atomic),
            (builder, "create_atomic_cas", traced_compare_and_swap),
        ]

    def _begin(self, kernel: str, values: Mapping[str, object]) -> None:
        """A kernel starts, with these arguments by name."""
        found = [pair for name, value in values.items() for pair in _tensors(name.removesuffix("_ptr"), value)]
        self.arguments = [_Argument(*pair, number) for number, pair in enumerate(found, start=1)]
        self.launches.append(kernel)
        self.tensors += [name for name, _ in found if name not in self.tensors]

    def _with_our_address(self, value: object, converted: object) -> object:
        """``converted``, what the interpreter makes of an argument; if it is a pointer, with the address we give."""
        for argument in self.arguments:
            if argument.tensor is interpreter._unwrap_tensor(value):
                converted.handle.data = np.array([argument.address], dtype=np.uint64)
        return converted

    def _record(
        self, kind: str, pointers: interpreter.TensorHandle, mask: interpreter.TensorHandle
    ) -> tuple[interpreter.TensorHandle, interpreter.TensorHandle]:
        """Write an access down; return the real addresses, and the mask less the lanes that lead to foreign memory."""
        addresses = pointers.data.astype(np.int64)
        active = np.broadcast_to(np.asarray(mask.data, dtype=bool), addresses.shape)  # descriptors give a bare array
        numbers = (addresses + (1 << SHIFT - 1)) >> SHIFT
        real, ours = addresses.copy(), np.zeros_like(active)
        for number in np.unique(numbers[active]) if active.any() else numbers.flat[:1]:
            mine = numbers == number  # all lanes, but for a tile of pointers into several tensors
            where = ... if mine.all() else mine
            known = 1 <= number <= len(self.arguments)
            argument = self.arguments[number - 1] if known else None
            self._append(kind, argument, addresses[where], active[where])
            if argument:
                real[where], ours[where] = argument.real(addresses[where])
        handle = interpreter.TensorHandle
        return handle(real.astype(np.uint64), pointers.dtype), handle(active & ours, interpreter.tl.int1)

    def _append(self, kind: str, argument: _Argument | None, addresses: np.ndarray, mask: np.ndarray) -> None:
        program = interpreter.interpreter_builder.grid_idx
        about = self.launches[-1], len(self.launches) - 1, program, kind
        if argument is None:  # offsets are addresses then, such as 0
            self.accesses.append(Access(*about, NO_ARGUMENT, addresses, mask, 0, 1, 0))
            return
        itemsize = argument.tensor.element_size()
        tile = (addresses - argument.address) // itemsize
        self.accesses.append(Access(*about, argument.name, tile, mask, argument.size, itemsize, argument.start))


def _tensors(name: str, value: object) -> Iterator[tuple[str, Tensor]]:
    """The tensors in an argument, each with its name."""
    value = interpreter._unwrap_tensor(value.base if isinstance(value, TensorDescriptor) else value)
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, tuple):
        for i, part in enumerate(value):
            yield from _tensors(f"{name}[{i}]", part)


def _program(program: int | Sequence[int] | None) -> tuple[int, ...] | None:
    """(x, y, z) of what may be shorter."""
    if program is None:
        return None
    given = (program,) if isinstance(program, int) else tuple(program)
    return (*given, *(0,) * (3 - len(given)))


def _check_name(what: str, name: str | None, names: list[str]) -> None:
    if name is not None and name not in names:
        raise ValueError(f"expected a {what} of the trace, one of {', '.join(dict.fromkeys(names))}; got {name!r}")
