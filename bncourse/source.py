"""Shows functions of the package in a chapter, so that readers see the very code that is measured."""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.display import Markdown


def show_source(*functions: Callable) -> "Markdown":
    """The code of functions or classes, one below the other, highlighted in Jupyter and on the page."""
    from IPython.display import Markdown

    code = "\n\n".join(inspect.getsource(function).rstrip() for function in functions)
    return Markdown(f"```python\n{code}\n```")
