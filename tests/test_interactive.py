"""Figures with sliders: what they hold, what they refuse, and the two forms that they take."""

import json
import re

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from bncourse import interactive, plots
from bncourse.interactive import explore


def line(slope=2, start=0.0):
    """A straight line over the numbers from 0 to 1."""
    ax = plt.subplots()[1]
    ax.plot([0, 1], [start, start + slope], color=plots.BLUE)
    ax.set_title(f"slope {slope}, start {start}")
    return f"At 1 the line is at {start + slope:g}. <3"


def page_of(figure: interactive.Exploration) -> tuple[dict, str]:
    """The stored frames of a figure's HTML, and the HTML without them."""
    markup = figure.html()
    data = re.search(r'<script type="application/json">(.*?)</script>', markup, re.DOTALL)
    return json.loads(data[1]), markup.replace(data[0], "")


@pytest.fixture
def figure():
    return explore(line, slope=[1, 2, 5], start=[0.0, 0.25])


def test_every_combination_is_a_frame_in_the_order_of_the_sliders(figure):
    assert len(figure.frames) == 6
    for i, slope in enumerate([1, 2, 5]):
        for j, start in enumerate([0.0, 0.25]):
            frame = figure.frames[figure.index([i, j])]
            assert f"slope {slope}, start {start}" in frame.picture
            assert frame.sentence.startswith(f"At 1 the line is at {slope + start:g}.")


def test_page_starts_with_the_defaults_of_draw(figure):
    _, markup = page_of(figure)
    assert "slope 2, start 0.0<" in markup and "At 1 the line is at 2. &lt;3" in markup
    assert re.findall(r'max="(\d)" value="(\d)" aria-valuetext="([\d.]+)"', markup) == [
        ("2", "1", "2"),
        ("1", "0", "0"),
    ]


def test_without_a_default_it_starts_with_the_first_value():
    def draw(size):
        """A point."""
        plt.subplots()

    assert explore(draw, size=[3, 4]).start == [0]


def test_stored_frames_are_the_frames(figure):
    data, _ = page_of(figure)
    assert data["texts"] == [["1", "2", "5"], ["0", "0.25"]]
    for frame, numbers, sentence in zip(figure.frames, data["frames"], data["sentences"], strict=True):
        assert "\n".join(data["lines"][number] for number in numbers) == frame.picture.rstrip("\n")
        assert sentence == frame.sentence


def test_frames_share_what_they_have_in_common(figure):
    one = len(explore(line, slope=[2], start=[0.0]).html())
    sixty = len(explore(line, slope=list(range(1, 61)), start=[0.0]).html())
    assert sixty < 10 * one
    assert len(figure.html()) < 2 * one


def test_stored_frames_cannot_end_their_script():
    def draw(word):
        """A word."""
        plt.subplots()
        return f"</script>{word}"

    data, _ = page_of(explore(draw, word=["one"]))
    assert data["sentences"] == ["</script>one"]


def test_figure_is_described_and_its_ids_are_its_own(figure):
    assert 'aria-label="A straight line over the numbers from 0 to 1."' in figure.frames[0].picture
    other = explore(line, slope=[1, 2], start=[0.0])
    ids, others = (set(re.findall(r' id="([^"]+)"', some.frames[0].picture)) for some in (figure, other))
    assert ids and others and not ids & others
    assert figure.html() == explore(line, slope=[1, 2, 5], start=[0.0, 0.25]).html(), "the same every time"


def test_drawing_leaves_no_figure_behind_and_none_of_others_is_closed(figure):
    mine = plt.figure()
    figure.html()
    assert plt.get_fignums() == [mine.number]
    plt.close(mine)


def test_jupyter_gets_a_widget_that_shows_the_frame_of_its_sliders(figure):
    bundle = figure._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle and bundle["text/html"] == figure.html()
    picture, slope, start, sentence = figure.widget().children
    assert (slope.description, start.description) == ("slope", "start")
    assert (slope.index, start.index) == (1, 0)
    slope.label, start.label = "5", "0.25"
    assert "slope 5, start 0.25" in picture.value and "5.25. &lt;3" in sentence.value
    assert "data-jp-theme-light" in picture.value, "dark in JupyterLab's dark theme"


def test_labels_are_words_and_values_are_short():
    def draw(batch_size, momentum):
        """A point."""
        plt.subplots()

    _, markup = page_of(explore(draw, batch_size=[np.int64(8)], momentum=[np.float64(0.1), 1e-5]))
    assert "<span>batch size</span>" in markup
    assert explore(draw, batch_size=[(0, 2)], momentum=[0.1, 1e-5]).texts == [["(0, 2)"], ["0.1", "1e-05"]]


def undescribed(size=1):
    plt.subplots()


def two_figures(size=1):
    """Two."""
    plt.figure()
    plt.figure()


def no_figure(size=1):
    """None."""


@pytest.mark.parametrize(
    ("draw", "values", "complaint"),
    [
        (line, {}, "got 0"),
        (line, {"slope": [], "start": [0.0]}, "got 0"),
        (line, {"slope": range(61)}, "got 61"),
        (line, {"slope": range(31), "start": [0.0, 1.0]}, "got 62"),
        (line, {"slop": [1]}, "'slop'"),
        (line, {"slope": [1, 5]}, "default slope=2"),
        (undescribed, {"size": [1]}, "docstring"),
    ],
)
def test_bad_figures_are_refused_before_anything_is_drawn(draw, values, complaint):
    with pytest.raises(ValueError, match=complaint):
        explore(draw, **values)


@pytest.mark.parametrize(("draw", "count"), [(two_figures, 2), (no_figure, 0)])
def test_each_frame_is_one_figure(draw, count):
    with pytest.raises(ValueError, match=f"one new figure, got {count}"):
        explore(draw, size=[1]).html()
    assert plt.get_fignums() == []


def test_an_error_names_its_frame():
    def draw(size):
        """Nothing."""
        plt.figure()
        return 1 / size

    with pytest.raises(ZeroDivisionError) as error:
        explore(draw, size=[2, 0]).html()
    assert error.value.__notes__ == ["while drawing the frame {'size': 0}"]
    assert plt.get_fignums() == []
