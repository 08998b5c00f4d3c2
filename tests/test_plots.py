"""Figures show the numbers that they are given, in the course's colours."""

from dataclasses import replace
from itertools import pairwise

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from bncourse import plots
from bncourse.benchmark.cpu import Growth
from bncourse.benchmark.machine import Peaks, Point
from bncourse.benchmark.predictions import Row
from bncourse.benchmark.timing import Spread
from bncourse.claims.statistics import Interval
from bncourse.distributed.cost import Cost
from bncourse.kernels.trace import Access, Trace

RNG = np.random.default_rng(0)


def step(name: str, predicted: float, measured: float) -> Row:
    """Times in milliseconds; the spread is from 90 to 120 %."""
    spread = Spread(1e-3 * measured, 0.9e-3 * measured, 1.2e-3 * measured)
    return Row(name, 1, 3, 2, 1e-3 * predicted, spread, measured / predicted, 1.0, 1.0)


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
    assert plots.plot_error_map(np.ones((2, 2)), 3, ax=ax) is ax
    assert plots.plot_margins({"a": np.ones(2)}, 0.5, ax=ax) is ax
    assert plots.plot_intervals({"a": Interval(1, 0, 2)}, xlabel="x", ax=ax) is ax
    assert plots.plot_curves([1, 2], {"a": [Interval(1, 0, 2)] * 2}, xlabel="x", ylabel="y", ax=ax) is ax
    assert plots.plot_windows({"a": [0.0, 1.0]}, [0.5, 1.0], ax=ax) is ax
    assert plots.plot_dependence({"a": np.eye(2)}, block=1, ax=ax) is ax
    assert plots.plot_graph({"a": (0, 0), "b": (1, 0)}, [("a", "b", plots.BLUE)], ax=ax) is ax
    assert plots.plot_gradient_terms(np.ones(2), {"a": np.ones(2)}, ax=ax) is ax
    assert plots.plot_projection(np.ones(2), np.eye(2)[0], ("a", "b", "c"), ax=ax) is ax
    assert plots.plot_epsilon_gain([1e-5], ax=ax) is ax
    assert plots.plot_difference_errors(np.ones(2), {"a": np.ones(2)}, ax=ax) is ax
    assert plots.plot_through_layers({"a": np.ones((2, 3))}, ax=ax) is ax
    assert plots.plot_batch_statistics(np.ones(2), np.ones(2), (1.0, 1.0), ax=ax) is ax
    assert plots.plot_noise_of_means([2, 4], [1.0, 0.7], 1.4, ax=ax) is ax
    assert plots.plot_running(np.ones(2), np.ones(3), np.ones(2), ax=ax) is ax
    assert plots.plot_steps({"a": np.ones(2)}, ax=ax) is ax
    assert plots.plot_history({"a": [1.0, 2.0]}, ax=ax) is ax
    assert plots.plot_spacings({"a": (np.ones(2), np.ones(2))}, ax=ax) is ax
    assert plots.plot_variance_errors(np.ones(2), {"a": np.ones(2)}, np.ones(2), ax=ax) is ax
    assert plots.plot_stored(np.ones(2), np.ones(2), ax=ax) is ax


def test_every_figure_of_speed_draws_into_the_axes_it_is_given(ax):
    growth = Growth("a", "N", 2, 2**18, 1, Spread(1, 1, 1))
    for draw, given in (
        (plots.plot_steps_beside_model, ([step("a", 1.0, 2.0)],)),
        (plots.plot_roofline, ([Point("a", 1.0, 1.0)], Peaks(10.0, {"memory": 1.0}))),
        (plots.plot_bandwidth, ({2**20: Spread(1, 1, 1), 2**21: Spread(1, 1, 1)}, {})),
        (plots.plot_growth, ({"a": [growth, replace(growth, values=2**19)]},)),
        (plots.plot_parts, ([1.0, 2.0], [0.5, 0.1], 1.5, 0.7)),
        (plots.plot_collective_cost, ([2, 4], {"a": [Cost(1, 2), Cost(2, 3)]})),
    ):
        ax.clear()
        assert draw(*given, ax=ax) is ax


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


def filled_and_dotted(ax) -> tuple[set, set]:
    """The corners of filled squares, and those of squares with a dot."""
    squares = [patch for patch in ax.patches if to_hex(patch.get_facecolor()) == plots.BLUE and patch.get_fill()]
    dots = [line.get_xydata()[0] - 0.45 for line in ax.lines]
    return tuple({(round(x, 6), round(y, 6)) for x, y in found} for found in ([p.get_xy() for p in squares], dots))


def test_index_set_of_group_norm_is_one_group_and_its_gamma_one_channel(ax):
    grouped = {"seen_as": (2, 3, 2, 1, 2), "param_shape": (1, 3, 2, 1, 1)}
    plots.plot_index_set((2, 6, 1, 2), (2, 3, 4), index=(1, 3, 0, 1), **grouped, ax=ax)
    filled, dotted = filled_and_dotted(ax)
    assert filled == {(5.6, 1.8), (6.6, 1.8), (8.4, 1.8), (9.4, 1.8)}  # channels 2 and 3 of sample 1, two pixels each
    assert dotted == {(8.4, 0.0), (9.4, 0.0), (8.4, 1.8), (9.4, 1.8)}  # channel 3 of both samples
    assert {line.get_color() for line in ax.lines} == {plots.PAPER, plots.INK}


def test_index_set_of_a_sequence_has_features_side_by_side_and_positions_below_each_other(ax):
    plots.plot_index_set((2, 3, 4), (2,), index=(1, 2, 0), param_shape=(1, 1, 4), label="{}{}", ax=ax)
    filled, dotted = filled_and_dotted(ax)
    assert {down for _, down in filled} == {3.8 + 2}
    assert len(filled) == 4
    assert {across for across, _ in dotted} == {0.0}
    assert len(dotted) == 2 * 3
    assert [text.get_text() for text in ax.texts] == ["d0", "d1", "d2", "d3", "n0", "n1"]


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


