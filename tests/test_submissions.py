"""Submitted notebooks of every kind, right, wrong, broken and hostile, checked from the outside."""

import csv
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import nbformat
import numpy as np
import psutil
import pytest

from bncourse.checks import EXERCISES, fresh_probe
from bncourse.checks.__main__ import main, table, write_csv
from bncourse.checks.exchange import pack, unpack
from bncourse.checks.judge import judge
from bncourse.checks.observe import Outcome, Problem, observe
from bncourse.checks.submissions import Limits, Row, check_notebook, check_notebooks, missing_protections, read

ROOT = Path(__file__).resolve().parent.parent
COMMAND = (sys.executable, "-m", "bncourse.checks")
START = "import numpy as np\nfrom bncourse.checks import check"
RIGHT = {
    "batch_norm_forward": """
def batch_norm_forward(x, weight, bias, eps):
    return weight * (x - x.mean(0)) / np.sqrt(x.var(0) + eps) + bias
""",
    "normalize_channels": """
def normalize_channels(x, eps):
    axes = (0, *range(2, x.ndim))
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)
""",
    "batch_norm_forward_images": """
def batch_norm_forward_images(x, weight, bias, eps):
    x_hat = (x - x.mean((0, 2, 3), keepdims=True)) / np.sqrt(x.var((0, 2, 3), keepdims=True) + eps)
    return weight.reshape(-1, 1, 1) * x_hat + bias.reshape(-1, 1, 1)
""",
    "stable_variance": """
def stable_variance(x):
    return x.var(0)
""",
}
FORWARD = RIGHT["batch_norm_forward"]
WRONG = FORWARD.replace("+ bias", "- bias")
CHECK = 'check("batch_norm_forward", batch_norm_forward)'


