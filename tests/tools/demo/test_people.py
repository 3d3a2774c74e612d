"""The rendered people: layout, determinism, and that clothes mislead while bodies stay."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tools.demo.people import OUTFITS, draw_people, draw_shot, outfit, write_people
from tools.demo.walkers import HEIGHT, TRAITS, WIDTH, render_walk

from vidprompt.data.annotations.base import Annotation, Source
from vidprompt.data.annotations.ccvid import read_ccvid
from vidprompt.metrics.retrieval import PROTOCOLS, RetrievalSet, evaluate_retrieval
from vidprompt.system.errors import UserError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("people")
    write_people(folder, seed=0)
    return folder


@pytest.fixture(scope="module")
def listed(root: Path) -> list[Annotation]:
    return read_ccvid(Source("people", root)).annotations


def broken(root: Path, annotation: Annotation) -> bool:
    return any(p.stat().st_size == 0 for p in (root / annotation.path).iterdir())


def as_set(found: list[Annotation]) -> RetrievalSet:
    clothes = sorted({a.clothes for a in found})
    return RetrievalSet(
        np.array([int(a.label) for a in found]),
        np.array([a.camera for a in found]),
        np.array([clothes.index(a.clothes) for a in found]),
    )


def test_the_lists_name_what_is_there(root: Path, listed: list[Annotation]) -> None:
    folders = {p.relative_to(root).as_posix() for p in root.glob("session?/*")}
    assert folders == {a.path for a in listed}
    roles: dict[str, list[Annotation]] = defaultdict(list)
    for a in listed:
        roles[a.split1].append(a)
    assert {role: len(found) for role, found in roles.items()} == {
        "train": 144,
        "query": 60,
        "gallery": 61,
    }
    people = {role: {a.label for a in found} for role, found in roles.items()}
    assert (len(people["train"]), len(people["query"])) == (24, 20)
    assert people["query"] == people["gallery"]
    assert not people["train"] & people["query"]
    assert {a.label for a in listed} == {f"{n:03d}" for n in range(1, 45)}


def test_frames_and_size(root: Path, listed: list[Annotation]) -> None:
    for a in listed:
        frames = sorted(p.name for p in (root / a.path).iterdir())
        assert frames == [f"{n:05d}.jpg" for n in range(1, 13)]
    with Image.open(root / listed[0].path / "00001.jpg") as picture:
        assert (picture.size, picture.format, picture.mode) == ((WIDTH, HEIGHT), "JPEG", "RGB")
    assert sum(p.stat().st_size for p in root.rglob("*") if p.is_file()) < 2_600_000


def test_one_gallery_tracklet_is_broken(root: Path, listed: list[Annotation]) -> None:
    found = [a for a in listed if broken(root, a)]
    assert [a.split1 for a in found] == ["gallery"]
    assert (root / found[0].path / "00007.jpg").stat().st_size == 0


def test_clothes_change_in_the_third_session_alone(listed: list[Annotation]) -> None:
    worn: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    cameras: dict[tuple[str, str], list[int]] = defaultdict(list)
    for a in listed:
        session = a.path.split("/")[0]
        worn[a.label][session].add(a.clothes)
        cameras[a.label, session].append(a.camera)
    for sessions in worn.values():
        assert sessions["session1"] == sessions["session2"]
        (before,), (after,) = sessions["session1"], sessions["session3"]
        assert before.split("_")[0] != after.split("_")[0]
        assert before.split("_")[1] != after.split("_")[1]
    assert all(len(set(c)) == len(c) for c in cameras.values())
    assert len({a.clothes for a in listed}) == len(OUTFITS)


def test_every_query_has_a_positive_under_every_protocol(
    root: Path, listed: list[Annotation]
) -> None:
    sound = [a for a in listed if not broken(root, a)]
    query = as_set([a for a in sound if a.split1 == "query"])
    gallery = as_set([a for a in sound if a.split1 == "gallery"])
    for protocol in PROTOCOLS:
        result = evaluate_retrieval(
            np.ones((len(query), 1)), np.ones((len(gallery), 1)), query, gallery, protocol
        )
        assert result.skipped == 0


def test_colour_alone_is_misled_once_clothes_change(root: Path, listed: list[Annotation]) -> None:
    """Colour histograms of the figure's part of the picture: good in the same clothes only."""
    sound = [a for a in listed if a.split1 != "train" and not broken(root, a)]
    histograms = []
    for a in sound:
        frames = [Image.open(p) for p in sorted((root / a.path).iterdir())]
        pixels = np.stack([np.asarray(f)[12:60, 9:23] for f in frames]).reshape(-1, 3) // 64
        histograms.append(np.bincount(pixels @ np.array([16, 4, 1]), minlength=64) ** 0.5)
    features = np.stack(histograms)
    is_query = np.array([a.split1 == "query" for a in sound])
    query = as_set([a for a in sound if a.split1 == "query"])
    gallery = as_set([a for a in sound if a.split1 == "gallery"])
    first = {
        protocol: evaluate_retrieval(
            features[is_query], features[~is_query], query, gallery, protocol
        ).cmc[1]
        for protocol in PROTOCOLS
    }
    assert first["clothes-changing"] < 0.1
    assert first["same-clothes"] > first["clothes-changing"] + 0.15


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    def content(name: str, seed: int) -> dict[str, bytes]:
        write_people(tmp_path / name, seed, 2, 2, frames=3)
        files = (p for p in (tmp_path / name).rglob("*") if p.is_file())
        return {p.relative_to(tmp_path / name).as_posix(): p.read_bytes() for p in files}

    first = content("a", 5)
    assert first == content("b", 5)
    assert first != content("c", 6)


