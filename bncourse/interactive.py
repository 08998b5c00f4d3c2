"""Figures with sliders: live widgets in Jupyter, and the same figure on a page that has no kernel."""

import hashlib
import html
import inspect
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from importlib.resources import files
from math import prod
from typing import NamedTuple

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np

from bncourse import plots, svg

MOST_FRAMES = 60
SCRIPT = files("bncourse").joinpath("interactive.js").read_text(encoding="utf-8")


class Frame(NamedTuple):
    """One state of a figure."""

    picture: str  # SVG markup
    sentence: str  # what there is to see, may be empty


def explore(draw: Callable[..., object], /, **values: Iterable[object]) -> "Exploration":
    """A figure that the reader changes with sliders.

    In Jupyter it is a widget. On a page without a kernel it is the same figure: one picture per
    combination of values, and the browser's own sliders, which work with the keyboard. Without
    JavaScript the first picture stands alone. Both forms draw every frame when the figure is shown.

        def spread(batch_size=8):
            \"\"\"Dots in a row, closer together for larger batches.\"\"\"
            plots.plot_channels(means(batch_size), ["means"])
            return f"Means of {batch_size} values."

        explore(spread, batch_size=[2, 4, 8, 16])

    Args:
        draw: draws one Matplotlib figure, the same for the same arguments. Its docstring describes
            the figure to those who cannot see it. It may return a sentence that says what this
            picture shows; the sentence stands below the picture and is read out when it changes.
        values: the values of each argument of ``draw``, in the order of its slider, which shows
            them as text. The figure starts with the default that ``draw`` gives the argument, or
            else with the first value.

    Raises:
        ValueError: no function with a docstring, no values, too many combinations, two values with
            the same text, arguments that ``draw`` does not have, or a default that is no value.
            When the figure is shown: ``draw`` did not make exactly one figure.
    """
    return Exploration(draw, values)


