"""Real processes in one group: what they return, print and leave behind, and how they fail."""

import ctypes
import gc
import io
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import cloudpickle
import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing

from bncourse.distributed import processes
from bncourse.distributed.processes import ProcessError, run, track

MEGABYTE = 1_000_000

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # else each process imports all that the tests need


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where temporary files of the test are; afterwards, there are none."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert not list(tmp_path.glob("bncourse-*"))


def failure(function, *arguments, **options) -> ProcessError:
    with pytest.raises(ProcessError) as caught:
        run(function, *arguments, **options)
    return caught.value


def first_line(error: ProcessError) -> str:
    """What the message says of the likely cause."""
    return str(error).splitlines()[1]


def is_gone(pid: int, seconds: float = 0.0) -> bool:
    """Whether a process has ended, at the latest after some time."""
    end = time.monotonic() + seconds
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.01)


def pids_in(folder: Path) -> list[int]:
    """The numbers of two processes that make files of these names, as soon as they have."""
    end = time.monotonic() + 60
    while len(pids := [int(path.name) for path in folder.glob("[0-9]*")]) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    assert len(pids) == 2
    return pids


# What is called, and what comes back


def test_results_come_in_the_order_of_ranks_from_one_group_of_processes():
    offset = random.random()

    def where():
        time.sleep(0.1 * (2 - dist.get_rank()))  # the last one is the first to return
        return os.getpid(), dist.get_rank() + offset, dist.get_world_size(), dist.get_backend()

    pids, *others = zip(*run(where, processes=3), strict=True)
    assert len({os.getpid(), *pids}) == 4
    assert others == [(offset, 1 + offset, 2 + offset), (3,) * 3, ("gloo",) * 3]
    assert not dist.is_initialized()


def test_collectives_see_every_process():
    parts = torch.randn(3, 5, dtype=torch.float64)

    def add_up(parts):
        part = parts[dist.get_rank()].clone()
        dist.all_reduce(part)
        return part

    for total in run(add_up, parts, processes=3):
        torch.testing.assert_close(total, parts.sum(0))


def test_one_process_is_a_group_as_well():
    assert run(lambda *numbers: (dist.get_world_size(), *numbers), 3, 4, processes=1) == [(1, 3, 4)]


def test_functions_and_classes_travel_by_reference_from_modules_and_by_value_from_elsewhere(folder, monkeypatch):
    (folder / "somewhere.py").write_text("import os\nhere = os.getpid()\nclass Own: pass\ndef look(): return here\n")
    monkeypatch.syspath_prepend(folder)
    import somewhere

    class Local(somewhere.Own):
        pass

    assert len({*run(somewhere.look), os.getpid()}) == 3  # each process has imported it
    first, second = run(lambda: (Local(), somewhere.Own(), lambda x: x + dist.get_rank()))
    assert type(first[0]) is Local and type(second[1]) is somewhere.Own
    assert callable(second[2])


def test_big_tensors_go_there_and_back():
    x = torch.randn(25 * MEGABYTE)
    for y in run(lambda x: x.neg_(), x):
        assert y.equal(-x)
        y[0] = 1.0  # memory of its own, which did not end with the process
    gradient = torch.randn(3, requires_grad=True)
    assert run(lambda x: x * 2, gradient)[1].requires_grad


def test_a_group_may_be_left_early_and_new_groups_made(capfd):
    def leave():
        dist.new_group([0, 1])
        dist.destroy_process_group()
        return True

    assert run(leave, processes=3) == [True] * 3
    assert capfd.readouterr() == ("", "")


def test_no_process_leaves_while_others_still_connect():
    for _ in range(10):
        assert run(dist.get_rank, processes=3) == [0, 1, 2]


def test_the_environment_is_that_of_the_caller_now(monkeypatch):
    def variables():
        return [os.environ.get(name) for name in ("BNCOURSE_TEST", "GLOO_SOCKET_IFNAME")]

    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.setenv("BNCOURSE_TEST", "set")
    assert [name for name, _ in run(variables)] == ["set"] * 2
    monkeypatch.delenv("BNCOURSE_TEST")
    loopback = run(variables)[0][1]
    assert run(variables)[0][0] is None and loopback.startswith("lo")
    assert "GLOO_SOCKET_IFNAME" not in os.environ
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", f"{loopback},{loopback}")
    assert run(variables)[1][1] == f"{loopback},{loopback}"


