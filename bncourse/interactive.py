"""Figures with sliders: live widgets in Jupyter, and the same figure on a page that has no kernel."""

import hashlib
import html
import inspect
import itertools
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.resources import files
from math import prod
from typing import NamedTuple

import ipywidgets
import matplotlib.pyplot as plt

from bncourse import svg

MOST_FRAMES = 60
SCRIPT = files("bncourse").joinpath("interactive.js").read_text(encoding="utf-8")


class Frame(NamedTuple):
    """One state of a figure."""

    picture: str  # SVG markup
    sentence: str  # what there is to see, may be empty


def explore(draw: Callable[..., object], **values: Sequence[object]) -> "Exploration":
    """A figure that the reader changes with sliders.

    In Jupyter it is a widget. On a page without a kernel it is the same figure: one picture per
    combination of values, and the browser's own sliders, which work with the keyboard. Without
    JavaScript the first picture stands alone.

        def spread(batch_size=8):
            \"\"\"Dots in a row, closer together for larger batches.\"\"\"
            plots.plot_channels(means(batch_size), ["means"])
            return f"Means of {batch_size} values."

        explore(spread, batch_size=[2, 4, 8, 16])

    Args:
        draw: draws one Matplotlib figure, the same for the same arguments. Its docstring describes
            the figure to those who cannot see it. It may return a sentence that says what this
            picture shows; the sentence stands below the picture and is read out when it changes.
        values: the values of each argument of ``draw``, in the order of its slider, which shows them as text. The figure
            starts with the default that ``draw`` gives the argument, or else with the first value.

    Raises:
        ValueError: no values, too many combinations, arguments that ``draw`` does not have, a
            default that is no value, no docstring, or not one figure per call.
    """
    return Exploration(draw, values)


class Exploration:
    """What :func:`explore` makes; notebooks show it as the last value of a cell."""

    def __init__(self, draw: Callable[..., object], values: dict[str, Sequence[object]]) -> None:
        """Check the arguments, see :func:`explore`; nothing is drawn yet."""
        self.draw = draw
        self.values = {name: list(sequence) for name, sequence in values.items()}
        self.description = " ".join((inspect.getdoc(draw) or "").split())
        self._check()
        self.start = [options.index(self._default(name)) for name, options in self.values.items()]

    def _check(self) -> None:
        count = prod(map(len, self.values.values())) if self.values else 0
        if not 1 <= count <= MOST_FRAMES:
            raise ValueError(
                f"expected values for 1 to {MOST_FRAMES} frames, got {count}; give every slider fewer values"
            )
        if not self.description:
            raise ValueError("expected a docstring in draw that says what one sees, got none; add one")
        try:
            inspect.signature(self.draw).bind(**self.values)
        except TypeError as error:
            raise ValueError(
                f"expected one list of values per argument of draw, got {list(self.values)}: {error}"
            ) from None

    def _default(self, name: str) -> object:
        default = inspect.signature(self.draw).parameters[name].default
        options = self.values[name]
        if default is inspect.Parameter.empty:
            return options[0]
        if default not in options:
            raise ValueError(f"expected draw's default {name}={default!r} among {options}; add it, or change it")
        return default

    @cached_property
    def frames(self) -> list[Frame]:
        """One frame per combination of values; the last argument changes fastest."""
        choices = itertools.product(*self.values.values())
        return [self._frame(dict(zip(self.values, choice, strict=True))) for choice in choices]

    def _frame(self, choice: dict[str, object]) -> Frame:
        before = set(plt.get_fignums())
        try:
            sentence = self.draw(**choice)
            drawn = [plt.figure(number) for number in set(plt.get_fignums()) - before]
            if len(drawn) != 1:
                raise ValueError(f"expected draw to make one new figure, got {len(drawn)}; begin with plt.subplots()")
            return Frame(
                svg.themed(drawn[0], self.description, self._prefix), sentence if isinstance(sentence, str) else ""
            )
        except Exception as error:
            error.add_note(f"while drawing the frame {choice}")
            raise
        finally:
            for number in set(plt.get_fignums()) - before:
                plt.close(number)

    @property
    def _prefix(self) -> str:
        """What makes the ids of this figure its own on a page."""
        name = f"{self.draw.__module__}.{self.draw.__qualname__} {self.description} {self.texts}"
        return f"explore-{hashlib.sha256(name.encode()).hexdigest()[:8]}-"

    @property
    def texts(self) -> list[list[str]]:
        """The values of each slider as the reader sees them."""
        return [
            [f"{value:g}" if isinstance(value, float) else str(value) for value in options]
            for options in self.values.values()
        ]

    def index(self, positions: Sequence[int]) -> int:
        """The number of the frame that belongs to the sliders' positions."""
        index = 0
        for position, options in zip(positions, self.values.values(), strict=True):
            index = index * len(options) + position
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
        """All frames as JSON that can stand in a script element, each line of markup stored once: they share most."""
        lines: dict[str, int] = {}
        frames = [[lines.setdefault(line, len(lines)) for line in frame.picture.splitlines()] for frame in self.frames]
        sentences = [frame.sentence for frame in self.frames]
        data = {"texts": self.texts, "lines": list(lines), "frames": frames, "sentences": sentences}
        return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")


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
