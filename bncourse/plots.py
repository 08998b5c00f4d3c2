"""Every figure of the course, in one style.

Functions are ``plot_x(data, *, ax=None) -> Axes``: they draw into ``ax``, or into a new figure.
Colours come from :data:`PALETTE` alone. Figures are drawn with its light values on a
transparent ground; the website swaps each for its dark value when the reader does.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox, BboxTransformTo

if TYPE_CHECKING:  # some of these modules need PyTorch, figures do not
    from bncourse.benchmark.cpu import Growth
    from bncourse.benchmark.machine import Peaks, Point
    from bncourse.benchmark.predictions import Row
    from bncourse.benchmark.timing import Spread
    from bncourse.claims.statistics import Interval


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
            boxes = [Bbox.from_bounds(left + c, top + r, length, 1) for r, c, length in strips]
            outlines = Path.make_compound_path(*(Path.unit_rectangle().transformed(BboxTransformTo(b)) for b in boxes))
            ax.add_patch(PathPatch(outlines, facecolor=BLUE, alpha=alpha, lw=0))
        for line in range(0, size + 1, block):
            ax.plot([left, left + size], [top + line] * 2, color=MUTED, lw=0.8)
            ax.plot([left + line] * 2, [top, top + size], color=MUTED, lw=0.8)
        ax.text(left + size / 2, top - 0.06 * size, name, ha="center", va="bottom")
    ax.set(xlim=(-0.02 * size, columns * across - 0.18 * size), ylim=(rows * down - 0.4 * size, -0.3 * size))
    ax.set_aspect("equal")
    ax.axis("off")
    return ax


def plot_steps_beside_model(rows: Sequence["Row"], *, ax: Axes | None = None) -> Axes:
    """Draw a row per step: a bar as long as the byte model's time, a dot at the measured one, and their ratio."""
    ax = _new_axes(ax, figsize=(5.2, 1.2 + 0.36 * len(rows)))
    places, predicted = range(len(rows)), [1e3 * row.predicted for row in rows]
    low, middle, high = ([1e3 * getattr(row.measured, end) for row in rows] for end in ("low", "median", "high"))
    bars = ax.barh(places, predicted, 0.6, color=BLUE, alpha=0.35, label="estimate")
    ax.hlines(places, low, high, color=ORANGE, lw=2)
    (dots,) = ax.plot(middle, places, "o", color=ORANGE, markersize=6, label="measured")
    ends = [max(pair) for pair in zip(high, predicted, strict=True)]
    for place, end, row in zip(places, ends, rows, strict=True):
        ax.annotate(f"× {row.times_predicted:.2f}", (end, place), (6, 0), textcoords="offset points", va="center")
    ax.set(yticks=places, yticklabels=[row.name for row in rows], ylim=(len(rows) - 0.5, -0.5))
    ax.set(xlabel="milliseconds", xlim=(0, 1.18 * max(ends)))
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


def _strengths(matrix: np.ndarray) -> Iterator[tuple[float, list[tuple[int, int, int]]]]:
    """Opacities, each with the strips of cells that get it: row, first column, and length.

    What has less than a billionth of the largest value has no dependence.
    """
    share = matrix / max(matrix.max(), np.finfo(float).tiny)
    for alpha, low, high in ((1.0, 0.3, np.inf), (0.6, 0.1, 0.3), (0.35, 0.03, 0.1), (0.2, 1e-9, 0.03)):
        strips = []
        for row, cells in enumerate((low <= share) & (share < high)):
            edges = np.flatnonzero(np.diff(cells.astype(int), prepend=0, append=0))
            strips += [(row, start, end - start) for start, end in zip(edges[::2], edges[1::2], strict=True)]
        if strips:
            yield alpha, strips


def _rate(rate: float) -> str:
    """A learning rate as a short text, 1/64 rather than 0.015625."""
    return f"1/{1 / rate:.0f}" if rate < 1 and float(1 / rate).is_integer() else f"{rate:.3g}"


def _new_axes(ax: Axes | None, figsize: tuple[float, float] | None = None) -> Axes:
    """``ax``, or the axes of a new figure."""
    return plt.subplots(figsize=figsize)[1] if ax is None else ax
