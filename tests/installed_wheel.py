"""The package's wheel, and an environment of its own with it, for tests that use it as a user does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = "from hatchling.build import build_wheel; build_wheel('dist')"


def build_wheel(source: Path) -> Path:
    """The wheel of a copy of the repository in `source`, as `pip wheel --no-deps .` builds it."""
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    for name in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        *targets["targets"]["sdist"]["only-include"],
    ):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=unwanted)
        else:
            shutil.copy(ROOT / name, source / name)
    subprocess.run([sys.executable, "-c", BUILD], cwd=source, check=True, capture_output=True)
    (file,) = (source / "dist").glob("*.whl")
    return file


def make_environment(folder: Path, *wheels: Path) -> Path:
    """The folder of programs of a new environment with the wheels, which sees this one's other packages."""
    create = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(create, check=True)
    python = folder / "bin/python"
    install = [sys.executable, "-m", "uv", "pip", "install", "--offline", "--no-deps"]
    subprocess.run([*install, "--python", python, *wheels], check=True, capture_output=True)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    return folder / "bin"


def run(environment: Path, folder: Path, *command: str, code: int = 0) -> tuple[str, str]:
    """Run a program of the environment in the folder, without the internet; (stdout, stderr)."""
    left = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIDPROMPT", "VIRTUAL"))
    }
    path = f"{environment}{os.pathsep}{left.get('PATH', '')}"
    offline = {"HF_HUB_OFFLINE": "1", "HOME": str(folder), "COLUMNS": "200", "PATH": path}
    program = environment / command[0]
    done = subprocess.run(
        [program if program.exists() else command[0], *command[1:]],
        cwd=folder,
        env=left | offline,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr
