"""Numbers of figures, tables, listings and equations: "2.1" is the first one of chapter 2.

The chapter number comes from the file name (``02_forward``), so a chapter keeps its
numbers when others are added before it. Pages without one count 1, 2, 3.
"""

import re
from pathlib import PurePosixPath

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

AFTER_SPHINX = 900  # Sphinx assigns its own numbers at 500, in the order of the contents


def setup(app: Sphinx) -> dict:
    """Renumber once all pages are read."""
    app.connect("env-get-updated", renumber, priority=AFTER_SPHINX)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def renumber(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Replace Sphinx's numbers, which run through the whole book, page by page."""
    for page, kinds in env.toc_fignumbers.items():
        prefix = chapter_number(page)
        for kind, numbers in kinds.items():
            kinds[kind] = {node_id: (*prefix, count) for count, node_id in enumerate(numbers, start=1)}
    return []


def chapter_number(page: str) -> tuple[int, ...]:
    """``(2,)`` for ``book/02_forward``, ``()`` for a page with no chapter number."""
    match = re.match(r"(\d+)_", PurePosixPath(page).name)
    return (int(match[1]),) if match else ()
