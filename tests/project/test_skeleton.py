"""What a new project consists of agrees with the repository, which is such a project itself."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import vidprompt
from vidprompt.project.skeleton import (
    GENERATED,
    TEMPLATES,
    content_hash,
    distribution_name,
    skeleton,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return skeleton("My clips")


def test_all_but_the_templates_are_the_repository_s_own(files: dict[str, bytes]) -> None:
    own = {path for path in files if path not in TEMPLATES.values()}
    assert all(files[path] == (ROOT / path).read_bytes() for path in own)
    assert {"dvc.yaml", "prefect.yaml", "Makefile", ".dvc/config", ".gitignore"} <= own
    params = {p.relative_to(ROOT).as_posix() for p in (ROOT / "params").rglob("*") if p.is_file()}
    assert {path for path in own if path.startswith("params/")} == params - set(GENERATED)


def test_the_sdist_has_all_that_the_wheel_is_built_of(settings: dict[str, Any]) -> None:
    targets = settings["tool"]["hatch"]["build"]["targets"]
    listed = targets["wheel"]["hooks"]["custom"]["skeleton"]
    assert all((ROOT / name).exists() for name in listed)
    assert {*listed, "src", "hatch_build.py"} <= set(targets["sdist"]["only-include"])


def test_prefect_s_settings_are_the_repository_s(
    settings: dict[str, Any], files: dict[str, bytes]
) -> None:
    project = tomllib.loads(files["pyproject.toml"].decode())
    assert project["tool"]["prefect"] == settings["tool"]["prefect"]
    assert project["project"]["name"] == "my-clips"


def test_templates_are_filled_in_and_their_form_is_right(files: dict[str, bytes]) -> None:
    assert files["README.md"].startswith(b"# My clips\n")
    assert "jobs" in yaml.safe_load(files[".github/workflows/ci.yml"])


def test_the_version_is_the_distribution_s_and_stands_in_no_file(
    settings: dict[str, Any], files: dict[str, bytes]
) -> None:
    assert vidprompt.__version__ == version("vidprompt")
    assert "version" in settings["project"]["dynamic"]
    assert settings["tool"]["hatch"]["version"]["fallback-version"] == "0.0.0"
    literal = re.compile(r"^(__version__|version)\s*[:=]\s*[\"']?\d", re.MULTILINE)
    sources = [*(ROOT / "src").rglob("*.py"), ROOT / "pyproject.toml", ROOT / "CITATION.cff"]
    assert not [path for path in sources if literal.search(path.read_text("utf-8"))]
    asked = tomllib.loads(files["pyproject.toml"].decode())["project"]["dependencies"]
    assert Requirement(asked[0]).specifier.contains(vidprompt.__version__, prereleases=True)


def test_the_changelog_is_of_keep_a_changelog() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    heads = re.findall(r"^## (.*)$", changes, re.MULTILINE)
    assert heads[0] == "[Unreleased]"
    numbers = [re.match(r"\[(\d+\.\d+\.\d+)\]", head) for head in heads[1:]]
    released = [Version(number[1]) for number in numbers if number]
    assert len(released) == len(heads) - 1
    assert released == sorted(released, reverse=True)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("my-project", "my-project"),
        ("Küche 2", "k-che-2"),
        ("日本", "project"),
        ("-a_b.c-", "a-b-c"),
    ],
)
def test_any_folder_s_name_gives_a_name_of_a_distribution(name: str, wanted: str) -> None:
    assert distribution_name(name) == wanted


def test_line_ends_and_code_dependencies_are_no_difference() -> None:
    assert content_hash("Makefile", b"a\r\nb\r\n") == content_hash("Makefile", b"a\nb\n")
    with_code = b"deps:\n        - data\n        - src/vidprompt/files\nouts:\n"
    assert content_hash("dvc.yaml", with_code) == content_hash(
        "dvc.yaml", b"deps:\n        - data\nouts:\n"
    )
    assert content_hash("dvc.yaml", with_code) != content_hash("dvc.yaml", b"deps:\nouts:\n")
