"""Progress bars, for those who watch."""

import sys
from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def with_bar(items: Iterable[Item], total: int, unit: str, progress: bool | None) -> Iterable[Item]:
    """The items, with a progress bar or without."""
    if not (someone_watches() if progress is None else progress):
        return items
    from tqdm.auto import tqdm

    return tqdm(items, total=total, desc="training", unit=unit)


def someone_watches() -> bool:
    """Whether the error stream is a terminal, or the notebook is open in a frontend that could answer a question.

    The programs that execute notebooks for the book and its tests say, with every cell, that they could not.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if hasattr(shell, "get_parent"):  # a notebook
        return bool(shell.get_parent().get("content", {}).get("allow_stdin"))
    return sys.stderr.isatty()
