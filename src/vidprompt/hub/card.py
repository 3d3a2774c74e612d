"""The model card (README.md) of a published model: what it is, how to use it, its results, their origin."""

from __future__ import annotations

from collections.abc import Iterator

from vidprompt.config.names import FLOOR
from vidprompt.hub.metadata import card_metadata, metric_names, own_measures, policy_of
from vidprompt.hub.publication import Origin, Publication
from vidprompt.metrics.result import summary_measures
from vidprompt.prediction.hub_model import PREFIX
from vidprompt.provenance.code import SOURCE_FOLDER
from vidprompt.registry.card import (
    configuration_section,
    data_section,
    hashes_section,
    limits_section,
    training_section,
)
from vidprompt.registry.declared import floor_result
from vidprompt.reporting.markdown import code, escaped, table
from vidprompt.reporting.measures import PROTOCOL_TITLES, TOO_FEW, TOO_FEW_NOTE, Cell


def model_card(publication: Publication, repo: str, licence: str) -> str:
    """README.md of `repo`: metadata between lines of dashes, then Markdown."""
    from huggingface_hub import ModelCard

    metadata = card_metadata(publication, repo, licence)
    parts = [_head(publication), _use(publication, repo), _results(publication)]
    if origin := publication.origin:
        model, revision = origin.model, origin.revision
        results, weights = publication.results, publication.weights
        policy = policy_of(publication)
        parts += [
            limits_section(model, results, weights),
            data_section(model, results, revision, policy),
            training_section(model, revision),
            _inputs(origin),
            configuration_section(model, revision),
            hashes_section(model, results, weights),
        ]
    else:
        parts.append(
            "## Intended use and limits\n\nIt comes from a file, not from a project with its results: how it "
            "was trained and how good it is, this card cannot say."
        )
    text = "\n\n".join(part for part in parts if part)
    return str(ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{text}\n"))


def _head(publication: Publication) -> str:
    metadata, origin = publication.metadata, publication.origin
    rows = [
        ("Method", escaped(metadata.method)),
        ("Backbone", code(metadata.backbone)),
        ("Frames of a clip", str(metadata.num_frames)),
        ("Classes of its training", f"{len(metadata.class_names):,}"),
    ]
    if origin:
        rows.append(("Trained on", escaped(f"{origin.model.dataset}, {origin.model.run}")))
        changed = ", with changed files" if origin.is_changed else ""
        rows.append(("Commit", f"{code(origin.commit)}{changed}" if origin.commit else "none"))
    rows.append(("Weights, SHA-256", code(publication.weights.sha256)))
    lines = [f"# {escaped(f'{publication.name} {publication.version}'.strip())}", ""]
    if origin and origin.model.desc:
        lines += [escaped(origin.model.desc), ""]
    lines += ["A frozen CLIP adapted to video by prompt learning, with VidPrompt.", ""]
    return "\n".join([*lines, *table(("", ""), rows, "ll")])


def _use(publication: Publication, repo: str) -> str:
    address = f"{PREFIX}{repo}" + (f"@{publication.version}" if publication.version else "")
    return f"""## How to use it

```python
import vidprompt

model = vidprompt.load("{address}")
print(model.predict("video.mp4").label)  # of the training's classes
print(model.predict("video.mp4", ["a dog", "a cat"]).label)  # of any others
```

    pip install vidprompt
    vidprompt predict video.mp4 --model {address}

The files are safetensors and JSON: nothing in them is executed."""


def _results(publication: Publication) -> str:
    rows = list(_rows(publication))
    if not rows:
        return "## Results\n\nNone of these weights are known."
    heads = ("Dataset", "Protocol", "Measure", "This model", "Frozen CLIP", "n")
    note = "Values in %, with their 95% intervals. Frozen CLIP: the same backbone without training."
    if any(TOO_FEW in cell for row in rows for cell in row):
        note += f" {TOO_FEW_NOTE}"
    return "\n".join(["## Results", "", *table(heads, rows, "lllrrr"), "", note])


def _rows(publication: Publication) -> Iterator[tuple[str, ...]]:
    """A row a measure that follows from these weights alone."""
    assert publication.origin is not None or not publication.results
    for one in publication.results:
        assert publication.origin is not None
        floor = floor_result(one, publication.origin.revision)
        of_floor = summary_measures(floor) if floor and publication.metadata.method != FLOOR else {}
        for measure in own_measures(one):
            beside = of_floor.get(measure.name)
            part = "" if measure.test in (one.protocol, "hm") else f"{measure.test}, "
            yield (
                escaped(one.dataset),
                PROTOCOL_TITLES.get(one.protocol, one.protocol),
                escaped(f"{part}{metric_names(measure.measure)[1]}"),
                Cell.of(measure).text,
                Cell.of(beside).text if beside else "–",
                f"{measure.n:,}",
            )


def _inputs(origin: Origin) -> str:
    """What DVC's lock file says that the training read, beside the package's code."""
    path = origin.model.path
    for name, stage in origin.revision.stages.items():
        if any(out["path"] == path for out in stage.get("outs") or ()):
            rows = [
                (code(dep["path"]), code(dep.get("md5") or dep.get("hash") or ""))
                for dep in stage.get("deps") or ()
                if not str(dep["path"]).startswith(f"{SOURCE_FOLDER}/")
            ]
            lines = table(("Input", "MD5 (DVC)"), rows, "ll")
            return "\n".join([f"## What it was trained from\n\nStage {code(name)}.", "", *lines])
    return ""
