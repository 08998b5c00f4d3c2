"""Every figure of the course, in one style.

Functions are ``plot_x(data, *, ax=None) -> Axes``: they draw into ``ax``, or into a new figure.
Colours come from :data:`PALETTE` alone. Figures are drawn with its light values on a
transparent ground; the website swaps each for its dark value when the reader does.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from textwrap import fill
from typing import TYPE_CHECKING, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch, PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox, BboxTransformTo

if TYPE_CHECKING:  # some of these modules need PyTorch, figures do not
    from bncourse.benchmark.cpu import Growth
    from bncourse.benchmark.gpu.record import Step
    from bncourse.benchmark.machine import Peaks, Point
    from bncourse.benchmark.predictions import Row
    from bncourse.benchmark.timing import Spread
    from bncourse.claims.statistics import Interval
    from bncourse.distributed.cost import Cost
    from bncourse.kernels.trace import Access, Trace


class Colour(NamedTuple):
    """One colour as it appears on light and on dark paper, as hex strings."""

    light: str
    dark: str


PALETTE = {
    "ink": Colour("#1f2328", "#e6edf3"),
    "muted": Colour("#59636e", "#a3acb7"),
    "grid": Colour("#d0d7de", "#444c56"),
    "paper": Colour("#fefefe", "#14181e"),
    "blue": Colour("#0b62c4", "#6cb2ff"),
    "orange": Colour("#b34700", "#f0964e"),
    "green": Colour("#1a7433", "#52c268"),
    "red": Colour("#c11f2b", "#ff8078"),
    "purple": Colour("#7646d1", "#c29bff"),
}
INK, MUTED, GRID, PAPER, BLUE, ORANGE, GREEN, RED, PURPLE = (colour.light for colour in PALETTE.values())
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, RED)

STYLE = {
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.prop_cycle": plt.cycler(color=CYCLE),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 12,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "figure.figsize": (5.2, 3.0),  # text is still readable when a phone shows the whole figure
    "font.size": 11,
    "grid.color": GRID,
    "legend.frameon": False,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's own font
    "svg.hashsalt": "bncourse",  # the same figure gives the same file
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}


def use_style() -> None:
    """Draw all further figures in the course's style; in Jupyter, as SVG."""
    plt.rcParams.update(STYLE)
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:  # not in Jupyter
        return
    set_matplotlib_formats("svg")


def plot_images(images: Sequence[np.ndarray], titles: Sequence[str], *, ax: Axes | None = None) -> Axes:
    """Draw small images side by side, each (H, W), each from its least value (dark) to its greatest (bright)."""
    ax = _new_axes(ax, figsize=(7.0, 7.0 / len(images) + 0.5))
    for i, (image, title) in enumerate(zip(images, titles, strict=True)):
        ax.imshow(image, cmap="gray", extent=(i * 1.12, i * 1.12 + 1, 0, 1))
        ax.text(i * 1.12 + 0.5, 1.06, title, ha="center", va="bottom")
    ax.set(xlim=(0, 1.12 * len(images) - 0.12), ylim=(0, 1.25), aspect="equal")
    ax.axis("off")
    return ax


def plot_channels(x: np.ndarray, names: Sequence[str], *, ax: Axes | None = None) -> Axes:
    """Draw the values of each channel of ``x``, shape (N, C, *), with their mean and ± one standard deviation.

    Of a channel with many values, 100 are drawn: its percentiles.
    """
    ax = _new_axes(ax)
    rng = np.random.default_rng(0)
    for row, name in enumerate(names):
        values = np.moveaxis(x, 1, 0)[row].ravel().astype(float)
        shown = values if values.size <= 100 else np.percentile(values, np.linspace(0, 100, 100))
        ax.plot(shown, row + rng.uniform(-0.18, 0.18, shown.size), "o", color=BLUE, alpha=0.35, markersize=4)
        ax.errorbar(
            values.mean(), row + 0.32, xerr=values.std(), color=ORANGE, marker="o", markersize=5, capsize=4, lw=2
        )
        ax.text(-0.02, row, name, transform=ax.get_yaxis_transform(), ha="right", va="center")
    ax.set(yticks=[], ylim=(len(names) - 0.4, -0.5))
    ax.grid(visible=False)
    ax.axvline(0, color=MUTED, lw=1, zorder=0)
    return ax


def plot_index_set(
    shape: Sequence[int],
    axes: Sequence[int],
    *,
    index: Sequence[int] | None = None,
    seen_as: Sequence[int] | None = None,
    param_shape: Sequence[int] | None = None,
    label: str = "{} = {}",
    ax: Axes | None = None,
) -> Axes:
    """Draw every element of an array and fill those that share statistics with the framed one at ``index``.

    Args:
        shape: (N, C), (N, C, H, W), or (N, T, D); samples become rows, channels or features columns.
        axes: the axes that are averaged over.
        index: the element in question; the first one if None.
        seen_as: the shape to which the array is reshaped before ``axes`` are counted, as for group norm.
        param_shape: the shape in which γ broadcasts against that; draws a dot on elements that share γ with the one
            in question.
        label: how the rows and columns are named, from a letter and a number.
    """
    shape, seen_as = tuple(shape), tuple(seen_as or shape)
    index = (0,) * len(shape) if index is None else tuple(index)
    means = [1 if i in axes else n for i, n in enumerate(seen_as)]
    filled, framed = (_reading_the_same(kept, seen_as, shape, index) for kept in (means, seen_as))
    dotted = np.zeros_like(filled) if param_shape is None else _reading_the_same(param_shape, seen_as, shape, index)
    samples, channels, height, width = filled.shape
    ax = _new_axes(ax, figsize=(0.5 + 0.28 * channels * (width + 0.8), 0.5 + 0.28 * samples * (height + 0.8)))
    for n, c, h, w in np.ndindex(filled.shape):
        element, corner = (n, c, h, w), (c * (width + 0.8) + w, n * (height + 0.8) + h)
        shared = filled[element]
        look = {"facecolor": BLUE if shared else "none", "edgecolor": BLUE if shared else MUTED}
        ax.add_patch(Rectangle(corner, 0.9, 0.9, lw=0.8, alpha=0.9 if shared else 0.7, **look))
        if framed[element]:
            ax.add_patch(Rectangle(corner, 0.9, 0.9, facecolor="none", edgecolor=ORANGE, lw=3, zorder=2))
        if dotted[element]:
            centre = corner[0] + 0.45, corner[1] + 0.45
            ax.plot(*centre, "o", color=PAPER if shared else INK, markersize=5, zorder=3)
    for c in range(channels):
        name = label.format("d" if len(shape) == 3 else "c", c)
        ax.text(c * (width + 0.8) + width / 2, -0.35, name, ha="center", va="bottom")
    for n in range(samples):
        ax.text(-0.35, n * (height + 0.8) + height / 2, label.format("n", n), ha="right", va="center")
    ax.set(xlim=(-2.2, channels * (width + 0.8)), ylim=(samples * (height + 0.8), -1.6), aspect="equal")
    ax.axis("off")
    return ax


