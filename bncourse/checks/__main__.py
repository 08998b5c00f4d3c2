"""Check submitted notebooks: each runs in a fresh process, and what its functions return is compared outside of it."""

import argparse
import csv
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from tabulate import tabulate

from .submissions import Limits, Row, check_notebooks, missing_protections

WARNING = (
    "This is no sandbox against malicious code: a notebook runs with your rights, and can read and delete your files. "
    "Run notebooks that you do not trust in a container or on a machine that holds nothing else."
)
COLUMNS = tuple(field.name for field in fields(Row))
WIDEST = 160  # characters of a message in the table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the notebooks, write the results, print the table; the exit status."""
    options = _options(arguments)
    stop = threading.Event()
    limits = Limits(seconds=options.timeout, memory=options.memory)
    rows = check_notebooks(options.notebooks, limits, options.jobs, stop)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    if options.csv:
        write_csv(rows, options.csv)
    _print("\n".join([table(rows), "", *missing_protections(), WARNING]))
    return 130 if stop.is_set() else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bncourse.checks", description=__doc__, epilog=WARNING)
    parser.add_argument("notebooks", nargs="+", type=_existing, metavar="NOTEBOOK")
    parser.add_argument("--json", type=_writable, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--csv", type=_writable, metavar="FILE", help="write the results for a spreadsheet")
    parser.add_argument("--timeout", type=_above(0, float), default=Limits.seconds, metavar="SECONDS",
                        help="for one notebook; default %(default)g")  # fmt: skip
    parser.add_argument("--memory", type=_above(0, int), default=Limits.memory, metavar="MB",
                        help="for one notebook; default %(default)s")  # fmt: skip
    parser.add_argument("--jobs", type=_above(0, int), default=_cores(), metavar="N",
                        help="notebooks that run at the same time; default: one per core")  # fmt: skip
    return parser.parse_args(arguments)


def _existing(text: str) -> Path:
    path = Path(text)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"{text} does not exist")
    return path


def _writable(text: str) -> Path:
    """Refuses before hours of work what could not be written after them."""
    path = Path(text)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} cannot be written")
    return path


def _above(bound: float, kind: type) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = kind(text)
        if not bound < value < float("inf"):
            raise argparse.ArgumentTypeError(f"expected a number above {bound}, got {text}")
        return value

    return number


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def table(rows: Sequence[Row]) -> str:
    """One line per row, for people; what a notebook printed cannot move the cursor here."""
    header = ("notebook", "exercise", "verdict", "mistakes", "what happened")
    lines = [
        tuple(map(_plain, (row.notebook, row.exercise, row.verdict, " ".join(row.mistakes), _short(row.message))))
        for row in rows
    ]
    return tabulate(lines, header, tablefmt="simple", disable_numparse=True)


def _short(message: str) -> str:
    text = " ".join(message.split())
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else "�" for character in text)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """The rows for a spreadsheet. It marks UTF-8, and no cell of it is taken for a formula."""
    with path.open("w", encoding="utf-8-sig", errors="backslashreplace", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for row in rows:
            values = {**asdict(row), "mistakes": " ".join(row.mistakes)}
            writer.writerow([_no_formula(value) for value in values.values()])


def _no_formula(value: object) -> object:
    dangerous = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if dangerous else value


def _print(text: str) -> None:
    """Print any Unicode on any terminal; a reader such as ``head`` may leave early."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no notebook outlives the grading
    sys.exit(main())
