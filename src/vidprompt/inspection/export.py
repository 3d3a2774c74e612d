"""Write videos and predictions as a folder that FiftyOne imports; FiftyOne is not needed for it.

The format is `fiftyone.types.FiftyOneDataset` without a version in metadata.json, which FiftyOne reads with
its importer of plain JSON. Videos are not copied: their paths are absolute.

    metadata.json, samples.json   what the dataset is; a sample a video
    frames/none.json              the frames' labels of every video: there are none
    embeddings/<field>.npy        (N, E) float32, of the samples that have the field, in their order
    points/<field>.npy            (N, 2) their first two principal components
    open.py                       imports all of it and opens FiftyOne's app
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from vidprompt.files.atomic import replacing, write_json, write_text
from vidprompt.inspection.videos import BLOCK, Field, InspectedVideo, Inspection, embeddings
from vidprompt.system.errors import UserError

MARK = "vidprompt.json"  # of a folder that was written here
NO_FRAMES = "frames/none.json"
OPEN = '''"""Import this folder into FiftyOne and open it: `python open.py` (pip install fiftyone)."""

from pathlib import Path

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np

folder = Path(__file__).resolve().parent
kind = fo.types.FiftyOneDataset
dataset = fo.Dataset.from_dir(dataset_dir=str(folder), dataset_type=kind, dynamic=True)
for name in dataset.info["fields"]:
    shown = dataset.exists(name)
    if (folder / "points" / f"{name}.npy").is_file():
        shown.set_values(f"{name}_embedding", list(np.load(folder / "embeddings" / f"{name}.npy")))
        points = np.load(folder / "points" / f"{name}.npy")
        fob.compute_visualization(shown, points=points, brain_key=f"map_{name}")
    shown.evaluate_classifications(name, gt_field="ground_truth", eval_key=f"eval_{name}")
    dataset.save_view(f"wrong {name}", dataset.match_tags(f"wrong: {name}"))
if __name__ == "__main__":
    fo.launch_app(dataset).wait()
'''


def export(found: Inspection, folder: Path) -> None:
    """Write the folder; one of an earlier export is replaced. UserError for a folder with other files."""
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / MARK).is_file():
            raise UserError(f"{folder} has files that are no earlier export: name an empty folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / MARK, {"dataset": found.dataset, "results": [f.name for f in found.fields]})
    write_json(folder / "metadata.json", _metadata(found))
    write_json(folder / NO_FRAMES, {"frames": {}})
    with (
        replacing(folder / "samples.json") as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        file.write('{"samples": [')
        for i, video in enumerate(found.videos):
            file.write(",\n" if i else "\n")
            json.dump(_sample(video), file, ensure_ascii=False)
        file.write("\n]}\n")
    for one in found.fields:
        _write_embeddings(found, one, folder)
    write_text(folder / "open.py", OPEN)


def _metadata(found: Inspection) -> dict[str, Any]:
    classes = sorted({video.label for video in found.videos})
    info = {"fields": [one.name for one in found.fields], "errors": found.errors}
    return {"media_type": "video", "name": found.name, "default_classes": classes, "info": info}


def _sample(video: InspectedVideo) -> dict[str, Any]:
    predictions = {
        name: {
            "_cls": "Classification",
            "label": one.label,
            "confidence": one.confidence,
            "rank": one.rank,
        }
        for name, one in video.predictions.items()
    }
    return {
        "filepath": str(video.path),
        "tags": video.tags,
        "video_id": video.video_id,
        "video_group": video.group,
        "ground_truth": {"_cls": "Classification", "label": video.label},
        "frames": NO_FRAMES,
        **video.numbers,
        **predictions,
    }


def _write_embeddings(found: Inspection, one: Field, folder: Path) -> None:
    stored = embeddings(one, found)
    if stored is None:
        return
    names = found.with_field(one.name)
    width = stored.vectors(names[:1]).shape[1]
    for kind in ("embeddings", "points"):
        (folder / kind).mkdir(exist_ok=True)
    with replacing(folder / "embeddings" / f"{one.name}.npy") as temporary:
        array = np.lib.format.open_memmap(temporary, "w+", np.float32, (len(names), width))
        for start in range(0, len(names), BLOCK):
            block = names[start : start + BLOCK]
            array[start : start + len(block)] = stored.vectors(block)
        array.flush()
        del array
    points = stored.points(names)
    with (
        replacing(folder / "points" / f"{one.name}.npy") as temporary,
        temporary.open("wb") as file,
    ):
        np.save(file, points)