@pytest.mark.parametrize("log", [True, False])
def test_a_curve_through_layers_is_the_median_of_the_runs_in_the_band_of_their_range(ax, log):
    values = RNG.uniform(1.0, 9.0, size=(5, 4))
    plots.plot_through_layers({"first": values, "second": values * 10}, first_layer=2, log=log, ax=ax)
    line, band = ax.lines[1], ax.collections[1].get_paths()[0].vertices
    assert list(line.get_xdata()) == [2, 3, 4, 5]
    assert (ax.collections[1].get_linewidth() > 0).all(), "bands that overlap are told apart by their edges"
    assert line.get_ydata() == pytest.approx(np.median(values * 10, axis=0))
    for layer, (low, high) in enumerate(zip(values.min(axis=0) * 10, values.max(axis=0) * 10, strict=True), start=2):
        edges = band[band[:, 0] == layer, 1]
        assert (edges.min(), edges.max()) == (pytest.approx(low), pytest.approx(high))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["first", "second"]
    assert ax.get_yscale() == ("log" if log else "linear")


def test_batch_statistics_are_dots_around_the_population(ax):
    means, stds = RNG.normal(size=20), RNG.uniform(size=20)
    plots.plot_batch_statistics(means, stds, (3.0, 2.0), ax=ax)
    dots, cross = ax.lines
    np.testing.assert_array_equal(dots.get_xydata(), np.column_stack([means, stds]))
    assert cross.get_xydata().tolist() == [[3.0, 2.0]]


def test_noise_of_means_stands_beside_sigma_over_the_root_of_the_batch_size(ax):
    plots.plot_noise_of_means([4, 16], [1.4, 0.8], 3.0, marked=16, ax=ax)
    line, measured, marked = ax.lines
    assert line.get_ydata().tolist() == [1.5, 0.75]
    assert measured.get_xydata().tolist() == [[4, 1.4], [16, 0.8]]
    assert marked.get_xydata().tolist() == [[16, 0.8]]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["4", "16"]
    assert ax.get_ylabel() == "std(μ)"


def test_noise_of_means_marks_nothing_unless_told(ax):
    assert len(plots.plot_noise_of_means([4, 16], [1.4, 0.8], 3.0, ax=ax).lines) == 2


def test_running_statistic_is_drawn_from_its_start_before_the_first_batch(ax):
    batch, running, truth = RNG.normal(size=3), RNG.normal(size=4), RNG.normal(size=3)
    plots.plot_running(batch, running, truth, ax=ax)
    drawn = {line.get_label(): line.get_xydata() for line in ax.lines}
    np.testing.assert_array_equal(drawn["batches"], np.column_stack([[1, 2, 3], batch]))
    np.testing.assert_array_equal(drawn["truth"], np.column_stack([[1, 2, 3], truth]))
    np.testing.assert_array_equal(drawn["running"], np.column_stack([[0, 1, 2, 3], running]))


def test_graph_has_a_box_per_value_and_an_arrow_per_use(ax):
    nodes = {"x": (0, 0), "u": (1, 0), "y": (2, 1)}
    notes = {"twice": (1, 1, plots.GREEN)}
    plots.plot_graph(nodes, [("x", "u", plots.BLUE), ("u", "y", plots.ORANGE)], notes=notes, filled=["u"], ax=ax)
    boxes = {text.get_text(): text for text in ax.texts if text.get_bbox_patch()}
    assert {name: text.get_position() for name, text in boxes.items()} == nodes
    grounds = {name: to_hex(text.get_bbox_patch().get_facecolor()) for name, text in boxes.items()}
    assert grounds == {"x": plots.PAPER, "u": plots.GRID, "y": plots.PAPER}
    arrows = [text for text in ax.texts if getattr(text, "arrow_patch", None)]
    assert [(arrow.xyann, arrow.xy) for arrow in arrows] == [((0, 0), (1, 0)), ((1, 0), (2, 1))]
    assert [to_hex(arrow.arrow_patch.get_edgecolor()) for arrow in arrows] == [plots.BLUE, plots.ORANGE]
    assert ax.texts[-1].get_text() == "twice"


def test_gradient_terms_are_bars_of_their_size_at_the_samples(ax):
    x_hat = np.array([-1.0, 0.25, 1.5])
    terms = {"first": np.array([0.0, 1.0, 0.0]), "second": np.array([-0.3, 0.2, 0.5])}
    plots.plot_gradient_terms(x_hat, terms, marked=1, ax=ax)
    for row, bars, values in zip(ax.get_yticks(), ax.collections, terms.values(), strict=True):
        ends = np.array(bars.get_segments())  # bars, two ends, x and y
        assert ends[:, 0] == pytest.approx(np.column_stack([x_hat, np.full(3, row)]))
        assert ends[:, 1, 1] - row == pytest.approx(values)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["first", "second"]
    assert list(ax.lines[0].get_xdata()) == [0.25, 0.25]


@pytest.mark.parametrize("sign", [1, -1])
def test_projection_is_a_right_triangle_with_the_lengths_of_the_parts(ax, sign):
    vector, direction = sign * np.array([3.0, 1.0, 2.0, 0.0]), np.ones(4)  # 14 = 9 + 5
    plots.plot_projection(vector, direction, ("whole", "along", "rest"), ax=ax)
    whole, along, rest = (text for text in ax.texts if getattr(text, "arrow_patch", None))
    assert (whole.xyann, along.xyann) == ((0, 0), (0, 0))
    assert along.xy == rest.xyann == pytest.approx((3, 0))
    assert whole.xy == rest.xy == pytest.approx((3, np.sqrt(5)))
    assert [text.get_text() for text in ax.texts if text.get_text()] == ["whole", "along", "rest"]


