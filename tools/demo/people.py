"""Write the demo's re-identification set: rendered walkers in CCVID's layout.

A person has one build and gait and two outfits: one in sessions 1 and 2, the other in session 3. Several
people share each of the few outfits, so clothes do not identify a person, and a feature of colour alone fails
once clothes change. Background, light, direction, time and a little scale are drawn for each tracklet.

Layout: `session{1,2,3}/<person>_<camera>/00001.jpg …` and the lists `train.txt`, `query.txt`,
`gallery.txt` of lines `session1/001_01<TAB>001<TAB>u0_l0_s0_c0_a0` (folder, person, clothes).
Cameras are 1 to 12 in every session and differ within one.
"""

from __future__ import annotations

import io
import math
from pathlib import Path

import torch
from PIL import Image
from tools.demo.scenes import PLAIN, SPOTTED, STRIPED, uniform
from tools.demo.walkers import (
    HAT,
    LONG_HAIR,
    SHORT_HAIR,
    TRAITS,
    Colour,
    Outfit,
    Shot,
    Walker,
    draw_walker,
    render_walk,
)

from vidprompt.files.atomic import write_text
from vidprompt.system.errors import UserError

SESSIONS: tuple[str, ...] = ("session1", "session2", "session3")
CAMERAS = 12
JPEG_QUALITY = 85

_CLOTH: tuple[Colour, ...] = (
    (0.78, 0.16, 0.16), (0.16, 0.52, 0.22), (0.15, 0.28, 0.75), (0.85, 0.75, 0.22),
    (0.50, 0.22, 0.62), (0.88, 0.88, 0.86), (0.16, 0.16, 0.20), (0.88, 0.48, 0.14),
)  # fmt: skip
_SHOES: tuple[Colour, ...] = ((0.10, 0.08, 0.08), (0.92, 0.92, 0.92), (0.45, 0.25, 0.12))
_HAIR: tuple[Colour, ...] = (
    (0.12, 0.09, 0.08), (0.42, 0.25, 0.12), (0.80, 0.66, 0.35), (0.20, 0.30, 0.55),
)  # fmt: skip
_PATTERNS = (PLAIN, STRIPED, SPOTTED)
_HEADWEAR = (SHORT_HAIR, LONG_HAIR, HAT)
# torso, legs, shoes, hair colour, headwear, pattern: indices into the tables above. No two outfits
# share a torso's or a legs' colour, and each colour dresses a torso here and legs there.
OUTFITS: tuple[tuple[int, int, int, int, int, int], ...] = (
    (0, 2, 0, 0, 0, 0), (1, 6, 1, 1, 1, 1), (2, 5, 2, 2, 2, 0), (3, 4, 0, 1, 0, 2),
    (4, 3, 1, 0, 2, 0), (5, 0, 2, 2, 1, 1), (6, 7, 0, 3, 2, 2), (7, 1, 1, 0, 1, 0),
)  # fmt: skip


def outfit(number: int) -> tuple[Outfit, str]:
    """Outfit `number` and its clothes string: upper, lower, shoes, cut (headwear·4 + hair), adornment."""
    torso, legs, shoes, hair, headwear, pattern = OUTFITS[number]
    worn = Outfit(
        torso=_CLOTH[torso],
        legs=_CLOTH[legs],
        shoes=_SHOES[shoes],
        hair=_HAIR[hair],
        headwear=_HEADWEAR[headwear],
        pattern=_PATTERNS[pattern],
    )
    return worn, f"u{torso}_l{legs}_s{shoes}_c{headwear * 4 + hair}_a{pattern}"


def draw_people(count: int, generator: torch.Generator) -> list[Walker]:
    """Draw `count` dissimilar people.

    Each trait takes `count` evenly spaced values, one a person (a Latin hypercube); of 200 such draws
    the one with the largest smallest distance between two people is kept.
    """
    best, widest = torch.rand(count, len(TRAITS), generator=generator), -1.0
    for _ in range(200):
        order = torch.rand(count, len(TRAITS), generator=generator).argsort(0)
        share = (order + 0.5) / count
        apart = float(torch.pdist(share).min()) if count > 1 else 0.0
        if apart > widest:
            best, widest = share, apart
    return [draw_walker(row) for row in best]


