"""Run the notebooks of the book in parallel, and never show the output of an older run.

jupyter-cache finds a notebook's outputs by its code alone: after an edit in ``bncourse`` it
would still hand out the old ones. So every state of what the notebooks depend on gets a cache
folder of its own, named by a fingerprint. As a Sphinx extension this module points MyST-NB to
that folder; as a program it fills the folder first, with one process per core.

    python book/_ext/execution.py [ROOT]
"""

import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import re
import shutil
import sys
from pathlib import Path

# Notebooks run side by side, so each computes on one core.
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
DEPENDENCIES = ("bncourse/**/*", "book/results/**/*", "book/*.questions.yml")
QUOTED_SOURCE = re.compile(r"^-{18,}\n(.*?)\n-{18,}$", re.DOTALL | re.MULTILINE)  # as nbclient shows the cell
ANSI_COLOUR = re.compile(r"\x1b\[[\d;]*m")


def fingerprint(root: Path) -> str:
    """A name for the state of everything that a notebook's output depends on, but itself."""
    versions = sorted(f"{package.name}=={package.version}" for package in importlib.metadata.distributions())
    digest = hashlib.sha256("\n".join([sys.version, *versions]).encode())
    for path in sorted(path for pattern in DEPENDENCIES for path in root.glob(pattern)):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(str(path.relative_to(root)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def cache_folder(root: Path) -> Path:
    """Where the outputs of the present state are kept."""
    return root / "_build" / "executed" / fingerprint(root)


def notebooks(root: Path) -> list[Path]:
    """The notebooks of the table of contents, less those that the configuration never runs."""
    from sphinx_external_toc.parsing import parse_toc_yaml

    never_run = settings(root).get("exclude_patterns", [])
    pages = (root / f"{document}.ipynb" for document in parse_toc_yaml(root / "_toc.yml"))
    return [page for page in pages if page.exists() and not any(page.match(pattern) for pattern in never_run)]


def lacking(page: Path) -> list[str]:
    """Which packages are not installed of those that a notebook needs, beside what the course requires everywhere.

    They stand in its metadata, as ``"bncourse": {"needs": ["triton"]}``.
    """
    import nbformat

    needed = nbformat.read(page, as_version=4).metadata.get("bncourse", {}).get("needs", [])
    return [package for package in needed if importlib.util.find_spec(package) is None]


def settings(root: Path) -> dict:
    """What ``_config.yml`` says of execution."""
    import yaml

    return yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8")).get("execute", {})


def run(root: Path) -> list[str]:
    """Run every notebook whose outputs are not known; return a report of each failure."""
    from jupyter_cache import get_cache
    from jupyter_cache.cache.db import NbProjectRecord
    from jupyter_cache.executors import load_executor

    folder = cache_folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    for older in folder.parent.iterdir():
        if older != folder:
            shutil.rmtree(older)
    cache = get_cache(str(folder))
    pages = []
    for page in notebooks(root):
        if missing := lacking(page):
            print(f"{page.relative_to(root)} is shown without outputs: here is no {', '.join(missing)}", flush=True)
        else:
            pages.append(page)
    for page in pages:
        cache.add_nb_to_project(str(page))
    executor = load_executor("local-parallel", cache=cache)
    executor.logger.setLevel(logging.INFO)  # says which notebook starts and which is done
    seconds_per_cell = settings(root).get("timeout", 600)
    result = executor.run_and_cache(filter_uris=[str(page) for page in pages], timeout=seconds_per_cell)
    ran, failed = len(result.succeeded), len(result.excepted) + len(result.errored)
    print(f"Notebooks: {ran} ran, {failed} failed, {len(pages) - ran - failed} unchanged", flush=True)
    tracebacks = {uri: NbProjectRecord.record_from_uri(uri, cache.db).traceback for uri in result.excepted}
    return [failure(uri, traceback) for uri, traceback in tracebacks.items()] + [
        f"{uri}: could not be run, see above" for uri in result.errored
    ]


def failure(uri: str, traceback: str) -> str:
    """Notebook, cell and traceback of a failed run."""
    import nbformat

    quoted = QUOTED_SOURCE.search(traceback)
    cells = nbformat.read(uri, as_version=4).cells
    numbers = [number for number, cell in enumerate(cells, 1) if quoted and cell.source.strip() == quoted[1].strip()]
    return f"{uri}, cell {numbers[0] if numbers else '?'}:\n{ANSI_COLOUR.sub('', traceback)}"


def main(root: Path) -> int:
    """Run the notebooks and print what failed; return the exit status."""
    root = root.resolve()
    # Notebooks import the package beside them, whatever is installed.
    os.environ.update(THREADS, PYTHONPATH=os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")])))
    failures = run(root)
    for report in failures:
        print(f"\nFAILED {report}", file=sys.stderr)
    return 1 if failures else 0


def setup(app) -> dict:
    """Point MyST-NB to the cache of the present state; a new state makes Sphinx read every page again."""

    def use_cache(app, config):
        root = Path(app.confdir)
        config.nb_execution_cache_path = str(cache_folder(root))
        not_run = [str(page.relative_to(root)) for page in notebooks(root) if lacking(page)]
        config.nb_execution_excludepatterns = [*config.nb_execution_excludepatterns, *not_run]

    app.connect("config-inited", use_cache)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
