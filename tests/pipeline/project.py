"""A copy of this project to run the real pipeline in, without its data and results."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from tests.pipeline import forked_programs

from vidprompt.config.schema import Config

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sys.executable).parent


def environment(forked: bool = False) -> dict[str, str]:
    """This interpreter's scripts first; a number of threads, which the last digits of a sum depend on.

    `forked`: with a `vidprompt` and a `dvc` that start in milliseconds.
    """
    programs = forked_programs.PROGRAMS if forked else ()
    folders = [*(forked_programs.scripts(program) for program in programs), SCRIPTS]
    path = os.pathsep.join([*map(str, folders), os.environ["PATH"]])
    return os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1"}


def run(*command: str, folder: Path, fails: bool = False, forked: bool = False) -> str:
    """Run a command, which has to end well or to fail; what it printed."""
    env = environment(forked)
    program = shutil.which(command[0], path=env["PATH"]) or command[0]
    done = subprocess.run(
        [program, *command[1:]], cwd=folder, capture_output=True, text=True, env=env, check=False
    )
    assert bool(done.returncode) == fails, (
        f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    )
    return done.stdout + done.stderr


def edit(path: Path, **changes: object) -> None:
    """Set keys of a YAML file; `a__b` is b in a. A first line about the package stays."""
    text = path.read_text("utf-8")
    head = f"{text.splitlines()[0]}\n" if text.startswith("# @package") else ""
    content = yaml.safe_load(text)
    for key, value in changes.items():
        node = content
        *parents, last = key.split("__")
        for parent in parents:
            node = node[parent]
        node[last] = value
    path.write_text(head + yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def changed(config: Config, **changes: object) -> Config:
    """A configuration with other values; `a__b` is b in a."""
    values = copy.deepcopy(dict(config.values))
    for key, value in changes.items():
        node = values
        *parents, last = key.split("__")
        for parent in parents:
            node = node[parent]
        node[last] = value
    return Config.of(values)


def copy_project(folder: Path) -> None:
    """Tracked and new files, as a git repository without history."""
    files = run("git", "ls-files", "-co", "--exclude-standard", folder=ROOT).splitlines()
    for name in files:
        if (ROOT / name).is_file() and not name.startswith((".dvcstore", "results")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    run("git", "init", "-q", folder=folder)


def write_backbone(folder: Path) -> None:
    """The demo's CLIP, untrained."""
    import open_clip
    import torch

    from tools.demo import backbone

    torch.manual_seed(0)
    backbone.save(open_clip.CLIP(**backbone.CONFIG), folder / "data/demo/backbone")


def short_training(folder: Path) -> None:
    """Three steps."""
    for recipe in (folder / "params/recipe/demo").glob("*.yaml"):
        trainer = yaml.safe_load(recipe.read_text("utf-8"))["trainer"]
        own = trainer.get("by_protocol", {})
        own = {name: numbers | {"length": 3} for name, numbers in own.items()}
        edit(recipe, trainer__length=3, trainer__by_protocol=own)
    edit(folder / "params/trainer/demo.yaml", batch_size=8, log_every=1, warmup=1)
