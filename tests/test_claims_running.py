"""The claims lab runs what is missing, loses nothing that is finished, and computes the same wherever it runs."""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from bncourse.claims import running
from bncourse.claims.claim import Claim
from bncourse.claims.experiment import Setting, Trial, tune
from bncourse.claims.running import Failed, run
from bncourse.models import MLP

CPU = Setting()


# Conditions that are made up; worker processes import them from here.


def noting(log, name, setting):
    """Says that it ran."""
    with log.open("a") as file:
        print(name, file=file)
    return Trial({"threads": [torch.get_num_threads()], "length": [len(name)]}, 0.5, [0.25, 0.5], True, 3)


def failing_once(log, name, setting):
    marker = log.with_name("failed")
    if marker.exists():
        return noting(log, name, setting)
    marker.touch()
    raise ZeroDivisionError("nothing there")


def killed_once(log, name, setting):
    """Killed while the other worker has something to do."""
    marker = log.with_name("killed")
    if marker.exists():
        return noting(log, name, setting)
    marker.touch()
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


def training(learning_rates, setting):
    make = partial(MLP, [setting.features, 8, 10], nn.BatchNorm1d)
    tuned = tune(make, setting, seeds=(0, 1), grid=learning_rates, epochs=2, batch_size=128)
    return tuned.trial({"test accuracy (%)": tuned.accuracy()})


def unkeepable(setting):
    return Trial({"a tensor": [torch.ones(2)]})


def claim(id, conditions):
    nothing = {"claim": "", "source": (), "hypothesis": "", "metric": ""}
    return Claim(id=id, number=1, seeds=(0,), conditions=conditions, measure=list, judge=None, **nothing)


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log.txt"


@pytest.fixture
def here(tmp_path):
    """Options of a run in this process."""
    return {"folder": tmp_path / "kept", "workers": 1, "progress": False}


def ran(log):
    return log.read_text().split() if log.exists() else []


def two_claims(log):
    return [claim(id, {f"{id}{i}": partial(noting, log, f"{id}{i}") for i in range(2)}) for id in "ab"]


def without_seconds(results):
    return {c.id: {name: replace(trial, seconds=0.0) for name, trial in trials.items()} for c, trials in results}


# What is run


def test_every_claim_comes_with_its_trials_as_soon_as_it_is_complete(log, here):
    seen = []
    for complete, trials in run(two_claims(log), CPU, **here):
        seen.append((complete.id, list(trials), ran(log)))
        assert trials[f"{complete.id}0"].values["length"] == [2.0]
    assert seen == [("a", ["a0", "a1"], ["a0", "a1"]), ("b", ["b0", "b1"], ["a0", "a1", "b0", "b1"])]


def test_of_each_claim_unknown_and_long_conditions_start_first(log, here):
    a = claim("a", {name: partial(noting, log, name) for name in ("short", "long", "new")})
    b = claim("b", {"longest": partial(noting, log, "longest")})
    list(run([a, b], CPU, last_seconds={("a", "short"): 1.0, ("a", "long"): 9.0, ("b", "longest"): 99.0}, **here))
    assert ran(log) == ["new", "long", "short", "longest"]


def test_trials_come_back_as_they_were_and_with_their_seconds(log, here):
    [(_, trials)] = run([claim("a", {"x": partial(noting, log, "x")})], CPU, **here)
    assert replace(trials["x"], seconds=0.0) == Trial({"threads": [1], "length": [1]}, 0.5, [0.25, 0.5], True, 3)
    assert 0 < trials["x"].seconds < 5


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1 / 3])
def test_a_trial_survives_being_kept(value):
    trial = Trial({"loss": [value]}, 1 / 3, [1 / 3], False, 2, 0.1)
    assert Trial.from_json(trial.to_json()) == trial


def test_conditions_have_one_thread_and_others_keep_theirs(log, here):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        [(_, trials)] = run([claim("a", {"x": partial(noting, log, "x")})], CPU, **here)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert trials["x"].values["threads"] == [1]


def test_one_worker_and_two_find_the_same(log, here):
    rates = ((0.01, 0.1), (0.1, 1.0), (0.5,))
    conditions = {f"rates {r}": partial(training, r) for r in rates} | {"threads": partial(noting, log, "x")}
    results = [without_seconds(run([claim("a", conditions)], CPU, **{**here, "workers": n})) for n in (1, 2)]
    assert results[0] == results[1]
    assert list(results[1]["a"]) == list(conditions)
    assert len(ran(log)) == 2, "the second run found trials of the first"


# Interruptions


