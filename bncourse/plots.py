"""Every figure of the course, in one style.

Functions are ``plot_x(data, *, ax=None) -> Axes``: they draw into ``ax``, or into a new figure.
Colours come from :data:`PALETTE` alone. Figures are drawn with its light values on a
transparent ground; the website swaps each for its dark value when the reader does.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle


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
    shape: Sequence[int], axes: Sequence[int], *, index: Sequence[int] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw every element of an array and fill those that share statistics with the framed one at ``index``.

    Args:
        shape: (N, C) or (N, C, H, W); samples become rows, channels columns.
        axes: the axes that are averaged over.
        index: the element in question; the first one if None.
    """
    index = (0,) * len(shape) if index is None else tuple(index)
    samples, channels, *positions = shape
    height, width = positions or (1, 1)
    ax = _new_axes(ax, figsize=(0.5 + 0.28 * channels * (width + 0.8), 0.5 + 0.28 * samples * (height + 0.8)))
    for element in np.ndindex(*shape):
        n, c, h, w = (*element, 0, 0)[:4]
        shared = all(i in axes or element[i] == index[i] for i in range(len(shape)))
        corner = (c * (width + 0.8) + w, n * (height + 0.8) + h)
        ax.add_patch(
            Rectangle(
                corner,
                0.9,
                0.9,
                facecolor=BLUE if shared else "none",
                edgecolor=BLUE if shared else MUTED,
                lw=0.8,
                alpha=0.9 if shared else 0.7,
            )
        )
        if element == index:
            ax.add_patch(Rectangle(corner, 0.9, 0.9, facecolor="none", edgecolor=ORANGE, lw=3, zorder=2))
    for c in range(channels):
        ax.text(c * (width + 0.8) + width / 2, -0.35, f"c = {c}", ha="center", va="bottom")
    for n in range(samples):
        ax.text(-0.35, n * (height + 0.8) + height / 2, f"n = {n}", ha="right", va="center")
    ax.set(xlim=(-2.2, channels * (width + 0.8)), ylim=(samples * (height + 0.8), -1.6), aspect="equal")
    ax.axis("off")
    return ax


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


def _new_axes(ax: Axes | None, figsize: tuple[float, float] | None = None) -> Axes:
    """``ax``, or the axes of a new figure."""
    return plt.subplots(figsize=figsize)[1] if ax is None else ax
