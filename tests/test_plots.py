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
