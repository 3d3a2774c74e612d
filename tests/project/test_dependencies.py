"""What pyproject.toml asks for can be installed: extras with the pins, each Python, the lowest versions."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # uv asks the package index
ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
OWN = "vidprompt-demo"  # tools/demo_package builds it
EXTRAS = [
    name
    for name, packages in PROJECT["optional-dependencies"].items()
    if not any(package.startswith(OWN) for package in packages)
]
PINS = ("--constraints", "constraints.txt")


def resolve(*options: str) -> None:
    """uv finds versions that fit together. Nothing is installed or written."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "pyproject.toml", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_can_be_installed_with_the_pins(extra: str) -> None:
    resolve("--extra", extra, *PINS)


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_a_python_version_can_install_the_pins(python: str) -> None:
    resolve("--extra", "dev", "--python-version", python, *PINS)


def test_the_lowest_versions_can_be_installed() -> None:
    resolve("--extra", "dev", "--resolution", "lowest-direct", "--python-version", "3.11")
