"""What the claims lab records is whole, strict JSON that the rule agrees with; tables print it."""

import datetime
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from bncourse.claims import record
from bncourse.claims.claim import NOT_SUPPORTED, SUPPORTED, Claim, Measurement, Verdict
from bncourse.claims.experiment import Setting, Trial
from bncourse.claims.record import Entry
from bncourse.claims.statistics import Interval, mean

ACCURACY, STEPS = "test accuracy (%)", "steps to 95 % of the validation part"


def measure(trials):
    """Means, and a difference that is not of one condition."""
    found = [Measurement(n, ACCURACY, mean(t.values[ACCURACY]), tuple(t.values[ACCURACY])) for n, t in trials.items()]
    return [*found, Measurement("all", STEPS, Interval(1234.5678, 1000.0, 2000.0))]


def judge(findings):
    low = findings["none", ACCURACY].low
    return Verdict(SUPPORTED if low >= 90 else NOT_SUPPORTED, f"It has {low}.")


CLAIM = Claim(
    id="made_up",
    number=3,
    claim="Words",
    source=("ioffe2015batch",),
    hypothesis="More words",
    metric="Numbers",
    seeds=(0, 1),
    conditions={"batch norm": None, "none": None},
    measure=measure,
    judge=judge,
)
TRIALS = {
    "batch norm": Trial({ACCURACY: [97.0, 98.0]}, 2.0, [0.5, 1.0, 2.0], True, 2, 1.26),
    "none": Trial({ACCURACY: [95.0, 95.0]}, 0.015625, [0.015625, 0.03125], True, 0, 2.0),
    "probe": Trial({ACCURACY: [10.0, 10.5]}, seconds=0.5),
}


def entry(claim=CLAIM, trials=TRIALS, setting=None):
    return record.entry(claim, trials, setting or Setting(), "python -m bncourse.claims made_up")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "results" / "claims.json"


# An entry


def test_an_entry_has_the_claim_its_measurements_and_where_they_come_from():
    found = entry()
    words = ("id", "number", "claim", "source", "hypothesis", "metric", "seeds", "verdict", "because")
    assert [found[name] for name in words] == [
        *("made_up", 3, "Words", ["ioffe2015batch"], "More words", "Numbers", [0, 1]),
        *("supported", "It has 95.0."),
    ]
    low, high = 97.5 - 12.7062 / 2, 97.5 + 12.7062 / 2  # Student's t of one degree of freedom
    assert found["measurements"][0] == {
        "condition": "batch norm",
        "quantity": ACCURACY,
        "estimate": 97.5,
        "interval": pytest.approx([low, high], abs=1e-3),
        "values": [97, 98],
    }
    batch_norm = {"learning_rate": 2, "grid": [0.5, 1, 2], "on_edge": True, "diverged": 2, "seconds": 1.3}
    assert found["conditions"]["batch norm"] == batch_norm
    assert (found["data"], found["device"], found["seconds"]) == ("digits", "cpu", 3.8)
    assert found["date"] == datetime.date.today().isoformat()
    assert found["command"] == "python -m bncourse.claims made_up"
    assert found["versions"].keys() == {"python", "numpy", "scikit-learn", "scipy", "torch"}
    assert found["machine"] and found["commit"]


def test_an_entry_names_the_seeds_that_were_run():
    assert entry(setting=Setting(seeds=(7, 8)))["seeds"] == [7, 8]


def test_the_rule_judges_the_numbers_that_are_recorded():
    """A number that misses a threshold by less than is recorded could be judged one way, and read the other way."""
    trials = TRIALS | {"none": Trial({ACCURACY: [90 - 1e-6, 90 - 1e-6]})}
    found = entry(trials=trials)
    assert found["measurements"][1]["interval"] == [90, 90] and found["verdict"] == SUPPORTED
    assert CLAIM.judge(Entry(found).findings) == Entry(found).verdict


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["interval", "values"])
def test_a_number_that_is_none_is_an_error_that_names_it(number, where):
    interval, values = Interval(1.0, 0.0, 2.0), (1.0,)
    changed = {"interval": replace(interval, high=number)} if where == "interval" else {"values": (number,)}
    measurement = replace(Measurement("here", "loss", interval, values), **changed)
    with pytest.raises(ValueError, match="expected finite numbers; got .*'here'.*'loss'.*; decide"):
        entry(replace(CLAIM, measure=lambda trials: [measurement]))


# The file


def test_larger_runs_have_a_record_of_their_own(tmp_path):
    files = {
        record.path(Setting(data, device)) for data in ("digits", "mnist", "cifar10") for device in ("cpu", "cuda")
    }
    assert len(files) == 6 and {file.parent for file in files} == {record.RESULTS}
    assert record.path() == record.path(Setting()) == record.RESULTS / "claims.json"
    assert record.path(Setting("mnist", "cuda"), tmp_path) == tmp_path / "claims-mnist-cuda.json"


