"""A registered model on a dataset that it was not trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from PIL import Image
from tests.registry.project import NAME

from vidprompt.comparison.results import find_result
from vidprompt.data.manifest.table import SCHEMA, write_manifest
from vidprompt.data.shards.cache_build import build_frame_cache
from vidprompt.data.shards.plan import FrameRow, FrameSettings
from vidprompt.data.splits.split_file import Split, Subset, write_split
from vidprompt.pipeline.stages import features
from vidprompt.registry.cross_dataset import evaluate_on_dataset, result_table
from vidprompt.registry.registration import rollback
from vidprompt.system.errors import UserError

TESTED = ["jump", "run", "sitting"]  # "Run" was trained with
VIDEOS = 6


@pytest.fixture
def other(two_versions: Path) -> Path:
    """The project, with a dataset `other` as the pipeline leaves it after its frames."""
    content = yaml.safe_load(Path("params/dataset/demo.yaml").read_text("utf-8"))
    groups = content["pipeline"] | {"prompts": "class_name"}
    content |= {"name": "other", "root": "data/other", "pipeline": groups, "class_groups": None}
    Path("params/dataset/other.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    rng, rows = np.random.default_rng(0), []
    for number in range(VIDEOS):
        pictures = Path(f"data/other/{number}")
        pictures.mkdir(parents=True)
        for frame in range(5):
            pixels = rng.integers(256, size=(32, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(pictures / f"{frame}.png")
        rows.append(FrameRow(f"v/{number}", pictures, "frames", 5, True, "v"))
    settings = FrameSettings(short_side=32, frames=None)
    build_frame_cache(rows, settings, {}, Path("cache/frames/other"))
    videos, labels = [row.video_id for row in rows], [i % 3 for i in range(VIDEOS)]
    values = {"video_id": videos, "label": [TESTED[i] for i in labels], "health": ["ok"] * VIDEOS}
    columns = [pa.array(values.get(field.name, [None] * VIDEOS), field.type) for field in SCHEMA]
    write_manifest(pa.table(columns, schema=SCHEMA), Path("cache/manifest/other/manifest.parquet"))
    Path("cache/manifest/other/class_groups.json").write_text("{}", encoding="utf-8")
    test = Subset(TESTED, [*videos, "v/broken"], [*labels, 0])
    for protocol in ("zero_shot", "supervised"):
        name = f"{protocol}_split1"
        split = Split(
            f"{protocol}/other@split1", protocol, "supervised_split1", test, None, {"test": test}
        )
        write_split(split, Path(f"cache/splits/other/{name}.json"))
    return two_versions


def test_metrics_of_the_model_that_was_registered(
    other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked = {path: path.read_bytes() for path in other.glob("results/**/*") if path.is_file()}
    folder = evaluate_on_dataset(f"{NAME}@production", ["dataset=other"])
    assert folder == other / (
        f"cache/registered/{NAME}@v0.2.0/other/zero_shot/results/other/ez_clip/zero_shot"
    )
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    assert metrics["model"] == f"{NAME}@v0.2.0"
    assert metrics["seen_classes"] == {"names": ["run"], "tested": 3}
    assert (metrics["n"], metrics["listed"]) == (VIDEOS, VIDEOS + 1)
    assert metrics["splits"]["zero_shot_split1"]["run"] == "demo/supervised_split1"
    assert (folder / "per_class.csv").is_file()
    title, rows, note = result_table(folder)
    assert title == f"{NAME}@v0.2.0 on other, zero_shot"
    assert rows
    assert note == "1 of 3 tested classes have the name of a training class (run)"
    found = find_result(str(folder))  # what `vidprompt compare` takes
    assert found.videos is not None
    assert len(found.videos) == VIDEOS
    assert {path: path.read_bytes() for path in tracked} == tracked

    def never(_config: object) -> None:
        raise AssertionError("encoded again")

    with monkeypatch.context() as patch:
        patch.setattr(features, "run", never)
        assert evaluate_on_dataset(f"{NAME}@production", ["dataset=other"]) == folder
        with pytest.raises(AssertionError, match="encoded again"):
            evaluate_on_dataset(f"{NAME}@production", ["dataset=other", "views=dense_4x3"])
    rollback(NAME, "production")
    before = evaluate_on_dataset(f"{NAME}@production", ["dataset=other", "protocol=supervised"])
    assert f"{NAME}@v0.1.0/other/supervised" in str(before)
    first = json.loads((before / "metrics.json").read_text("utf-8"))["hashes"]["checkpoints"]
    assert first != metrics["hashes"]["checkpoints"]


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        ([], "on which dataset\\?"),
        (["dataset=demo"], "small-demo@v0.2.0 was trained on demo"),
        (["dataset=othr"], "did you mean other\\?"),
        (["dataset=ucf101"], "`dvc repro manifest@ucf101 splits@ucf101 frames@ucf101`"),
        (["dataset=other", "protocol=reid"], "no split of 'reid': .* supervised, zero_shot"),
        (["dataset=other", "method=vita_clip"], "method is the registered model's"),
        (["dataset=other", "method.num_frames=8"], "method is the registered model's"),
    ],
)
def test_what_cannot_be_tested(other: Path, overrides: list[str], match: str) -> None:
    with pytest.raises(UserError, match=match):
        evaluate_on_dataset(f"{NAME}@production", overrides)
    assert not Path("cache/registered").exists()