def test_errors_of_differences_are_drawn_against_the_step(ax):
    steps = np.array([1e-4, 1e-2])
    errors = {"central": np.array([1e-8, 1e-4]), "one-sided": np.array([1e-4, 1e-2])}
    plots.plot_difference_errors(steps, errors, ax=ax)
    for line, (name, values) in zip(ax.lines, errors.items(), strict=True):
        assert line.get_label() == name
        assert np.array_equal(line.get_xydata(), np.column_stack([steps, values]))
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_spacings_of_numbers_are_stairs_over_their_size(ax):
    steps = {
        "wide": (np.array([1.0, 2.0]), np.array([0.1, 0.2])),
        "fine": (np.array([1.0, 4.0]), np.array([1e-7, 4e-7])),
    }
    plots.plot_spacings(steps, ax=ax)
    for line, (name, (magnitudes, step)) in zip(ax.lines, steps.items(), strict=True):
        assert line.get_label() == name
        np.testing.assert_array_equal(line.get_xydata(), np.column_stack([magnitudes, step]))
        assert line.get_drawstyle() == "steps-post", "the step holds up to the next magnitude"
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_errors_of_variances_stand_beside_their_law(ax):
    ratios, law = np.array([1.0, 10.0]), np.array([1e-7, 1e-5])
    errors = {"one pass": np.array([2e-7, 3e-5]), "shifted": np.array([1e-7, 2e-7])}
    plots.plot_variance_errors(ratios, errors, law, ax=ax)
    drawn = {line.get_label(): line.get_xydata() for line in ax.lines}
    np.testing.assert_array_equal(drawn["u (μ/σ)²"], np.column_stack([ratios, law]))
    for name, values in errors.items():
        np.testing.assert_array_equal(drawn[name], np.column_stack([ratios, values]))


def test_stored_values_are_stairs_across_the_diagonal(ax):
    exact, stored = np.array([-1.0, 0.2, 1.0]), np.array([-1.0, 0.0, 1.0])
    plots.plot_stored(exact, stored, ax=ax)
    diagonal, stairs = ax.lines
    np.testing.assert_array_equal(diagonal.get_xydata(), np.column_stack([exact, exact]))
    np.testing.assert_array_equal(stairs.get_xydata(), np.column_stack([exact, stored]))
    assert stairs.get_drawstyle() == "steps-mid", "the height at a value is its own"


def test_a_history_is_drawn_against_the_epochs_which_are_whole_numbers(ax):
    curves = {"short": [3.0, 1.0], "long": [4.0, 2.0, 1.0]}
    plots.plot_history(curves, ylabel="validation loss", log=True, ax=ax)
    for line, (name, values) in zip(ax.lines, curves.items(), strict=True):
        assert line.get_label() == name
        assert line.get_xydata().tolist() == [[epoch, value] for epoch, value in enumerate(values, start=1)]
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == 2
    assert len({line.get_linestyle() for line in ax.lines}) == 2, "curves are told apart without their colours"
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("epoch", "validation loss", "log")
    assert all(tick == round(tick) for tick in ax.get_xticks())
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["short", "long"]


def test_error_map_fills_what_is_wrong_and_says_by_how_much(ax):
    plots.plot_error_map(np.array([[0.0, 1e-9], [0.26, 3.0]]), 4, ax=ax)
    frame, *squares = ax.patches
    assert frame.get_width() > 4, "the input, which is larger than the output"
    assert [to_hex(s.get_facecolor()) == plots.ORANGE and s.get_alpha() is None for s in squares] == [0, 0, 1, 1]
    assert [square.get_xy() for square in squares] == [(1, 1), (2, 1), (1, 2), (2, 2)], "in the middle"
    assert [text.get_text() for text in ax.texts] == ["0.3", "3.0"]


def test_margins_below_zero_are_crosses(ax):
    margins = {"2": np.array([-1.0, 2.0, -3.0]), "8": np.array([1.0, 2.0])}
    plots.plot_margins(margins, 1.5, ax=ax)
    zero, alone, right, wrong, all_right, none_wrong = ax.lines
    assert (zero.get_xdata()[0], alone.get_xdata()[0]) == (0, 1.5)
    assert (right.get_xdata().tolist(), wrong.get_xdata().tolist()) == ([2], [-1, -3])
    assert (all_right.get_xdata().tolist(), none_wrong.get_xdata().tolist()) == ([1, 2], [])
    assert right.get_marker() != wrong.get_marker(), "told apart without their colours"
    assert all(abs(height) < 0.5 for height in wrong.get_ydata())
    assert [label.get_text() for label in ax.get_yticklabels()] == ["2", "8"]


def test_text_stays_text_and_the_ground_is_transparent(ax, tmp_path):
    ax.set_title("a title to search for")
    ax.figure.savefig(tmp_path / "figure.svg")
    svg = (tmp_path / "figure.svg").read_text()
    assert "a title to search for</text>" in svg
    assert to_hex(ax.figure.get_facecolor(), keep_alpha=True).endswith("00")


def test_steps_are_drawn_at_their_numbers_with_a_line_at_the_level(ax):
    values = np.array([3.0, 2.0, 1.5])
    plots.plot_steps({"measured": values}, every=10, ylabel="turn", level=2.5, ax=ax)
    level, curve = ax.get_lines()
    assert curve.get_xdata() == pytest.approx([10, 20, 30])
    assert curve.get_ydata() == pytest.approx(values)
    assert set(level.get_ydata()) == {2.5}
    assert (ax.get_yscale(), ax.get_ylabel()) == ("log", "turn")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["measured"]


def test_steps_without_a_level_have_no_line_across(ax):
    plots.plot_steps({"measured": np.ones(3)}, level=0.0, ax=ax)
    assert len(ax.get_lines()) == 1


def made_up_intervals(count: int) -> list[Interval]:
    """Not symmetric."""
    return [Interval(e, e - d, e + u) for e, d, u in RNG.uniform(0.5, 9.0, size=(count, 3))]