def draw_shot(frames: int, generator: torch.Generator) -> Shot:
    """Draw the recording of one tracklet."""
    level = uniform(generator, 0.25, 0.75, 1, 1, 1)
    tint = uniform(generator, -0.08, 0.08, 3, 1, 1)
    rough = uniform(generator, -0.11, 0.11, 1, 4, 6)
    light = uniform(generator, 0.78, 1.18, 1) * uniform(generator, 0.95, 1.05, 3)
    drift = torch.cumsum(torch.randn(frames, 2, generator=generator) * 0.12, 0)
    offset = uniform(generator, -1.0, 1.0, 2)
    scale, pace, turn, side, floor = torch.rand(5, generator=generator).tolist()
    return Shot(
        background=(level + tint + rough).clamp(0.03, 0.97),
        floor=0.75 + 0.4 * floor,
        light=light,
        scale=0.97 + 0.06 * scale,
        facing=1 if side < 0.5 else -1,
        phase=2 * math.pi * turn,
        pace=0.97 + 0.06 * pace,
        shift=offset + drift - drift.mean(0),
    )


def _write_tracklet(folder: Path, pictures: torch.Tensor) -> None:
    """Write uint8 (T, H, W, 3) as 00001.jpg, 00002.jpg, …"""
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures, 1):
        buffer = io.BytesIO()
        Image.fromarray(picture.numpy()).save(
            buffer, "JPEG", quality=JPEG_QUALITY, optimize=True, subsampling="4:2:0"
        )
        (folder / f"{number:05d}.jpg").write_bytes(buffer.getvalue())


def write_people(
    root: Path,
    seed: int,
    train_people: int = 24,
    test_people: int = 20,
    frames: int = 12,
    tracklets_per_session: int = 2,
) -> None:
    """Write the set under `root`; equal arguments give equal bytes.

    The first tracklet of a test person in each session is a query, the others are the gallery: every query
    has a positive under each protocol. One more gallery tracklet, of the last test person in session 2, is
    broken on purpose: one of its frames is an empty file. Raises UserError if a set is there already, or for
    too few people, frames or tracklets.
    """
    if min(train_people, test_people, frames) < 1 or not 2 <= tracklets_per_session < CAMERAS:
        raise UserError(
            f"A people set needs people, frames and 2 to {CAMERAS - 1} tracklets a session, got "
            f"{train_people} + {test_people}, {frames} and {tracklets_per_session}."
        )
    for session in SESSIONS:
        if (root / session).exists():
            raise UserError(f"{root / session} is there already; remove it or write elsewhere.")
    generator = torch.Generator().manual_seed(seed)
    walkers = draw_people(train_people, generator) + draw_people(test_people, generator)
    total = train_people + test_people
    # train and test people stand mixed in the numbering, as outfits are mixed among them
    numbers = (torch.randperm(total, generator=generator) + 1).tolist()
    usual = [
        int(place) % len(OUTFITS)
        for people in (train_people, test_people)
        for place in torch.randperm(people, generator=generator)
    ]
    step = torch.randint(1, len(OUTFITS), (total,), generator=generator).tolist()
    lists: dict[str, list[str]] = {"train": [], "query": [], "gallery": []}
    for index, (walker, number) in enumerate(zip(walkers, numbers, strict=True)):
        person = f"{number:03d}"
        for session in SESSIONS:
            other = step[index] if session == "session3" else 0
            worn, clothes = outfit((usual[index] + other) % len(OUTFITS))
            spare = index == total - 1 and session == "session2"
            cameras = (torch.randperm(CAMERAS, generator=generator) + 1).tolist()
            for nth in range(tracklets_per_session + spare):
                path = f"{session}/{person}_{cameras[nth]:02d}"
                role = "train" if index < train_people else "gallery" if nth else "query"
                lists[role].append(f"{path}\t{person}\t{clothes}\n")
                pictures = render_walk(walker, worn, draw_shot(frames, generator))
                _write_tracklet(root / path, pictures)
                if nth == tracklets_per_session:
                    (root / path / f"{frames // 2 + 1:05d}.jpg").write_bytes(b"")
    for role, lines in lists.items():
        write_text(root / f"{role}.txt", "".join(sorted(lines)))
