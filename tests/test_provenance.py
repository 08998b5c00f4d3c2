"""Where a record says that it comes from."""

import platform
import subprocess

import numpy as np
import pytest

from bncourse import provenance


def test_versions_are_those_of_python_and_the_packages():
    assert provenance.versions(["numpy"]) == {"python": platform.python_version(), "numpy": np.__version__}


def test_the_machine_has_a_name_and_its_cores():
    assert provenance.machine().endswith(f", {provenance.cores()} cores")
    assert len(provenance.machine()) > len(f", {provenance.cores()} cores")


@pytest.mark.parametrize(
    ("changed", "expected"), [("", "0123456789ab"), (" M claims/depth.py\n", "0123456789ab+"), (None, "unknown")]
)
def test_the_commit_says_whether_the_package_was_changed(changed, expected, monkeypatch):
    def git(command, **options):
        if changed is None:
            raise subprocess.CalledProcessError(128, command)
        return subprocess.CompletedProcess(command, 0, "0123456789ab\n" if "rev-parse" in command else changed)

    monkeypatch.setattr(subprocess, "run", git)
    assert provenance.commit.__wrapped__() == expected
