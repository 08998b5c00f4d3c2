"""Tables as text."""

from collections.abc import Sequence


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns side by side, each as wide as its longest cell."""
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in [header, *lines])