def _reading_the_same(
    kept: Sequence[int], seen_as: tuple[int, ...], shape: tuple[int, ...], index: tuple[int, ...]
) -> np.ndarray:
    """Which elements read the entry of an array of shape ``kept`` that the one at ``index`` reads.

    The answer has four axes: rows and columns of blocks, and of elements in a block.
    """
    entries = np.broadcast_to(np.arange(math.prod(kept)).reshape(kept), seen_as).reshape(shape)
    same = entries == entries[index]
    if len(shape) == 3:  # (N, T, D)
        same = same.swapaxes(1, 2)
    return same.reshape(*same.shape, *(1,) * (4 - same.ndim))


def plot_epsilon_gain(eps_values: Sequence[float], *, ax: Axes | None = None) -> Axes:
    """Draw the standard deviation of x̂, σ / √(σ² + ε), against that of the input, σ."""
    ax = _new_axes(ax)
    std = np.logspace(-5, 2, 200)
    for eps in eps_values:
        (line,) = ax.plot(std, std / np.sqrt(std**2 + eps), lw=2, label=f"ε = {eps:g}")
        ax.plot(math.sqrt(eps), math.sqrt(0.5), "o", color=line.get_color())
    ax.legend(loc="lower right")
    ax.set(xscale="log", xlabel="standard deviation of the input, σ", ylabel="standard deviation of x̂", ylim=(0, 1.05))
    return ax


def plot_through_layers(
    curves: Mapping[str, np.ndarray], *, first_layer: int = 1, log: bool = True, ax: Axes | None = None
) -> Axes:
    """Draw a quantity measured in every layer: the median over the runs, and their range as a band.

    Args:
        curves: by name, values of shape (runs, layers).
        first_layer: the number of the layer that comes first; 0 for the input.
        log: whether the vertical axis is logarithmic.
    """
    ax = _new_axes(ax)
    for i, (name, values) in enumerate(curves.items()):
        layers = first_layer + np.arange(values.shape[1])
        colour, line_style = CYCLE[i % len(CYCLE)], ("-", "--", ":", "-.")[i % 4]
        band = values.min(axis=0), values.max(axis=0)
        ax.fill_between(layers, *band, color=colour, alpha=0.15, ls=line_style, lw=0.8)
        ax.plot(layers, np.median(values, axis=0), color=colour, ls=line_style, lw=2, label=name)
    ax.set(xlabel="layer", yscale="log" if log else "linear")
    ax.legend()
    return ax


def plot_batch_statistics(
    means: np.ndarray, stds: np.ndarray, population: tuple[float, float], *, ax: Axes | None = None
) -> Axes:
    """Draw one dot per batch, its mean against its standard deviation, and a cross at the population's."""
    ax = _new_axes(ax)
    ax.plot(means, stds, "o", color=BLUE, alpha=0.35, markersize=4, label="batches")
    ax.plot(*population, "+", color=ORANGE, markersize=14, markeredgewidth=2.5, label="population")
    ax.set(xlabel="mean of the batch", ylabel="standard deviation")
    return ax