def test_an_interval_is_a_dot_on_a_bar_in_the_row_of_its_name(ax):
    first, second = made_up_intervals(2)
    name = "batch norm with noise after it, 51 layers"
    plots.plot_intervals({"none": first, name: second}, xlabel="accuracy (%)", reference=10.0, ax=ax)
    for row, (bar, interval) in enumerate(zip(ax.collections, (first, second), strict=True)):
        assert bar.get_segments()[0].tolist() == [[interval.low, row], [interval.high, row]]
    reference, *lines = ax.lines
    assert list(reference.get_xdata()) == [10.0, 10.0]
    assert [line.get_xydata().tolist() for line in lines if line.get_marker() == "o"] == [
        [[first.estimate, 0]],
        [[second.estimate, 1]],
    ]
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert [label.replace("\n", " ") for label in labels] == ["none", name]
    assert max(len(line) for label in labels for line in label.split("\n")) <= 24, "a phone has no room for more"
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first row is at the top"
    assert ax.get_xlabel() == "accuracy (%)"


def test_intervals_without_a_reference_have_no_line_across(ax):
    plots.plot_intervals({"a": Interval(1, 0, 2)}, xlabel="x", ax=ax)
    assert not [line for line in ax.lines if line.get_linestyle() == "--"]


def test_an_interval_may_end_at_its_estimate_or_a_rounding_error_before_it(ax):
    plots.plot_intervals({"all": Interval(1.0, 0.7, 1.0 - 1e-16), "none": Interval(0.0, 1e-17, 0.3)}, xlabel="x", ax=ax)
    plots.plot_curves([1], {"all": [Interval(1.0, 0.7, 1.0 - 1e-16)]}, xlabel="x", ylabel="y", ax=ax)


@pytest.mark.parametrize("log_x", [False, True])
def test_curves_go_through_the_estimates_with_bars_over_their_intervals(ax, log_x):
    x = [2, 8, 32, 256]
    curves = {f"curve {i}": made_up_intervals(4) for i in range(8)}
    plots.plot_curves(x, curves, xlabel="size", ylabel="accuracy (%)", log_x=log_x, ylim=(-10, 30), ax=ax)
    for line, bars, (name, intervals) in zip(ax.lines, ax.collections, curves.items(), strict=True):
        assert line.get_label() == name
        assert line.get_ydata() == pytest.approx([v.estimate for v in intervals])
        ends = np.array(bars.get_segments())  # bars, two ends, x and y
        assert ends[:, :, 1] == pytest.approx(np.array([[v.low, v.high] for v in intervals]))
        assert ends[:, 0, 0] == pytest.approx(line.get_xdata())
    assert [label.get_text() for label in ax.get_xticklabels()] == ["2", "8", "32", "256"]
    assert list(ax.get_xticks()) == x
    assert (ax.get_xscale(), ax.get_ylim()) == ("log" if log_x else "linear", (-10, 30))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("size", "accuracy (%)")


@pytest.mark.parametrize("log_x", [False, True])
def test_points_of_several_curves_stand_side_by_side_around_their_x(ax, log_x):
    curves = {f"curve {i}": made_up_intervals(3) for i in range(8)}
    plots.plot_curves([2, 4, 16], curves, xlabel="x", ylabel="y", log_x=log_x, ax=ax)
    places = np.array([line.get_xdata() for line in ax.lines])
    assert (np.diff(places, axis=0) > 0).all(), "bars do not overlap"
    middle = np.exp(np.log(places).mean(axis=0)) if log_x else places.mean(axis=0)
    assert middle == pytest.approx([2, 4, 16])
    assert (places.max(axis=0)[:-1] < places.min(axis=0)[1:]).all()


def test_places_on_the_horizontal_axis_can_have_names(ax):
    plots.plot_curves([1, 2], {"a": made_up_intervals(2)}, xlabel="x", ylabel="y", ticks=["1 to 2", "3 to 9"], ax=ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1 to 2", "3 to 9"]
    assert list(ax.get_xticks()) == [1, 2]


def test_a_single_curve_stands_at_its_x(ax):
    plots.plot_curves([3, 51], {"a": made_up_intervals(2)}, xlabel="x", ylabel="y", ax=ax)
    assert ax.lines[0].get_xdata() == pytest.approx([3, 51])


def test_eight_curves_are_told_apart_without_their_colours_and_named_outside_of_the_data(ax):
    curves = {f"curve {i}": made_up_intervals(2) for i in range(8)}
    plots.plot_curves([1, 2], curves, xlabel="x", ylabel="y", ax=ax)
    assert len({line.get_marker() for line in ax.lines}) == 8
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == 8
    assert {line.get_color() for line in ax.lines} <= {colour.light for colour in plots.PALETTE.values()}
    ax.figure.canvas.draw()
    legend = ax.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == list(curves)
    assert legend.get_window_extent().y0 >= ax.get_window_extent().y1


def test_windows_are_cells_filled_by_the_share_of_the_runs_that_learn(ax):
    rates = [2.0**k for k in range(-6, 2)]
    windows = {"batch norm": RNG.uniform(size=8), "none": RNG.uniform(size=8)}
    plots.plot_windows(windows, rates, ax=ax)
    cells = iter(zip(ax.patches[::2], ax.patches[1::2], strict=True))
    tops = []
    for shares in windows.values():
        for k, share in zip(range(-6, 2), shares, strict=True):
            filling, frame = next(cells)
            assert filling.get_xy() == frame.get_xy(), "filled from below"
            assert filling.get_height() / frame.get_height() == pytest.approx(share)
            assert frame.get_x() + frame.get_width() / 2 == pytest.approx(k)
            assert to_hex(filling.get_facecolor()) == plots.BLUE and frame.get_linewidth() > 0
        tops.append(frame.get_y())
    assert next(cells, None) is None
    assert tops[0] > tops[1] and not ax.yaxis_inverted(), "the first row is at the top"
    names = {row: label.get_text() for row, label in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)}
    assert names == {1: "batch norm", 0: "none"}
    rows = [frame.get_y() + frame.get_height() / 2 for frame in (ax.patches[1], ax.patches[-1])]
    assert rows == pytest.approx([1, 0])


