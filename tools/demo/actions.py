"""Write the demo's action videos: an UCF-101-like set and a second one for cross-dataset zero-shot.

Classes are "object × motion" (`StarTurningClockwise`). A group `gNN` shares its appearance (colour,
background, distractors), as UCF-101's groups share a source video; its clips differ in place and speed
of the object. Each of the three official splits tests on a third of the groups.

Base and novel: by the field's rule the classes with the fewest training videos are novel. Every object has
two rare pairs of motions (18 groups instead of 24) and two common ones, in a checkerboard over objects, so
novel classes are new combinations of objects and motions that both occur in training.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import av
import numpy as np
import torch
from tools.demo.motions import MOTIONS, PAIRS, draw_pose, frame_times
from tools.demo.scenes import SHAPES, Style, draw_appearance, render

HEIGHT, WIDTH, FRAMES, FPS = 48, 64, 24, 12
_CODECS = {"mp4": "libx264", "avi": "mpeg4", "webm": "libvpx-vp9"}


@dataclass(frozen=True)
class ActionSet:
    """One set of action videos."""

    name: str
    style: Style
    common_groups: int
    rare_groups: int
    clips: int  # a group


ACTIONS = ActionSet(
    name="actions",
    style=Style(
        shapes=SHAPES[:6],
        colours=("red", "green", "blue", "yellow", "purple", "white"),
        textures=("plain",),
        background_level=(0.12, 0.45),
        background_tint=0.08,
        radius=(0.42, 0.54),
        dots=(0, 2),
        grain=(0.0, 0.015),
    ),
    common_groups=24,
    rare_groups=18,
    clips=2,
)
TRANSFER = ActionSet(
    name="transfer",
    style=Style(
        shapes=SHAPES[6:],
        colours=("orange", "cyan", "white", "red", "yellow"),
        textures=("striped", "spotted"),
        background_level=(0.40, 0.70),
        background_tint=0.14,
        radius=(0.46, 0.58),
        dots=(1, 3),
        grain=(0.005, 0.02),
    ),
    common_groups=6,
    rare_groups=6,
    clips=1,
)
# Videos broken on purpose, set/class/group_clip → how; in test and training lists of every split.
BROKEN: dict[str, str] = {
    "actions/StarGrowing/g01_c01": "zero bytes",
    "actions/CrossMovingUp/g02_c02": "truncated",
    "actions/HeartMovingLeft/g01_c02": "not a video",
    "actions/SquareTurningClockwise/g02_c01": "one frame",
    "actions/TriangleMovingUp/g05_c01": "truncated",
    "actions/CrescentMovingUp/g08_c01": "zero bytes",
    "transfer/ArrowGrowing/g01_c01": "truncated",
    "transfer/DropMovingDown/g03_c01": "one frame",
    "transfer/MushroomTurningAnticlockwise/g05_c01": "not a video",
}


def class_name(shape: str, motion: str) -> str:
    """`star`, `turning clockwise` → `StarTurningClockwise`."""
    return "".join(word.capitalize() for word in (shape, *motion.split()))


def is_rare(shape: int, motion: int) -> bool:
    """True if this combination has fewer groups and so is a novel class."""
    return (shape + motion // 2) % 2 == 0


def draw_videos(
    chosen: ActionSet, shape: str, motion: str, seed: int, groups: int, clips: int
) -> torch.Tensor:
    """All videos of a class, uint8 (groups · clips, FRAMES, HEIGHT, WIDTH, 3), group after group."""
    key = f"{chosen.name}/{class_name(shape, motion)}/{seed}"
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    index = torch.full((groups,), SHAPES.index(shape))
    appearance, _, _ = draw_appearance(chosen.style, index, generator)
    appearance = appearance.repeat_each(clips)
    count = groups * clips
    which = torch.full((count,), MOTIONS.index(motion))
    pose = draw_pose(which, frame_times(count, FRAMES), chosen.style, generator)
    return render(appearance, pose, HEIGHT, WIDTH, generator)


def encode(frames: np.ndarray, path: Path) -> None:
    """Write uint8 (T, H, W, 3) as H.264 mp4, MPEG-4 avi or VP9 webm, by the path's ending."""
    codec = _CODECS[path.suffix[1:]]
    options: dict[str, dict[str, object]] = {
        "libx264": {"crf": "26", "preset": "slow", "threads": "1"},
        "mpeg4": {"qscale": "4", "threads": "1"},
        "libvpx-vp9": {"crf": "34", "b": "0", "threads": "1", "row-mt": "0"},
    }
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = cast(av.VideoStream, container.add_stream(codec, rate=FPS))
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.options = options[codec]
        if codec == "mpeg4":
            stream.codec_context.qmin = stream.codec_context.qmax = 4
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def _break(path: Path, how: str, frames: np.ndarray) -> None:
    if how == "zero bytes":
        path.write_bytes(b"")
    elif how == "not a video":
        path.write_text(
            "This is a text file that somebody gave a video's name.\n" * 8, encoding="utf-8"
        )
    elif how == "one frame":
        encode(frames[:1], path)
    else:
        encode(frames, path)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])