class Exploration:
    """What :func:`explore` makes; notebooks show it as the last value of a cell."""

    def __init__(self, draw: Callable[..., object], values: dict[str, Iterable[object]]) -> None:
        """Check the arguments, see :func:`explore`; nothing is drawn yet."""
        self.draw = draw
        self.description = _description(draw)
        self.values = {name: _listed(name, options) for name, options in values.items()}
        self.texts = [list(map(_text, options)) for options in self.values.values()]
        self._check()
        self.start = list(map(self._start, self.values, self.texts))

    def _check(self) -> None:
        count = prod(map(len, self.texts)) if self.texts else 0
        if not 1 <= count <= MOST_FRAMES:
            raise ValueError(
                f"expected values for 1 to {MOST_FRAMES} frames, got {count}; give every slider fewer values"
            )
        for name, texts in zip(self.values, self.texts, strict=True):
            if len(set(texts)) < len(texts):
                raise ValueError(f"expected values of {name} that look different, got {texts}; drop or round some")
        try:
            inspect.signature(self.draw).bind(**self.values)
        except TypeError as error:
            names = list(self.values)
            raise ValueError(f"expected a list of values per argument of draw, got {names}: {error}") from None

    def _start(self, name: str, texts: list[str]) -> int:
        """The position at which a slider starts."""
        parameter = inspect.signature(self.draw).parameters.get(name)
        if parameter is None or parameter.default is inspect.Parameter.empty:
            return 0
        default = _text(parameter.default)
        if default not in texts:
            raise ValueError(f"expected draw's default {name}={default} among {texts}; add it, or change it")
        return texts.index(default)

    @cached_property
    def frames(self) -> list[Frame]:
        """One frame per combination of values; the last argument changes fastest."""
        choices = itertools.product(*self.values.values())
        drawn = [self._drawn(dict(zip(self.values, choice, strict=True))) for choice in choices]
        # Ids that are this figure's own, wherever on a page it stands.
        digest = hashlib.sha256("".join(source for source, _ in drawn).encode()).hexdigest()
        prefix = f"explore-{digest[:8]}-"
        return [Frame(svg.themed_svg(source, self.description, prefix), sentence) for source, sentence in drawn]

    def _drawn(self, choice: dict[str, object]) -> tuple[str, str]:
        """The SVG document and the sentence of one frame."""
        before = set(plt.get_fignums())
        try:
            with plt.rc_context(plots.STYLE):
                sentence = self.draw(**choice)
                figures = [plt.figure(number) for number in set(plt.get_fignums()) - before]
                if len(figures) != 1:
                    raise ValueError(f"expected draw to make one new figure, got {len(figures)}; see plt.subplots()")
                return svg.source(figures[0]), sentence if isinstance(sentence, str) else ""
        except Exception as error:
            error.add_note(f"while drawing the frame {choice}")
            raise
        finally:
            for number in set(plt.get_fignums()) - before:
                plt.close(number)

    def index(self, positions: Sequence[int]) -> int:
        """The number of the frame that belongs to the sliders' positions."""
        index = 0
        for position, texts in zip(positions, self.texts, strict=True):
            index = index * len(texts) + position
        return index

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, object]:
        """The widget for Jupyter, HTML for everything else."""
        return {**self.widget()._repr_mimebundle_(), "text/html": self.html()}

    # In Jupyter

    def widget(self) -> ipywidgets.VBox:
        """The figure with live sliders."""
        picture, sentence = ipywidgets.HTML(), ipywidgets.HTML()
        sliders = [
            ipywidgets.SelectionSlider(
                options=[(text, position) for position, text in enumerate(texts)],
                index=start,
                description=_label(name),
                style={"description_width": "initial"},
            )
            for name, texts, start in zip(self.values, self.texts, self.start, strict=True)
        ]

        def show(change: object = None) -> None:
            frame = self.frames[self.index([slider.index for slider in sliders])]
            picture.value = f"<style>{svg.palette_css()}</style>{frame.picture}"
            sentence.value = html.escape(frame.sentence)

        for slider in sliders:
            slider.observe(show, "index")
        show()
        return ipywidgets.VBox([picture, *sliders, sentence])

    # On a page

    def html(self) -> str:
        """The figure with the browser's own sliders; the script that moves them comes along."""
        first = self.frames[self.index(self.start)]
        name = html.escape(f"Change the figure: {', '.join(map(_label, self.values))}")
        sliders = "".join(map(_slider, self.values, self.texts, self.start))
        return (
            f'<div class="bn-explore"><div class="bn-picture">{first.picture}</div>'
            f'<div class="bn-sliders" role="group" aria-label="{name}" hidden>{sliders}</div>'
            f'<p class="bn-sentence" role="status">{html.escape(first.sentence)}</p>'
            f'<script type="application/json">{self._data()}</script></div><script>{SCRIPT}</script>'
        )

    def _data(self) -> str:
        """All frames as JSON for a script element, each line of markup stored once: they share most."""
        lines: dict[str, int] = {}
        frames = [[lines.setdefault(line, len(lines)) for line in frame.picture.split("\n")] for frame in self.frames]
        sentences = [frame.sentence for frame in self.frames]
        return _json_for_script({"texts": self.texts, "lines": list(lines), "frames": frames, "sentences": sentences})


def _description(draw: object) -> str:
    """A function's docstring as one line."""
    text = inspect.getdoc(draw) if inspect.isroutine(draw) else None
    if not text:
        raise ValueError(f"expected a function with a docstring that says what one sees, got {draw!r}; write one")
    return " ".join(text.split())


def _listed(name: str, options: object) -> list[object]:
    if isinstance(options, str) or not isinstance(options, Iterable):
        raise ValueError(f"expected a list of values for {name}, got {options!r}; write [{options!r}]")
    return list(options)


def _text(value: object) -> str:
    """A value as a slider shows it."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_text, value))}{',' * (len(value) == 1)})"
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)


def _json_for_script(data: object) -> str:
    """JSON in which nothing ends or opens an element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("</", "<\\/").replace("<!--", "\\u003c!--")


def _label(name: str) -> str:
    """An argument's name as a label."""
    return name.replace("_", " ")


def _slider(name: str, texts: list[str], start: int) -> str:
    """One labelled slider with its value beside it."""
    text = html.escape(texts[start])
    return (
        f"<div><label><span>{html.escape(_label(name))}</span>"
        f'<input type="range" min="0" max="{len(texts) - 1}" value="{start}" aria-valuetext="{text}">'
        f'<output aria-hidden="true">{text}</output></label></div>'
    )