def test_other_systems_start_every_process_anew(monkeypatch, capfd):
    monkeypatch.setattr(processes, "_context", lambda: multiprocessing.get_context("spawn"))
    assert run(lambda: print("here") or dist.get_rank()) == [0, 1]
    assert capfd.readouterr() == ("here\n" * 2, "")


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        ([3], {}, "a function; got a int"),
        ([print], {"processes": 0}, "1 at least; got 0"),
        ([print], {"processes": 2.0}, "1 at least; got 2.0"),
        ([print], {"timeout": 0}, "a timeout of 0 to 1e.08 seconds; got 0"),
        ([print], {"timeout": 1e10}, "got 10000000000"),
        ([print], {"timeout": None}, "got None"),
        ([print], {"timeout": float("inf")}, "got inf"),
        ([print, threading.Lock()], {}, "that can be pickled .* cannot pickle '_thread.lock'"),
    ],
)
def test_bad_arguments_are_refused(arguments, options, expected):
    with pytest.raises(ValueError, match=expected):
        run(*arguments, **options)


# What is printed


def test_prints_appear_in_the_order_of_ranks_and_nothing_else_does(capfd):
    def speak():
        rank = dist.get_rank()
        time.sleep(0.1 * (2 - rank))
        print("begin", rank, "ä")
        os.write(1, b"not from Python\n")
        print("end", rank, end=";")

    run(speak, processes=3, progress=False)
    text = "".join(f"begin {rank} ä\nnot from Python\nend {rank};" for rank in range(3))
    assert capfd.readouterr() == (text, "")


def test_much_may_be_printed_and_warnings_come_through(capsys):
    def speak():
        print("x" * MEGABYTE)
        warnings.warn(f"careful, {dist.get_rank()}", stacklevel=1)

    run(speak)
    out, err = capsys.readouterr()
    assert out == ("x" * MEGABYTE + "\n") * 2
    assert err.index("UserWarning: careful, 0") < err.index("UserWarning: careful, 1")


def test_prints_of_a_process_that_dies_are_not_lost(capsys):
    def speak():
        print("last words", end="")
        os._exit(0)

    failure(speak)
    assert capsys.readouterr() == ("last words" * 2, "")


# Failures


def fail(how: str) -> None:
    """Rank 1 fails while the others wait for it."""
    if dist.get_rank() == 1:
        {
            "raise": raises,
            "leave": lambda: sys.exit(5),
            "exit": lambda: os._exit(3),
            "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
            "crash": lambda: ctypes.string_at(0),
        }[how]()
    dist.broadcast(torch.ones(1), 1)
    dist.all_reduce(torch.ones(1))


def raises():
    error = ValueError("my own\nerror")
    error.add_note("a note, which comes last in the traceback")
    raise error


@pytest.mark.parametrize(
    ("how", "summary", "details"),
    [
        ("raise", "ValueError: my own error", "a note, which comes last"),
        ("leave", "SystemExit: 5", "sys.exit(5)"),
        ("exit", "ended itself with exit code 3", "exit code 3"),
        ("kill", "died of SIGKILL", "SIGKILL"),
        ("crash", "died of SIGSEGV", "in string_at"),
    ],
)
def test_the_failure_of_one_ends_all_and_comes_first(how, summary, details, capfd):
    began = time.monotonic()
    error = failure(fail, how, processes=3)
    assert time.monotonic() - began < 30  # the timeout is 60
    lines = str(error).splitlines()
    assert lines[0] == "3 of 3 processes failed"
    assert lines[1] == f"rank 1: {summary}"
    others = sorted(line.removesuffix(line[line.index("vain:") :]) for line in lines[2:4])
    assert others == [f"rank {rank}: waited for another one in " for rank in (0, 2)]
    assert set(error.errors) == {0, 1, 2} and details in error.errors[1]
    assert "dist.broadcast(torch.ones(1), 1)" in error.errors[0] and "by peer" in error.errors[0]
    assert not any("worker.py" in text for text in error.errors.values())
    assert error.errors[1].count("most recent call") <= 1, "of the reader's thread alone"
    assert capfd.readouterr() == ("", "")


def test_a_lost_connection_is_never_the_likely_cause_even_in_an_error_of_the_readers_own():
    def wrap():
        if dist.get_rank() == 0:
            time.sleep(1.5)  # rank 1 fails first
            raises()
        try:
            dist.all_reduce(torch.ones(1))
        except RuntimeError as error:
            raise KeyError("wrapped") from error

    error = failure(wrap, timeout=0.5)
    assert first_line(error) == "rank 0: ValueError: my own error"
    assert "KeyError: 'wrapped'" in str(error).splitlines()[2]