def test_a_condition_that_raises_is_named_and_the_others_are_not_lost(log, here):
    conditions = {name: partial(noting, log, name) for name in ("first", "last")}
    conditions = {"bad one": partial(failing_once, log, "bad"), **conditions}
    claims = [claim("a", conditions), *two_claims(log)[1:]]
    complete = []
    with pytest.raises(Failed, match=r"(?s)a, bad one:\n.*failing_once.*ZeroDivisionError: nothing there"):
        complete += (c.id for c, _ in run(claims, CPU, **here))
    assert ran(log) == ["first", "last", "b0", "b1"]
    results = without_seconds(run(claims, CPU, **here))
    assert ran(log)[4:] == ["bad"]
    assert list(results["a"]) == ["bad one", "first", "last"] and list(results["b"]) == ["b0", "b1"]


def test_what_was_complete_before_a_failure_has_been_handed_on(log, here):
    good, bad = two_claims(log)[0], claim("bad", {"x": partial(failing_once, log, "x")})
    results = run([bad, good], CPU, **here)
    assert next(results)[0] is good
    with pytest.raises(Failed):
        next(results)


def test_a_trial_that_cannot_be_kept_is_a_failure(log, here):
    with pytest.raises(Failed, match=r"(?s)a, x:.*not JSON serializable"):
        list(run([claim("a", {"x": unkeepable, "y": partial(noting, log, "y")})], CPU, **here))
    assert ran(log) == ["y"]


def test_a_killed_worker_costs_only_what_it_was_doing(log, here):
    conditions = {"a": partial(noting, log, "a"), "victim": partial(killed_once, log, "victim")}
    options = {**here, "workers": 2}
    with pytest.raises(Failed, match="A worker process was killed.*same command again"):
        list(run([claim("c", conditions)], CPU, **options))
    [(_, trials)] = run([claim("c", conditions)], CPU, **options)
    assert ran(log) == ["a", "victim"] and list(trials) == ["a", "victim"]


def test_whoever_stops_early_goes_on_from_there(log, here, capsys):
    with closing(run(two_claims(log), CPU, **here)) as results:
        next(results)
    assert capsys.readouterr().err == ""
    assert [c.id for c, _ in run(two_claims(log), CPU, **here)] == ["a", "b"]
    assert ran(log) == ["a0", "a1", "b0", "b1"]
    assert capsys.readouterr().err == "Going on: 2 of 4 conditions are finished.\n"


def interrupted(log, here):
    """A run that was interrupted when the first claim was complete."""
    with closing(run(two_claims(log), CPU, **here)) as results:
        next(results)
    return sorted(here["folder"].rglob("*.json"))


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '{"values": {}, "unknown": 1}'])
def test_a_file_that_holds_no_trial_counts_for_nothing(text, log, here):
    interrupted(log, here)[0].write_text(text)
    results = without_seconds(run(two_claims(log), CPU, **here))
    assert len(ran(log)) == 5 and list(results["a"]) == ["a0", "a1"]


def test_a_half_written_file_counts_for_nothing(log, here, monkeypatch):
    real = Path.write_text

    def out_of_space(self, text, **options):
        real(self, text[:20], **options)
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", out_of_space)
        with pytest.raises(OSError, match="no space left"):
            list(run(two_claims(log), CPU, **here))
    assert [file.suffix for file in here["folder"].rglob("*.*")] == [".part"]
    assert [c.id for c, _ in run(two_claims(log), CPU, **here)] == ["a", "b"]


@pytest.mark.parametrize("setting", [Setting(seeds=(0,)), Setting("mnist"), Setting(device="cuda")])
def test_with_another_setting_everything_runs_anew(setting, log, here):
    interrupted(log, here)
    list(run(two_claims(log), setting, **here))
    assert len(ran(log)) == 6
    list(run(two_claims(log), CPU, **here))
    assert len(ran(log)) == 8, "what was unfinished before is still there"


def test_with_another_package_everything_runs_anew(log, here, monkeypatch):
    interrupted(log, here)
    monkeypatch.setattr(running, "CODE", "other")
    list(run(two_claims(log), CPU, **here))
    assert len(ran(log)) == 6