def test_entries_come_back_as_they_were_saved(file):
    record.save([entry()], file)
    loaded = record.load("made_up", file)
    assert loaded.fields == entry() and loaded["seeds"] == [0, 1]
    assert loaded.findings["none", ACCURACY] == Interval(95, 95, 95)
    assert loaded.measurements[1].values == (95, 95)
    assert loaded.verdict == Verdict(SUPPORTED, "It has 95.0.")


def test_an_entry_replaces_the_older_one_of_its_claim_and_no_other(file):
    a, b, c = ({**entry(), "id": id, "number": number} for id, number in (("a", 10), ("b", 9), ("c", 11)))
    record.save([a, b], file)
    record.save([c, {**a, "claim": "New words"}], file)
    saved = json.loads(file.read_text())
    assert list(saved) == ["claims"]
    assert [(e["id"], e["claim"]) for e in saved["claims"]] == [("b", "Words"), ("a", "New words"), ("c", "Words")]


def test_what_cannot_be_written_leaves_the_record_as_it_was(file):
    record.save([entry()], file)
    before = file.read_text()
    with pytest.raises(ValueError, match="not JSON compliant"):
        record.save([{**entry(), "seconds": math.nan}], file)
    assert file.read_text() == before


def test_a_half_written_file_leaves_the_record_as_it_was(file, monkeypatch):
    record.save([entry()], file)
    before, real = file.read_text(), Path.write_text

    def out_of_space(self, text, **options):
        real(self, text[:20], **options)
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_text", out_of_space)
    with pytest.raises(OSError, match="no space left"):
        record.save([{**entry(), "id": "other"}], file)
    assert file.read_text() == before


def test_a_claim_that_is_not_recorded_is_an_error_that_says_how_to_run_it(file):
    with pytest.raises(LookupError, match="expected the claim 'made_up' in claims.json; got none; run python -m bnc"):
        record.load("made_up", file)
    record.save([{**entry(), "id": "other"}], file)
    with pytest.raises(LookupError, match="run python -m bncourse.claims made_up"):
        record.load("made_up", file)


def test_the_record_knows_how_long_each_condition_took(file):
    assert record.seconds(file) == {}
    record.save([entry()], file)
    assert record.seconds(file) == {
        ("made_up", "batch norm"): 1.3,
        ("made_up", "none"): 2.0,
        ("made_up", "probe"): 0.5,
    }


# Tables


def test_a_table_has_a_line_per_condition_and_a_column_per_quantity():
    table = Entry(entry()).table({"none": "without", "all": "both"}, [ACCURACY, STEPS])
    assert table.splitlines() == [
        "         test accuracy (%)    steps to 95 % of the",
        "                              validation part",
        "-------  -------------------  -------------------------",
        "without  95.0 (95.0 to 95.0)",
        "both                          1234.6 (1000.0 to 2000.0)",
    ]


def test_a_table_shows_as_many_digits_as_it_is_told():
    table = Entry(entry()).table(["batch norm"], [ACCURACY], digits=3)
    assert table.splitlines()[-1] == "batch norm  97.500 (91.147 to 103.853)"
    assert "batch norm  98 (91 to 104)" in Entry(entry()).table(["batch norm"], [ACCURACY], digits=0)


def test_a_table_of_long_names_fits_a_page():
    name = "batch norm, 51 layers, He"
    quantities = ["test accuracy (%)", "share of the runs that train at all"]
    measurements = [Measurement(name, quantity, Interval(97.25, 96.5, 98.0)) for quantity in quantities]
    found = Entry(entry(replace(CLAIM, measure=lambda t: measurements, judge=lambda f: Verdict(SUPPORTED, ""))))
    assert max(map(len, found.table([name], quantities).splitlines())) <= 76


@pytest.mark.parametrize(("conditions", "quantities"), [(["nobody"], [ACCURACY]), (["none"], ["nothing"])])
def test_a_table_of_what_was_not_measured_is_an_error(conditions, quantities):
    with pytest.raises(LookupError, match=r"expected names out of \[.*\]; got \['no"):
        Entry(entry()).table(conditions, quantities)


def test_rates_flag_choices_on_the_edge_and_runs_that_diverged():
    assert Entry(entry()).rates().splitlines() == [
        "            learning    grid              diverged    choice",
        "            rate",
        "----------  ----------  ----------------  ----------  -----------",
        "batch norm  2           0.5 to 2          2 of 6      on the edge",
        "none        0.0156      0.0156 to 0.0312  0 of 4      on the edge",
    ]
    inside = TRIALS["batch norm"]
    one = Entry(entry(trials=TRIALS | {"batch norm": replace(inside, learning_rate=1.0, on_edge=False)}))
    assert one.rates({"batch norm": "with"}).splitlines()[3:] == ["with  1           0.5 to 2  2 of 6"]


def test_rates_of_a_condition_that_chose_none_are_an_error():
    with pytest.raises(LookupError, match=r"expected names out of \['batch norm', 'none'\]; got \['probe'\]"):
        Entry(entry()).rates(["probe"])
