"""pyproject.toml, requirements.lock and environment.yml name the same environment."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.11", "3.12", "3.13")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def direct_requirements() -> list[Requirement]:
    """Everything that pyproject.toml asks for, extras included, but the package itself."""
    extras = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    requirements = [Requirement(line) for line in PROJECT["dependencies"] + extras]
    return [requirement for requirement in requirements if requirement.name != PROJECT["name"]]


def locked_requirements(text: str) -> list[Requirement]:
    """The pinned requirements of a lock file."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return [Requirement(line) for line in lines if line]


LOCKED = locked_requirements((ROOT / "requirements.lock").read_text())


def locked_version(name: str, python: str) -> str:
    """The version of ``name`` that the lock installs for one Python on 64-bit Linux."""
    target = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    target |= {"platform_machine": "x86_64", "platform_system": "Linux", "os_name": "posix"}
    versions = [
        next(iter(pin.specifier)).version
        for pin in LOCKED
        if canonicalize_name(pin.name) == canonicalize_name(name) and (not pin.marker or pin.marker.evaluate(target))
    ]
    assert len(versions) == 1, f"{name} on Python {python}: expected one version in requirements.lock, got {versions}"
    return versions[0]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("requirement", direct_requirements(), ids=str)
def test_lock_holds_what_pyproject_asks_for(requirement, python):
    assert requirement.specifier.contains(locked_version(requirement.name, python), prereleases=True)


def test_every_line_of_the_lock_is_one_exact_version():
    for pin in LOCKED:
        assert re.fullmatch(r"==[\w.]+", str(pin.specifier)), f"{pin}: not one exact version without a local suffix"
        assert pin.url is None, f"{pin}: an address"


def test_lock_names_no_address_and_no_cuda_package():
    pins = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    for line in pins:
        assert "://" not in line and not line.startswith(("-", "/")), f"{line}: an address or an option"
        assert not line.startswith(("nvidia", "cuda")), f"{line}: a CUDA package"


def test_lock_says_how_it_is_made():
    assert "uv pip compile pyproject.toml -o requirements.lock" in (ROOT / "requirements.lock").read_text()[:300]


def test_torch_and_triton_are_the_pinned_ones():
    assert locked_version("torch", "3.11") == "2.13.0"
    assert locked_version("triton", "3.11") == "3.7.1"


def test_conda_environment_installs_the_lock_and_nothing_else():
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in dependencies if isinstance(entry, dict))
    assert pip == ["--requirement requirements.lock", "--editable ."]
    plain = {entry.split(">")[0]: entry for entry in dependencies if isinstance(entry, str)}
    assert plain.keys() == {"python", "pip", "make"}
    supported = SpecifierSet(plain["python"].removeprefix("python"))
    for python in ("3.10", *PYTHONS, "3.14"):
        assert supported.contains(python) == (python in PYTHONS)
    assert all(SpecifierSet(PROJECT["requires-python"]).contains(python) for python in PYTHONS)
