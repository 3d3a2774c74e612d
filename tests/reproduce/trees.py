"""Small datasets in their official layouts: the annotation files and names of the releases, few videos."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from PIL import Image
from tests.data.make_videos import write_video

TRAIN, TEST = 16, 2  # videos a class: the most shots that are drawn
KINDS = {".avi": "mpeg4.avi", ".mp4": "h264.mp4", ".webm": "vp9.webm"}
VARIANTS = 3  # different videos of a kind
UCF = ("ApplyEyeMakeup", "HandstandPushups", "PlayingDhol", "YoYo")
HMDB = ("brush_hair", "catch", "kick_ball", "sword_exercise")
K400 = ("abseiling", "air drumming", "bowling", "zumba")
K600 = ("acting in play", "bowling", "chewing gum", "vacuuming floor", "zumba")
SSV2 = ("Holding [something]", "Pushing [something] from left to right",
        "Pushing [something] from right to left", "Showing [something] to the camera")  # fmt: skip


@cache
def _video(suffix: str, variant: int) -> Path:
    folder = Path(mkdtemp(prefix="reproduce-"))
    return write_video(folder / f"v{suffix}", 16, 48, 64, kind=KINDS[suffix], seed=variant)


def put_video(path: Path, variant: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(_video(path.suffix, variant % VARIANTS), path)


def ucf101(root: Path) -> None:
    """Groups of two clips; the first group is the test of split 1, the second of split 2, …"""
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    (lists / "classInd.txt").write_text("".join(f"{i} {n}\n" for i, n in enumerate(UCF, 1)))
    lines: dict[str, list[str]] = {}
    for number, name in enumerate(UCF, 1):
        for group in range(1, TRAIN // 2 + 2):
            for clip in (1, 2):
                spelt = name.replace("Handstand", "HandStand")  # as the dataset does
                file = f"{name}/v_{spelt}_g{group:02}_c{clip:02}.avi"
                put_video(root / "UCF-101" / file, number)
                for split in (1, 2, 3):
                    part, label = ("test", "") if group == split else ("train", f" {number}")
                    lines.setdefault(f"{part}list0{split}.txt", []).append(file + label)
    for list_name, content in lines.items():
        (lists / list_name).write_text("\n".join(content) + "\n")


def hmdb51(root: Path) -> None:
    lists = root / "testTrainMulti_7030_splits"
    lists.mkdir(parents=True)
    for number, name in enumerate(HMDB):
        clips = [f"Film_{i}_{name}_f_cm_np1_fr_med_{i}.avi" for i in range(TRAIN + 3 * TEST)]
        for clip in clips:
            put_video(root / "hmdb51_org" / name / clip, number)
        for split in (1, 2, 3):
            first = TEST * (split - 1)
            tested = clips[first : first + TEST]
            rest = [clip for clip in clips if clip not in tested]
            roles = dict.fromkeys(tested, 2) | dict.fromkeys(rest[:TRAIN], 1)
            text = "".join(f"{clip} {roles.get(clip, 0)} \n" for clip in clips)
            (lists / f"{name}_test_split{split}.txt").write_text(text)


def kinetics_lists(
    root: Path, classes: Sequence[str], parts: dict[str, tuple[str, int]]
) -> Iterator[tuple[str, int, str]]:
    """Write the lists (part → file, clips a class); yields part, class number and file of each clip."""
    (root / "annotations").mkdir(parents=True)
    for part, (file, each) in parts.items():
        with (root / "annotations" / file).open("w", newline="") as out:
            rows = csv.writer(out)
            rows.writerow(("label", "youtube_id", "time_start", "time_end", "split"))
            for number, label in enumerate(classes):
                for clip in range(each):
                    film = f"{part[:2]}{number:04}{clip:05}"
                    rows.writerow((label, film, 5, 15, part))
                    yield part, number, f"{film}_000005_000015.mp4"


def _kinetics(root: Path, classes: Sequence[str], parts: dict[str, tuple[str, int]]) -> None:
    for part, number, file in kinetics_lists(root, classes, parts):
        put_video(root / "videos" / part / classes[number] / file, number)


def kinetics400(root: Path) -> None:
    _kinetics(root, K400, {"train": ("train.csv", TRAIN), "val": ("validate.csv", TEST)})


def kinetics600(root: Path) -> None:
    """With the class lists that a user supplies: Kinetics-400's classes, and three partitions."""
    parts = {"train": ("train.csv", 1), "val": ("val.csv", TEST), "test": ("test.csv", TEST)}
    _kinetics(root, K600, parts)
    new = [name for name in K600 if name not in K400]
    lists = {"kinetics400_classes": K400} | {
        f"split{i + 1}": [name for name in new if name != new[i]] for i in range(3)
    }
    for name, classes in lists.items():
        (root / f"annotations/{name}.txt").write_text("\n".join(classes) + "\n")


def ssv2(root: Path) -> None:
    root.mkdir(parents=True)
    clean = [name.replace("[", "").replace("]", "") for name in SSV2]
    labels = {name: str(i) for i, name in enumerate(clean)}
    (root / "something-something-v2-labels.json").write_text(json.dumps(labels))
    video = 0
    for part, each in (("train", TRAIN), ("validation", TEST)):
        entries = []
        for number, template in enumerate(SSV2):
            for _ in range(each):
                video += 1
                put_video(root / f"20bn-something-something-v2/{video}.webm", number)
                entries.append({"id": str(video), "label": clean[number].lower(),
                                "template": template, "placeholders": ["a cup"]})  # fmt: skip
        (root / f"something-something-v2-{part}.json").write_text(json.dumps(entries))


def ccvid(root: Path) -> None:
    """Four training people, three tested ones, in two outfits; nine images a tracklet."""
    lines: dict[str, list[str]] = {"train": [], "query": [], "gallery": []}
    for person in range(1, 8):
        for walk, (session, clothes) in enumerate(((1, 0), (1, 0), (2, 1), (3, 1)), 1):
            tracklet = f"session{session}/{person:03}_{walk:02}"
            part = "train" if person <= 4 else "query" if walk in (1, 3) else "gallery"
            lines[part].append(f"{tracklet}\t{person:03}\tu{clothes}_l0_s0_c0_a0")
            folder = root / tracklet
            folder.mkdir(parents=True)
            for frame in range(9):
                value = np.full((48, 24, 3), (30 * person, 60 * clothes, 10 * frame), np.uint8)
                Image.fromarray(value).save(folder / f"{frame + 1:05}.jpg")
    for part, content in lines.items():
        (root / f"{part}.txt").write_text("\n".join(content) + "\n")


TREES = {
    "ucf101": ucf101,
    "hmdb51": hmdb51,
    "kinetics400": kinetics400,
    "kinetics600": kinetics600,
    "ssv2": ssv2,
    "ccvid": ccvid,
}
