"""The claims are whole, their record is what their rules say, and a part of it comes out again."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bncourse import data
from bncourse.claims import CLAIMS, MODULES, __main__, record, running
from bncourse.claims.claim import NOT_TESTABLE, VERDICTS, Claim, Measurement, Verdict
from bncourse.claims.experiment import SIZES, Setting, Trial
from bncourse.claims.running import one_thread
from bncourse.claims.statistics import mean

ROOT = Path(__file__).parent.parent
RECORD = record.RESULTS / "claims.json"
FIELDS = ["id", "claim", "source", "hypothesis", "metric", "seeds", "measurements", "verdict", "versions", "seconds"]
PROVENANCE = ["because", "conditions", "data", "device", "machine", "date", "command", "commit"]

recorded = pytest.mark.skipif(not RECORD.exists(), reason=f"{RECORD.name} is not there: run make claims")
each_claim = pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)


# The claims


def test_every_module_with_a_claim_is_run():
    modules = (ROOT / "bncourse" / "claims").glob("*.py")
    assert {file.stem for file in modules if "\nCLAIM = Claim(" in file.read_text("utf-8")} == set(MODULES)


def test_claims_have_ids_and_words_of_their_own():
    assert [claim.id for claim in CLAIMS.values()] == list(MODULES)
    assert len({claim.claim for claim in CLAIMS.values()}) == len(CLAIMS)  # neighbours share a number


@each_claim
def test_a_claim_says_what_is_asked_and_where_it_is_published(claim):
    entries = re.findall(r"^@\w+\{([^,\s]+)", (ROOT / "book" / "references.bib").read_text("utf-8"), re.MULTILINE)
    assert claim.source and set(claim.source) <= set(entries)
    assert all(text.strip() for text in (claim.claim, claim.hypothesis, claim.metric))


@each_claim
def test_a_claim_has_five_seeds_or_more_and_conditions_for_a_slice(claim):
    assert len(set(claim.seeds)) == len(claim.seeds) >= 5
    assert claim.slice and set(claim.slice) <= set(claim.conditions)


# The record


def reject(constant):
    raise ValueError(f"{constant} is not JSON")


@recorded
def test_the_record_is_strict_json_with_every_claim_once():
    whole = json.loads(RECORD.read_text("utf-8"), parse_constant=reject)
    assert list(whole) == ["claims"]
    assert sorted(e["id"] for e in whole["claims"]) == sorted(CLAIMS)


@recorded
@each_claim
def test_an_entry_has_every_field_and_the_words_of_its_claim(claim):
    entry = record.load(claim.id, RECORD)
    assert set(FIELDS + PROVENANCE) <= set(entry.fields)
    same = ("id", "number", "claim", "hypothesis", "metric")
    assert [entry[name] for name in same] == [getattr(claim, name) for name in same]
    assert (entry["source"], entry["seeds"]) == (list(claim.source), list(claim.seeds))
    assert sorted(entry["conditions"]) == sorted(claim.conditions)


@recorded
@each_claim
def test_an_entry_says_when_where_and_with_what_it_was_made(claim):
    entry = record.load(claim.id, RECORD)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", entry["date"])
    assert (entry["data"], entry["device"]) == ("digits", "cpu") and entry["machine"]
    assert entry["versions"].keys() == record.versions().keys()
    assert entry["command"].startswith("python -m bncourse.claims")
    assert re.fullmatch("[0-9a-f]{12}", entry["commit"]), "the rule is committed before the run"
    assert entry["seconds"] == pytest.approx(sum(c["seconds"] for c in entry["conditions"].values()), abs=5)


@recorded
@each_claim
def test_the_recorded_verdict_is_what_the_rule_says_of_the_recorded_measurements(claim):
    entry = record.load(claim.id, RECORD)
    assert claim.judge(entry.findings) == entry.verdict
    assert entry.verdict.verdict in VERDICTS


@recorded
@each_claim
def test_estimates_lie_in_their_intervals_and_follow_from_the_values(claim):
    entry = record.load(claim.id, RECORD)
    assert len(entry.findings) == len(entry.measurements) > 0, "two measurements have the same name"
    for m in entry.measurements:
        assert m.interval.low <= m.interval.estimate <= m.interval.high, m
        if m.values:
            assert len(m.values) == len(claim.seeds), m
            means = [np.mean(m.values)] + ([np.exp(np.log(m.values).mean())] if min(m.values) > 0 else [])
            slack = 1e-5 * max(map(abs, m.values))
            if m.condition in claim.conditions:
                assert min(abs(m.interval.estimate - value) for value in means) <= slack, m
            assert min(m.values) - slack <= m.interval.estimate <= max(m.values) + slack, m


@recorded
@each_claim
def test_the_whole_lab_takes_less_than_its_time_on_two_cores(claim):
    whole = sum(record.load(id, RECORD)["seconds"] for id in CLAIMS) / 2
    longest = max(c["seconds"] for c in record.load(claim.id, RECORD)["conditions"].values())
    assert whole < 45 * 60 and longest < 180


SLICES = [(claim, name) for claim in CLAIMS.values() for name in claim.slice]


@recorded
@pytest.mark.parametrize(("claim", "name"), SLICES, ids=[f"{claim.id}, {name}" for claim, name in SLICES])
def test_a_slice_comes_out_within_the_recorded_intervals(claim, name):
    entry = record.load(claim.id, RECORD)
    rate = entry["conditions"][name]["learning_rate"]
    with one_thread():
        trial = claim.conditions[name](Setting(learning_rates=None if rate is None else (rate,)))
    measured = {q: values for q, values in trial.values.items() if (name, q) in entry.findings}
    assert measured, "nothing of it is in the record"
    for quantity, values in measured.items():
        interval = entry.findings[name, quantity]
        slack = 1e-5 * max(abs(interval.low), abs(interval.high))  # numbers are recorded with six digits
        assert len(values) == len(claim.seeds)
        assert interval.low - slack <= np.mean(values) <= interval.high + slack, quantity


# The command


def made_up(setting):
    return Trial({"pixels": [float(setting.features), setting.parts()(0).train.x.abs().max().item()]})


def bad(setting):
    raise ZeroDivisionError("nothing there")


def measure(trials):
    return [Measurement(name, "pixels", mean(trial.values["pixels"])) for name, trial in trials.items()]


def judge(findings):
    return Verdict(
        "qualified", "A reason that is so long that it does not fit into one line of a terminal, so it goes on."
    )


def claim(id, condition=made_up, judge=judge):
    words = {"claim": "", "source": (), "hypothesis": "", "metric": ""}
    return Claim(id=id, number=1, seeds=(0, 1), conditions={"a": condition}, measure=measure, judge=judge, **words)


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A lab of made-up claims; runs a command there."""
    claims = [claim("one"), claim("bad", bad), claim("unjudged", judge=lambda findings: 1 / 0), claim("two")]
    for name in list(CLAIMS):
        monkeypatch.delitem(CLAIMS, name)
    for c in claims:
        monkeypatch.setitem(CLAIMS, c.id, c)
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr(running, "UNFINISHED", tmp_path / "kept")
    return lambda *arguments: __main__.main([*arguments, "--workers", "1"])