def test_of_several_causes_the_earliest_comes_first():
    def one_after_another():
        time.sleep(0.3 * (2 - dist.get_rank()))
        raise ValueError(f"rank {dist.get_rank()}")

    error = failure(one_after_another, processes=3)
    assert str(error).splitlines()[1:4] == [f"rank {rank}: ValueError: rank {rank}" for rank in (2, 1, 0)]


def test_an_endless_process_is_ended_after_the_others_waited_in_vain(monkeypatch):
    def hang():
        if dist.get_rank() == 1:
            while True:
                pass
        dist.all_reduce(torch.ones(1))

    monkeypatch.setattr(processes, "GRACE", 0.5)
    began = time.monotonic()
    error = failure(hang, timeout=1)
    assert 1.4 < time.monotonic() - began < 10
    assert first_line(error) == "rank 1: still ran 0.5 s after another one had failed, and was ended"
    assert "in hang" in error.errors[1] and "Timed out" in error.errors[0]


def test_who_returned_is_the_likely_cause_if_others_waited_in_vain():
    error = failure(lambda: dist.get_rank() or dist.all_reduce(torch.ones(1)), timeout=1)
    assert str(error).startswith("1 of 2 processes failed\nrank 1: returned\nrank 0: waited for another one in vain: ")
    assert set(error.errors) == {0}


def test_parts_of_different_sizes_are_named_by_what_gloo_wrote_before_it_aborted():
    error = failure(lambda: dist.all_reduce(torch.ones(1 + 100_000 * dist.get_rank())))
    assert first_line(error).endswith("died of SIGABRT") and "doesn't match expected size" in str(error)


def test_results_that_cannot_be_sent_are_named():
    error = failure(lambda: {"lock": threading.Lock()})
    assert "got a dict, or what it holds" in first_line(error) and "cannot pickle '_thread.lock'" in str(error)


def test_the_error_can_itself_be_pickled():
    error = failure(raises)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.errors) == (str(error), error.errors)


def test_a_process_that_dies_is_noticed_even_if_a_child_of_its_own_lives(tmp_path):
    def abandon():
        pid = os.fork()
        if not pid:
            time.sleep(20)
            os._exit(0)
        (tmp_path / str(pid)).touch()
        os._exit(7)

    began = time.monotonic()
    try:
        assert first_line(failure(abandon)).endswith("ended itself with exit code 7")
        assert time.monotonic() - began < 10
    finally:
        for pid in pids_in(tmp_path):
            os.kill(pid, signal.SIGKILL)


def test_an_interrupt_ends_all_processes(tmp_path):
    def hang():
        (tmp_path / str(os.getpid())).touch()
        while True:
            time.sleep(0.01)

    def interrupt():
        for pid in pids_in(tmp_path):
            os.kill(pid, signal.SIGINT)  # a terminal sends it to all
        time.sleep(0.2)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run(hang)
    thread.join()
    assert all(map(is_gone, pids_in(tmp_path)))


def counts() -> tuple[int, int, list]:
    """What the caller has open: file descriptors, threads, processes."""
    gc.collect()
    return len(os.listdir("/proc/self/fd")), threading.active_count(), multiprocessing.active_children()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts what Linux tells")
def test_nothing_is_left_behind(folder):
    run(dist.get_rank)  # its server stays
    before = counts()
    pids = run(os.getpid, processes=3)
    for how in ("raise", "kill"):
        failure(fail, how)
    assert counts() == before and not list(folder.iterdir())
    assert all(map(is_gone, pids))


