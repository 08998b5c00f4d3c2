"""Layer norm and RMS norm on a GPU: every row is normalized by itself.

The kernels see x as a contiguous matrix of rows × columns, the columns being the values that share a mean. A program
holds whole rows in registers, so the forward pass reads x once and writes y once. In the backward pass a fixed number
of programs walk over the rows; each adds up its own share of dweight and dbias, and a sum over the programs finishes
them. No program adds to what another has written, so the same input gives the same bits every time.

Statistics are in float32 whatever the input is. Squares above 3.4e38 overflow, as they do in PyTorch on a GPU.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from bncourse.kernels.arguments import check_same_dtype, check_shape, vector
from bncourse.kernels.runtime import check_device, check_dtype, launching_on, multiprocessors, power_of_two

KEPT = 32768  # float32 numbers that a program keeps from one row to the next: half of the registers that there are
TILE = 4096  # values of a tile of short rows, of which a program takes several at a time
WHOLE = 8192  # the longest row whose x and dy the backward pass keeps, too; it reads longer ones twice, chunk by chunk
CHUNK_BYTES = 8192  # 16 bytes for each of 512 threads
SUMMED = 32, 64  # programs and columns whose shares of the gradients are read at a time
REGISTERS = 64  # of a thread where the forward pass has 16 warps, so that two programs fit side by side


# The kernels


@triton.jit
def _start(row, COLUMNS: tl.constexpr):
    """Where a row starts: there may be 2³¹ values or more."""
    return row.to(tl.int64) * COLUMNS


@triton.jit
def _row_norm_forward_kernel(
    x_ptr,  # (rows, COLUMNS)
    weight_ptr,  # (COLUMNS,) or None
    bias_ptr,  # (COLUMNS,) or None
    y_ptr,  # (rows, COLUMNS)
    mean_ptr,  # (rows,), or None if not CENTERED
    inv_std_ptr,  # (rows,)
    rows,
    eps,
    COLUMNS: tl.constexpr,
    CENTERED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    there, inside = row < rows, column < COLUMNS
    mask = there & inside
    start = _start(row, COLUMNS)
    x = tl.load(x_ptr + start + column, mask=mask, other=0.0).to(tl.float32)
    if CENTERED:
        mean = tl.sum(x, axis=1, keep_dims=True) / COLUMNS
        x = tl.where(mask, x - mean, 0.0)  # lanes without a value became -mean, and would count in the variance
        remainder = tl.sum(x, axis=1, keep_dims=True) / COLUMNS  # what rounding took from the mean
        x = tl.where(mask, x - remainder, 0.0)
        tl.store(mean_ptr + row, mean + remainder, mask=there)
    inv_std = 1.0 / tl.sqrt_rn(tl.sum(x * x, axis=1, keep_dims=True) / COLUMNS + eps)
    tl.store(inv_std_ptr + row, inv_std, mask=there)
    y = x * inv_std
    if weight_ptr is not None:
        y *= tl.load(weight_ptr + column, mask=inside, other=0.0).to(tl.float32)
    if bias_ptr is not None:
        y += tl.load(bias_ptr + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(y_ptr + start + column, y, mask=mask)


@triton.jit
def _row_norm_backward_kernel(
    dy_ptr,  # (rows, COLUMNS)
    x_ptr,  # (rows, COLUMNS)
    weight_ptr,  # (COLUMNS,) or None
    mean_ptr,  # (rows,), or None if not CENTERED
    inv_std_ptr,  # (rows,)
    dx_ptr,  # (rows, COLUMNS)
    partial_ptr,  # (2, programs, COLUMNS), or (1, programs, COLUMNS) if not CENTERED
    rows,
    chunks,  # CHUNKS, but not known to the compiler, which would unroll the loop and run out of registers
    COLUMNS: tl.constexpr,
    CENTERED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNKS: tl.constexpr,
    STAGES: tl.constexpr,
):
    lane = tl.arange(0, BLOCK)[None, :]
    dweight = (tl.zeros([ROWS, BLOCK], tl.float32),) * CHUNKS
    dbias = dweight
    for tile in tl.range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0), num_stages=STAGES):
        row = tile * ROWS + tl.arange(0, ROWS)[:, None]
        there = row < rows
        start = _start(row, COLUMNS) + lane
        inv_std = tl.load(inv_std_ptr + row, mask=there, other=0.0)
        mean, remainder, mean_g = 0.0, 0.0, 0.0
        if CENTERED:
            mean = tl.load(mean_ptr + row, mask=there, other=0.0)
        sum_d = tl.zeros([ROWS, BLOCK], tl.float32)
        sum_g, sum_gd = sum_d, sum_d
        if CHUNKS == 1:
            d, dy, g = _operands(x_ptr, dy_ptr, weight_ptr, mean, start, lane, 0, there, COLUMNS)
            sum_d, sum_g, sum_gd = d, g, g * d
        else:
            for chunk in tl.range(chunks, num_stages=3):  # loads two chunks ahead
                d, dy, g = _operands(x_ptr, dy_ptr, weight_ptr, mean, start, lane, chunk * BLOCK, there, COLUMNS)
                sum_d += d
                sum_g += g
                sum_gd += g * d
        mean_gd = tl.sum(sum_gd, axis=1, keep_dims=True) / COLUMNS
        if CENTERED:
            remainder = tl.sum(sum_d, axis=1, keep_dims=True) / COLUMNS  # what rounding took from the mean
            mean_g = tl.sum(sum_g, axis=1, keep_dims=True) / COLUMNS
            mean_gd -= remainder * mean_g
        next_dweight, next_dbias = (), ()
        for chunk in tl.static_range(CHUNKS):
            if CHUNKS > 1:
                d, dy, g = _operands(x_ptr, dy_ptr, weight_ptr, mean, start, lane, chunk * BLOCK, there, COLUMNS)
            x_hat = (d - remainder) * inv_std
            dx = inv_std * (g - mean_g - x_hat * (inv_std * mean_gd))
            tl.store(dx_ptr + start + chunk * BLOCK, dx, mask=there & (chunk * BLOCK + lane < COLUMNS))
            next_dweight += (dweight[chunk] + dy * x_hat,)
            next_dbias += (dbias[chunk] + dy,)
        dweight, dbias = next_dweight, next_dbias
    for chunk in tl.static_range(CHUNKS):
        column = chunk * BLOCK + lane
        to = partial_ptr + tl.program_id(0) * COLUMNS + column
        tl.store(to, tl.sum(dweight[chunk], axis=0, keep_dims=True), mask=column < COLUMNS)
        if CENTERED:
            to += tl.num_programs(0) * COLUMNS
            tl.store(to, tl.sum(dbias[chunk], axis=0, keep_dims=True), mask=column < COLUMNS)


@triton.jit
def _row_norm_sum_kernel(
    partial_ptr,  # (gradients, programs, COLUMNS)
    gradient_ptr,  # (gradients, COLUMNS)
    programs,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The sums over the programs of the backward pass, always in the same order."""
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    gradient = tl.program_id(1)
    total = tl.zeros([ROWS, BLOCK], tl.float32)
    for first in range(0, programs, ROWS):
        program = first + tl.arange(0, ROWS)[:, None]
        mask = (program < programs) & (column < COLUMNS)
        total += tl.load(partial_ptr + (gradient * programs + program) * COLUMNS + column, mask=mask, other=0.0)
    to = gradient_ptr + gradient * COLUMNS + column
    tl.store(to, tl.sum(total, axis=0, keep_dims=True), mask=column < COLUMNS)


