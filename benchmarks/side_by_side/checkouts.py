"""Checkouts of the published repositories: checked, imported as they are, and named by commit.

Nothing of them is copied or changed. Their modules have general names (`datasets`, `utils`, `clip`), so
one process imports one checkout only. What a CPU or this environment lacks is stood in for: STAND_INS.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidprompt.system.errors import UserError


@dataclass(frozen=True)
class Repository:
    """A published repository: its address, the files that the benchmark uses, the folders it imports from."""

    url: str
    option: str
    files: tuple[str, ...]
    folders: tuple[str, ...]  # for sys.path


REPOSITORIES = {
    "ez_clip": Repository(
        "https://github.com/Shahzadnit/EZ-CLIP",
        "--ez-clip",
        (
            "clip/model.py",
            "configs/K-400/k400_train.yaml",
            "datasets/datasets.py",
            "datasets/transforms_ss.py",
            "utils/Augmentation.py",
            "utils/KLLoss.py",
            "utils/Text_Prompt.py",
            "utils/lr_scheduler.py",
            "utils/solver.py",
            "utils/tools.py",
        ),
        (".",),
    ),
    "vita_clip": Repository(
        "https://github.com/TalalWasim/Vita-CLIP",
        "--vita-clip",
        (
            "training/VitaCLIP_model.py",
            "training/VitaCLIP_text_encoder.py",
            "training/VitaCLIP_vision_encoder.py",
            "training/VitaCLIP_vision_encoder_utils.py",
            "video_dataset/dataloader.py",
            "video_dataset/dataset.py",
            "video_dataset/transform.py",
        ),
        (".", "training"),
    ),
}

STAND_INS = {  # what is stood in for, and by what
    "ez_clip": {
        "cv2": "an empty module: only pictures of attention are drawn with it",
        "randaugment": "an empty class: the released configuration has it off (N: 0)",
        "numpy.int": "int, its value until numpy 1.24 removed it",
        "Action_DATASETS._load_image": "reads the frames of our cache instead of img_00001.jpg, …",
        "dotmap": "mappings with attributes, for their configuration",
        "train.py": "its loop, line for line without .cuda(), DataParallel, printing and saving",
    },
    "vita_clip": {
        "pkg_resources": "a module with `packaging`: setuptools no longer has it",
        "av": "in video_dataset/dataset.py: gives the frames of our cache instead of a video's",
        "train.py": "its loop, line for line without .cuda(), DistributedDataParallel and float16",
    },
}


def check_checkout(method: str, folder: Path) -> Path:
    """The absolute path of a checkout. Raises UserError, one line, where it is none."""
    repository = REPOSITORIES[method]
    missing = [name for name in repository.files if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{repository.option} {folder} is no checkout of {repository.url}: it has no {missing[0]}"
        )
    return folder.resolve()


def checkout_version(method: str, folder: Path) -> dict[str, str]:
    """URL and commit of a checkout; `-dirty` where tracked files were changed.

    Raises UserError where the folder is no git repository of its own.
    """

    def git(*command: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *command], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise UserError(f"git does not know the commit of {folder}: clone it with git")
        return done.stdout.strip()

    if Path(git("rev-parse", "--show-toplevel")).resolve() != folder.resolve():
        raise UserError(f"git does not know the commit of {folder}: clone it with git")
    commit = git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    return {"repository": REPOSITORIES[method].url, "commit": commit}


def prepare_imports(method: str, folder: Path) -> None:
    """Let this process import the modules of a checkout. Raises UserError where einops is missing."""
    if importlib.util.find_spec("einops") is None:
        raise UserError("the published models import einops: pip install einops")
    for part in reversed(REPOSITORIES[method].folders):
        sys.path.insert(0, str(folder / part))
    if method == "ez_clip":
        _stand_in("cv2")
        _stand_in("randaugment", RandAugment=object)
        vars(np).setdefault("int", int)
    else:
        import packaging.version

        _stand_in("pkg_resources", packaging=packaging)


def _stand_in(name: str, **content: Any) -> None:
    if name not in sys.modules and importlib.util.find_spec(name) is None:
        module = types.ModuleType(name)
        vars(module).update(content)
        sys.modules[name] = module


class Attributes(dict[str, Any]):
    """A mapping whose keys are attributes, as dotmap's: a key that is not there is an empty mapping."""

    def __getattr__(self, name: str) -> Any:
        value = self.get(name, Attributes())
        return Attributes(value) if isinstance(value, dict) else value