def test_learning_rates_are_short_texts(ax):
    plots.plot_windows({"a": [0.0] * 4}, [0.125, 0.5, 2.0, 8.0], ax=ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1/8", "1/2", "2", "8"]
    assert [float(tick) for tick in ax.get_xticks()] == [-3, -1, 1, 3]
    assert (plots._rate(0.3), plots._rate(0.0009765625)) == ("0.3", "1/1024")


def test_of_many_learning_rates_some_are_named(ax):
    rates = [2.0**k for k in range(-10, 6)]
    plots.plot_windows({"a": [0.0] * 16}, rates, ax=ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1/1024", "1/128", "1/16", "1/2", "4", "32"]


def test_all_learning_rates_are_named_on_demand_without_overlaps(ax):
    rates = [2.0**k for k in range(-12, -2)]
    plots.plot_windows({"a": [0.0] * 10}, rates, name_all=True, ax=ax)
    labels = ax.get_xticklabels()
    assert [label.get_text() for label in labels] == [f"1/{2**k}" for k in range(12, 2, -1)]
    ax.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in labels]
    assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))


def cells_drawn(ax) -> dict[tuple[int, int], float]:
    """The opacity of each cell (column, row) that has a filling."""
    found = {}
    for patch in ax.patches:
        for outline in patch.get_path().to_polygons():
            (left, top), (right, bottom) = outline.min(axis=0), outline.max(axis=0)
            assert bottom - top == pytest.approx(1)
            found |= {(round(column), round(top)): patch.get_alpha() for column in np.arange(left, right - 0.5)}
    return found


def test_dependence_has_more_colour_the_stronger_it_is_and_is_empty_where_there_is_none(ax):
    matrix = np.array([[4.0, 4.0, 0.0, 0.5], [0.2, 4.0, 1e-12, 0.0], [0.01, 0.01, 2.0, 0.2], [0.0, 0.0, 0.0, 4.0]])
    plots.plot_dependence({"a": matrix}, block=2, ax=ax)
    opacities = [[1.0, 1.0, 0, 0.6], [0.35, 1.0, 0, 0], [0.2, 0.2, 1.0, 0.35], [0, 0, 0, 1.0]]
    drawn = {(c, r): opacity for r, row in enumerate(opacities) for c, opacity in enumerate(row) if opacity}
    assert cells_drawn(ax) == drawn
    assert {to_hex(patch.get_facecolor()) for patch in ax.patches} == {plots.BLUE}
    assert ax.get_aspect() == 1 and ax.get_ylim()[0] > ax.get_ylim()[1], "the first output is at the top"


def test_dependence_matrices_stand_in_rows_with_lines_around_their_blocks(ax):
    matrices = {f"norm {i}": np.eye(4) for i in range(4)}
    plots.plot_dependence(matrices, block=2, columns=3, ax=ax)
    assert len(ax.lines) == 4 * 6
    assert [text.get_text() for text in ax.texts] == list(matrices)
    centres = [text.get_position() for text in ax.texts]
    assert centres[0][1] == centres[1][1] == centres[2][1] < centres[3][1]
    assert centres[0][0] == centres[3][0] < centres[1][0] < centres[2][0]
    corners = {tuple(np.round(ax.patches[3].get_path().to_polygons()[0].min(axis=0), 6))}
    assert corners == {(0.0, 5.8)}


def test_a_norm_that_passes_nothing_on_has_an_empty_matrix(ax):
    plots.plot_dependence({"two values": np.zeros((2, 2))}, block=1, ax=ax)
    assert not ax.patches


def test_steps_stand_beside_their_prediction_with_the_ratio_as_text(ax):
    rows = [step("textbook", 4.0, 8.0), step("by blocks", 2.5, 2.0)]
    plots.plot_steps_beside_model(rows, ax=ax)
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([4.0, 2.5])
    (dots,) = ax.lines
    assert dots.get_xydata().ravel() == pytest.approx([8, 0, 2, 1])
    (spreads,) = ax.collections
    assert np.ravel(spreads.get_segments()) == pytest.approx([7.2, 0, 9.6, 0, 1.8, 1, 2.4, 1])
    assert [text.get_text() for text in ax.texts] == ["× 2.00", "× 0.80"]
    assert [text.xy[0] for text in ax.texts] == pytest.approx([9.6, 2.5]), "right of both"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["textbook", "by blocks"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1] and ax.get_xlim()[0] == 0
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["estimate", "measured"]
    assert ax.get_xlabel() == "milliseconds"


def test_steps_of_a_gpu_are_drawn_in_microseconds(ax):
    """0.2 milliseconds expected, 0.25 measured."""
    plots.plot_steps_beside_model([step("split", 0.2, 0.25)], unit="microseconds", ax=ax)
    assert ax.patches[0].get_width() == pytest.approx(200)
    assert ax.lines[0].get_xdata() == pytest.approx([250])
    assert ax.get_xlabel() == "microseconds"
    with pytest.raises(KeyError):
        plots.plot_steps_beside_model([step("split", 0.2, 0.25)], unit="hours", ax=ax)


