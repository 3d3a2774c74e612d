"""What stands in the documentation's blocks of code: commands, files, modules and keys that there are."""

from __future__ import annotations

import ast
import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.docs import commands, shell
from tests.docs.pages import MARKED, PAGES, ROOT, TEMPLATE, Block, blocks, inline_code

BLOCKS = [block for page in PAGES for block in blocks(page)]
# files that a block shows the content of: `# params/dataset/kitchen.yaml` above it
EXAMPLES = frozenset(
    name for block in BLOCKS for name in re.findall(r"\A# ([\w./-]+)", block.content)
)


@pytest.fixture(autouse=True)
def each_text_of_yaml_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configurations are composed of the same files again and again; parsing them is half of the time."""
    real, known = yaml.load, dict[tuple[str, object], object]()

    def load(stream: Any, Loader: Any) -> Any:
        text = stream if isinstance(stream, str) else stream.read()
        if (text, Loader) not in known:
            known[text, Loader] = real(text, Loader)
        return copy.deepcopy(known[text, Loader])

    monkeypatch.setattr(yaml, "load", load)
    monkeypatch.chdir(ROOT)


def test_every_block_has_a_language_and_commands_say_whether_they_run() -> None:
    wrong = [f"{one}: ```{one.language} {one.mark}" for one in BLOCKS if not one.valid]
    assert not wrong, "how blocks are marked: tests/docs/pages.py"


@pytest.mark.parametrize("exact", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_command_can_be_given_like_this(exact: bool) -> None:
    """`vidprompt …` is read by the command line's own parser, its `key=value` by the configuration's."""
    made = {page: _files_made_on(page) for page in PAGES}
    wrong = []
    for block in [*BLOCKS, *blocks(TEMPLATE)]:
        if block.language not in ("bash", "console") and block.page != TEMPLATE:
            continue
        for words in shell.commands(block.content, block.language == "console"):
            if found := commands.problem(words, made.get(block.page, frozenset()), exact):
                wrong.append(f"{block}: {' '.join(words)}\n    {found}")
    assert not wrong, "\n" + "\n".join(wrong)


def test_commands_within_sentences_are_known_too() -> None:
    wrong = []
    for page in PAGES:
        for line, text in inline_code(page):
            if found := _sentence_problem(text):
                wrong.append(f"{page.relative_to(ROOT)}:{line}: {text}\n    {found}")
    assert not wrong, "\n" + "\n".join(wrong)


def test_extras_that_are_to_be_installed_are_the_packages() -> None:
    for page in PAGES:
        for names in re.findall(r"vidprompt\[([\w,-]+)\]", page.read_text("utf-8")):
            assert set(names.split(",")) <= commands.extras(), page


@pytest.mark.parametrize(
    "block", [one for one in BLOCKS if one.language == "python"], ids=lambda one: str(one)
)
def test_python_compiles_and_imports_what_there_is(block: Block) -> None:
    tree = ast.parse(block.content)
    assert not [name for name in _imports(tree) if not importable(*name)]


@pytest.mark.parametrize(
    "block", [one for one in BLOCKS if one.language in ("yaml", "json")], ids=lambda one: str(one)
)
def test_data_are_of_their_format(block: Block) -> None:
    if block.language == "yaml":
        yaml.safe_load(block.content)
    elif "…" not in block.content:
        json.loads(block.content)


def test_a_wrong_command_is_found() -> None:
    """Each kind of mistake that a page may come to have."""
    script = """
    vidprompt trian dataset=demo
    RANK=0 vidprompt train trainer.lrr=1 | head -3
    for stage in manifest split; do vidprompt $stage dataset=demo; done
    vidprompt predict a.mp4 --model demo/ez_clip/reid --top three
    vidprompt predict --modle x
    accelerate launch --num_processes 2 -m vidprompt.cli train method=ezclip
    vidprompt train dataset=demo trainer.batch_sise=$SIZE
    vidprompt multirun 'seed=range(1,3)' trainr.lr=1
    make tset && python benchmarks/no_such.py
    prefect deployment run train-eval/nothing
    dvc repro trian@demo-ez_clip-reid
    dvc exp run -S 'params/protocol/zero_shot.yaml:halvs=2'
    """
    found = [commands.problem(words) for words in shell.commands(script)]
    right = [i for i, one in enumerate(found) if not one]
    assert right == [2, 3]  # `head -3`, and the loop's first: the stage manifest
    good = """
    vidprompt train dataset=NAME trainer.lr=… seed=$SEED 'trainer.length=5 epochs' -v  # all of it
    vidprompt doctor dataset=ucf101 --root "/big/disk/it's (2024) #1"
    """
    assert not [one for one in map(commands.problem, shell.commands(good)) if one]


def _files_made_on(page: Path) -> frozenset[str]:
    """Files that a block of the page is the content of, or that its commands write."""
    files = {block.file for block in blocks(page)} - {""}
    for block in blocks(page):
        if block.language in MARKED:
            files |= set(re.findall(r">\s*([\w./-]+)", block.content))
    return frozenset(files)


def _sentence_problem(text: str) -> str:
    try:
        found = [*shell.commands(re.sub(r"\[[^\]=]*\]", "", text))]  # what may be left out
    except ValueError:  # a piece of a command
        return ""
    for words in found:
        if words[0] == "vidprompt" and len(words) > 1:
            return commands.vidprompt_problem(words[1:], complete=False)
        if words[0] == "make" and len(words) > 1:
            return commands.problem(words)
        if len(words) == 1 and len(found) == 1:
            return commands.problem(words, EXAMPLES)
    return ""


def _imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Module and name (may be empty) of each import of this package, and `vidprompt.NAME`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (
                (one.name, "") for one in node.names if one.name.split(".")[0] == "vidprompt"
            )
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vidprompt":
            yield from ((node.module or "", one.name) for one in node.names)
        elif isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "vidprompt":
            yield "vidprompt", node.attr


def importable(module: str, name: str) -> bool:
    """Whether the module's source has the name, found without importing it."""
    file = ROOT / "src" / module.replace(".", "/")
    if name and (file.joinpath(f"{name}.py").is_file() or file.joinpath(name).is_dir()):
        return True
    source = file.with_suffix(".py") if file.with_suffix(".py").is_file() else file / "__init__.py"
    if not source.is_file():
        return False
    tree = ast.parse(source.read_text("utf-8"))
    names = {"load"} if module == "vidprompt" else set()  # by its __getattr__
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {one.asname or one.name for one in node.names}
    return not name or name in names