def plot_noise_of_means(
    sizes: Sequence[int], noise: Sequence[float], std: float, *, marked: int | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the standard deviation of batch means against the batch size, and the line σ / √m of independent values.

    Args:
        sizes: the batch sizes m.
        noise: the measured standard deviation of the means of many batches, one per size.
        std: σ of the population.
        marked: the batch size whose dot is large.
    """
    ax = _new_axes(ax)
    ax.plot(sizes, std / np.sqrt(np.asarray(sizes)), color=ORANGE, lw=2, label="σ / √m")
    ax.plot(sizes, noise, "o", color=BLUE, markersize=5, label="measured")
    if marked is not None:
        ax.plot(marked, noise[list(sizes).index(marked)], "o", color=BLUE, markersize=11)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set(xticks=sizes, xticklabels=[f"{size}" for size in sizes], xlabel="batch size m", ylabel="std(μ)")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
    ax.legend(loc="lower left")
    return ax


def plot_running(batch: np.ndarray, running: np.ndarray, truth: np.ndarray, *, ax: Axes | None = None) -> Axes:
    """Draw a statistic of T batches (T,), its running average with the start (T + 1,), and the truth (T,)."""
    ax = _new_axes(ax)
    steps = np.arange(1, len(batch) + 1)
    ax.plot(steps, batch, "o", color=BLUE, alpha=0.35, markersize=3, label="batches")
    ax.plot(steps, truth, "--", color=MUTED, lw=2, label="truth")
    ax.plot(np.arange(len(running)), running, color=ORANGE, lw=2, label="running")
    ax.set(xlabel="step")
    ax.legend(loc="lower right", ncols=3)
    return ax


def plot_graph(
    nodes: Mapping[str, tuple[float, float]],
    edges: Sequence[tuple[str, str, str]],
    *,
    notes: Mapping[str, tuple[float, float, str]] | None = None,
    filled: Collection[str] = (),
    ax: Axes | None = None,
) -> Axes:
    """Draw a computational graph: values in boxes, and an arrow for each use of one in another.

    Args:
        nodes: the centre of each box by its text; one unit is about an inch.
        edges: (from, to, colour).
        notes: by text, where it stands and its colour.
        filled: the boxes that have a ground of their own.
    """
    across, up = zip(*nodes.values(), strict=True)
    limits = (min(across) - 0.45, max(across) + 0.45), (min(up) - 0.35, max(up) + 0.35)
    ax = _new_axes(ax, figsize=(limits[0][1] - limits[0][0], limits[1][1] - limits[1][0]))
    box = {"boxstyle": "round,pad=0.35", "facecolor": PAPER, "edgecolor": MUTED}
    boxes = {
        name: ax.text(*centre, name, ha="center", va="center", bbox=box, zorder=3).get_bbox_patch()
        for name, centre in nodes.items()
    }
    for name in filled:
        boxes[name].set_facecolor(GRID)
    for start, end, colour in edges:
        arrow = {"arrowstyle": "-|>", "color": colour, "lw": 2, "shrinkA": 1, "shrinkB": 1, "mutation_scale": 13}
        ends = {"xytext": nodes[start], "xy": nodes[end]}
        ax.annotate("", **ends, arrowprops={**arrow, "patchA": boxes[start], "patchB": boxes[end]})
    for text, (across, up, colour) in (notes or {}).items():
        ax.text(across, up, text, color=colour, ha="center", va="center")
    ax.set(xlim=limits[0], ylim=limits[1])
    ax.axis("off")
    return ax


def plot_gradient_terms(
    x_hat: np.ndarray, terms: Mapping[str, np.ndarray], *, marked: int | None = None, ax: Axes | None = None
) -> Axes:
    """Draw one bar per sample at its ``x_hat``, in one row per term, each row from -1 to 1.

    Args:
        x_hat: standardized values, shape (N,).
        terms: values by name, each of shape (N,).
        marked: the sample that a line through all rows marks.
    """
    ax = _new_axes(ax, figsize=(5.2, 4.4))
    rows = -2.2 * np.arange(len(terms))
    if marked is not None:
        ax.axvline(x_hat[marked], color=PURPLE, lw=1.5, ls=":", zorder=1)
    for row, colour, values in zip(rows, (BLUE, ORANGE, GREEN, INK), terms.values(), strict=False):
        ax.axhline(row, color=GRID, lw=1, zorder=0)
        ax.vlines(x_hat, row, row + values, color=colour, lw=3, zorder=2)
    ax.grid(visible=False)
    ax.set(yticks=rows, yticklabels=list(terms), ylim=(rows[-1] - 1.1, 1.1), xlabel="x̂ of the sample")
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    ax.spines["left"].set_visible(False)
    return ax


def plot_projection(
    vector: np.ndarray, direction: np.ndarray, names: tuple[str, str, str], *, ax: Axes | None = None
) -> Axes:
    """Draw a vector of any length as its part along ``direction``, to the right, and the rest, upwards.

    Args:
        vector: shape (N,).
        direction: shape (N,), not zero.
        names: of the vector, of its part along ``direction``, and of the rest.
    """
    ax = _new_axes(ax, figsize=(3.4, 3.0))
    along = abs(vector @ direction) / np.linalg.norm(direction)
    rest = math.sqrt(max(vector @ vector - along**2, 0))
    arrows = [((0, 0), (along, rest), INK), ((0, 0), (along, 0), ORANGE), ((along, 0), (along, rest), BLUE)]
    for start, end, colour in arrows:
        arrow = {"arrowstyle": "-|>", "color": colour, "lw": 2.5, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 15}
        ax.annotate("", xytext=start, xy=end, arrowprops=arrow)
    ax.text(0.45 * along, 0.55 * rest, names[0], ha="right", va="bottom")
    ax.text(along / 2, -0.12, names[1], color=ORANGE, ha="center", va="top")
    ax.text(along + 0.1, rest / 2, names[2], color=BLUE, ha="left", va="center")
    ax.set(xlim=(-0.2, along + 1.2), ylim=(-0.7, rest + 0.2), aspect="equal")
    ax.axis("off")
    return ax


def plot_difference_errors(steps: np.ndarray, errors: Mapping[str, np.ndarray], *, ax: Axes | None = None) -> Axes:
    """Draw the errors of finite differences, by name, against the step h, both axes logarithmic."""
    ax = _new_axes(ax)
    for (name, values), marker in zip(errors.items(), "os^vd", strict=False):
        ax.plot(steps, values, f"{marker}-", lw=2, markersize=4, label=name)
    ax.set(xscale="log", yscale="log", xlabel="step h", ylabel="relative error")
    ax.legend(loc="lower center", bbox_to_anchor=(0.45, 1), ncols=len(errors), columnspacing=1)
    return ax


def plot_history(
    curves: Mapping[str, Sequence[float]], *, ylabel: str = "loss", log: bool = False, ax: Axes | None = None
) -> Axes:
    """Draw what was measured after each epoch of one training run or of several.

    Args:
        curves: by name, one value per epoch.
        ylabel: what was measured.
        log: whether the vertical axis is logarithmic.
    """
    ax = _new_axes(ax)
    for i, (name, values) in enumerate(curves.items()):
        epochs = np.arange(1, len(values) + 1)
        ax.plot(epochs, values, color=CYCLE[i % len(CYCLE)], ls=("-", "--", ":", "-.")[i % 4], lw=2, label=name)
    ax.set(xlabel="epoch", ylabel=ylabel, yscale="log" if log else "linear")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))  # there is no epoch 2.5
    ax.legend()
    return ax


def plot_spacings(steps: Mapping[str, tuple[np.ndarray, np.ndarray]], *, ax: Axes | None = None) -> Axes:
    """Draw how far apart the numbers of each type are: by name, magnitudes and the step from each up to the next."""
    ax = _new_axes(ax)
    for (name, (magnitudes, step)), line_style in zip(steps.items(), ("-", "--", "-."), strict=False):
        ax.plot(magnitudes, step, ls=line_style, lw=2, drawstyle="steps-post", label=name)
    ax.set(xscale="log", yscale="log", xlabel="size of the number", ylabel="step to the next")
    ax.legend(loc="lower right")
    return ax


def plot_variance_errors(
    ratios: np.ndarray, errors: Mapping[str, np.ndarray], law: np.ndarray, *, ax: Axes | None = None
) -> Axes:
    """Draw relative errors of a variance, by name, and the ``law``, against the mean in standard deviations."""
    ax = _new_axes(ax, figsize=(5.2, 3.6))
    ax.plot(ratios, law, color=MUTED, ls=":", lw=2, label="u (μ/σ)²")
    for (name, values), marker in zip(errors.items(), "os^vd", strict=False):
        ax.plot(ratios, values, f"{marker}-", lw=2, markersize=4, label=name)
    ax.axhline(1, color=MUTED, lw=1)
    ax.set(xscale="log", yscale="log", xlabel="mean / standard deviation", ylabel="relative error")
    ax.legend(loc="lower center", bbox_to_anchor=(0.45, 1), ncols=3, columnspacing=1)
    return ax


def plot_stored(exact: np.ndarray, stored: np.ndarray, *, ax: Axes | None = None) -> Axes:
    """Draw centred values as stairs: horizontally before they were rounded, vertically after, and the diagonal."""
    ax = _new_axes(ax)
    ax.plot(exact, exact, color=MUTED, lw=1, label="exact")
    ax.plot(exact, stored, color=BLUE, lw=2, drawstyle="steps-mid", label="stored")
    ax.set(xlabel="value before storing, in σ from the mean", ylabel="after storing")
    ax.legend(loc="upper left")
    return ax


def plot_steps(
    curves: Mapping[str, np.ndarray],
    *,
    every: int = 1,
    ylabel: str = "loss",
    level: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw what was measured in the course of training, on a logarithmic axis.

    Args:
        curves: by name, one value for each ``every`` steps.
        every: the number of steps from one value to the next.
        ylabel: what was measured.
        level: where to draw a dashed line across, if it is positive.
    """
    ax = _new_axes(ax)
    if level:
        ax.axhline(level, color=MUTED, ls="--", lw=2)
    for (name, values), line_style in zip(curves.items(), ("-", "--", ":", "-."), strict=False):
        ax.plot(every * np.arange(1, len(values) + 1), values, ls=line_style, lw=2, label=name)
    ax.set(xlabel="step", ylabel=ylabel, yscale="log")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(curves))
    return ax