def _ending(key: str) -> str:
    lot = zlib.crc32(f"ending/{key}".encode()) % 100
    return "avi" if lot < 3 else "webm" if lot < 9 else "mp4"


def write_actions(
    root: Path, chosen: ActionSet, seed: int, *, shapes: int = 99, groups: int = 99
) -> None:
    """Write `root/<set>/videos` and `root/<set>/annotations` (UCF-101's files).

    `shapes` and `groups` cut the set down (tests use that).
    """
    base = root / chosen.name
    (base / "annotations").mkdir(parents=True, exist_ok=True)
    names: list[tuple[str, str, str]] = []
    lists: dict[str, list[str]] = {f"{r}list0{s}": [] for s in (1, 2, 3) for r in ("train", "test")}
    combinations = [(shape, motion) for shape in chosen.style.shapes[:shapes] for motion in MOTIONS]
    for shape, motion in sorted(combinations, key=lambda pair: class_name(*pair)):
        name = class_name(shape, motion)
        pair = next(" / ".join(p) for p in PAIRS if motion in p)
        names.append((name, shape, f"{shape} {pair}"))
        rare = is_rare(SHAPES.index(shape), MOTIONS.index(motion))
        count = min(groups, chosen.rare_groups if rare else chosen.common_groups)
        videos = draw_videos(chosen, shape, motion, seed, count, chosen.clips).numpy()
        folder = base / "videos" / name
        folder.mkdir(parents=True, exist_ok=True)
        for i, frames in enumerate(videos):
            group, clip = divmod(i, chosen.clips)
            key = f"{chosen.name}/{name}/g{group + 1:02d}_c{clip + 1:02d}"
            how = BROKEN.get(key)
            ending = "mp4" if how else _ending(key)
            file = f"{name}/v_{name}_g{group + 1:02d}_c{clip + 1:02d}.{ending}"
            if how:
                _break(base / "videos" / file, how, frames)
            else:
                encode(frames, base / "videos" / file)
            tested = group // (count // 3) + 1
            for split in (1, 2, 3):
                if split == tested:
                    lists[f"testlist0{split}"].append(file)
                else:
                    lists[f"trainlist0{split}"].append(f"{file} {len(names)}")
    for stem, lines in lists.items():
        (base / "annotations" / f"{stem}.txt").write_text("\n".join(lines) + "\n", "utf-8")
    (base / "annotations" / "classInd.txt").write_text(
        "".join(f"{i} {name}\n" for i, (name, _, _) in enumerate(names, 1)), "utf-8"
    )
    rows = "".join(f"{name},{shape},{pair}\n" for name, shape, pair in names)
    (base / "annotations" / "class_groups.csv").write_text("class,object,pair\n" + rows, "utf-8")