def test_a_roof_rises_with_the_bandwidth_and_is_flat_from_where_it_meets_the_peak(ax):
    points = [Point("sum", 0.25, 5.0), Point("matrix product", 80.0, 90.0)]
    plots.plot_roofline(points, Peaks(100.0, {"memory": 20.0, "cache": 50.0}), ax=ax)
    memory, cache, *rest = ax.lines
    dots, numbers = rest[::2], rest[1::2]
    for roof, bandwidth in ((memory, 20), (cache, 50)):
        x, y = roof.get_data()
        assert y == pytest.approx(np.minimum(bandwidth * np.array(x), 100))
        assert x[1] == pytest.approx(100 / bandwidth) and x[0] < 0.25 and x[2] > 80
    assert [dot.get_xydata()[0].tolist() for dot in dots] == [[0.25, 5.0], [80.0, 90.0]]
    assert [(text.get_text(), *text.xy) for text in ax.texts] == [("1", 0.25, 5.0), ("2", 80.0, 90.0)]
    assert [line.get_marker() for line in numbers] == ["$1$", "$2$"], "in the legend, a number says which it is"
    assert memory.get_linestyle() != cache.get_linestyle()
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["memory: 20 GB/s", "cache: 50 GB/s", "sum", "matrix product"]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def caches_drawn(ax) -> dict[str, float]:
    """The position of each named line."""
    lines = [
        line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":" and len(set(line.get_xdata())) == 1
    ]
    return dict(zip([text.get_text() for text in ax.texts], lines, strict=True))


def test_bandwidth_stands_over_both_arrays_together(ax):
    curve = {2**14: Spread(100, 90, 130), 2**20: Spread(40, 38, 41), 2**24: Spread(30, 29, 33)}
    plots.plot_bandwidth(curve, {"L1": 2**15, "L2": 2**21}, ax=ax)
    assert ax.lines[0].get_xydata().tolist() == [[2**15, 100], [2**21, 40], [2**25, 30]]
    (band,) = ax.collections
    assert band.get_datalim(ax.transData).intervaly.tolist() == [29, 130]
    assert caches_drawn(ax) == {"L1": 2**15, "L2": 2**21}
    assert [label.get_text() for label in ax.get_xticklabels()] == ["64 KB", "1 MB", "16 MB"]
    assert ax.get_ylim()[0] == 0


def test_growth_is_drawn_per_value_over_the_size_of_the_input(ax):
    rows = [Growth("blocked", "N", n, n * 2**16, 1, Spread(0.2 * n, 0.1 * n, 0.3 * n)) for n in (2, 8, 128)]
    plots.plot_growth({"blocked": rows, "copy": rows}, {"L3": 2**22}, ax=ax)
    line, other = ax.lines[:2]
    assert line.get_xdata().tolist() == [n * 2**18 for n in (2, 8, 128)]
    assert line.get_ydata() == pytest.approx(3 * [0.2e6 / 2**16])
    assert (line.get_marker(), line.get_linestyle()) != (other.get_marker(), other.get_linestyle())
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["blocked", "copy"]
    assert caches_drawn(ax) == {"L3": 2**22}
    assert len(ax.collections) == 2