def test_two_threads_may_start_processes_at_the_same_time():
    found = {}

    def call(number):
        found[number] = [run(lambda: (number, dist.get_rank())) for _ in range(3)]

    threads = [threading.Thread(target=call, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [[(number, 0), (number, 1)]] * 3 for number in range(2)}


# Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("terminal", "progress"), [(True, None), (False, True)])
def test_each_process_has_a_bar_for_who_watches(terminal, progress, monkeypatch):
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    assert run(lambda: list(track("abcde")), progress=progress) == [list("abcde")] * 2
    for rank in range(2):
        assert f"process {rank}: 100%" in stream.getvalue()
    assert stream.getvalue().count("5/5") >= 2


@pytest.mark.parametrize(("terminal", "progress"), [(False, None), (True, False)])
def test_there_are_no_bars_if_nobody_watches(terminal, progress, monkeypatch):
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    assert run(lambda: list(track("abcde")), progress=progress) == [list("abcde")] * 2
    assert stream.getvalue() == ""


@pytest.fixture
def heard(monkeypatch):
    """What the parent hears of the progress of rank 1."""
    messages = []

    @contextmanager
    def bars(processes):
        yield lambda rank, progress: messages.append((progress.done, progress.total)) if rank == 1 else None

    monkeypatch.setattr(processes, "_bars", bars)
    return messages


def test_long_loops_send_few_messages(heard):
    def loop():
        for _ in track(range(100)):
            time.sleep(0.005)

    run(loop, progress=True)
    assert heard[0] == (0, 100) and heard[-1] == (100, 100)
    assert 3 <= len(heard) <= 12 and heard == sorted(heard)


def test_many_short_loops_send_few_messages(heard):
    def loop():
        for _ in range(1000):
            list(track(range(3)))

    run(loop, progress=True)
    assert heard[-1] == (3, 3) and len(heard) < 30


def test_a_loop_may_end_early_contain_others_and_have_no_length(heard):
    def loop():
        for letter in track(iter("abc"), total=3):
            for number in track(range(10)):
                time.sleep(0.03)
                if number == 5:
                    break
            if letter == "b":
                break
        return [list(track(iter("de"))), letter, number]

    assert run(loop, progress=True) == [[["d", "e"], "b", 5]] * 2
    assert heard[0] == (0, 3) and heard[-1] == (2, None) and all(total in (3, None) for _, total in heard)


def test_outside_of_run_track_only_iterates(capfd):
    letters = track(iter("abc"))
    assert next(letters) == "a" and list(letters) == ["b", "c"] and capfd.readouterr() == ("", "")


# Where it is called


def python(*arguments: str, **options) -> subprocess.Popen:
    """Another Python."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *arguments], **pipes, **options)


ONE_LINER = """
import os, sys, threading, torch
from torch import distributed as dist
from bncourse.distributed import processes
print(*set(sys.modules) & {"cloudpickle", "sklearn", "matplotlib", "IPython"})
call = lambda: print(processes.run(lambda: print("here") or (dist.get_rank(), torch.get_num_threads())))
thread = threading.Thread(target=call)
thread.start()
thread.join()
"""


def test_it_runs_from_the_command_line_in_a_thread_with_one_thread_per_process_and_imports_late():
    parent = python("-c", ONE_LINER, env={**os.environ, "OMP_NUM_THREADS": "2"})
    assert parent.communicate() == ("\nhere\nhere\n[(0, 1), (1, 1)]\n", "")


SCRIPT = """
import os, sys, time
from pathlib import Path
from bncourse.distributed import processes

def hang(folder):
    (folder / str(os.getpid())).touch()
    while True:
        time.sleep(0.01)

if __name__ == "__main__":
    processes.run(hang, Path(sys.argv[1]))
"""


def test_processes_end_with_a_parent_that_is_killed(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    parent = python(tmp_path / "script.py", tmp_path, env={**os.environ, "TMPDIR": str(tmp_path)})
    try:
        pids = pids_in(tmp_path)
    finally:
        parent.kill()
        parent.communicate()
        for path in tmp_path.glob("bncourse-*"):
            shutil.rmtree(path)
    assert all(is_gone(pid, seconds=10) for pid in pids)


NOTEBOOK = """
from torch import distributed as dist
from bncourse.distributed import processes
# %%
class Point:
    rank = -1

def make(offset):
    point = Point()
    print("rank", dist.get_rank())
    for _ in processes.track(range(3)):
        point.rank = dist.get_rank() + offset
    return point
# %%
points = processes.run(make, 10)
[(type(point) is Point, point.rank) for point in points]
# %%
def fail():
    raise KeyError("of the notebook")

try:
    processes.run(fail)
except processes.ProcessError as error:
    print(error)
"""


def test_functions_of_a_notebook_run(tmp_path):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in NOTEBOOK.split("# %%\n")]
    )
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": tmp_path}}).execute()
    _, _, result, error = [cell.outputs for cell in notebook.cells]
    assert [output.output_type for output in result] == ["stream", "execute_result"]
    assert (result[0].name, result[0].text) == ("stdout", "rank 0\nrank 1\n")
    assert result[1].data["text/plain"] == "[(True, 10), (True, 11)]"
    assert [output.name for output in error] == ["stdout"]
    assert '    raise KeyError("of the notebook")\n' in error[0].text  # the line, which is in no file