def ids(file):
    return [e["id"] for e in json.loads(file.read_text())["claims"]]


def test_one_claim_is_run_and_its_verdict_and_reason_are_printed(lab, tmp_path, capsys):
    lab("two")
    out = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"two: QUALIFIED \(\d+ s\)", out[0])
    assert out[1:3] == [
        "    A reason that is so long that it does not fit into one line of a terminal,",
        "    so it goes on.",
    ]
    assert re.fullmatch(rf"\d+ s; the record is {re.escape(str(tmp_path / 'claims.json'))}", out[3])
    assert ids(tmp_path / "claims.json") == ["two"]
    assert record.load("two")["command"] == "python -m bncourse.claims two --workers 1"


def test_without_an_id_all_are_run_and_what_fails_costs_no_other_claim(lab, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        lab()
    assert re.search("bad, a:\n.*ZeroDivisionError: nothing there", ended.value.code, re.DOTALL)
    assert "unjudged: its numbers could not be judged: ZeroDivisionError: division by zero" in ended.value.code
    assert ids(tmp_path / "claims.json") == ["one", "two"]
    assert list((tmp_path / "kept").rglob("*.json")), "the next call has to run all anew"


def test_a_claim_that_is_named_twice_is_run_once(lab, capsys):
    lab("one", "one")
    assert capsys.readouterr().out.count("one: QUALIFIED") == 1


def test_other_data_give_a_record_of_their_own(lab, tmp_path, monkeypatch):
    for name in ("mnist", "cifar10"):
        channels, side = SIZES[name]
        part = data.Part(torch.full((4, channels * side**2), 3.0), torch.zeros(4, dtype=torch.int64))
        monkeypatch.setattr(data, name, lambda form, seed, part=part: data.Data(part, part, part))
        lab("one", "--data", name)
        entry = record.load("one", tmp_path / f"claims-{name}-cpu.json")
        assert entry.findings["a", "pixels"].estimate == (channels * side**2 + 3) / 2 and entry["data"] == name
    assert not (tmp_path / "claims.json").exists()


def test_data_that_cannot_be_had_are_said_to_be_missing_in_one_line(lab, monkeypatch):
    def missing(form, seed):
        raise FileNotFoundError("expected the data set; got none; do something")

    monkeypatch.setattr(data, "mnist", missing)
    with pytest.raises(SystemExit) as ended:
        lab("one", "--data", "mnist")
    assert ended.value.code == "expected the data set; got none; do something"


def test_a_missing_gpu_is_said_to_be_missing_in_one_line(lab, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        lab("one", "--device", "cuda")
    assert ended.value.code == "PyTorch finds no CUDA device here; leave out --device cuda"
    assert not list(tmp_path.iterdir())


def test_an_unknown_claim_is_answered_with_those_there_are(lab, capsys):
    with pytest.raises(SystemExit) as ended:
        lab("one", "depht")
    assert ended.value.code == 2
    assert "no such claim: depht; choose of: one, bad, unjudged, two" in capsys.readouterr().err


def test_help_names_the_claims():
    command = [sys.executable, "-m", "bncourse.claims", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert all(claim in shown for claim in CLAIMS)
    assert "--data" in shown and "--device" in shown


def test_make_claims_runs_the_lab():
    shown = subprocess.run(["make", "-n", "claims"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    # Below another make, as in `make test`, it also says which folder it is in.
    assert any(line.endswith("/python -m bncourse.claims") for line in shown.splitlines())


# Judging again


@recorded
def test_judging_again_renews_words_and_verdict_and_leaves_the_numbers(tmp_path, monkeypatch, capsys):
    whole = json.loads(RECORD.read_text("utf-8"))
    stale = [{**e, "metric": "an older one", "verdict": NOT_TESTABLE, "because": ""} for e in whole["claims"]]
    (tmp_path / "claims.json").write_text(json.dumps({"claims": stale}))
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    __main__.main(["--judge"])
    assert json.loads((tmp_path / "claims.json").read_text("utf-8")) == whole
    assert "depth: NOT SUPPORTED" in capsys.readouterr().out