def legend_of(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def ticks_of(axis) -> list[str]:
    """The labels that are on the page."""
    axis.figure.canvas.draw()
    low, high = sorted(axis.get_view_interval())
    return [tick.label1.get_text() for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]


def test_the_cost_of_collectives_is_thick_where_the_bytes_take_longer_than_the_messages(ax):
    devices = [2, 16, 128, 1024, 8192]
    ring = [Cost(1e-6 * p, 1e-7 * p) for p in devices]
    doubling = [Cost(1e-5, 1e-7 * p) for p in devices]
    plots.plot_collective_cost(devices, {"ring": ring, "doubling": doubling}, ax=ax)
    lines = ax.lines[:4]
    for line, thick, costs in ((lines[0], lines[1], ring), (lines[2], lines[3], doubling)):
        assert line.get_xdata().tolist() == thick.get_xdata().tolist() == devices
        assert line.get_ydata() == pytest.approx([cost.latency + cost.transfer for cost in costs])
        assert line.get_color() == thick.get_color() and line.get_linewidth() < thick.get_linewidth() / 2
    assert np.isnan(lines[1].get_ydata()).all()
    assert lines[3].get_ydata() == pytest.approx([np.nan] * 2 + [1e-5 + 1e-7 * p for p in devices[2:]], nan_ok=True)
    assert legend_of(ax) == ["ring", "doubling", "thick: more bandwidth than latency"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("devices", "time")
    assert ticks_of(ax.xaxis) == ["2", "16", "128", "1024", "8192"]
    assert ticks_of(ax.yaxis) == ["10 µs", "100 µs", "1 ms", "10 ms"]


def test_the_layers_own_times_lie_across_the_cost_of_collectives_with_their_names_apart(ax):
    levels = {"backward": 3e-5, "forward": 2e-5}
    plots.plot_collective_cost([2, 4, 8], {"ring": [Cost(1e-5 * p, 0) for p in (2, 4, 8)]}, levels, ax=ax)
    across = {line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "--"}
    assert across == set(levels.values())
    ax.figure.canvas.draw()
    boxes = {text.get_text(): text.get_window_extent() for text in ax.texts}
    places = {name: ax.transData.transform((2, seconds))[1] for name, seconds in levels.items()}
    assert boxes["forward"].y1 < places["forward"] < places["backward"] < boxes["backward"].y0
    assert boxes["forward"].y0 > ax.bbox.y0, "above the axis"
    assert max(box.x1 for box in boxes.values()) <= ax.bbox.x1 + 1
    assert ticks_of(ax.xaxis) == ["2", "4", "8"]


def access(program: int | tuple[int, int, int], tile: np.ndarray, mask: object = True, **different: object) -> Access:
    """A load of one program from a tensor x of 12 elements."""
    program = program if isinstance(program, tuple) else (program, 0, 0)
    about = {"kernel": "_a_kernel", "launch": 0, "kind": "load", "tensor": "x", "size": 12, **different}
    return Access(program=program, tile=tile, mask=np.broadcast_to(mask, tile.shape), itemsize=4, start=0, **about)


def traced(*accesses: Access) -> Trace:
    kernels = dict(sorted((access.launch, access.kernel) for access in accesses))
    return Trace(list(accesses), list(kernels.values()), list(dict.fromkeys(access.tensor for access in accesses)))


def rows_of_three() -> Trace:
    """Programs 0 to 3 load a row each of a 4 × 3 matrix, in four lanes, and store a number."""
    lanes = np.arange(4)
    each = [
        (access(p, 3 * p + lanes, lanes < 3), access(p, np.array([p]), tensor="mean", kind="store", size=4))
        for p in range(4)
    ]
    return traced(*(access for both in each for access in both))


def cells_of(patch) -> set[tuple[int, int]]:
    """The cells (row, column) that a patch covers."""
    found = set()
    for outline in patch.get_path().to_polygons():
        (left, top), (right, bottom) = np.rint(outline.min(axis=0)), np.rint(outline.max(axis=0))
        found |= {(int(r), int(c)) for r in np.arange(top, bottom) for c in np.arange(left, right)}
    return found


def programs_drawn(ax) -> dict[tuple[int, int], tuple[str, float]]:
    """The colour and the opacity of each cell that is filled."""
    filled = [patch for patch in ax.patches if patch.get_linewidth() == 0]
    return {cell: (to_hex(patch.get_facecolor()), patch.get_alpha()) for patch in filled for cell in cells_of(patch)}


def masked_drawn(ax) -> set[tuple[int, int]]:
    dashed = [p for p in ax.patches if p.get_linestyle() == plots.MASKED["ls"] and p.get_linewidth() == 1]
    return set().union(*map(cells_of, dashed))


def test_accesses_fill_the_elements_with_their_program_and_show_masked_lanes_beyond_the_edge(ax):
    assert plots.plot_accesses(rows_of_three(), (4, 3), ax=ax) is ax
    expected = {(row, column): (plots.CYCLE[row], 0.3) for row in range(4) for column in range(3)}
    assert programs_drawn(ax) == expected
    assert masked_drawn(ax) == {(row, 3) for row in range(4)}
    assert [(text.get_text(), text.get_position()) for text in ax.texts] == [(str(p), (1.5, p + 0.5)) for p in range(4)]
    assert (ax.get_xlim(), ax.get_ylim()) == ((-0.1, 4.1), (4.1, -0.1)), "the first row is at the top"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["touched once", "masked lane"]
    assert len(ax.patches) <= 10, "a slider shows dozens of such pictures"


def test_another_tensor_of_the_trace_can_be_shown(ax):
    plots.plot_accesses(rows_of_three(), (1, 4), tensor="mean", ax=ax)
    assert programs_drawn(ax) == {(0, p): (plots.CYCLE[p], 0.3) for p in range(4)}


def test_what_is_touched_more_often_is_fuller_and_shows_who_came_last(ax):
    everything = np.arange(12)
    seen = traced(
        access(0, everything), access(1, everything[:9]), access(1, everything[:6]), access(0, everything[:3])
    )
    plots.plot_accesses(seen, (4, 3), ax=ax)
    rows = [(plots.BLUE, 0.95), (plots.ORANGE, 0.95), (plots.ORANGE, 0.6), (plots.BLUE, 0.3)]
    assert programs_drawn(ax) == {(r, c): look for r, look in enumerate(rows) for c in range(3)}
    assert [text.get_text() for text in ax.texts] == ["0", "0", "1"], "one for each of its rectangles"
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["touched once", "touched twice", "touched more often"]


def test_accesses_outside_of_the_tensor_are_crossed_and_far_ones_come_closer(ax):
    plots.plot_accesses(traced(access(0, np.arange(9, 14)), access(0, np.array([-1, 2**31]))), (4, 3), ax=ax)
    crossed = [patch for patch in ax.patches if patch.get_hatch()]
    assert set().union(*map(cells_of, crossed)) == {(4, 0), (4, 1), (-1, 2), (7, 2**31 % 3)}
    assert set(programs_drawn(ax)) == {(3, 0), (3, 1), (3, 2)}
    assert ax.get_ylim() == (8.1, -1.1)
    assert "outside of the tensor" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_lanes_that_go_on_in_the_next_row_of_the_matrix_stand_there(ax):
    lanes = np.arange(8)
    plots.plot_accesses(traced(access(0, 6 + lanes, lanes < 6)), (4, 3), ax=ax)
    assert set(programs_drawn(ax)) == {(r, c) for r in (2, 3) for c in range(3)}
    assert masked_drawn(ax) == {(4, 0), (4, 1)}


def test_masked_lanes_are_drawn_nowhere_if_they_lie_in_the_matrix_or_all_are_masked(ax):
    rows, columns = np.arange(4)[:, None], np.arange(4)
    tiles = [access(0, 4 * rows + columns, columns < 2, size=16), access(0, 99 + columns, False, size=16)]
    plots.plot_accesses(traced(*tiles), (4, 4), ax=ax)
    assert masked_drawn(ax) == set()
    assert set(programs_drawn(ax)) == {(r, c) for r in range(4) for c in range(2)}


def test_a_step_shows_what_came_before_it_and_frames_its_own_lanes(ax):
    plots.plot_accesses(rows_of_three(), (4, 3), step=3, ax=ax)
    assert set(programs_drawn(ax)) == {(r, c) for r in range(2) for c in range(3)}
    assert masked_drawn(ax) == {(0, 3), (1, 3)}
    frames = [patch for patch in ax.patches if to_hex(patch.get_edgecolor()) == plots.INK]
    solid, dashed = sorted(frames, key=lambda patch: patch.get_linestyle() != "-")
    assert cells_of(solid) == {(1, 0), (1, 1), (1, 2)}
    assert cells_of(dashed) == {(1, 3)} and dashed.get_linestyle() == plots.MASKED["ls"]


def test_pictures_of_all_steps_have_the_same_limits_and_legend(ax):
    seen = rows_of_three()
    for step in range(len(seen.accesses) + 1):
        ax.clear()
        plots.plot_accesses(seen, (4, 3), step=step, ax=ax)
        assert (ax.get_xlim(), ax.get_ylim()) == ((-0.1, 4.1), (4.1, -0.1))
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["touched once", "masked lane"]


@pytest.mark.parametrize(("step", "rows"), [(0, 0), (4, 2)])
def test_a_step_that_touches_another_tensor_has_no_frame(ax, step, rows):
    plots.plot_accesses(rows_of_three(), (4, 3), step=step, ax=ax)
    assert len(programs_drawn(ax)) == 3 * rows
    assert not [patch for patch in ax.patches if to_hex(patch.get_edgecolor()) == plots.INK]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shape": (4, 4)}, "12 cells, as x has elements; got \\(4, 4\\)"),
        ({"step": 9}, "a step from 0 to 8"),
        ({"tensor": "y"}, "one of x, mean, outside; got 'y'"),
    ],
)
def test_a_matrix_that_does_not_fit_the_trace_is_an_error(wrong, message):
    with pytest.raises(ValueError, match=message):
        plots.plot_accesses(rows_of_three(), **{"shape": (4, 3), **wrong})