def plot_error_map(errors: np.ndarray, size: int, *, ax: Axes | None = None) -> Axes:
    """Draw the positions of an output, fill those that are off by more than 1e-6, and write the error into them.

    Args:
        errors: (H, W), not negative.
        size: of the input, a square; a smaller output stands in its middle.
    """
    ax = _new_axes(ax, figsize=(4.4, 4.4))
    top, left = (size - errors.shape[0]) / 2, (size - errors.shape[1]) / 2
    ax.add_patch(Rectangle((-0.1, -0.1), size + 0.1, size + 0.1, facecolor="none", edgecolor=GRID, lw=1.5))
    for (row, column), error in np.ndenumerate(errors):
        corner = (left + column, top + row)
        wrong = error > 1e-6
        ax.add_patch(Rectangle(corner, 0.9, 0.9, facecolor=ORANGE if wrong else "none", edgecolor=MUTED, lw=0.8))
        if wrong:
            ax.text(corner[0] + 0.45, corner[1] + 0.47, f"{error:.1f}", color=PAPER, ha="center", va="center")
    ax.set(xlim=(-0.3, size + 0.2), ylim=(size + 0.2, -0.3), aspect="equal")
    ax.axis("off")
    return ax


def plot_margins(margins: Mapping[str, np.ndarray], alone: float, *, ax: Axes | None = None) -> Axes:
    """Draw a row of dots per entry, crosses where a value is negative, and a line at the value of ``alone``."""
    ax = _new_axes(ax)
    ax.axvline(0, color=MUTED, lw=1)
    ax.axvline(alone, color=ORANGE, lw=2, ls="--")
    for row, values in enumerate(margins.values()):
        heights = row + 0.5 * ((np.arange(len(values)) + 0.5) / len(values) - 0.5)  # one alone: in the middle
        right = values >= 0
        ax.plot(values[right], heights[right], "o", color=BLUE, alpha=0.6, markersize=4)
        ax.plot(values[~right], heights[~right], "x", color=RED, markersize=6, markeredgewidth=1.5)
    ax.set(yticks=range(len(margins)), yticklabels=list(margins), ylim=(len(margins) - 0.5, -0.5))
    ax.grid(visible=False, axis="y")
    return ax


def plot_intervals(
    intervals: Mapping[str, "Interval"], *, xlabel: str, reference: float | None = None, ax: Axes | None = None
) -> Axes:
    """Draw a row per entry: a dot at the estimate on a bar over the 95 % interval.

    Args:
        intervals: by name.
        xlabel: what was measured, with its unit.
        reference: where to draw a dashed line across the rows.
    """
    names = [fill(name, 24) for name in intervals]
    lines = sum(1 + name.count("\n") for name in names)
    ax = _new_axes(ax, figsize=(5.2, 0.9 + 0.16 * (len(names) + lines)))
    if reference is not None:
        ax.axvline(reference, color=MUTED, lw=1.5, ls="--", zorder=1)
    for row, interval in enumerate(intervals.values()):
        ax.hlines(row, interval.low, interval.high, color=BLUE, lw=2, zorder=2)
        ax.plot([interval.low, interval.high], [row, row], "|", color=BLUE, markersize=8, markeredgewidth=2)
        ax.plot(interval.estimate, row, "o", color=BLUE, markersize=6)
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5), xlabel=xlabel)
    ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    ax.grid(visible=False, axis="y")
    return ax