def write(path: Path, cells: Iterable[str], chapter: str | None = None) -> Path:
    """A notebook with these code cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip("\n")) for cell in cells])
    if chapter:
        notebook.metadata["bncourse"] = {"chapter": chapter}
    nbformat.write(notebook, path)
    return path


def checked(path: Path, *cells: str, seconds: float = 30, **limits) -> Row:
    """The row of a notebook with one exercise."""
    (row,) = check_notebook(write(path / "submission.ipynb", cells), Limits(seconds, **limits))
    return row


def chapter_2(**replaced: str) -> list[str]:
    """The cells of a whole notebook, some functions replaced."""
    answers = {**RIGHT, **replaced}
    return [START, *(cell for id, code in answers.items() for cell in (code, f'check("{id}", {id})'))]


# Ordinary notebooks


def test_a_right_notebook_is_correct(tmp_path):
    rows = check_notebook(write(tmp_path / "a.ipynb", chapter_2(), "02_forward"), Limits())
    assert [(row.exercise, row.verdict) for row in rows] == [(id, "correct") for id in RIGHT]
    assert all(row.seed is not None and 0 < row.seconds < 60 for row in rows)


def test_an_untouched_notebook_is_not_attempted(tmp_path):
    stubs = {id: f"{code.strip().splitlines()[0]}\n    raise NotImplementedError" for id, code in RIGHT.items()}
    rows = check_notebook(write(tmp_path / "a.ipynb", chapter_2(**stubs), "02_forward"), Limits())
    assert [row.verdict for row in rows] == ["not attempted"] * 4


def test_a_mistake_is_named_and_the_other_exercises_keep_their_verdicts(tmp_path):
    cells = chapter_2(batch_norm_forward=WRONG, stable_variance="")
    rows = {row.exercise: row for row in check_notebook(write(tmp_path / "a.ipynb", cells, "02_forward"), Limits())}
    assert [row.verdict for row in rows.values()] == ["incorrect", "correct", "correct", "not attempted"]
    assert rows["batch_norm_forward"].mistakes == ("F32",)
    assert "You subtracted β" in rows["batch_norm_forward"].message
    assert "no function named stable_variance is defined" in rows["stable_variance"].message.lower()
    assert (
        "code cell 8 raised NameError: name 'stable_variance'" in rows["stable_variance"].message
    )  # empty ones do not count


def test_what_works_in_a_kernel_works(tmp_path):
    cells = [
        "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()",
        "import asyncio\nawait asyncio.sleep(0)",
        "display(get_ipython())\nprint('\\ud800 ✓')",
        "!echo shell",
        "%%writefile helper.py\nfrom numpy import sqrt",
        "from helper import sqrt",
        FORWARD.replace("np.sqrt", "sqrt"),
    ]
    row = checked(tmp_path, START, *cells, CHECK)
    assert (row.verdict, row.message.count("\n")) == ("correct", 0), row.message


def test_an_error_in_a_cell_is_mentioned_and_the_others_run(tmp_path):
    row = checked(tmp_path, START, "", "1 / 0", "input()", "def f(:", FORWARD, CHECK)
    assert row.verdict == "correct"
    assert "code cell 2 raised ZeroDivisionError: division by zero; code cell 3 raised EOFError" in row.message
    assert "code cell 4 raised SyntaxError" in row.message


# Which exercises a notebook should hold


def test_the_chapter_is_found_in_the_metadata_before_the_name(tmp_path):
    path = write(tmp_path / "99_other.ipynb", ["pass"], "02_forward")
    assert [row.exercise for row in check_notebook(path, Limits())] == list(RIGHT)


def test_the_chapter_is_found_in_the_name(tmp_path):
    path = write(tmp_path / "ada 02_forward (1).ipynb", ["pass"], "no chapter")
    assert [row.exercise for row in check_notebook(path, Limits())] == list(RIGHT)


def test_exercises_are_found_by_the_functions_defined(tmp_path):
    row = checked(tmp_path, "%time 1\n" + START, "%%bash\necho", FORWARD, CHECK)
    assert (row.exercise, row.verdict) == ("batch_norm_forward", "correct")


def test_odd_code_does_not_hold_up_the_reading(tmp_path):
    odd = ["%time 1\n" * 5000, "(" * 10**5, "-" * 10**5 + "1", "a" + ".b" * 10**5, "\0", r'"\sigma"' + "\n" + CHECK]
    began = time.monotonic()
    assert read(write(tmp_path / "a.ipynb", [FORWARD, *odd])).intact == {"batch_norm_forward"}
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", "empty"),
        (b"{", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"[1, 2]", "not in the form of a notebook"),
        (b'{"cells": []}', "not in the form of a notebook"),
        (b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": 3}', "not in the form of a notebook"),
        (b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}', "no exercise of the course"),
        (
            b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "code", "source": 3}]}',
            "form",
        ),
    ],
)
def test_what_is_no_notebook_gets_a_row(tmp_path, content, says):
    path = tmp_path / "a.ipynb"
    path.write_bytes(content)
    (row,) = check_notebook(path, Limits())
    assert (row.notebook, row.exercise, row.verdict) == (str(path), "", "not checked")
    assert says in row.message


def test_folders_and_missing_files_get_a_row(tmp_path):
    assert "folder" in check_notebook(tmp_path, Limits())[0].message
    assert "no file" in check_notebook(tmp_path / "none.ipynb", Limits())[0].message


# Notebooks that do not reach their end: nothing in them is correct

ENDLESS = {
    "a cell": ("while True: pass", "after 5 seconds, in code cell 4."),
    "a function that stops the clock": (
        "import signal\ndef batch_norm_forward(*a):\n    signal.setitimer(signal.ITIMER_REAL, 0)\n    while True: pass",
        "after 5 seconds, when batch_norm_forward was called.",
    ),
    "printing": ("while True: print('x' * 1000)", "printed more than 1 MB and was stopped, in code cell 4."),
    "printing by a child": ("import os\nos.system('yes')", "printed more than 1 MB and was stopped, in code cell 4."),
}


@pytest.fixture(scope="module")
def endless(tmp_path_factory) -> dict[str, Row]:
    folder = tmp_path_factory.mktemp("endless")
    paths = [
        write(folder / f"{i}.ipynb", [START, FORWARD, CHECK, cell]) for i, (cell, _) in enumerate(ENDLESS.values())
    ]
    rows = check_notebooks(paths, Limits(seconds=5, output=1), jobs=2)
    return dict(zip(ENDLESS, rows, strict=True))


@pytest.mark.parametrize("name", ENDLESS)
def test_what_does_not_end_is_stopped(endless, name):
    assert endless[name].verdict == "not checked"
    assert ENDLESS[name][1] in endless[name].message
    assert endless[name].seconds < 7


@pytest.mark.parametrize(
    "cell, says",
    [
        ("import sys\nsys.exit()", "It called exit, in code cell 4."),
        ("exit()", "It called exit, in code cell 4."),
        ("quit", "It called exit, in code cell 4."),
        ("import os\nos._exit(0)", "Its process ended too early, in code cell 4."),
        ("import ctypes\nctypes.string_at(0)", "SIGSEGV (Segmentation fault), in code cell 4."),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "SIGKILL (Killed), in code cell 4."),
        ("import numpy\nnumpy.ones(10**9)", "more than 384 MB of memory, in code cell 4."),
        ("many = []\nwhile True: many.append([0] * 10**6)", "more than 384 MB of memory, in code cell 4."),
        ("print('x' * 2 * 10**6)", "printed more than 1 MB"),
        (
            "def batch_norm_forward(x, weight, bias, eps):\n    import os\n    os._exit(0)",
            "ended too early, when batch_norm_forward was called.",
        ),
        ("def batch_norm_forward(x, weight, bias, eps):\n    return np.ones(3 * 10**5)", "returned more than 16 MB"),
    ],
)
def test_what_dies_is_not_checked(tmp_path, cell, says):
    row = checked(tmp_path, START, FORWARD, CHECK, cell, memory=384, output=1)
    assert row.verdict == "not checked"
    assert says in row.message


# Functions that misbehave


@pytest.mark.parametrize(
    "body, says",
    [
        ("while stuck: pass", "took longer than 2 seconds"),
        ("return batch_norm_forward(x, weight, bias, eps)", "RecursionError"),
        ("return np.ones(10**9)", "MemoryError"),
        ("raise KeyboardInterrupt", "ended with KeyboardInterrupt"),
        ("exit()", "SystemExit"),
    ],
)
def test_a_function_that_fails_is_incorrect(tmp_path, body, says):
    function = f"def batch_norm_forward(x, weight, bias, eps):\n    {body}"
    row = checked(tmp_path, START, "stuck = False", function, CHECK, "stuck = True", seconds=12, memory=1024)
    assert row.verdict == "incorrect"
    assert says in row.message


def test_a_function_that_swallows_interrupts_is_not_correct(tmp_path):
    loop = "while stuck:\n        try:\n            while stuck: pass\n        except BaseException: pass"
    function = FORWARD.replace("return", f"{loop}\n    return")
    row = checked(tmp_path, START, "stuck = False", function, CHECK, "stuck = True", seconds=4)
    assert row.verdict in ("incorrect", "not checked")  # an interrupt may also hit it outside of its try


# Classes

FUNCTION = """
class BatchNormFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        std = torch.sqrt(x.var(0, correction=0) + eps)
        ctx.save_for_backward((x - x.mean(0)) / std, std, weight)
        return weight * (x - x.mean(0)) / std + bias

    @staticmethod
    def backward(ctx, dy):
        x_hat, std, weight = ctx.saved_tensors
        dx_hat = dy * weight
        dx = (dx_hat - dx_hat.mean(0) - x_hat * (dx_hat * x_hat).mean(0)) / std
        return dx, (dy * x_hat).sum(0), dy.sum(0), None
