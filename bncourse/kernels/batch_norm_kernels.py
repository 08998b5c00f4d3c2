"""The kernels of batch norm; :mod:`bncourse.kernels.batch_norm` launches them.

What a program owns, and what a tile is, stands in :mod:`bncourse.kernels.plan`. R, C and WIDTH are the plan's rows,
channels and width; CHANNELS and SPLITS are GROUP and the number of splits, rounded up to a power of two. Statistics
are in float32 whatever the input is.
"""

import triton
import triton.language as tl

# What the kernels share


@triton.jit
def _tile(
    tile,
    group,
    R,
    C,
    WIDTH: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Offsets and mask of one tile of a group; tiles are counted along the columns first."""
    CHUNKS: tl.constexpr = (GROUP * WIDTH + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS
    if WIDE:  # 2³¹ values or more: all that follows needs 64 bits
        tile = tl.full([], 0, tl.int64) + tile
        group = tl.full([], 0, tl.int64) + group
    rows = (tile // CHUNKS) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    columns = (tile % CHUNKS) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    mask = (rows < R)[:, None] & (columns < GROUP * WIDTH)[None, :]
    if WIDTH == 1:  # the last group may have fewer channels; groups of wider ones are full
        mask = mask & (group * GROUP + columns < C)[None, :]
    offsets = (rows * C * WIDTH)[:, None] + (group * (GROUP * WIDTH) + columns)[None, :]
    return offsets, mask


@triton.jit
def _values_in_columns(
    tile,
    R,
    WIDTH: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """How many values each column of a tile has; cheaper than a sum over the mask."""
    CHUNKS: tl.constexpr = (GROUP * WIDTH + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS
    if WIDE:
        tile = tl.full([], 0, tl.int64) + tile
    rows = tl.minimum(R - (tile // CHUNKS) * BLOCK_ROWS, BLOCK_ROWS)
    columns = (tile % CHUNKS) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    return tl.where(columns < GROUP * WIDTH, rows, 0).to(tl.float32)


@triton.jit
def _columns(group, C, WIDTH: tl.constexpr, GROUP: tl.constexpr, BLOCK_COLUMNS: tl.constexpr):
    """For each column of a tile: which channel of the group, which channel, and whether there is such a channel."""
    owner = tl.arange(0, BLOCK_COLUMNS) // WIDTH
    if GROUP == 1:
        owner = owner * 0
    channel = group * GROUP + owner
    return owner, channel, (owner < GROUP) & (channel < C)


@triton.jit
def _channels(group, C, GROUP: tl.constexpr, CHANNELS: tl.constexpr):
    """The channels of a group, and whether there is such a channel."""
    lane = tl.arange(0, CHANNELS)
    channels = group * GROUP + lane
    return channels, (lane < GROUP) & (channels < C)


@triton.jit
def _to_channels(values, owner, CHANNELS: tl.constexpr):
    """Sums over the columns of each channel."""
    member = owner[:, None] == tl.arange(0, CHANNELS)[None, :]
    return tl.sum(tl.where(member, values[:, None], 0.0), 0)


@triton.jit
def _to_columns(values, owner, CHANNELS: tl.constexpr):
    """For each column the value of its channel."""
    member = owner[:, None] == tl.arange(0, CHANNELS)[None, :]
    return tl.sum(tl.where(member, values[None, :], 0.0), 1)


@triton.jit
def _merge(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    """Count, mean and M2 of two sets together."""
    count = count_a + count_b
    share = count_b / tl.maximum(count, 1.0)  # 0 if both are empty
    delta = mean_b - mean_a
    mean = mean_a + share * delta
    return count, mean, m2_a + m2_b + share * count_a * delta * delta


@triton.jit
def _merge_all(count, mean, m2):
    """The same for all sets along the first axis."""
    total = tl.sum(count, 0)
    center = tl.sum(count * mean, 0) / tl.maximum(total, 1.0)
    delta = mean - center[None, :]
    return total, center, tl.sum(m2 + count * delta * delta, 0)


@triton.jit
def _load_channels(ptr, channel, mask, default):
    """Numbers per channel in float32; ``default`` if there are none."""
    if ptr is None:  # one return only: the compiler goes on behind a return in an if
        values = tl.full(channel.shape, default, tl.float32)
    else:
        values = tl.load(ptr + channel, mask=mask, other=0.0).to(tl.float32)
    return values


@triton.jit
def _origin(x_ptr, channel, mask, R, C, WIDTH: tl.constexpr, WIDE: tl.constexpr):
    """For each channel a value of its own to measure from: the median of three, so that one outlier does no harm.

    Differences from it are small, so their mean has digits where that of x has lost them.
    """
    row = tl.full([], 0, tl.int64) + R if WIDE else R
    if WIDE:
        channel = channel.to(tl.int64)
    first = x_ptr + channel * WIDTH + WIDTH // 4
    middle = x_ptr + (row // 2) * C * WIDTH + channel * WIDTH + WIDTH // 2
    last = x_ptr + (row - 1) * C * WIDTH + channel * WIDTH + 3 * WIDTH // 4
    a = tl.load(first, mask=mask, other=0.0).to(tl.float32)
    b = tl.load(middle, mask=mask, other=0.0).to(tl.float32)
    c = tl.load(last, mask=mask, other=0.0).to(tl.float32)
    return tl.maximum(tl.minimum(a, b), tl.minimum(tl.maximum(a, b), c))


@triton.jit
def _inverse_std(var, eps):
    return 1.0 / tl.sqrt_rn(var + eps)


@triton.jit
def _update_running(ptr, channel, mask, batch, momentum):
    """running ← (1 − momentum) · running + momentum · batch."""
    if ptr is not None:
        running = tl.load(ptr + channel, mask=mask).to(tl.float32)
        tl.store(ptr + channel, (1.0 - momentum) * running + momentum * batch, mask=mask)


@triton.jit
def _store_statistics(
    mean_ptr, inv_std_ptr, running_mean_ptr, running_var_ptr, channel, mask, mean, inv_std, var, momentum
):
    """What the backward pass needs, and the running statistics, moved towards the mean and the unbiased variance."""
    tl.store(mean_ptr + channel, mean, mask=mask)
    tl.store(inv_std_ptr + channel, inv_std, mask=mask)
    _update_running(running_mean_ptr, channel, mask, mean, momentum)
    _update_running(running_var_ptr, channel, mask, var, momentum)


# Forward


@triton.jit
def _batch_norm_statistics_kernel(
    x_ptr,  # (R, C · WIDTH)
    partial_count_ptr,  # (splits, C), float32, as the next two
    partial_mean_ptr,  # of x minus the channel's origin
    partial_m2_ptr,
    R,
    C,
    tiles,
    WIDTH: tl.constexpr,
    GROUP: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Count, mean and M2 of every channel, over the tiles of one split."""
    group = tl.program_id(0)
    split = tl.program_id(1)
    owner, channel, known = _columns(group, C, WIDTH, GROUP, BLOCK_COLUMNS)
    origin = _origin(x_ptr, channel, known, R, C, WIDTH, WIDE)
    count = tl.zeros([BLOCK_COLUMNS], tl.float32)
    mean = tl.zeros([BLOCK_COLUMNS], tl.float32)
    m2 = tl.zeros([BLOCK_COLUMNS], tl.float32)
    for tile in range(split, tiles, tl.num_programs(1)):
        offsets, mask = _tile(tile, group, R, C, WIDTH, GROUP, BLOCK_ROWS, BLOCK_COLUMNS, WIDE)
        x = tl.load(x_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
        x = tl.where(mask, x - origin[None, :], 0.0)
        number = _values_in_columns(tile, R, WIDTH, GROUP, BLOCK_ROWS, BLOCK_COLUMNS, WIDE)
        center = tl.sum(x, 0) / tl.maximum(number, 1.0)
        deviation = tl.where(mask, x - center[None, :], 0.0)  # else a masked lane would count as −center
        count, mean, m2 = _merge(count, mean, m2, number, center, tl.sum(deviation * deviation, 0))
    # The columns of a channel are sets as well.
    total = _to_channels(count, owner, CHANNELS)
    center = _to_channels(count * mean, owner, CHANNELS) / tl.maximum(total, 1.0)
    delta = mean - _to_columns(center, owner, CHANNELS)
    spread = _to_channels(m2 + count * delta * delta, owner, CHANNELS)
    channels, there = _channels(group, C, GROUP, CHANNELS)
    tl.store(partial_count_ptr + split * C + channels, total, mask=there)
    tl.store(partial_mean_ptr + split * C + channels, center, mask=there)
    tl.store(partial_m2_ptr + split * C + channels, spread, mask=there)


@triton.jit
def _batch_norm_normalize_kernel(
    x_ptr,  # (R, C · WIDTH), as residual and y
    residual_ptr,  # or None
    weight_ptr,  # (C,) or None, as the bias
    bias_ptr,
    y_ptr,
    mean_ptr,  # (C,), float32, as inv_std: written by the first split
    inv_std_ptr,
    running_mean_ptr,  # (C,) or None
    running_var_ptr,
    partial_count_ptr,  # (splits, C), read in training
    partial_mean_ptr,
    partial_m2_ptr,
    R,
    C,
    tiles,
    momentum,
    eps,
    WIDTH: tl.constexpr,
    GROUP: tl.constexpr,
    CHANNELS: tl.constexpr,
    SPLITS: tl.constexpr,  # a power of two, as CHANNELS
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    TRAINING: tl.constexpr,
    RELU: tl.constexpr,
    WIDE: tl.constexpr,
):
    """y = γ · (x − μ) / √(σ² + ε) + β, plus the residual, cut off at 0 if RELU."""
    group = tl.program_id(0)
    split = tl.program_id(1)
    splits = tl.num_programs(1)
    owner, channel, known = _columns(group, C, WIDTH, GROUP, BLOCK_COLUMNS)
    channels, there = _channels(group, C, GROUP, CHANNELS)
    if TRAINING:
        sets = tl.arange(0, SPLITS)[:, None] * C + channels[None, :]
        given = (tl.arange(0, SPLITS) < splits)[:, None] & there[None, :]
        count = tl.load(partial_count_ptr + sets, mask=given, other=0.0)
        mean = tl.load(partial_mean_ptr + sets, mask=given, other=0.0)
        m2 = tl.load(partial_m2_ptr + sets, mask=given, other=0.0)
        count, mean, m2 = _merge_all(count, mean, m2)
        inv_std = _inverse_std(m2 / tl.maximum(count, 1.0), eps)
        origin = _origin(x_ptr, channel, known, R, C, WIDTH, WIDE)
        if split == 0:
            start = _origin(x_ptr, channels, there, R, C, WIDTH, WIDE)
            unbiased = m2 / (count - 1.0)
            _store_statistics(
                mean_ptr,
                inv_std_ptr,
                running_mean_ptr,
                running_var_ptr,
                channels,
                there,
                start + mean,
                inv_std,
                unbiased,
                momentum,
            )
    else:
        origin = tl.load(running_mean_ptr + channel, mask=known, other=0.0).to(tl.float32)
        inv_std = _inverse_std(tl.load(running_var_ptr + channels, mask=there, other=1.0).to(tl.float32), eps)
        mean = tl.zeros([CHANNELS], tl.float32)
        if split == 0:
            tl.store(mean_ptr + channels, tl.load(running_mean_ptr + channels, mask=there).to(tl.float32), mask=there)
            tl.store(inv_std_ptr + channels, inv_std, mask=there)
    weight = _load_channels(weight_ptr, channel, known, 1.0)
    bias = _load_channels(bias_ptr, channel, known, 0.0)
    scale = weight * _to_columns(inv_std, owner, CHANNELS)
    center = _to_columns(mean, owner, CHANNELS)
    trips = (tiles - split + splits - 1) // splits
    for trip in range(trips):  # backwards: what the statistics read last may still be in the L2 cache
        tile = split + (trips - 1 - trip) * splits
        offsets, mask = _tile(tile, group, R, C, WIDTH, GROUP, BLOCK_ROWS, BLOCK_COLUMNS, WIDE)
        x = tl.load(x_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
        y = (x - origin[None, :] - center[None, :]) * scale[None, :] + bias[None, :]
        if residual_ptr is not None:
            y += tl.load(residual_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
        if RELU:
            y = tl.where(y < 0.0, 0.0, y)  # lets NaN through, as torch.relu does
        tl.store(y_ptr + offsets, y, mask=mask)


@triton.jit
def _batch_norm_resident_forward_kernel(
    x_ptr,  # (R, C · WIDTH), as residual and y
    residual_ptr,  # or None
    weight_ptr,  # (C,) or None, as all below
    bias_ptr,
    y_ptr,
    mean_ptr,
    inv_std_ptr,
    running_mean_ptr,
    running_var_ptr,
    R,
    C,
    count,  # R · WIDTH, as a float
    momentum,
    eps,
    WIDTH: tl.constexpr,
    GROUP: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    RELU: tl.constexpr,
    WIDE: tl.constexpr,
):
    """The same in training, by a program that keeps all values of its channels in registers."""
    group = tl.program_id(0)
    owner, channel, known = _columns(group, C, WIDTH, GROUP, BLOCK_COLUMNS)
    offsets, mask = _tile(0, group, R, C, WIDTH, GROUP, BLOCK_ROWS, BLOCK_COLUMNS, WIDE)
    x = tl.load(x_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
    mean = _to_channels(tl.sum(x, 0), owner, CHANNELS) / count
    x = tl.where(mask, x - _to_columns(mean, owner, CHANNELS)[None, :], 0.0)
    # What rounding the mean has left over; beside a large mean it is large.
    rest = _to_channels(tl.sum(x, 0), owner, CHANNELS) / count
    x = tl.where(mask, x - _to_columns(rest, owner, CHANNELS)[None, :], 0.0)
    m2 = _to_channels(tl.sum(x * x, 0), owner, CHANNELS)
    inv_std = _inverse_std(m2 / count, eps)
    channels, there = _channels(group, C, GROUP, CHANNELS)
    _store_statistics(
        mean_ptr,
        inv_std_ptr,
        running_mean_ptr,
        running_var_ptr,
        channels,
        there,
        mean + rest,
        inv_std,
        m2 / (count - 1.0),
        momentum,
    )
    scale = _load_channels(weight_ptr, channel, known, 1.0) * _to_columns(inv_std, owner, CHANNELS)
    y = x * scale[None, :] + _load_channels(bias_ptr, channel, known, 0.0)[None, :]
    if residual_ptr is not None:
        y += tl.load(residual_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
    if RELU:
        y = tl.where(y < 0.0, 0.0, y)
    tl.store(y_ptr + offsets, y, mask=mask)


# Backward


@triton.jit
def _through_relu(dy, deviation, scale, bias, residual_ptr, offsets, mask):
    """dy where the output was positive, else 0; the output is computed again."""
    y = deviation * scale[None, :] + bias[None, :]
    if residual_ptr is not None:
        y += tl.load(residual_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
    return tl.where(y > 0.0, dy, 0.0)


@triton.jit
def _batch_norm_gradient_sums_kernel(
    dy_ptr,  # (R, C · WIDTH), as x, residual, dx and dresidual
    x_ptr,
    residual_ptr,  # or None
    weight_ptr,  # (C,) or None, as the bias
    bias_ptr,
    mean_ptr,  # (C,)
    inv_std_ptr,
    dx_ptr,  # or None: written in evaluation, when it needs no sums
    dresidual_ptr,  # or None: dy behind the ReLU
    partial_deviation_ptr,  # (splits, C): Σ(x − mean), which rounding the mean has left over
    partial_dy_ptr,  # Σdy
    partial_product_ptr,  # Σdy · (x − mean)
    R,
    C,
    tiles,
    WIDTH: tl.constexpr,
    GROUP: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    RELU: tl.constexpr,
    WIDE: tl.constexpr,
):
    """The sums of every channel over the tiles of one split."""
    group = tl.program_id(0)
    split = tl.program_id(1)
    owner, channel, known = _columns(group, C, WIDTH, GROUP, BLOCK_COLUMNS)
    mean = tl.load(mean_ptr + channel, mask=known, other=0.0).to(tl.float32)
    scale = tl.load(inv_std_ptr + channel, mask=known, other=0.0).to(tl.float32)
    scale *= _load_channels(weight_ptr, channel, known, 1.0)
    bias = _load_channels(bias_ptr, channel, known, 0.0)
    deviations = tl.zeros([BLOCK_COLUMNS], tl.float32)
    gradients = tl.zeros([BLOCK_COLUMNS], tl.float32)
    products = tl.zeros([BLOCK_COLUMNS], tl.float32)
    for tile in range(split, tiles, tl.num_programs(1)):
        offsets, mask = _tile(tile, group, R, C, WIDTH, GROUP, BLOCK_ROWS, BLOCK_COLUMNS, WIDE)
        x = tl.load(x_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
        deviation = tl.where(mask, x - mean[None, :], 0.0)
        if RELU:
            dy = _through_relu(dy, deviation, scale, bias, residual_ptr, offsets, mask)
        if dresidual_ptr is not None:
            tl.store(dresidual_ptr + offsets, dy, mask=mask)
        if dx_ptr is not None:
            tl.store(dx_ptr + offsets, dy * scale[None, :], mask=mask)
        deviations += tl.sum(deviation, 0)
        gradients += tl.sum(dy, 0)
        products += tl.sum(dy * deviation, 0)
    channels, there = _channels(group, C, GROUP, CHANNELS)
    place = split * C + channels
    tl.store(partial_deviation_ptr + place, _to_channels(deviations, owner, CHANNELS), mask=there)
    tl.store(partial_dy_ptr + place, _to_channels(gradients, owner, CHANNELS), mask=there)
    tl.store(partial_product_ptr + place, _to_channels(products, owner, CHANNELS), mask=there)


@triton.jit
def _batch_norm_input_gradient_kernel(
    dy_ptr,  # (R, C · WIDTH), as x and dx
    x_ptr,
    weight_ptr,  # (C,) or None, as the bias
    bias_ptr,
    mean_ptr,  # (C,)
    inv_std_ptr,
    dx_ptr,
    dweight_ptr,  # (C,), as dbias: written by the first split
    dbias_ptr,
    partial_deviation_ptr,  # (splits, C)
    partial_dy_ptr,
    partial_product_ptr,
    R,
    C,
    tiles,
    count,  # R · WIDTH, as a float
    WIDTH: tl.constexpr,
    GROUP: tl.constexpr,
    CHANNELS: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    RELU: tl.constexpr,
    WIDE: tl.constexpr,
):
    """dx = γ / √(σ² + ε) · (dy − mean(dy) − x̂ · mean(dy · x̂)), and dweight and dbias."""
    group = tl.program_id(0)
    split = tl.program_id(1)
    splits = tl.num_programs(1)
    owner, channel, known = _columns(group, C, WIDTH, GROUP, BLOCK_COLUMNS)
    channels, there = _channels(group, C, GROUP, CHANNELS)
    sets = tl.arange(0, SPLITS)[:, None] * C + channels[None, :]
    given = (tl.arange(0, SPLITS) < splits)[:, None] & there[None, :]
    deviations = tl.sum(tl.load(partial_deviation_ptr + sets, mask=given, other=0.0), 0)
    gradients = tl.sum(tl.load(partial_dy_ptr + sets, mask=given, other=0.0), 0)
    products = tl.sum(tl.load(partial_product_ptr + sets, mask=given, other=0.0), 0)
    rest = deviations / count
    inv_std = tl.load(inv_std_ptr + channels, mask=there, other=0.0).to(tl.float32)
    dweight = (products - rest * gradients) * inv_std
    if split == 0:
        tl.store(dweight_ptr + channels, dweight, mask=there)
        tl.store(dbias_ptr + channels, gradients, mask=there)
    mean = tl.load(mean_ptr + channel, mask=known, other=0.0).to(tl.float32)
    scale = _to_columns(inv_std, owner, CHANNELS) * _load_channels(weight_ptr, channel, known, 1.0)
    bias = _load_channels(bias_ptr, channel, known, 0.0)
    slope = _to_columns(dweight * inv_std / count, owner, CHANNELS)
    offset = _to_columns(gradients / count, owner, CHANNELS)
    rest = _to_columns(rest, owner, CHANNELS)
    trips = (tiles - split + splits - 1) // splits
    for trip in range(trips):  # backwards, as in the forward pass
        tile = split + (trips - 1 - trip) * splits
        offsets, mask = _tile(tile, group, R, C, WIDTH, GROUP, BLOCK_ROWS, BLOCK_COLUMNS, WIDE)
        deviation = tl.load(x_ptr + offsets, mask=mask, other=0.0).to(tl.float32) - mean[None, :]
        dy = tl.load(dy_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
        if RELU:
            dy = _through_relu(dy, deviation, scale, bias, None, offsets, mask)
        dx = scale[None, :] * (dy - offset[None, :] - (deviation - rest[None, :]) * slope[None, :])
        tl.store(dx_ptr + offsets, dx, mask=mask)


@triton.jit
def _batch_norm_resident_backward_kernel(
    dy_ptr,  # (R, C · WIDTH), as x, residual, dx and dresidual
    x_ptr,
    residual_ptr,  # or None
    weight_ptr,  # (C,) or None, as the bias
    bias_ptr,
    mean_ptr,  # (C,), as all below
    inv_std_ptr,
    dx_ptr,
    dresidual_ptr,  # or None: dy behind the ReLU
    dweight_ptr,
    dbias_ptr,
    R,
    C,
    count,  # R · WIDTH, as a float
    WIDTH: tl.constexpr,
    GROUP: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    RELU: tl.constexpr,
    WIDE: tl.constexpr,
):
    """The same by a program that keeps all values of its channels in registers."""
    group = tl.program_id(0)
    owner, channel, known = _columns(group, C, WIDTH, GROUP, BLOCK_COLUMNS)
    offsets, mask = _tile(0, group, R, C, WIDTH, GROUP, BLOCK_ROWS, BLOCK_COLUMNS, WIDE)
    mean = tl.load(mean_ptr + channel, mask=known, other=0.0).to(tl.float32)
    inv_std = tl.load(inv_std_ptr + channel, mask=known, other=0.0).to(tl.float32)
    scale = inv_std * _load_channels(weight_ptr, channel, known, 1.0)
    x = tl.load(x_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
    dy = tl.load(dy_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
    deviation = tl.where(mask, x - mean[None, :], 0.0)
    if RELU:
        bias = _load_channels(bias_ptr, channel, known, 0.0)
        dy = _through_relu(dy, deviation, scale, bias, residual_ptr, offsets, mask)
    if dresidual_ptr is not None:
        tl.store(dresidual_ptr + offsets, dy, mask=mask)
    rest = _to_columns(_to_channels(tl.sum(deviation, 0), owner, CHANNELS) / count, owner, CHANNELS)
    deviation = tl.where(mask, deviation - rest[None, :], 0.0)
    dbias = _to_channels(tl.sum(dy, 0), owner, CHANNELS)
    product = _to_channels(tl.sum(dy * deviation, 0), owner, CHANNELS)
    channels, there = _channels(group, C, GROUP, CHANNELS)
    dweight = product * tl.load(inv_std_ptr + channels, mask=there, other=0.0).to(tl.float32)
    tl.store(dweight_ptr + channels, dweight, mask=there)
    tl.store(dbias_ptr + channels, dbias, mask=there)
    offset = _to_columns(dbias / count, owner, CHANNELS)
    slope = _to_columns(dweight / count, owner, CHANNELS) * inv_std
    dx = scale[None, :] * (dy - offset[None, :] - deviation * slope[None, :])
    tl.store(dx_ptr + offsets, dx, mask=mask)
