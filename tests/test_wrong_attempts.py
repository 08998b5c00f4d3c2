"""The transcript of wrong attempts says what the checks say today."""

from wrong_attempts import ATTEMPTS, TRANSCRIPT, transcript

from bncourse.checks import check


def test_transcript_is_what_the_checks_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert transcript() + "\n" == TRANSCRIPT.read_text(encoding="utf-8"), "run `make scores`"


def test_every_attempt_is_wrong(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(ATTEMPTS) == 20
    assert {check(exercise, function).verdict for exercise, function in ATTEMPTS} == {"incorrect"}
