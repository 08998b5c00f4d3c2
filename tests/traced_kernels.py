"""Kernels for the tests of traces; Triton reads the code of a kernel from its file."""

import triton
import triton.language as tl


@triton.jit
def copy_kernel(x_ptr, y_ptr, N, BLOCK: tl.constexpr):
    """Each program copies a block."""
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < N
    tl.store(y_ptr + offsets, tl.load(x_ptr + offsets, mask=mask), mask=mask)


@triton.jit
def shifted_copy_kernel(x_ptr, y_ptr, shift, BLOCK: tl.constexpr):
    """Without a mask, from ``shift`` elements on."""
    offsets = tl.arange(0, BLOCK) + shift
    tl.store(y_ptr + offsets, tl.load(x_ptr + offsets))


@triton.jit
def columns_kernel(x_ptr, y_ptr, rows, columns, stride, BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr):
    """Each program sums some columns of a matrix, in tiles of rows."""
    column = tl.program_id(0) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    total = tl.zeros([BLOCK_COLUMNS], tl.float32)
    for start in range(0, rows, BLOCK_ROWS):
        row = start + tl.arange(0, BLOCK_ROWS)
        mask = (row < rows)[:, None] & (column < columns)[None, :]
        total += tl.sum(tl.load(x_ptr + row[:, None] * stride + column[None, :], mask=mask, other=0.0), axis=0)
    tl.store(y_ptr + column, total, mask=column < columns)


@triton.jit
def count_kernel(total_ptr, program_of_ptr):
    """Programs of a grid with three axes add 1 each; all but one find the lock taken."""
    tl.atomic_add(total_ptr, 1.0)
    tl.atomic_cas(program_of_ptr, 0, 1 + tl.program_id(2))


@triton.jit
def descriptor_kernel(x_ptr, y_ptr, rows, columns, BLOCK: tl.constexpr):
    """Copies a matrix through descriptors."""
    source = tl.make_tensor_descriptor(x_ptr, [rows, columns], [columns, 1], [BLOCK, BLOCK])
    target = tl.make_tensor_descriptor(y_ptr, [rows, columns], [columns, 1], [BLOCK, BLOCK])
    target.store([0, 0], source.load([0, 0]))


@triton.jit
def pair_kernel(pair, y_ptr, BLOCK: tl.constexpr):
    """Reads even lanes from the first tensor of a tuple, odd ones from the second."""
    lanes = tl.arange(0, BLOCK)
    values = tl.load(tl.where(lanes % 2 == 0, pair[0] + lanes, pair[1] + lanes))
    tl.store(y_ptr + lanes, values)


@triton.jit
def null_kernel(x_ptr):
    """Reads an address that is no tensor's."""
    nowhere = tl.full([2], 64, tl.int64).to(tl.pointer_type(tl.float32))
    tl.store(x_ptr + tl.arange(0, 2), tl.load(nowhere))


@triton.jit
def broken_kernel(x_ptr):
    """Raises."""
    tl.load(x_ptr)
    x_ptr.no_such_attribute  # noqa: B018