def test_people_differ_and_stay_in_range() -> None:
    people = draw_people(14, torch.Generator().manual_seed(0))
    assert len(people) == 14
    low, high = (np.array([bound[i] for bound in TRAITS.values()]) for i in (0, 1))
    share = (np.array([astuple(p) for p in people]) - low) / (high - low)
    assert ((share > 0) & (share < 1)).all()
    apart = np.abs(share[:, None] - share[None])
    assert (apart[~np.eye(14, dtype=bool)].max(1) > 0.4).all()  # some trait, for each pair


@pytest.mark.parametrize("facing", [1, -1])
def test_a_figure_stays_in_the_picture_and_its_legs_move(facing: int) -> None:
    """Painted on white under white light, so that the figure is what is not white."""
    generator = torch.Generator().manual_seed(1)
    for walker in draw_people(14, generator):
        shot = replace(
            draw_shot(16, generator),
            background=torch.ones(3, 4, 6),
            floor=1.0,
            light=torch.ones(3),
            scale=1.0,
            facing=facing,
            shift=torch.zeros(16, 2),
        )
        video = render_walk(walker, outfit(0)[0], shot).float()
        assert video.shape == (16, HEIGHT, WIDTH, 3)
        figure = video.amin(-1) < 200
        rows = figure.any(2).float()
        assert not figure[:, 0].any()
        assert not figure[:, -1].any()
        assert rows.sum(1).mean() == pytest.approx(walker.height, abs=5)
        assert figure[..., 16].any(1).all()
        assert (figure[1:] ^ figure[:-1])[:, 40:].flatten(1).any(1).all()


def test_walking_left_is_the_mirror_of_walking_right() -> None:
    generator = torch.Generator().manual_seed(2)
    (walker,) = draw_people(1, generator)
    shot = replace(
        draw_shot(4, generator),
        background=torch.full((3, 4, 6), 0.5),
        floor=1.0,
        shift=torch.zeros(4, 2),
    )
    worn = outfit(3)[0]
    right = render_walk(walker, worn, replace(shot, facing=1))
    left = render_walk(walker, worn, replace(shot, facing=-1))
    assert (right.int() - left.flip(2).int()).abs().max() <= 1


def test_what_exists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "session2").mkdir()
    with pytest.raises(UserError, match="session2 is there already"):
        write_people(tmp_path, 0, 1, 1, 1)
    with pytest.raises(UserError, match="2 to 11 tracklets"):
        write_people(tmp_path / "other", 0, tracklets_per_session=1)
