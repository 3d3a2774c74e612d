"""A stand-in of FiftyOne: every call is checked against the signatures of FiftyOne 1.22 and Brain 0.27.

`fiftyone_signatures.json` has them, parameter → whether it may be left out, as read from the wheels' syntax
trees. `from_dir` reads a folder as FiftyOne's importer of plain JSON does (fiftyone/utils/data/importers.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

SIGNATURES = json.loads((Path(__file__).parent / "fiftyone_signatures.json").read_text("utf-8"))


def check(name: str, /, *given: Any, **named: Any) -> None:
    """Fail for arguments that the library's function of that name would not take."""
    known = SIGNATURES[name]
    plain = [parameter for parameter in known if not parameter.startswith("*")]
    assert len(given) <= len(plain), f"{name} takes {plain}"
    bound = {*plain[: len(given)], *named}
    if not any(parameter.startswith("**") for parameter in known):
        assert set(named) <= set(plain), f"{name} has no {set(named) - set(plain)}"
    left = {parameter for parameter in plain if not known[parameter]}
    assert left <= bound, f"{name} needs {left - bound}"


class Label(dict[str, Any]):
    """A `Classification`."""


class Sample:
    def __init__(self, *given: Any, **fields: Any) -> None:
        check("Sample.__init__", *given, **fields)
        assert Path(fields["filepath"]).is_absolute()
        self.fields = fields


class View:
    """Some samples of a dataset."""

    def __init__(self, dataset: Dataset, samples: list[Sample]) -> None:
        self.dataset, self.samples = dataset, samples

    def set_values(self, field: str, values: list[Any]) -> None:
        check("Dataset.set_values", field, values)
        for sample, value in zip(self.samples, values, strict=True):
            sample.fields[field] = value

    def evaluate_classifications(self, *given: Any, **named: Any) -> None:
        check("Dataset.evaluate_classifications", *given, **named)
        self.dataset.evaluations[named["eval_key"]] = (given[0], len(self.samples))


class Dataset:
    def __init__(self, **named: Any) -> None:
        check("Dataset.__init__", **named)
        self.name = named.get("name")
        self.info: dict[str, Any] = {}
        self.default_classes: list[str] = []
        self.samples: list[Sample] = []
        self.views: dict[str, View] = {}
        self.evaluations: dict[str, tuple[str, int]] = {}
        self.maps: dict[str, Any] = {}

    @classmethod
    def from_dir(cls, **named: Any) -> Dataset:
        check("Dataset.from_dir", **named)
        folder = Path(named["dataset_dir"])
        metadata = json.loads((folder / "metadata.json").read_text("utf-8"))
        assert "version" not in metadata  # else FiftyOne reads it as its database's own form
        made = cls()
        made.info = metadata["info"]
        for given in json.loads((folder / "samples.json").read_text("utf-8"))["samples"]:
            frames = json.loads((folder / given.pop("frames")).read_text("utf-8"))
            assert frames == {"frames": {}}
            labels = {k: Label(v) for k, v in given.items() if isinstance(v, dict)}
            assert all(label.pop("_cls") == "Classification" for label in labels.values())
            made.samples.append(Sample(**(given | labels)))
        return made

    def add_samples(self, samples: Iterable[Sample], **named: Any) -> None:
        check("Dataset.add_samples", samples, **named)
        self.samples += samples
        assert len(self.samples) == named["num_samples"]

    def exists(self, field: str) -> View:
        check("Dataset.exists", field)
        return View(self, [one for one in self.samples if one.fields.get(field) is not None])

    def match_tags(self, tags: str) -> View:
        check("Dataset.match_tags", tags)
        return View(self, [one for one in self.samples if tags in one.fields["tags"]])

    def save_view(self, name: str, view: View) -> None:
        check("Dataset.save_view", name, view)
        self.views[name] = view

    def save(self) -> None:
        check("Dataset.save")


def modules() -> tuple[Any, Any]:
    """The modules `fiftyone` and `fiftyone.brain`; `fiftyone.shown` has the datasets that were opened."""
    fiftyone, brain = ModuleType("fiftyone"), ModuleType("fiftyone.brain")
    made: Any = fiftyone

    def compute_visualization(view: View, **named: Any) -> None:
        check("brain.compute_visualization", view, **named)
        assert named["points"].shape == (len(view.samples), 2)
        view.dataset.maps[named["brain_key"]] = named["points"]

    def launch_app(dataset: Dataset, **named: Any) -> Any:
        check("launch_app", dataset, **named)
        made.shown.append(dataset)
        return SimpleNamespace(wait=lambda: check("Session.wait"))

    made.shown = []
    made.Dataset, made.Sample, made.Classification = Dataset, Sample, Label
    made.types = SimpleNamespace(FiftyOneDataset=object)
    made.launch_app, made.brain = launch_app, brain
    vars(brain)["compute_visualization"] = compute_visualization
    return fiftyone, brain
