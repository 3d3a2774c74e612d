"""Do explanations show what an answer follows from? On the demo, where the place of the object is known.

    python benchmarks/explain.py              # all methods, results in benchmarks/results/explain.json
    python benchmarks/explain.py --methods ez_clip --videos 48

`on object`: the share of the relevance that lies on the object, beside the object's share of the area that
the model sees, and how often the strongest place of a frame touches the object, beside how many places do.
`deletion`: patches of the clip are replaced by the clip's mean colour, the most relevant first, at random, or
the least relevant first, and the probability of the predicted class is measured again; frames likewise.

It needs the demo's models and videos (`make repro`); the objects' places are rendered again.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.machine import ROOT, provenance
from tools.demo.actions import ACTIONS, FRAMES, HEIGHT, WIDTH, class_name, is_rare
from tools.demo.motions import MOTIONS, draw_pose, frame_times
from tools.demo.scenes import SHAPES, draw_appearance, render

import vidprompt
from vidprompt.data.splits.split_file import read_splits
from vidprompt.files.atomic import write_json
from vidprompt.metrics.scores import class_probabilities
from vidprompt.prediction.classes import ClassTexts
from vidprompt.prediction.model import Model
from vidprompt.reporting.explanations.geometry import Region, crop_regions
from vidprompt.reporting.explanations.relevance import explain_views, mean_text
from vidprompt.system.errors import DataError

RESULTS = Path(__file__).parent / "results" / "explain.json"
RUN = "supervised_split1"
METHODS = ("frozen_clip", "ez_clip", "vita_clip")
SEED = 1  # of the demo's data
DELETED = (0.1, 0.25, 0.5)
RANDOM = 5  # random orders
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """A test video with the place of its object: bool (frames, HEIGHT, WIDTH)."""

    path: Path
    label: str
    place: NDArray[np.bool_]


def places_of(shape: str, motion: str) -> NDArray[np.bool_]:
    """Where the object is in every video of a class, (videos, frames, HEIGHT, WIDTH).

    The scenes are drawn as `tools.demo.actions.draw_videos` draws them, once with a black and once with a
    white object.
    """
    rare = is_rare(SHAPES.index(shape), MOTIONS.index(motion))
    groups = ACTIONS.rare_groups if rare else ACTIONS.common_groups
    key = f"{ACTIONS.name}/{class_name(shape, motion)}/{SEED}"
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    index = torch.full((groups,), SHAPES.index(shape))
    appearance, _, _ = draw_appearance(ACTIONS.style, index, generator)
    appearance = appearance.repeat_each(ACTIONS.clips)
    count = groups * ACTIONS.clips
    which = torch.full((count,), MOTIONS.index(motion))
    pose = draw_pose(which, frame_times(count, FRAMES), ACTIONS.style, generator)
    appearance = replace(appearance, grain=torch.zeros_like(appearance.grain))
    drawn = [
        render(
            replace(appearance, colour=torch.full_like(appearance.colour, value)),
            pose,
            HEIGHT,
            WIDTH,
            torch.Generator().manual_seed(0),
        ).numpy()
        for value in (0.0, 1.0)
    ]
    return (drawn[1].astype(int) - drawn[0] > 100).any(-1)


def cases(count: int) -> list[Case]:
    """Test videos, evenly over the classes."""
    test = next(iter(read_splits(ROOT / "cache/splits/demo")[RUN].tests.values()))
    by_class: dict[str, list[str]] = {}
    for video, label in zip(test.videos, test.labels, strict=True):
        by_class.setdefault(test.classes[label], []).append(video)
    chosen = []
    names = {class_name(shape, motion): (shape, motion) for shape in SHAPES for motion in MOTIONS}
    for name, videos in by_class.items():
        places = places_of(*names[name])
        for video in videos[: max(1, count // len(by_class))]:
            (path,) = (ROOT / "cache/unpacked/demo/actions/videos").glob(
                f"{name}/{Path(video).stem}.*"
            )
            group, clip = (int(part[1:]) for part in path.stem.split("_")[-2:])
            row = (group - 1) * ACTIONS.clips + clip - 1
            chosen.append(Case(path, name, places[row]))
    return chosen


def covered(place: NDArray[np.bool_], region: Region, rows: int, columns: int) -> Array:
    """The fraction of each cell of a region that the object covers, (frames, rows, columns)."""
    scale = 24  # so that the cells' borders fall between pixels
    large = place.repeat(scale, axis=1).repeat(scale, axis=2)
    left, top, right, bottom = (round(v) for v in region.pixels(*large.shape[:0:-1]))
    seen = large[:, top:bottom, left:right]
    seen = seen[:, : seen.shape[1] // rows * rows, : seen.shape[2] // columns * columns]
    cells = seen.reshape(len(seen), rows, seen.shape[1] // rows, columns, seen.shape[2] // columns)
    return cells.mean((2, 4))


def measure(model: Model, chosen: Sequence[Case], rng: np.random.Generator) -> dict[str, Any]:
    """The means over the videos that can be used, with their standard errors."""
    rows = [row for case in chosen if (row := _measure(model, case, rng)) is not None]
    values: dict[str, Any] = {"videos": len(rows)}
    for key in rows[0]:
        column = np.array([row[key] for row in rows], dtype=float)
        error = column.std(ddof=1) / len(column) ** 0.5 if len(column) > 1 else 0.0
        values[key] = {"mean": round(float(column.mean()), 4), "error": round(float(error), 4)}
    return values


def _measure(model: Model, case: Case, rng: np.random.Generator) -> dict[str, float] | None:
    texts = model.texts(CLASSES)
    try:
        decoded = model.input.decode(case.path)
    except DataError:  # broken on purpose
        return None
    clips = model.cut(decoded, case.path)
    views, size = model.input.views, model.input.image_size
    before = _probabilities(model, texts, clips.clips)[0]
    predicted = int(before.argmax())
    shape = decoded.frames.shape[1], decoded.frames.shape[2]
    relevance = explain_views(
        model.encoder,
        clips.clips,
        clips.numbers,
        views,
        shape,
        mean_text(texts.features[predicted]),
    )
    if not case.place.any():
        return None
    (region,) = crop_regions(*shape, size, views)
    on = covered(case.place[relevance.numbers], region, *relevance.spatial.shape[1:])
    share, area = float((relevance.spatial * on).sum()), float(on.mean())
    flat, touched = relevance.spatial.reshape(len(on), -1), on.reshape(len(on), -1) > 0.1
    hit = touched[np.arange(len(on)), flat.argmax(1)].mean()
    row = {
        "right": float(texts.names[predicted] == case.label),
        "relevance on object": share,
        "area of object": area,
        "ratio": share / area,
        "strongest place touches object": float(hit),
        "places that touch object": float(touched.mean()),
        "largest frame share": float(relevance.temporal.max()),
        "smallest frame share": float(relevance.temporal.min()),
        "probability": float(before[predicted]),
    }
    return row | _deletion(model, texts, clips.clips[0], relevance.spatial, predicted, rng)


def _deletion(
    model: Model,
    texts: ClassTexts,
    clip: torch.Tensor,
    spatial: Array,
    predicted: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    """The probability that is left when patches, or frames, are deleted."""
    order = np.argsort(-spatial.ravel(), kind="stable")
    frames = np.argsort(-spatial.sum((1, 2)), kind="stable")
    patches = [f"{fraction:.0%} of patches" for fraction in DELETED]
    counts = [round(fraction * order.size) for fraction in DELETED]
    masks, names = list[Array](), list[str]()
    for what, items, sizes, labels in (
        ("patch", order, counts, patches),
        ("frame", frames, [2], ["2 frames"]),
    ):
        kinds = [("most relevant", items), ("least relevant", items[::-1])]
        kinds += [("random", rng.permutation(items)) for _ in range(RANDOM)]
        for size, label in zip(sizes, labels, strict=True):
            for kind, ranked in kinds:
                mask = np.zeros(spatial.shape, bool)
                if what == "patch":
                    mask.ravel()[ranked[:size]] = True
                else:
                    mask[ranked[:size]] = True
                masks.append(mask)
                names.append(f"{label}, {kind}")
    values = _probabilities(model, texts, _masked(clip, np.stack(masks)))[:, predicted]
    left: dict[str, list[float]] = {}
    for name, value in zip(names, values, strict=True):
        left.setdefault(name, []).append(float(value))
    return {name: float(np.mean(several)) for name, several in left.items()}


def _masked(clip: torch.Tensor, masks: NDArray[np.bool_]) -> torch.Tensor:
    """The clip (T, 3, S, S) with each mask (n, T, rows, columns) in its mean colour: (n, T, 3, S, S)."""
    mean = clip.float().mean((0, 2, 3))[None, None, :, None, None]
    side = clip.shape[-1] // masks.shape[-1]
    pixels = torch.from_numpy(masks.repeat(side, axis=2).repeat(side, axis=3))[:, :, None]
    return torch.where(pixels, mean, clip.float()[None])


def _probabilities(model: Model, texts: ClassTexts, clips: torch.Tensor) -> Array:
    """(n, classes), each clip as a video of one view."""
    features = model.encode(clips)[:, None]
    return np.asarray(
        class_probabilities(features, texts.features, texts.logit_scale, texts.ensemble)
    )


CLASSES = sorted(class_name(shape, motion) for shape in ACTIONS.style.shapes for motion in MOTIONS)


def load(method: str) -> Model:
    """The demo's model of a method; of frozen CLIP with the demo's texts and backbone."""
    if method != "frozen_clip":
        return vidprompt.load(f"demo/{method}/{RUN}", device="cpu", project=ROOT)
    trained = vidprompt.load(f"demo/ez_clip/{RUN}", device="cpu", project=ROOT)
    from vidprompt.models import create_model

    floor = create_model("frozen_clip", trained.encoder.backbone, num_frames=8)
    return Model(trained.source, floor, trained.input, trained.text, trained.device)


def results(methods: Sequence[str], count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each method's measures."""
    chosen = cases(count)
    for method in methods:
        yield method, measure(load(method), chosen, np.random.default_rng(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--videos", type=int, default=192)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows = {}
    for method, values in results(arguments.methods, arguments.videos):
        rows[method] = values
        print(method)
        for key, value in values.items():
            print(f"  {key:40} {value if isinstance(value, int) else value['mean']}")
    write_json(arguments.out, {"what": __doc__.split("\n", 1)[0], **provenance(), "methods": rows})


if __name__ == "__main__":
    main()