"""
CHECK_FUNCTION = 'check("BatchNormFunction", BatchNormFunction)'
STUB = """
class BatchNormFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        raise NotImplementedError()

    @staticmethod
    def backward(ctx, dy):
        raise NotImplementedError()
"""
OTHER_DRIVER = """
import sys
import bncourse.checks as c
for module in [m for name, m in sys.modules.items() if name.startswith("bncourse.checks")]:
    for name in ("drive_function", "array", "gradient", "watched", "by_hand"):
        setattr(module, name, lambda answer, inputs, *more: c.EXERCISES["BatchNormFunction"].operation.run(inputs))
"""
WRONG_FUNCTION = FUNCTION.replace("dy.sum(0)", "dy.mean(0)")


@pytest.mark.parametrize(
    "cells, verdict, says",
    [
        ([FUNCTION], "correct", "Right on"),
        ([WRONG_FUNCTION], "incorrect", "averaged the gradients"),
        ([WRONG_FUNCTION, OTHER_DRIVER], "incorrect", "averaged the gradients"),
        ([FUNCTION.replace(", None", "")], "incorrect", "returns 3 values"),
        ([STUB], "not attempted", "Replace the line"),
        ([FUNCTION, "BatchNormFunction = None"], "incorrect", "Expected the class BatchNormFunction, got None"),
        ([FUNCTION, "del BatchNormFunction"], "not attempted", "No class named BatchNormFunction is defined."),
    ],
    ids=["right", "wrong", "another driver", "gradients", "stub", "none", "deleted"],
)
def test_classes_are_checked_from_the_outside(tmp_path, cells, verdict, says):
    row = checked(tmp_path, START, "import torch", *cells, CHECK_FUNCTION)
    assert (row.exercise, row.verdict) == ("BatchNormFunction", verdict), row.message
    assert says in row.message


# Forgeries

FORGED = {
    "a printed verdict": 'print("batch_norm_forward: ✓ Correct.")',
    "another check": "import bncourse.checks as c\nc.check = check = lambda *a, **k: "
    "c.Report('batch_norm_forward', 'correct')",
    "comparisons that agree": "import numpy\nnumpy.allclose = numpy.array_equal = numpy.isclose = lambda *a, **k: True",
    "another judge": """
