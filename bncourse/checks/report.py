"""What a check says: as text, and as a box in Jupyter that needs no colour to be understood."""

import html
from dataclasses import dataclass

HEADLINES = {"correct": "✓ Correct.", "incorrect": "✗ Not yet.", "not attempted": "○ Not attempted."}
COLOURS = {"correct": "#2e8b57", "incorrect": "#c2571a", "not attempted": "#808080"}  # of the border alone


@dataclass(frozen=True)
class Report:
    """The result of a check.

    Attributes:
        exercise: the id of the exercise.
        verdict: "correct", "incorrect" or "not attempted".
        mistakes: the ids of the mistakes that were recognized.
        message: everything to tell the learner, in lines.
        details: a traceback, to be folded away.
        seed: of the fresh random probe; ``check(..., seed=seed)`` repeats it.
    """

    exercise: str
    verdict: str
    mistakes: tuple[str, ...] = ()
    message: str = ""
    details: str = ""
    seed: int | None = None

    @property
    def headline(self) -> str:
        """The verdict in words, with a sign."""
        return f"{self.exercise}: {HEADLINES[self.verdict]}"

    def __str__(self) -> str:
        return "\n".join(filter(None, [self.headline, self.message]))

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        lines = "".join(f"<div>{html.escape(line)}</div>" for line in self.message.splitlines())
        summary = '<summary style="cursor: pointer; display: list-item">Show the traceback</summary>'
        folded = f"<details>{summary}<pre>{html.escape(self.details)}</pre></details>"
        return (
            f'<div class="bn-report" style="border-left: 4px solid {COLOURS[self.verdict]}; padding-left: 0.8em">'
            f"<strong>{html.escape(self.headline)}</strong>{lines}{folded if self.details else ''}</div>"
        )