def test_numbers_of_programs_stand_only_where_there_is_room(ax):
    plots.plot_accesses(traced(*(access(p, np.array([p]), size=120) for p in range(120))), (2, 60), ax=ax)
    assert not ax.texts
    assert len(programs_drawn(ax)) == 120


def test_rectangles_cover_each_cell_once_and_are_few():
    for cells in [RNG.random((6, 5)) < share for share in np.linspace(0, 1, 20)]:
        boxes = plots._rectangles(np.argwhere(cells) + (3, 7))
        covered = np.zeros_like(cells, dtype=int)
        for left, top, width, height in boxes:
            covered[top - 3 : top - 3 + height, left - 7 : left - 7 + width] += 1
        np.testing.assert_array_equal(covered, cells)
    columns = [(row, column) for row in range(4) for column in (0, 2, 3)]
    assert plots._rectangles(columns) == [(0, 0, 1, 4), (2, 0, 2, 4)]


def test_programs_of_a_grid_with_more_axes_have_all_their_numbers(ax):
    seen = traced(access((0, 1, 0), np.arange(6)), access((1, 0, 2), 6 + np.arange(6)))
    plots.plot_accesses(seen, (4, 3), ax=ax)
    assert [text.get_text() for text in ax.texts] == ["0,1", "1,0,2"]


def test_the_order_of_accesses_is_a_row_of_marks_per_tensor(ax):
    one, second = np.array([0]), {"launch": 1, "kernel": "_b_kernel"}
    seen = traced(
        access(0, one), access(0, one, tensor="y", kind="store"),
        access(1, one), access(1, one, tensor="y", kind="store"),
        access(0, one, tensor="y", **second), access(0, one, kind="atomic", **second),
    )  # fmt: skip
    assert plots.plot_access_order(seen, ax=ax) is ax
    marks = {line.get_label(): line for line in ax.lines if len(line.get_xdata()) and line.get_marker() != "None"}
    drawn = {kind: marks[kind].get_xydata().tolist() for kind in ("load", "store", "atomic")}
    assert drawn == {"load": [[0, 0], [2, 0], [4, 1]], "store": [[1, 1], [3, 1]], "atomic": [[5, 0]]}
    assert len({line.get_marker() for line in marks.values()}) == 3, "told apart without their colours"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["x", "y"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    ticks = dict(zip(ax.get_xticks(), [label.get_text() for label in ax.get_xticklabels()], strict=True))
    assert ticks == {0.5: "0", 2.5: "1", 4.5: "0"}
    assert [(text.get_text(), text.xy[0]) for text in ax.texts] == [("1", 1.5), ("2", 4.5)]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["load", "store", "atomic", "a", "b"]
    bands = [path.vertices[:, 0] for path in ax.collections[0].get_paths()]
    assert [(band.min(), band.max()) for band in bands] == [(-0.5, 1.5), (3.5, 5.5)], "every second program"


def test_parts_of_a_batch_stand_beside_the_whole(ax):
    assert plots.plot_parts([1.0, -2.0], [0.5, 0.25], 3.0, 4.0, ax=ax) is ax
    parts, whole = ax.containers
    dots, _, (bars,) = parts
    assert dots.get_xydata().tolist() == [[0, 1], [1, -2]]
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [[0.5, 1.5], [-2.25, -1.75]]
    dot, _, (bar,) = whole
    assert dot.get_xydata().tolist() == [[2, 3]]
    assert [segment[:, 1].tolist() for segment in bar.get_segments()] == [[-1, 7]]
    assert (to_hex(dots.get_color()), to_hex(dot.get_color())) == (plots.BLUE, plots.ORANGE)
    assert dots.get_marker() != dot.get_marker(), "told apart without their colours"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "1", "all"]
    assert list(ax.lines[0].get_ydata()) == [3, 3]


def test_of_many_programs_some_are_named(ax):
    plots.plot_access_order(traced(*(access(p, np.array([0])) for p in range(30))), ax=ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == [str(p) for p in range(0, 30, 3)]


def test_traffic_of_kernels_is_a_block_per_pass_with_a_gap_between_launches(ax):
    split, resident = [("R", "x", 0), ("R", "x", 1), ("W", "y", 1)], [("R", "x", 0), ("W", "y", 0)]
    assert plots.plot_kernel_traffic({"split": split, "resident": resident}, ax=ax) is ax
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["R x", "R x", "W y", "3", "split", "R x", "W y", "2", "resident"]
    assert [round(block.get_x(), 2) for block in ax.patches] == [0.04, 1.39, 2.39, 0.04, 1.04]
    assert [block.get_y() for block in ax.patches] == [0, 0, 0, 1, 1]
    looks = [(to_hex(block.get_edgecolor()), block.get_facecolor()[3]) for block in ax.patches]
    read, written = (plots.BLUE, 0), (plots.ORANGE, 1)
    assert looks == [read, read, written, read, written]
    assert ax.get_ylim()[0] > ax.get_ylim()[1] and ax.get_xlim()[1] > 3.35