import sys
import bncourse.checks as c
for module in [m for name, m in sys.modules.items() if name.startswith("bncourse.checks")]:
    for name in ("judge", "check", "same", "all_same"):
        setattr(module, name, lambda *a, **k: c.Report("batch_norm_forward", "correct"))
""",
    "another observer": """
import sys
import bncourse.checks as c
o = sys.modules["bncourse.checks.observe"]
def observe(exercise, function, probes, *rest):
    return [o.Outcome(exercise.expected(probe)) for probe in [*probes, probes[0]]]
o._call = lambda exercise, function, arrange, probe: o.Outcome(exercise.expected(probe))
o.observe = c.observe = observe
""",
    "a result file": """
import json, pathlib
for folder in pathlib.Path("..").resolve().iterdir():
    (folder / "results.json").write_text(json.dumps({"token": "", "errors": [], "observed": {}}))
""",
    "an object equal to everything": """
class Equal(float):
    __array_priority__ = 1e9
    def __eq__(self, other): return True
    def __array__(self, *a, **k): return np.zeros((5, 3))
    def all(self): return True
    __le__ = __lt__ = __ge__ = __gt__ = __eq__
    __sub__ = __rsub__ = __abs__ = lambda self, *other: self
def batch_norm_forward(x, weight, bias, eps):
    return Equal()
""",
    "an array equal to everything": """
class Equal(np.ndarray):
    def __eq__(self, other): return np.ones(self.shape, bool)
    def __array_ufunc__(self, *a, **k): return np.zeros(self.shape)
def batch_norm_forward(x, weight, bias, eps):
    return x.view(Equal)
""",
    "the course's own answer": """
from bncourse.checks import EXERCISES
def batch_norm_forward(x, weight, bias, eps):
    return EXERCISES["batch_norm_forward"].operation.run(dict(x=x, weight=weight, bias=bias, eps=eps))["y"]
""",
}


@pytest.mark.parametrize("cell", FORGED.values(), ids=FORGED)
def test_forgeries_are_incorrect(tmp_path, cell):
    row = checked(tmp_path, START, WRONG, cell, CHECK)
    assert row.verdict == "incorrect", row.message
    assert "raised" not in row.message.partition("(cell")[2]


def test_a_forged_result_file_of_a_process_that_ends_early_is_not_believed(tmp_path):
    outcomes = honest("batch_norm_forward", lambda x, weight, bias, eps: x)
    results = json.dumps({"token": "", "errors": [], "observed": {"batch_norm_forward": outcomes}})
    cell = f"""
import os, pathlib
for folder in pathlib.Path("..").resolve().iterdir():
    (folder / "results.json").write_text({results!r})
os._exit(0)
"""
    row = checked(tmp_path, START, WRONG, CHECK, cell)
    assert (row.verdict, row.message) == ("not checked", "What its process sent back is not genuine.")


def test_the_notebook_finds_no_job_and_no_answers_in_its_folder(tmp_path):
    seen = tmp_path / "seen"
    cell = f"import pathlib\npathlib.Path({str(seen)!r}).write_text(str([*pathlib.Path('..').rglob('*')]))"
    assert checked(tmp_path, START, FORWARD, CHECK, cell).verdict == "correct"
    assert "exchange/at" in seen.read_text()
    assert "job" not in seen.read_text()


@pytest.mark.parametrize(
    "cell",
    [
        "",
        "# check('batch_norm_forward', batch_norm_forward)",
        'check("batch_norm_forward", lambda *a: 1)',
        'check("stable_variance", batch_norm_forward)',
        'check("batch_norm_forward", stable_variance)',
        'check("batch_norm_forward", batch_norm_forward, seed=1)',
        'print("batch_norm_forward", batch_norm_forward)',
        "%%bash\n" + CHECK,
    ],
)
def test_a_check_cell_that_is_missing_or_changed_is_found(tmp_path, cell):
    assert not read(write(tmp_path / "a.ipynb", [START, FORWARD, cell])).intact
    assert read(write(tmp_path / "a.ipynb", [START, FORWARD, cell, f"%time 1\n{CHECK}"])).intact


@pytest.mark.parametrize("function, verdict", [(FORWARD, "correct"), (WRONG, "incorrect")])
def test_without_its_check_cell_an_exercise_is_not_checked(tmp_path, function, verdict):
    row = checked(tmp_path, START, function, 'check("batch_norm_forward", lambda *a: 1)')
    assert row.verdict == "not checked"
    assert "missing or was changed" in row.message
    assert f"The function itself: {verdict}." in row.message


# What stays behind


def test_threads_and_processes_of_a_notebook_end_with_it(tmp_path):
    pid = tmp_path / "pid"
    cell = f"""
