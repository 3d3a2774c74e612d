"""The package's folders stand in the data's order: each imports only from those above it."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path, PurePosixPath

import pytest

from vidprompt.provenance.code import SourceTree

ROOT = Path(__file__).parents[2]
TREE = SourceTree.of_folder(ROOT / "src/vidprompt")

# What is on one line may not import what else is on it.
LAYERS = (
    "system",
    "files",
    "config",
    "data/workers",
    "data/decode",
    "data/annotations",
    "data/manifest",
    "data/probe",
    "data/splits",
    "data/checks",
    "data/frames",
    "data/shards",
    "data/clips",
    "models",
    "training",
    "inference",
    "metrics",
    "reporting",
    "provenance",
    "comparison tracking",
    "recompute",
    "pipeline",
    "published registry review sweep project",
    "reproduce tuning method_comparison inspection",
    "prediction",
    "index export hub",
    "serving contract",
    "cli",
)
ORDER = {folder: level for level, line in enumerate(LAYERS) for folder in line.split()}


def layer(name: str) -> str:
    """The folder of ORDER that a file is in; empty for the package's own `__init__.py`."""
    parts = PurePosixPath(name).parts
    return "/".join(parts[:2]) if parts[0] == "data" and len(parts) > 2 else parts[0]


MODULES = sorted(name for name in TREE.files if name.endswith(".py") and "/" in name)


@pytest.mark.parametrize("folder", ORDER)
def test_a_folder_imports_only_from_those_above_it(folder: str) -> None:
    wrong = [
        f"{name} imports {imported}"
        for name in MODULES
        if layer(name) == folder
        for imported in sorted(TREE.imported_by(name))
        if layer(imported) in ORDER
        and layer(imported) != folder
        and ORDER[layer(imported)] >= ORDER[folder]
    ]
    assert not wrong


def test_every_folder_has_a_place_in_the_order() -> None:
    assert {layer(name) for name in MODULES} - {"data"} == set(ORDER)


def test_no_module_imports_itself_through_others() -> None:
    """Imports inside functions and for type annotations count too."""
    done: set[str] = set()
    cycles: list[str] = []

    def visit(name: str, way: tuple[str, ...]) -> None:
        if name in way:
            cycles.append(" → ".join((*way[way.index(name) :], name)))
        elif name not in done:
            for imported in sorted(TREE.imported_by(name)):
                # a package's __init__.py may gather names of its own modules
                if not imported.endswith("__init__.py") and imported != name:
                    visit(imported, (*way, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())
    assert not cycles


def test_the_package_has_no_imports_by_name_but_of_stages() -> None:
    """The code of a stage is found in import statements: names made while it runs would hide some."""
    hidden = [
        name
        for name in MODULES
        if not name.startswith("cli/")
        for node in ast.walk(ast.parse(TREE.read(name)))
        if isinstance(node, ast.Name | ast.Attribute)
        and getattr(node, "id", getattr(node, "attr", "")) in {"import_module", "__import__"}
    ]
    assert not hidden


def test_every_file_of_tests_has_a_name_of_its_own() -> None:
    """pytest imports them by that name alone, and refuses the second one."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert not [name for name, count in names.items() if count > 1]