@triton.jit
def _operands(x_ptr, dy_ptr, weight_ptr, mean, start, lane, first, there, COLUMNS: tl.constexpr):
    """x − mean, dy, and γ · dy in the columns from ``first`` on, in float32; 0 where there is no value."""
    inside = first + lane < COLUMNS
    mask = there & inside
    x = tl.load(x_ptr + start + first, mask=mask, other=0.0).to(tl.float32)
    dy = tl.load(dy_ptr + start + first, mask=mask, other=0.0).to(tl.float32)
    g = dy
    if weight_ptr is not None:
        g *= tl.load(weight_ptr + lane + first, mask=inside, other=0.0).to(tl.float32)
    return tl.where(mask, x - mean, 0.0), dy, g


# What is called


def fits(columns: int, *, centered: bool) -> bool:
    """Whether there are kernels for rows of this length, in layer norm (``centered``) or in RMS norm."""
    return columns <= longest_row(centered=centered)


def longest_row(*, centered: bool) -> int:
    """The most columns: the backward pass keeps a row of dweight and, in layer norm, one of dbias."""
    return KEPT // 2 if centered else KEPT


def layer_norm_forward(
    x: Tensor, normalized_shape: tuple[int, ...], weight: Tensor | None, bias: Tensor | None, *, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """y = γ · (x − μ) / √(σ² + ε) + β, with μ and the biased σ² over the last axes.

    Args:
        x: shape (*, *normalized_shape), float32, bfloat16 or float16.
        normalized_shape: the trailing shape to normalize over.
        weight, bias: γ and β of shape ``normalized_shape`` and any floating-point dtype, or None.
        eps: ε, in squared units of x.

    Returns:
        y in the shape and dtype of x, contiguous; μ and 1 / √(σ² + ε) of shape (*), in float32.

    Raises:
        ValueError: dtypes or shapes do not fit, or the rows are too long; see :func:`fits`.
        RuntimeError: x is on a CPU, and Triton does not interpret.
    """
    return _forward(x, normalized_shape, weight, bias, eps, centered=True)


def rms_norm_forward(
    x: Tensor, normalized_shape: tuple[int, ...], weight: Tensor | None, *, eps: float | None = None
) -> tuple[Tensor, Tensor]:
    """y = γ · x / √(mean(x²) + ε), with the mean over the last axes.

    Args:
        x, normalized_shape, weight: as in :func:`layer_norm_forward`.
        eps: ε, in squared units of x; None for the machine epsilon of float32, in which it is computed.

    Returns:
        y in the shape and dtype of x, contiguous; 1 / √(mean(x²) + ε) of shape (*), in float32.

    Raises:
        ValueError, RuntimeError: as :func:`layer_norm_forward`.
    """
    eps = torch.finfo(torch.float32).eps if eps is None else eps
    y, _, inv_rms = _forward(x, normalized_shape, weight, None, eps, centered=False)
    return y, inv_rms


def layer_norm_backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, inv_std: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """dx = (γ · dy − mean(γ · dy) − x̂ · mean(γ · dy · x̂)) / √(σ² + ε), dweight = Σ dy · x̂, dbias = Σ dy.

    Args:
        dy: the gradient of y, in the shape and dtype of x.
        x, weight: as in the forward pass.
        mean, inv_std: as the forward pass returned them.

    Returns:
        dx in the shape and dtype of x; dweight and dbias of shape ``normalized_shape``, in the dtype of the weight, or
        float32 without one.

    Raises:
        ValueError, RuntimeError: as :func:`layer_norm_forward`.
    """
    dx, dweight, dbias = _backward(dy, x, weight, mean, inv_std)
    return dx, dweight, dbias


def rms_norm_backward(dy: Tensor, x: Tensor, weight: Tensor | None, inv_rms: Tensor) -> tuple[Tensor, Tensor]:
    """dx = (γ · dy − x̂ · mean(γ · dy · x̂)) / √(mean(x²) + ε) with x̂ = x / √(mean(x²) + ε), dweight = Σ dy · x̂.

    Arguments, results and errors are those of :func:`layer_norm_backward`, without mean and dbias.
    """
    dx, dweight = _backward(dy, x, weight, None, inv_rms)
    return dx, dweight


# Launches


def _forward(
    x: Tensor,
    normalized_shape: tuple[int, ...],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    *,
    centered: bool,
) -> tuple[Tensor, Tensor | None, Tensor]:
    shape = tuple(normalized_shape)
    _check(x, shape, centered=centered, weight=weight, bias=bias)
    x = x.contiguous()
    y = torch.empty_like(x)
    outer = x.shape[: x.dim() - len(shape)]
    inv_std = x.new_empty(outer, dtype=torch.float32)
    mean = torch.empty_like(inv_std) if centered else None
    if x.numel() == 0:
        return y, *(None if t is None else t.fill_(math.nan) for t in (mean, inv_std))  # no values have no mean
    rows, columns = math.prod(outer), math.prod(shape)
    tile = _tile(rows, columns, multiprocessors(x.device))
    grid = (triton.cdiv(rows, tile["ROWS"]),)
    warps = _warps(tile, values=1024)
    limit = {"maxnreg": REGISTERS} if warps >= 16 else {}
    pointers = x, vector(weight), vector(bias), y, mean, inv_std
    options = {"COLUMNS": columns, "CENTERED": centered, "num_warps": warps}
    with launching_on(x):
        _row_norm_forward_kernel[grid](*pointers, rows, float(eps), **tile, **options, **limit)
    return y, mean, inv_std


def _backward(dy: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor | None, inv_std: Tensor) -> tuple[Tensor, ...]:
    """dx, dweight and, if there is a mean, dbias."""
    centered = mean is not None
    shape = tuple(x.shape[inv_std.dim() :])
    _check(x, shape, centered=centered, weight=weight)
    _check_backward(dy, x, mean, inv_std)
    x, dy = x.contiguous(), dy.contiguous()
    dx = torch.empty_like(x)
    dtype = torch.float32 if weight is None else weight.dtype
    gradients = torch.empty(2 if centered else 1, *shape, dtype=dtype, device=x.device)
    if x.numel() == 0:
        gradients.zero_()
    else:
        pointers = dy, x, vector(weight), vector(mean), inv_std.contiguous(), dx
        with launching_on(x):
            _launch_backward(pointers, gradients, inv_std.numel(), math.prod(shape), centered=centered)
    return dx, *gradients


def _launch_backward(
    pointers: tuple[Tensor | None, ...], gradients: Tensor, rows: int, columns: int, *, centered: bool
) -> None:
    """Write dx, the last of the pointers, and dweight and, if ``centered``, dbias."""
    x = pointers[1]
    processors = multiprocessors(x.device)
    if columns <= WHOLE:
        tile = _tile(rows, columns, 2 * processors) | {"CHUNKS": 1, "STAGES": 2}  # loads one tile ahead
    else:
        block = CHUNK_BYTES // x.element_size()
        tile = {"ROWS": 1, "BLOCK": block, "CHUNKS": triton.cdiv(columns, block), "STAGES": 1}
    warps = _warps(tile, values=512) if columns <= WHOLE else 16
    programs = min(triton.cdiv(rows, tile["ROWS"]), processors * (2 if warps <= 8 else 1))
    partial = x.new_empty(2 if centered else 1, programs, columns, dtype=torch.float32)
    options = {"COLUMNS": columns, "CENTERED": centered, "num_warps": warps}
    _row_norm_backward_kernel[(programs,)](*pointers, partial, rows, tile["CHUNKS"], **tile, **options)
    grid = triton.cdiv(columns, SUMMED[1]), len(partial)
    _row_norm_sum_kernel[grid](partial, gradients, programs, COLUMNS=columns, ROWS=SUMMED[0], BLOCK=SUMMED[1])


def _tile(rows: int, columns: int, programs: int) -> dict[str, int]:
    """Several short rows to a tile, if that leaves as many tiles as programs are wanted."""
    block = power_of_two(columns)
    most = max(1, min(TILE // block, rows // programs))
    return {"ROWS": 2 ** (most.bit_length() - 1), "BLOCK": block}


def _warps(tile: dict[str, int], values: int) -> int:
    """Warps for so many values each."""
    return max(1, min(32, tile["ROWS"] * tile["BLOCK"] // values))


def _check(x: Tensor, shape: tuple[int, ...], *, centered: bool, **params: Tensor | None) -> None:
    """ValueError unless there are kernels for x in rows of ``shape``, and parameters of that shape."""
    check_device(x)
    check_dtype(x)
    if not shape or tuple(x.shape[-len(shape) :]) != shape:
        raise ValueError(
            f"expected normalized_shape to be the end of the shape of x, {tuple(x.shape)}; got {shape}; "
            "the last axis alone is x.shape[-1:]"
        )
    for name, param in params.items():
        if param is not None:
            check_shape(name, param, shape)
    columns = math.prod(shape)
    if not fits(columns, centered=centered):
        raise ValueError(
            f"expected rows of at most {longest_row(centered=centered)} values, which fit into registers; got {columns}; "
            "use bncourse.functional, which computes longer ones with PyTorch's operations"
        )


def _check_backward(dy: Tensor, x: Tensor, mean: Tensor | None, inv_std: Tensor) -> None:
    """ValueError unless dy is like x, and there is one of each statistic for every row."""
    check_shape("dy", dy, tuple(x.shape))
    check_same_dtype(x, "dy", dy)
    outer = tuple(x.shape[: inv_std.dim()])
    check_shape("inv_rms" if mean is None else "inv_std", inv_std, outer)
    if mean is not None:
        check_shape("mean", mean, outer)
