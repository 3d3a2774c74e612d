"""A tiny project to encode in, and processes that do it."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tests.models.small import small_backbone
from tests.pipeline.project import ROOT, changed

from vidprompt.config.compose import compose
from vidprompt.config.schema import Config
from vidprompt.contract.subject import SMALL
from vidprompt.data.shards.cache_build import build_frame_cache
from vidprompt.data.shards.plan import FrameRow, FrameSettings
from vidprompt.data.splits.split_file import Split, Subset, write_split
from vidprompt.inference.feature_blocks import BlockStore
from vidprompt.pipeline.stages import features
from vidprompt.system.logging import configure

BACKBONE = SMALL["config"]
VIEWS = {"sampling": "segment", "stride": 1, "clips": 2, "crops": 1, "order": "forward"}
BLOCK = 2  # videos


def make_project(folder: Path, sizes: Sequence[int]) -> None:
    """Datasets `d<n>` of n cached videos and one that is not, in two tests with the same classes; the
    last three of each are also tested as whole tracklets."""
    (folder / "clip.json").write_text(json.dumps(BACKBONE))
    save_file(small_backbone().clip.state_dict(), folder / "clip.safetensors")
    rng, rows = np.random.default_rng(0), []
    for number in range(max(sizes)):
        pictures = folder / "videos" / str(number)
        pictures.mkdir(parents=True)
        frames = 5 + number % 5
        for frame in range(frames):
            pixels = rng.integers(256, size=(32, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(pictures / f"{frame}.png")
        rows.append(FrameRow(f"v/{number:02}", pictures, "frames", frames, True, "v"))
    build_frame_cache(rows, FrameSettings(short_side=32, frames=None), {}, folder / "frames")
    for size in sizes:
        videos = [row.video_id for row in rows[:size]] + ["v/broken"]
        test = Subset(["run", "sit"], videos, [0] * len(videos))
        dataset = f"d{size}"
        for name in ("supervised_split1", "supervised_split2"):
            split = Split(f"supervised/d@{name}", "supervised", name, tests={"test": test})
            write_split(split, folder / f"cache/splits/{dataset}/{name}.json")
        people = Subset(["a"], videos[:-1][-3:], [0] * min(size, 3))
        reid = Split(
            "reid/d@all-frames-4", "reid", "reid", tests={"query": people, "gallery": people}
        )
        write_split(reid, folder / f"cache/splits/{dataset}/reid.json")
        (folder / "cache/frames").mkdir(exist_ok=True)
        (folder / "cache/frames" / dataset).symlink_to(folder / "frames")


def config(folder: Path, dataset: str, **changes: object) -> Config:
    """Frozen CLIP on a dataset; the rest as the project's params/ say."""
    with contextlib.chdir(ROOT):
        usual = compose(["method=frozen_clip", "method.num_frames=4", "split=supervised_split1"])
    small = {
        "dataset__name": dataset,
        "backbone": {
            "name": "small",
            "config": str(folder / "clip.json"),
            "weights": str(folder / "clip.safetensors"),
        },
        "prompts__templates": ["{}", "a video of {}"],
        "views": VIEWS,
    }
    return changed(usual, **(small | changes))


def encode(folder: Path, datasets: Sequence[str]) -> None:
    """The stage, with small blocks."""
    features.BLOCK = BLOCK
    for dataset in datasets:
        features.run(config(folder, dataset))


def encode_slowly(folder: Path, datasets: Sequence[str]) -> None:
    """The same; after each block there is time to be killed."""
    write = BlockStore.write

    def slow(self: BlockStore, *block: Any) -> None:
        write(self, *block)
        time.sleep(0.5)

    BlockStore.write = slow  # type: ignore[method-assign, assignment]
    encode(folder, datasets)


def _process(
    function: Callable[..., None],
    folder: Path,
    arguments: tuple[Any, ...],
    environment: dict[str, str],
) -> None:
    os.environ.update(environment)
    os.chdir(folder)
    torch.set_num_threads(int(environment.get("THREADS", 1)))
    sys.stderr = (folder / f"log-{environment.get('RANK', '0')}.txt").open("w", buffering=1)
    configure()
    function(*arguments)


def start(
    folder: Path, count: int, function: Callable[..., None], *arguments: Any, threads: int = 1
) -> list[Any]:
    """Processes launched together in `folder`; what each logs is in `log-<rank>.txt`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # torch is imported once
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    together = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count)}
    started = []
    for rank in map(str, range(count)):
        environment = {"OMP_NUM_THREADS": "1", "THREADS": str(threads)}
        if count > 1:
            environment |= together | {"RANK": rank, "LOCAL_RANK": rank}
        process = context.Process(target=_process, args=(function, folder, arguments, environment))
        process.start()
        started.append(process)
    return started


def finish(processes: Sequence[Any]) -> None:
    """Wait; each has to have ended well."""
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


def contents(folder: Path) -> dict[str, bytes]:
    """Relative path → bytes of every file."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
