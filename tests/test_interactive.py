"""Figures with sliders: what they hold, what they refuse, and the two forms that they take."""

import functools
import json
import re

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from bs4 import BeautifulSoup

from bncourse import interactive, plots, svg
from bncourse.interactive import explore


def line(slope=2, start=0.0):
    """A straight line over the numbers from 0 to 1."""
    ax = plt.subplots()[1]
    ax.plot([0, 1], [start, start + slope], color=plots.BLUE)
    ax.set_ylim(0, 70)
    ax.set_title(f"slope {slope}, start {start}")
    return f"At 1 the line is at {start + slope:g}. <3"


def page_of(figure: interactive.Exploration) -> tuple[dict, str]:
    """The stored frames of a figure's HTML, and the HTML without them."""
    markup = figure.html()
    data = re.search(r'<script type="application/json">(.*?)</script>', markup, re.DOTALL)
    return json.loads(data[1]), markup.replace(data[0], "")


def shifted(draw):
    """A function with the same name and description that draws something else."""

    @functools.wraps(draw)
    def other(slope=2, start=0.0):
        return draw(slope, start + 1)

    return other


@pytest.fixture(autouse=True)
def fresh_style():
    """No test sees the style that another one has set."""
    with plt.rc_context():
        plt.rcdefaults()
        yield


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
    assert sixty < 4 * one
    assert len(figure.html()) < 1.3 * one


def test_nothing_that_is_shown_can_become_markup():
    def draw(word):
        """A "word" & <b>more</b>."""
        plt.subplots()
        return f"</script><!-- <script> {word}\u2028"

    data, _ = page_of(explore(draw, word=['"one" <i>']))
    assert data["sentences"] == ['</script><!-- <script> "one" <i>\u2028']
    page = BeautifulSoup(explore(draw, word=['"one" <i>']).html(), "html.parser")
    assert page.output.get_text() == '"one" <i>' == page.input["aria-valuetext"]
    assert page.svg["aria-label"] == 'A "word" & <b>more</b>.'
    assert page.select_one(".bn-sentence").get_text() == data["sentences"][0]
    assert "<!--" not in explore(draw, word=["one"]).html()
    assert not page.find_all(["b", "i"])


def test_page_brings_its_script_and_hides_the_sliders_until_it_runs(figure):
    page = BeautifulSoup(figure.html(), "html.parser")
    assert page.find_all("script")[-1].string == interactive.SCRIPT
    assert page.select_one(".bn-sliders").has_attr("hidden")
    assert page.select_one(".bn-sliders")["aria-label"] == "Change the figure: slope, start"
    assert page.select_one(".bn-sentence")["role"] == "status"
    assert page.output["aria-hidden"] == "true", "the slider itself says its value"


def test_only_a_text_is_a_sentence():
    def draw(size):
        """A point."""
        return plt.subplots()[1]

    assert explore(draw, size=[1]).frames[0].sentence == ""


def test_frames_are_in_the_style_of_the_course_whoever_sets_it():
    def draw(size):
        """A point."""
        plt.subplots()

    with plt.rc_context({"axes.edgecolor": "#123456", "figure.figsize": (2, 2)}):
        picture = explore(draw, size=[1]).frames[0].picture
    assert "var(--bn-muted" in picture and "#123456" not in picture
    assert f"width: {5.2 * 72:.0f}pt" in picture


def test_every_frame_is_drawn_once(figure):
    drawn = []

    def draw(size):
        """A point."""
        drawn.append(size)
        plt.subplots()

    figure = explore(draw, size=[1, 2])
    figure._repr_mimebundle_()
    figure.html()
    assert drawn == [1, 2]


def test_figure_is_described_and_its_ids_are_its_own(figure):
    assert 'aria-label="A straight line over the numbers from 0 to 1."' in figure.frames[0].picture
    other = explore(shifted(line), slope=[1, 2, 5], start=[0.0, 0.25])
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
    assert svg.palette_css() in picture.value, "dark in JupyterLab's dark theme"


def test_labels_are_words_and_values_are_short():
    def draw(batch_size, momentum):
        """A point."""
        plt.subplots()

    _, markup = page_of(explore(draw, batch_size=[np.int64(8)], momentum=[np.float64(0.1), 1e-5]))
    assert "<span>batch size</span>" in markup
    axes = [(0, np.int64(2)), (1,), "all"]
    momenta = [0.1, 1e-5, np.float32(1 / 3)]
    texts = explore(draw, batch_size=axes, momentum=momenta).texts
    assert texts == [["(0, 2)", "(1,)", "all"], ["0.1", "1e-05", "0.333333"]]


def test_a_default_is_found_among_numbers_of_another_type():
    assert explore(line, slope=np.array([1, 2]), start=np.array([0.5, 0.0])).start == [1, 1]


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
        (line, {"slope": 3}, "list of values for slope, got 3"),
        (line, {"slope": "abc"}, "list of values for slope"),
        (line, {"start": [0.1234567, 0.12345671]}, "values of start that look different"),
        (undescribed, {"size": [1]}, "docstring"),
        (functools.partial(line, start=1.0), {"slope": [1, 2]}, "function with a docstring"),
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