def plot_curves(
    x: Sequence[float],
    curves: Mapping[str, Sequence["Interval"]],
    *,
    xlabel: str,
    ylabel: str,
    log_x: bool = False,
    ticks: Sequence[str] | None = None,
    ylim: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw up to eight curves of estimates, with a bar over the 95 % interval of each.

    Points of different curves at the same ``x`` stand a little beside each other, so that their bars do not overlap.

    Args:
        x: where the curves were measured, rising; each is a tick.
        curves: by name, one interval per ``x``.
        xlabel: what ``x`` is.
        ylabel: what was measured, with its unit.
        log_x: whether the horizontal axis is logarithmic.
        ticks: what to call the values of ``x``, instead of the numbers.
        ylim: the ends of the vertical axis.
    """
    columns = 2 if max(map(len, curves)) <= 22 else 1
    ax = _new_axes(ax, figsize=(5.2, 3.0 + 0.22 * math.ceil(len(curves) / columns)))
    positions = np.log(x) if log_x else np.asarray(x, dtype=float)
    step = 0.05 * np.diff(positions).min() if len(positions) > 1 else 0.0
    for i, (name, intervals) in enumerate(curves.items()):
        beside = positions + step * (i - (len(curves) - 1) / 2)
        places = np.exp(beside) if log_x else beside
        colour, line_style = (*CYCLE, INK, MUTED)[i % 7], ("-", "--", ":", "-.")[i % 4]
        ax.vlines(places, [v.low for v in intervals], [v.high for v in intervals], color=colour, lw=1.5)
        estimates = [v.estimate for v in intervals]
        ax.plot(places, estimates, color=colour, ls=line_style, lw=1.5, marker="os^vDPX*"[i], ms=6, label=name)
    ax.set(xscale="log" if log_x else "linear", xlabel=xlabel, ylabel=ylabel, ylim=ylim)
    ax.set_xticks(x, ticks or [f"{value:g}" for value in x])
    ax.minorticks_off()
    ax.legend(loc="lower center", bbox_to_anchor=(0.45, 1), ncols=columns, columnspacing=1, handlelength=3)
    return ax


def plot_windows(
    windows: Mapping[str, Sequence[float]], rates: Sequence[float], *, name_all: bool = False, ax: Axes | None = None
) -> Axes:
    """Draw a row per entry and a cell per learning rate, filled from below by the share of runs that learn.

    Args:
        windows: by name, a share from 0 to 1 per rate.
        rates: the learning rates, rising by a constant factor.
        name_all: whether each of them is named, upright, or else six at most.
    """
    names = [fill(name, 24) for name in windows]
    ax = _new_axes(ax, figsize=(5.2, 1.2 + 0.42 * len(names)))
    places = np.log2(rates)
    width = 0.9 * np.diff(places).min()
    rows = range(len(names) - 1, -1, -1)  # the first at the top, and each filled upwards
    for row, shares in zip(rows, windows.values(), strict=True):
        for place, share in zip(places, shares, strict=True):
            corner = (place - width / 2, row - 0.38)
            ax.add_patch(Rectangle(corner, width, 0.76 * share, facecolor=BLUE, lw=0))
            ax.add_patch(Rectangle(corner, width, 0.76, facecolor="none", edgecolor=MUTED, lw=0.8))
    ticks = slice(None, None, 1 if name_all else math.ceil(len(rates) / 6))
    ax.set_xticks(places[ticks], [_rate(rate) for rate in rates[ticks]], rotation=90 if name_all else 0)
    ax.set(yticks=rows, yticklabels=names, xlabel="learning rate")
    ax.set(xlim=(places[0] - width, places[-1] + width), ylim=(-0.5, len(names) - 0.5))
    ax.set_title("filled: share of the runs that learn")
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    ax.spines["left"].set_visible(False)
    ax.grid(visible=False)
    return ax


def plot_dependence(
    matrices: Mapping[str, np.ndarray], *, block: int, columns: int = 3, ax: Axes | None = None
) -> Axes:
    """Draw square matrices: which output, a row, depends on which input, a column, and how strongly.

    The larger a value is beside the largest of its matrix, the fuller is its colour; without a dependence a cell is empty.

    Args:
        matrices: by name, values that are not negative.
        block: so many neighbours belong together; a line stands between one block and the next.
        columns: matrices side by side.
    """
    rows, size = math.ceil(len(matrices) / columns), max(len(matrix) for matrix in matrices.values())
    across, down = 1.2 * size, 1.45 * size
    ax = _new_axes(ax, figsize=(5.2, 5.2 * rows * down / (columns * across)))
    for i, (name, matrix) in enumerate(matrices.items()):
        left, top = across * (i % columns), down * (i // columns)
        for alpha, strips in _strengths(matrix):
            outlines = _outlines([(left + c, top + r, length, 1) for r, c, length in strips])
            ax.add_patch(PathPatch(outlines, facecolor=BLUE, alpha=alpha, lw=0))
        for line in range(0, size + 1, block):
            ax.plot([left, left + size], [top + line] * 2, color=MUTED, lw=0.8)
            ax.plot([left + line] * 2, [top, top + size], color=MUTED, lw=0.8)
        ax.text(left + size / 2, top - 0.06 * size, name, ha="center", va="bottom")
    ax.set(xlim=(-0.02 * size, columns * across - 0.18 * size), ylim=(rows * down - 0.4 * size, -0.3 * size))
    ax.set_aspect("equal")
    ax.axis("off")
    return ax


def plot_steps_beside_model(
    rows: Sequence["Row | Step"], *, unit: str = "milliseconds", ax: Axes | None = None
) -> Axes:
    """Draw a row per step: a bar as long as the byte model's time, a dot at the measured one, and their ratio.

    Args:
        rows: the steps, from top to bottom.
        unit: "milliseconds", or "microseconds" for a GPU's.
    """
    ax = _new_axes(ax, figsize=(5.2, 1.2 + 0.36 * len(rows)))
    scale = {"milliseconds": 1e3, "microseconds": 1e6}[unit]
    places, predicted = range(len(rows)), [scale * row.predicted for row in rows]
    low, middle, high = ([scale * getattr(row.measured, end) for row in rows] for end in ("low", "median", "high"))
    bars = ax.barh(places, predicted, 0.6, color=BLUE, alpha=0.35, label="estimate")
    ax.hlines(places, low, high, color=ORANGE, lw=2)
    (dots,) = ax.plot(middle, places, "o", color=ORANGE, markersize=6, label="measured")
    ends = [max(pair) for pair in zip(high, predicted, strict=True)]
    for place, end, row in zip(places, ends, rows, strict=True):
        ax.annotate(f"× {row.times_predicted:.2f}", (end, place), (6, 0), textcoords="offset points", va="center")
    ax.set(yticks=places, yticklabels=[row.name for row in rows], ylim=(len(rows) - 0.5, -0.5))
    ax.set(xlabel=unit, xlim=(0, 1.18 * max(ends)))
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    ax.grid(visible=False, axis="y")
    ax.legend(handles=[bars, dots], loc="lower center", bbox_to_anchor=(0.45, 1), ncols=2)
    return ax


def plot_roofline(points: Sequence["Point"], peaks: "Peaks", *, ax: Axes | None = None) -> Axes:
    """Draw operations per second against operations per byte, below a roof per bandwidth and a flat one for all.

    Args:
        points: numbered in the figure, and named above it, one below the other.
        peaks: the operations per second, and the bandwidths by name, such as the kind of call that reaches them.
    """
    ax = _new_axes(ax, figsize=(5.2, 3.4 + 0.24 * (len(points) + len(peaks.bandwidths))))
    left = 0.5 * min(point.flops_per_byte for point in points)
    right = 2 * max([peaks.gflops / min(peaks.bandwidths.values()), *(point.flops_per_byte for point in points)])
    for (name, bandwidth), line_style in zip(peaks.bandwidths.items(), ("-", "--", ":"), strict=False):
        corner = peaks.gflops / bandwidth
        roof = [left * bandwidth, peaks.gflops, peaks.gflops]
        ax.plot([left, corner, right], roof, color=MUTED, ls=line_style, lw=2, label=f"{name}: {bandwidth:.0f} GB/s")
    in_order = sorted(points, key=lambda point: point[1:])
    for number, point in enumerate(points, start=1):
        colour = (*CYCLE, INK)[(number - 1) % 6]
        ax.plot(point.flops_per_byte, point.gflops, "o", color=colour, markersize=4)
        side = 8 if in_order.index(point) % 2 else -8  # neighbours' numbers do not meet
        ax.annotate(
            str(number), point[1:], (side, 0), textcoords="offset points", ha="center", va="center", color=colour
        )
        ax.plot(
            [], [], ls="", marker=f"${number}$", markersize=8 if number < 10 else 12, color=colour, label=point.name
        )
    ax.set(xscale="log", yscale="log", xlabel="operations per byte", ylabel="billion operations per second")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.legend(loc="lower center", bbox_to_anchor=(0.45, 1))
    return ax


def plot_bandwidth(curve: Mapping[int, "Spread"], caches: Mapping[str, int], *, ax: Axes | None = None) -> Axes:
    """Draw how fast arrays are copied against what source and target take together, with a line at each cache.

    Args:
        curve: by the bytes of one array, billions of bytes per second.
        caches: bytes by name.
    """
    ax = _new_axes(ax)
    sizes = [2 * size for size in curve]
    spreads = list(curve.values())
    ax.fill_between(sizes, [s.low for s in spreads], [s.high for s in spreads], color=BLUE, alpha=0.15, lw=0)
    ax.plot(sizes, [s.median for s in spreads], "o-", color=BLUE, lw=2, markersize=4)
    ax.set(xlabel="source and target together", ylabel="billion bytes per second")
    ax.set_ylim(bottom=0)
    _mark_caches(ax, caches)
    _scale_of_bytes(ax)
    return ax


def plot_growth(
    growing: Mapping[str, Sequence["Growth"]], caches: Mapping[str, int] | None = None, *, ax: Axes | None = None
) -> Axes:
    """Draw the time per value against the size of the input, by name, with a line at each cache.

    Args:
        growing: by name, what was measured, the sizes rising.
        caches: bytes by name.
    """
    ax = _new_axes(ax, figsize=(5.2, 3.4))
    for (name, rows), marker, line_style in zip(growing.items(), "os^vD", ("-", "--", "-.", ":", "-"), strict=False):
        sizes, spreads = [row.array_bytes for row in rows], [row.ns_per_value for row in rows]
        (line,) = ax.plot(sizes, [s.median for s in spreads], marker, ls=line_style, lw=2, markersize=4, label=name)
        ax.fill_between(
            sizes, [s.low for s in spreads], [s.high for s in spreads], color=line.get_color(), alpha=0.15, lw=0
        )
    ax.set(xlabel="size of the input", ylabel="nanoseconds per value")
    ax.set_ylim(bottom=0)
    _mark_caches(ax, caches or {})
    _scale_of_bytes(ax)
    ax.legend(loc="lower center", bbox_to_anchor=(0.45, 1.06), ncols=2, columnspacing=1)
    return ax


def plot_collective_cost(
    devices: Sequence[int],
    costs: Mapping[str, Sequence["Cost"]],
    levels: Mapping[str, float] | None = None,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw the time of collectives against the number of devices, with a dashed line at each time of the layer.

    A line is thin where latency takes most of the time, and thick where bandwidth does.

    Args:
        devices: rising.
        costs: by name, one for each number of devices.
        levels: seconds by name.
    """
    ax = _new_axes(ax, figsize=(5.2, 3.9))
    for (name, row), colour, marker in zip(costs.items(), CYCLE, "osD^v", strict=False):
        seconds = [cost.seconds for cost in row]
        heavy = [seconds[i] if cost.transfer > cost.latency else math.nan for i, cost in enumerate(row)]
        ax.plot(devices, seconds, color=colour, lw=1.2, marker=marker, markersize=4, label=name)
        ax.plot(devices, heavy, color=colour, lw=4.5, alpha=0.6, solid_capstyle="butt")
    ax.plot([], [], color=MUTED, lw=4.5, alpha=0.6, label="thick: more bandwidth than latency")
    for place, (name, seconds) in enumerate(sorted((levels or {}).items(), key=lambda level: level[1])):
        ax.axhline(seconds, color=INK, lw=1.5, ls="--", zorder=1)
        side = {"va": "bottom", "xytext": (0, 2)} if place else {"va": "top", "xytext": (0, -3)}  # the lowest below
        ax.annotate(
            name, (1, seconds), xycoords=ax.get_yaxis_transform(), textcoords="offset points", ha="right", **side
        )
    _scale_of_devices(ax, devices)
    _scale_of_seconds(ax)
    if levels:  # room for the name below the lowest
        ax.set_ylim(bottom=min(ax.get_ylim()[0], 0.4 * min(levels.values())))
    ax.legend(loc="lower center", bbox_to_anchor=(0.45, 1))
    return ax


def plot_parts(
    means: Sequence[float], stds: Sequence[float], mean: float, std: float, *, ax: Axes | None = None
) -> Axes:
    """Draw mean ± one standard deviation of each part of a batch and, to their right, of the whole batch.

    Args:
        means: of the parts.
        stds: of the parts.
        mean: of the whole batch; a line goes across at it.
        std: of the whole batch.
    """
    ax = _new_axes(ax)
    ax.axhline(mean, color=MUTED, lw=1.5, ls="--", zorder=1)
    look = {"lw": 2, "capsize": 4, "markersize": 6}
    ax.errorbar(range(len(means)), means, yerr=stds, color=BLUE, fmt="o", label="parts", **look)
    ax.errorbar(len(means), mean, yerr=std, color=ORANGE, fmt="s", label="all", **look)
    ax.set_xticks(range(len(means) + 1), [*(f"{i}" for i in range(len(means))), "all"])
    ax.set(xlabel="device", ylabel="mean ± std")
    ax.grid(visible=False, axis="x")
    return ax


def plot_accesses(
    trace: "Trace", shape: tuple[int, int], *, tensor: str = "x", step: int | None = None, ax: Axes | None = None
) -> Axes:
    """Draw a tensor's memory as a matrix, and in it which program of a kernel touches which element, and how often.

    Colours and numbers are programs; where several touch an element, it shows the last one. The more often an element
    is touched, the fuller is its colour. Masked lanes beyond the edge are dashed, and accesses outside of the tensor
    crossed. What is far beyond the edge, by more than four rows and a third of the matrix, is drawn closer.

    Args:
        trace: what ``bncourse.kernels.trace.trace`` recorded.
        shape: rows and columns, at most about 12 and 50, with as many cells as the tensor has elements.
        tensor: its name in the trace.
        step: draws only so many accesses of ``trace``, and a frame around the lanes of the last one; None: all.

    Raises:
        ValueError: the tensor has another number of elements, or is none of the trace's; or there are fewer steps.
    """
    accesses = trace.of(tensor=tensor).accesses
    if step is not None and not 0 <= step <= len(trace.accesses):
        raise ValueError(f"expected a step from 0 to {len(trace.accesses)}, the accesses of the trace; got {step}")
    for access in accesses:
        if access.size != math.prod(shape):
            raise ValueError(f"expected a shape with {access.size} cells, as {tensor} has elements; got {shape}")
    programs = list(dict.fromkeys(access.program for access in accesses))
    shown = [access for access in trace.accesses[:step] if access.tensor == tensor]
    whole, now = _touched(accesses, shape, programs), _touched(shown, shape, programs)
    ax = _axes_of_cells(ax, shape, [*whole.masked, *whole.outside])
    _fill_programs(ax, now, programs)
    _draw_grid(ax, np.argwhere(np.ones(shape)), {"facecolor": "none", "edgecolor": MUTED, "lw": 0.8})
    _draw_grid(ax, now.masked, MASKED)
    _draw_grid(ax, now.outside, CROSSED)
    if step and trace.accesses[step - 1].tensor == tensor:
        _frame_lanes(ax, shown[-1], shape)
    _explain_cells(ax, whole)
    return ax


def plot_access_order(trace: "Trace", *, ax: Axes | None = None) -> Axes:
    """Draw the accesses of a call from left to right in their order, one row per tensor; at most about 100.

    Bands are programs. Numbers above them are launches of kernels, whose names stand above the figure.
    """
    accesses = trace.accesses
    tensors = list(dict.fromkeys(access.tensor for access in accesses))
    ax = _new_axes(ax, figsize=(5.2, 1.7 + 0.24 * (len(tensors) + len(trace.launches))))
    for kind, colour, marker in (("load", BLUE, "o"), ("store", ORANGE, "s"), ("atomic", PURPLE, "*")):
        places = [(i, tensors.index(access.tensor)) for i, access in enumerate(accesses) if access.kind == kind]
        if places:
            ax.plot(*zip(*places, strict=True), marker, color=colour, markersize=5, label=kind, zorder=3)
    programs = _spans([(access.launch, access.program) for access in accesses])
    bands = [(start - 0.5, stop - start) for _, start, stop in programs[::2]]
    ax.broken_barh(bands, (-0.5, len(tensors)), facecolor=GRID, alpha=0.5, lw=0, zorder=0)
    for (launch, name), start, stop in _spans([(access.launch, access.kernel) for access in accesses]):
        ax.axvline(start - 0.5, color=MUTED, lw=1.5)
        above = {"xycoords": ax.get_xaxis_transform(), "textcoords": "offset points", "ha": "center", "va": "bottom"}
        ax.annotate(str(launch + 1), ((start + stop - 1) / 2, 1), (0, 3), color=MUTED, **above)
        named = {"color": MUTED, "markersize": 8, "label": name.strip("_").removesuffix("_kernel")}
        ax.plot([], [], ls="", marker=f"${launch + 1}$", **named)
    ticks = {(start + stop - 1) / 2: _program_name(program) for (_, program), start, stop in programs}
    some = slice(None, None, math.ceil(len(ticks) / 12))
    ax.set_xticks(list(ticks)[some], list(ticks.values())[some])
    ax.set(yticks=range(len(tensors)), yticklabels=tensors, ylim=(len(tensors) - 0.5, -0.5))
    ax.set(xlim=(-0.5, len(accesses) - 0.5), xlabel="program: here, one runs after the other")
    ax.tick_params(length=0)
    ax.tick_params(axis="y", labelcolor=INK)
    ax.grid(visible=False)
    ax.legend(loc="lower center", bbox_to_anchor=(0.45, 1), borderaxespad=1.7)  # above the numbers
    return ax


def plot_kernel_traffic(ways: Mapping[str, Sequence[tuple[str, str, int]]], *, ax: Axes | None = None) -> Axes:
    """Draw a row of blocks per way to compute something: a block per array of the input's size that is read or written.

    Args:
        ways: by name, passes over memory: ("R" or "W", the array, the number of the launch). What one launch moves
            stands side by side, the next one after a gap. The number of blocks stands at the end.
    """
    ax = _new_axes(ax, figsize=(5.2, 0.9 + 0.72 * len(ways)))
    ends = []
    for row, (name, passes) in enumerate(ways.items()):
        launches = list(dict.fromkeys(launch for *_, launch in passes))
        for i, (kind, array, launch) in enumerate(passes):
            left, written = i + 0.35 * launches.index(launch), kind == "W"
            look = {"facecolor": ORANGE if written else "none", "edgecolor": ORANGE if written else BLUE}
            ax.add_patch(Rectangle((left + 0.04, row), 0.92, 0.5, lw=1.5, **look))
            colour = PAPER if written else INK
            ax.text(left + 0.5, row + 0.26, f"{kind} {array}", color=colour, ha="center", va="center")
        ends.append(len(passes) + 0.35 * (len(launches) - 1))
        ax.text(ends[-1] + 0.15, row + 0.26, str(len(passes)), ha="left", va="center", weight="bold")
        ax.text(0.04, row - 0.06, name, ha="left", va="bottom")
    ax.set(xlim=(0, max(ends) + 0.7), ylim=(len(ways) - 0.4, -0.45))
    ax.set_title("R: read, W: written; a gap: the next launch", loc="left")
    ax.axis("off")
    return ax


def _mark_caches(ax: Axes, caches: Mapping[str, int]) -> None:
    """A dotted line at each size, with its name above."""
    for name, size in caches.items():
        ax.axvline(size, color=MUTED, lw=1.5, ls=":", zorder=1)
        ax.text(size, 1.01, name, color=MUTED, ha="center", va="bottom", transform=ax.get_xaxis_transform())


def _scale_of_bytes(ax: Axes) -> None:
    """A logarithmic horizontal axis with ticks such as 64 KB and 1 MB, in powers of two."""
    ax.set_xscale("log", base=2)
    low, high = ax.dataLim.intervalx
    ticks = [2.0**k for k in range(0, 60, 4) if low <= 2**k <= high]
    ax.set_xticks(ticks, [f"{t / 2**10:g} KB" if t < 2**20 else f"{t / 2**20:g} MB" for t in ticks])
    ax.minorticks_off()


def _scale_of_devices(ax: Axes, devices: Sequence[int]) -> None:
    """A logarithmic horizontal axis with ticks at every second or third power of two."""
    ax.set_xscale("log", base=2)
    powers = range(1, 40, 3 if max(devices) > 2**8 else 1)
    ticks = [2**k for k in powers if min(devices) <= 2**k <= max(devices)]
    ax.set_xticks(ticks, [f"{tick}" for tick in ticks])
    ax.minorticks_off()
    ax.set_xlabel("devices")


def _scale_of_seconds(ax: Axes) -> None:
    """A logarithmic vertical axis with ticks such as 10 µs and 1 ms, or, over a short range, 10, 20 and 50 µs."""
    ax.set_yscale("log")
    low, high = ax.dataLim.intervaly
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    ax.yaxis.set_major_formatter(lambda seconds, _: EngFormatter("s", places=0)(seconds))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_ylabel("time")


def _strengths(matrix: np.ndarray) -> Iterator[tuple[float, list[tuple[int, int, int]]]]:
    """Opacities, each with the strips of cells that get it: row, first column, and length.

    What has less than a billionth of the largest value has no dependence.
    """
    share = matrix / max(matrix.max(), np.finfo(float).tiny)
    for alpha, low, high in ((1.0, 0.3, np.inf), (0.6, 0.1, 0.3), (0.35, 0.03, 0.1), (0.2, 1e-9, 0.03)):
        strips = []
        for row, cells in enumerate((low <= share) & (share < high)):
            strips += [(row, start, length) for start, length in _strips(cells)]
        if strips:
            yield alpha, strips


def _rate(rate: float) -> str:
    """A learning rate as a short text, 1/64 rather than 0.015625."""
    return f"1/{1 / rate:.0f}" if rate < 1 and float(1 / rate).is_integer() else f"{rate:.3g}"


def _new_axes(ax: Axes | None, figsize: tuple[float, float] | None = None) -> Axes:
    """``ax``, or the axes of a new figure."""
    return plt.subplots(figsize=figsize)[1] if ax is None else ax


MASKED = {"facecolor": "none", "edgecolor": MUTED, "lw": 1, "ls": (0, (2, 1.5))}
CROSSED = {"facecolor": "none", "edgecolor": RED, "lw": 1, "hatch": "xxxx"}
FULLNESS = {1: 0.3, 2: 0.6, 3: 0.95}  # opacity of what is touched once, twice, or more often


class _Touched(NamedTuple):
    """What accesses do to a matrix; cells beyond its edge are (row, column)."""

    times: np.ndarray
    last: np.ndarray  # the number of the program that came last, -1 for none
    masked: set[tuple[int, int]]
    outside: set[tuple[int, int]]


def _touched(
    accesses: Sequence["Access"], shape: tuple[int, int], programs: Sequence[tuple[int, int, int]]
) -> _Touched:
    seen = _Touched(np.zeros(shape, dtype=int), np.full(shape, -1), set(), set())
    for access in accesses:
        inside = np.setdiff1d(access.offsets, access.outside)
        seen.times.flat[inside] += 1
        seen.last.flat[inside] = programs.index(access.program)
        rows, columns = _lanes_in_matrix(access, shape)
        outside = access.mask & ((access.tile < 0) | (access.tile >= access.size))
        seen.outside.update(zip(rows[outside], columns[outside], strict=True))
        if access.mask.any():  # else nothing says to which row a line of the tile belongs
            beyond = ~access.mask & ((rows >= shape[0]) | (columns >= shape[1]))
            seen.masked.update(zip(rows[beyond], columns[beyond], strict=True))
    return seen


def _lanes_in_matrix(access: "Access", shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The row and column of each lane; what is far beyond the edge comes closer, so that the picture stays small.

    A line of the tile stays in the row of the matrix in which it begins, so that masked lanes stand beyond the edge,
    unless elements that it touches stand in the next row.
    """
    rows, first = np.divmod(access.tile[..., :1], shape[1])
    columns = first + access.tile - access.tile[..., :1]
    touched = columns[access.mask]
    if (touched < 0).any() or (touched >= shape[1]).any():
        rows, columns = np.divmod(access.tile, shape[1])
    down, across = (
        np.clip(places, -1, size + max(3, size // 3)) for places, size in zip((rows, columns), shape, strict=True)
    )
    return np.broadcast_to(down, access.tile.shape), across


def _axes_of_cells(ax: Axes | None, shape: tuple[int, int], beyond: Sequence[tuple[int, int]]) -> Axes:
    """Axes for a matrix and cells beyond its edge, the same for every step."""
    places = np.array([(0, 0), (shape[0] - 1, shape[1] - 1), *beyond])
    (top, left), (bottom, right) = places.min(axis=0), places.max(axis=0) + 1
    ax = _new_axes(ax, figsize=(5.2, 1.3 + 0.22 * (bottom - top)))
    ax.set(xlim=(left - 0.1, right + 0.1), ylim=(bottom + 0.1, top - 0.1), xlabel="column", ylabel="row")
    for axis, count in ((ax.xaxis, shape[1]), (ax.yaxis, shape[0])):
        numbers = range(0, count, 1 if count <= 12 else 5)
        axis.set_ticks([number + 0.5 for number in numbers], numbers)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(visible=False)
    return ax


def _fill_programs(ax: Axes, seen: _Touched, programs: Sequence[tuple[int, int, int]]) -> None:
    """Fill what each program touched last, and write its number on each rectangle that has room for it."""
    points = 72 / ax.figure.dpi * np.abs(ax.transData.transform((1, 1)) - ax.transData.transform((0, 0)))  # of a cell
    for i, program in enumerate(programs):
        for times, alpha in FULLNESS.items():
            cells = (seen.last == i) & (np.minimum(seen.times, max(FULLNESS)) == times)
            if cells.any():
                look = {"facecolor": CYCLE[i % len(CYCLE)], "alpha": alpha, "lw": 0}
                ax.add_patch(PathPatch(_outlines(_rectangles(np.argwhere(cells))), **look))
        name = _program_name(program)
        for left, top, width, height in _rectangles(np.argwhere(seen.last == i)):
            if width * points[0] > 7 * len(name) and height * points[1] > 11:
                box = {"boxstyle": "round,pad=0.1", "facecolor": PAPER, "edgecolor": "none"}
                ax.text(left + width / 2, top + height / 2, name, ha="center", va="center", bbox=box)


def _draw_grid(ax: Axes, cells: Collection[tuple[int, int]], look: Mapping[str, object]) -> None:
    """Rectangles around the cells, each (row, column), with thin lines between cells: two elements of an SVG."""
    if len(cells):
        boxes = [(column, row, 1, 1) for row, column in sorted(map(tuple, cells))]
        ax.add_patch(PathPatch(_outlines(boxes), facecolor="none", edgecolor=GRID, lw=0.6))
        ax.add_patch(PathPatch(_outlines(_rectangles(cells)), **look))


def _frame_lanes(ax: Axes, access: "Access", shape: tuple[int, int]) -> None:
    """A frame around the lanes of an access, dashed around those that are masked."""
    rows, columns = _lanes_in_matrix(access, shape)
    for lanes, line_style in ((access.mask, "-"), (~access.mask, MASKED["ls"])):
        boxes = _rectangles(zip(rows[lanes], columns[lanes], strict=True))
        look = {"facecolor": "none", "edgecolor": INK, "lw": 2.5, "ls": line_style, "zorder": 4}
        ax.add_patch(PathPatch(_outlines(boxes), **look))


def _explain_cells(ax: Axes, seen: _Touched) -> None:
    """A legend of what there is to explain."""
    names = {1: "touched once", 2: "touched twice", 3: "touched more often"}
    found = range(1, 1 + min(seen.times.max(), max(FULLNESS)))
    handles = [Patch(facecolor=INK, alpha=FULLNESS[times], label=names[times]) for times in found]
    handles += [Patch(**MASKED, label="masked lane")] if seen.masked else []
    handles += [Patch(**CROSSED, label="outside of the tensor")] if seen.outside else []
    ax.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.45, 1), ncols=2, columnspacing=1)


def _rectangles(cells: Iterable[tuple[int, int]]) -> list[tuple[int, int, int, int]]:
    """Left, top, width and height of rectangles that cover the cells, each given as its row and column.

    Strips of neighbouring rows are one rectangle if they are equal.
    """
    places = np.array(list(cells), dtype=int).reshape(-1, 2)
    top, left = places.min(axis=0, initial=0)
    filled = np.zeros(places.max(axis=0, initial=0) + 1 - (top, left), dtype=bool)
    filled[tuple((places - (top, left)).T)] = True
    found, above = [], {}  # above: the strips of the row above, each with the place of its rectangle
    for row, line in enumerate(filled, start=top):
        strips = {}
        for strip in _strips(line):
            if strip in above:
                *_, height = found[above[strip]]
                found[above[strip]] = *found[above[strip]][:3], height + 1
            else:
                found.append((left + strip[0], row, strip[1], 1))
            strips[strip] = above.get(strip, len(found) - 1)
        above = strips
    return found


def _strips(cells: np.ndarray) -> list[tuple[int, int]]:
    """The start and length of each row of neighbours that are True."""
    edges = np.flatnonzero(np.diff(cells.astype(int), prepend=0, append=0))
    return [(int(start), int(end - start)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def _outlines(boxes: Sequence[tuple[float, float, float, float]]) -> Path:
    """One path around all boxes, each left, top, width and height: one element of the figure's SVG."""
    transforms = [BboxTransformTo(Bbox.from_bounds(*box)) for box in boxes]
    return Path.make_compound_path(*(Path.unit_rectangle().transformed(transform) for transform in transforms))


def _spans(keys: Sequence[tuple]) -> list[tuple[tuple, int, int]]:
    """Neighbours that are equal, each with the places of the first and behind the last."""
    starts = [i for i, key in enumerate(keys) if i == 0 or key != keys[i - 1]]
    return [(keys[start], start, end) for start, end in pairwise([*starts, len(keys)])]


def _program_name(program: tuple[int, int, int]) -> str:
    """x, or x,y or x,y,z if the last ones are not 0."""
    return ",".join(str(number) for number in program).removesuffix(",0").removesuffix(",0")