import pathlib, subprocess, threading, time, atexit
threading.Thread(target=time.sleep, args=[60]).start()
atexit.register(time.sleep, 60)
pathlib.Path({str(pid)!r}).write_text(str(subprocess.Popen(["sleep", "60"]).pid))
"""
    row = checked(tmp_path, START, cell, FORWARD, CHECK)
    assert (row.verdict, row.seconds < 30) == ("correct", True), row.message
    left = int(pid.read_text())
    assert not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE


def test_a_check_in_a_submission_marks_nothing_as_solved(tmp_path):
    seen = tmp_path / "seen"
    cell = f"import os, pathlib\npathlib.Path({str(seen)!r}).write_text(str(os.listdir()))"
    assert checked(tmp_path, START, FORWARD, CHECK, cell).verdict == "correct"
    assert seen.read_text() == "[]"


def test_a_notebook_that_clears_its_folder_harms_no_other(tmp_path):
    clear = "import os, shutil\nopen('new', 'w').close()\nshutil.rmtree(os.getcwd())"
    bad = write(tmp_path / "bad.ipynb", [START, clear, WRONG, CHECK])
    good = write(tmp_path / "good.ipynb", [START, FORWARD, CHECK])
    rows = check_notebooks([bad, good], Limits(), jobs=2)
    assert [row.verdict for row in rows] == ["incorrect", "correct"]
    assert sorted(os.listdir(tmp_path)) == ["bad.ipynb", "good.ipynb"]


# Exchange


def honest(id: str, function) -> list[dict]:
    exercise = EXERCISES[id]
    return [pack(one) for one in observe(exercise, function, [*exercise.probes, fresh_probe(exercise, 1)])]


@pytest.mark.parametrize("id", EXERCISES)
def test_observations_arrive_as_they_were(id):
    exercise = EXERCISES[id]
    fresh = fresh_probe(exercise, 1)
    outcomes = [Outcome(exercise.expected(probe), changed=exercise.parameters[:1]) for probe in exercise.probes]
    outcomes[1] = Outcome({name: np.zeros((0, 3), np.float32) for name in exercise.outputs})
    outcomes.append(Outcome(problem=Problem("raised", "says ✗ \ud800", "details", "F01")))
    sent = json.loads(json.dumps([pack(one) for one in outcomes]))
    assert str(judge(exercise, fresh, unpack(sent, exercise), 1)) == str(judge(exercise, fresh, outcomes, 1))


def spoil(**fields) -> list:
    """Honest observations, the first array of which has other fields."""
    outcomes = honest("stable_variance", lambda x: x.var(0))
    outcomes[0]["outputs"]["result"].update(fields)
    return outcomes


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        "correct",
        [None],
        [{}],
        [{"outputs": {}, "problem": None, "changed": []}],
        honest("stable_variance", lambda x: x.var(0))[:3],
        honest("stable_variance", lambda x: x.var(0)) * 2,
        spoil(dtype="object"),
        spoil(dtype=["float64"]),
        spoil(shape=[10**12]),
        spoil(shape=[1]),
        spoil(data="AAAA"),
        spoil(shape=[-1]),
        spoil(shape=[True]),
        spoil(shape=[0, 10**30], data=""),
        spoil(data="!"),
        [{"outputs": None, "problem": {"kind": "raised"}, "changed": []}],
        [{"outputs": None, "problem": {"kind": "raised", "says": "", "details": ""}, "changed": ["y"]}],
    ],
)
def test_malformed_observations_are_refused(data):
    with pytest.raises((ValueError, OverflowError)):
        unpack(data, EXERCISES["stable_variance"])


# The command


def test_the_command_records_every_notebook(tmp_path):
    good = write(tmp_path / "good.ipynb", [START, FORWARD, CHECK])
    wrong = write(tmp_path / "wrong.ipynb", [START, WRONG, CHECK])
    dead = write(tmp_path / "dead.ipynb", [START, FORWARD, CHECK, "import os\nos._exit(1)"])
    broken = tmp_path / "broken.ipynb"
    broken.write_text("{")
    arguments = [wrong, good, dead, broken, "--json", tmp_path / "r.json", "--csv", tmp_path / "r.csv"]
    command = [*COMMAND, *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, encoding="utf-8", cwd=ROOT, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no sandbox" in done.stdout and "You subtracted" in done.stdout
    rows = json.loads((tmp_path / "r.json").read_text())
    assert list(rows[0]) == ["notebook", "exercise", "verdict", "mistakes", "message", "seconds", "seed"]
    assert [row["verdict"] for row in rows] == ["incorrect", "correct", "not checked", "not checked"]
    assert rows[0]["mistakes"] == ["F32"]
    with (tmp_path / "r.csv").open(encoding="utf-8-sig", newline="") as stream:
        assert [row["message"] for row in csv.DictReader(stream)] == [row["message"] for row in rows]


def test_an_interrupt_ends_the_notebooks_and_records_what_was_done(tmp_path):
    pid = tmp_path / "pid"
    cell = f"import os, pathlib, time\npathlib.Path({str(pid)!r}).write_text(str(os.getpid()))\ntime.sleep(60)"
    endless = write(tmp_path / "endless.ipynb", [START, FORWARD, CHECK, cell])
    done = write(tmp_path / "done.ipynb", [START, FORWARD, CHECK])
    later = write(tmp_path / "later.ipynb", [START, FORWARD, CHECK])
    arguments = [done, endless, later, "--jobs", 1, "--json", tmp_path / "r.json"]
    process = subprocess.Popen([*COMMAND, *map(str, arguments)], cwd=ROOT, stdout=subprocess.DEVNULL)
    while not (pid.exists() and pid.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    assert process.wait(30) == 130
    assert not psutil.pid_exists(int(pid.read_text()))
    rows = json.loads((tmp_path / "r.json").read_text())
    assert [row["verdict"] for row in rows] == ["correct", "not checked", "not checked"]
    assert rows[1]["message"] == "The grading was interrupted, in code cell 4."
    assert rows[2]["message"] == "The grading was interrupted, before the first cell."


def test_any_unicode_can_be_printed(tmp_path, monkeypatch):
    path = tmp_path / "✗.ipynb"
    path.write_text("")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert main([str(path)]) == 0
    assert b"\\u2717.ipynb" in written.getvalue()


def test_a_reader_that_leaves_early_does_no_harm(tmp_path):
    process = subprocess.Popen([*COMMAND, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert (process.stderr.read(), process.wait(30)) == (b"", 0)
    process.stderr.close()


def test_missing_protections_are_named(monkeypatch):
    assert missing_protections() == [] or sys.platform != "linux"
    monkeypatch.setattr(sys, "platform", "win32")
    assert "memory" in missing_protections()[0]
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "memory" in missing_protections()[0]


@pytest.mark.parametrize(
    "arguments",
    [[], ["none.ipynb"], [__file__, "--timeout", "0"], [__file__, "--jobs", "x"], [__file__, "--csv", "none/r.csv"]],
)
def test_wrong_usage_has_the_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    capsys.readouterr()


def test_the_help_says_that_this_is_no_sandbox(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "no sandbox" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("start", "=+-@\t\r")
def test_a_spreadsheet_runs_no_formulas(tmp_path, start):
    row = Row("a.ipynb", "", "incorrect", message=f"{start}HYPERLINK(1)\ud800")
    write_csv([row], tmp_path / "r.csv")
    assert f"'{start}HYPERLINK(1)\\ud800" in (tmp_path / "r.csv").read_bytes().decode("utf-8-sig")


def test_the_table_shows_no_control_characters():
    text = table([Row("a\x1b[2J.ipynb", "", "incorrect", message="one\ntwo\x07 three" + "x" * 1000)])
    assert "\x1b" not in text and "\x07" not in text
    assert len(text.splitlines()) == 3 and max(map(len, text.splitlines())) < 240
