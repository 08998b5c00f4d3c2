"""Shows functions of the package in a chapter, so that readers see the very code that is measured."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.display import Markdown


def show_source(*functions: Callable, docstrings: bool = True) -> "Markdown":
    """The code of functions or classes, one below the other, highlighted in Jupyter and on the page.

    Args:
        functions: what to show.
        docstrings: False leaves out the one at the top of each.
    """
    from IPython.display import Markdown

    sources = [inspect.getsource(function).rstrip() for function in functions]
    code = "\n\n".join(sources if docstrings else map(_without_docstring, sources))
    return Markdown(f"```python\n{code}\n```")


def _without_docstring(source: str) -> str:
    (definition,) = ast.parse(textwrap.dedent(source)).body
    if ast.get_docstring(definition) is None:
        return source
    docstring, lines = definition.body[0], source.splitlines()
    return "\n".join(lines[: docstring.lineno - 1] + lines[docstring.end_lineno :])
