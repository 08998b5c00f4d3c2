"""The transcript of wrong attempts says what the checks say today."""

from wrong_attempts import ATTEMPTS, TRANSCRIPT, transcript


def test_transcript_is_what_the_checks_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert transcript() + "\n" == TRANSCRIPT.read_text(encoding="utf-8"), "run `make scores`"


def test_twenty_attempts_are_told_that_they_are_wrong():
    told = TRANSCRIPT.read_text(encoding="utf-8")
    assert len(ATTEMPTS) == told.count(": ✗ Not yet.") == 20