def test_the_code_has_another_name_after_every_change(tmp_path, monkeypatch):
    package = tmp_path / "package"
    shutil.copytree(running.PACKAGE / "claims", package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(running, "PACKAGE", package)
    names = [running._code()]
    (package / "depth2.py").write_text("WIDTH = 1")
    names.append(running._code())
    (package / "depth2.py").write_text("WIDTH = 2")
    names.append(running._code())
    (package / "depth2.py").rename(package / "depth3.py")
    names.append(running._code())
    monkeypatch.setattr(running.record, "versions", lambda: {"torch": "0"})
    names.append(running._code())
    assert len(set(names)) == 5 and running._code() == names[-1]


def test_a_worker_with_other_code_runs_nothing(log):
    task, outcome = running._outcome(("a", "x"), partial(noting, log, "x"), CPU, "older")
    assert task == ("a", "x") and "package has changed" in outcome and ran(log) == []


def test_in_the_end_nothing_is_left(log, here):
    interrupted(log, here)
    list(run(two_claims(log), CPU, **here))
    assert list(here["folder"].iterdir()) == []


def test_finishing_one_claim_leaves_what_others_have(log, here):
    interrupted(log, here)
    list(run(two_claims(log)[1:], CPU, **here))
    list(run(two_claims(log), CPU, **here))
    assert ran(log) == ["a0", "a1", "b0", "b1", "b0", "b1"]


def test_conditions_of_one_name_in_two_claims_are_two(log, here):
    claims = [claim(id, {"none": partial(noting, log, length * "x")}) for length, id in enumerate("ab", 1)]
    lengths = [trials["none"].values["length"] for _, trials in run(claims, CPU, **here)]
    assert lengths == [[1], [2]]
    with closing(run([*claims, claim("c", {"x": partial(failing_once, log, "c")})], CPU, **here)) as results:
        assert [next(results)[0].id for _ in range(2)] == ["a", "b"]
    assert [trials["none"].values["length"] for _, trials in run(claims, CPU, **here)] == [[1], [2]]


def test_what_was_left_unfinished_is_removed_after_a_day(log, here):
    old, new = (here["folder"] / name for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "trial.json").touch()
    os.utime(old, (time.time() - 25 * 3600,) * 2)
    list(run(two_claims(log), CPU, **here))
    assert [folder.name for folder in here["folder"].iterdir()] == ["new"]


# Ctrl-C

PROGRAM = """
import sys, time
from functools import partial
from pathlib import Path
from bncourse.claims import CLAIMS, __main__, claim, record, running
from bncourse.claims.experiment import Trial

folder = Path(sys.argv[1])
running.UNFINISHED, record.RESULTS = folder / "kept", folder / "results"

def condition(name, setting):
    with (folder / "log.txt").open("a") as file:
        print(name, file=file, flush=True)
    while name == "a" and sys.argv[2] == "2" and "b" not in (folder / "log.txt").read_text():
        time.sleep(0.1)  # until the other worker has begun
    while name == "slow" and not (folder / "hurry").exists():
        time.sleep(0.1)
    return Trial({"x": [1.0]})

def judge(findings):
    return claim.Verdict("supported", "It ran.")

if __name__ == "__main__":
    common = dict(claim="", source=(), hypothesis="", metric="", seeds=(), measure=lambda trials: [], judge=judge)
    for i, names in enumerate((["a", "b"], ["c", "slow"])):
        conditions = {name: partial(condition, name) for name in names}
        CLAIMS[f"made up {i}"] = claim.Claim(id=f"made up {i}", number=i, conditions=conditions, **common)
    __main__.main(["made up 0", "made up 1", "--workers", sys.argv[2]])
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interruption_keeps_what_is_finished_and_ends_the_workers(workers, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), str(tmp_path), str(workers)]
    env = os.environ | {"PYTHONPATH": str(running.PACKAGE.parent), "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": env}
    first = subprocess.Popen(command, start_new_session=True, **pipes)
    said = first.stdout.readline() + first.stdout.readline()
    assert re.fullmatch(r"made up 0: SUPPORTED \(\d s\)\n    It ran.\n", said), "a complete claim is recorded at once"
    wait_for(lambda: ran(tmp_path / "log.txt")[3:] and len(list(tmp_path.glob("kept/*/*.json"))) == 3, first)
    os.killpg(first.pid, signal.SIGINT)  # as a terminal does: to all processes
    out, err = first.communicate(timeout=300)
    interrupted = "Interrupted. What is finished is kept: the same command goes on from here.\n"
    assert (first.returncode, out, err) == (130, "", interrupted)
    assert "made up 0" in (tmp_path / "results" / "claims.json").read_text()
    wait_for(lambda: not alive(first.pid), None)

    (tmp_path / "hurry").touch()
    second = subprocess.run(command, check=False, timeout=300, **pipes)
    assert (second.returncode, second.stderr) == (0, "Going on: 3 of 4 conditions are finished.\n")
    assert sorted(ran(tmp_path / "log.txt")) == ["a", "b", "c", "slow", "slow"]
    assert "made up 1: SUPPORTED" in second.stdout


def wait_for(condition, process, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.05)


def alive(group):
    """Processes of a group that are not waiting to be buried."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if line.split()[0] == str(group) and "Z" not in line]


# Progress


def test_a_terminal_gets_a_bar_on_its_error_stream(log, here, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    list(run(two_claims(log), CPU, **{**here, "progress": None}))
    seen = capsys.readouterr()
    assert "4/4" in seen.err and seen.out == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    list(run(two_claims(log), CPU, **{**here, "progress": None}))
    assert capsys.readouterr() == ("", "")
