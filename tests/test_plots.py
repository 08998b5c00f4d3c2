"""Figures show the numbers that they are given, in the course's colours."""

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from bncourse import plots

RNG = np.random.default_rng(0)


@pytest.fixture
def ax():
    plots.use_style()
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_every_function_draws_into_the_axes_it_is_given(ax):
    assert plots.plot_images([np.eye(3), np.eye(4)], ["a", "b"], ax=ax) is ax
    assert plots.plot_channels(RNG.normal(size=(5, 2)), ["a", "b"], ax=ax) is ax
    assert plots.plot_index_set((2, 3), (0,), ax=ax) is ax
    assert plots.plot_epsilon_gain([1e-5], ax=ax) is ax


def test_a_function_without_axes_makes_a_figure(ax):
    other = plots.plot_epsilon_gain([1e-5])
    assert other is not ax
    plt.close(other.figure)


@pytest.mark.parametrize(
    ("shape", "axes", "index", "shared"),
    [
        ((4, 3), (0,), (1, 2), 4),
        ((4, 3), (1,), (1, 2), 3),
        ((2, 3, 4, 5), (0, 2, 3), (1, 0, 3, 2), 2 * 4 * 5),
        ((2, 3, 4, 5), (1, 2, 3), None, 3 * 4 * 5),
    ],
)
def test_index_set_fills_the_elements_that_share_statistics(ax, shape, axes, index, shared):
    plots.plot_index_set(shape, axes, index=index, ax=ax)
    filled = [patch for patch in ax.patches if to_hex(patch.get_facecolor()) == plots.BLUE and patch.get_fill()]
    framed = [patch for patch in ax.patches if to_hex(patch.get_edgecolor()) == plots.ORANGE]
    assert len(filled) == shared
    assert len(framed) == 1
    assert framed[0].get_xy() in [patch.get_xy() for patch in filled]
    assert len(ax.patches) == np.prod(shape) + 1


def test_channels_are_drawn_with_their_own_mean_and_spread(ax):
    x = RNG.normal([3.0, -5.0], [1.0, 4.0], size=(60, 2))
    plots.plot_channels(x, ["first", "second"], ax=ax)
    for row, bar in enumerate(ax.containers):
        point, caps, _ = bar
        assert point.get_xdata() == pytest.approx(x[:, row].mean())
        low, high = (cap.get_xdata()[0] for cap in caps)
        assert (high - low) / 2 == pytest.approx(x[:, row].std())


def test_many_values_are_shown_by_their_percentiles(ax):
    x = RNG.normal(size=(64, 1, 8, 8))
    plots.plot_channels(x, ["only"], ax=ax)
    dots = ax.lines[0].get_xdata()
    assert dots.size == 100
    assert (dots.min(), dots.max()) == (x.min(), x.max())


def test_epsilon_gain_is_marked_where_sigma_is_the_root_of_epsilon(ax):
    plots.plot_epsilon_gain([1e-4, 0.25], ax=ax)
    curves = [line for line in ax.lines if len(line.get_xdata()) > 1]
    dots = [line for line in ax.lines if len(line.get_xdata()) == 1]
    for curve, dot in zip(curves, dots, strict=True):
        (sigma,), (gain,) = dot.get_data()
        assert gain == pytest.approx(np.sqrt(0.5))
        assert np.interp(sigma, *curve.get_data()) == pytest.approx(gain, abs=0.01)


def test_text_stays_text_and_the_ground_is_transparent(ax, tmp_path):
    ax.set_title("a title to search for")
    ax.figure.savefig(tmp_path / "figure.svg")
    svg = (tmp_path / "figure.svg").read_text()
    assert "a title to search for</text>" in svg
    assert to_hex(ax.figure.get_facecolor(), keep_alpha=True).endswith("00")
