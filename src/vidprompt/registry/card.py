"""Writes a model card in Markdown from a version's commit and tags: results, data, training, hashes."""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from vidprompt.config.names import FLOOR
from vidprompt.provenance.dvc_project import DvcProject
from vidprompt.provenance.git import git
from vidprompt.provenance.revision import Revision
from vidprompt.registry.declared import (
    DeclaredModel,
    ModelResult,
    find_model,
    floor_result,
    model_results,
)
from vidprompt.registry.model_files import Weights, find_weights
from vidprompt.registry.policy import Policy, read_policy
from vidprompt.registry.versions import Version
from vidprompt.reporting.markdown import table
from vidprompt.system.errors import UserError

SHOWN = ("method", "backbone", "prompts", "views", "frames", "trainer")  # of the configuration


def card(name: str, revision: Revision, version: Version | None = None) -> str:
    """A model's card; `version` is that of the revision, None before it is registered.

    UserError where the model is not declared, or no store has its weights.
    """
    model, policy = find_model(revision, name), read_policy(Revision(revision.root))
    results = model_results(model, revision)
    with DvcProject(revision) as project:
        weights = find_weights(model, project)
    parts = [
        _head(model, revision, version),
        _loading(model, weights, version),
        limits_section(model, results, weights),
        _results(model, results, revision),
        _compared(model, results, weights, revision, policy),
        data_section(model, results, revision, policy),
        training_section(model, revision),
        configuration_section(model, revision),
        hashes_section(model, results, weights),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(model: DeclaredModel, revision: Revision, version: Version | None) -> str:
    title = f"# {model.name} {version.version}" if version else f"# {model.name} (not registered)"
    lines = [title, ""]
    if model.desc:
        lines += [model.desc, ""]
    rows = [("Stages", ", ".join(version.stages) or "none")] if version else []
    commit = revision.commit or "the workspace, not committed"
    if revision.commit:
        date = git(revision.root, "show", "-s", "--format=%cs", revision.commit).strip()
        commit = f"`{commit}` of {date}"
    rows += [("Commit", commit), ("Method", model.method)]
    rows.append(("Trained on", f"{model.dataset}, {model.run}"))
    if model.labels:
        rows.append(("Labels", ", ".join(model.labels)))
    return "\n".join([*lines, *table(("", ""), rows, "ll")])


def _loading(model: DeclaredModel, weights: Weights, version: Version | None) -> str:
    selector = version.selector if version else f"{model.name}@VERSION"
    return f"""## How to load it

```python
from vidprompt.registry import load

model = load("{selector}")  # in a clone; weights and backbone come through DVC
frames, video = model.encode_video(clips)  # (B, {weights.metadata.num_frames}, 3, H, W), normalised
text = model.encode_classes(["walking", "running"])
```

    vidprompt evaluate-registered {selector} dataset=NAME"""


def limits_section(model: DeclaredModel, results: Sequence[ModelResult], weights: Weights) -> str:
    """What it is for, and what is not known of it."""
    metadata = weights.metadata
    measured = "No result of it is known."
    if results:
        protocols = ", ".join(one.name(model) for one in results)
        measured = (
            f"It was measured on {protocols}, and nothing is known beyond. It is one training with one "
            "seed; another seed moves the numbers, which the intervals do not show: they are over the "
            f"test videos, of which a result has {min(one.result.n for one in results):,} or more."
        )
    text = (
        f"For clips like those of {model.dataset}, seen {metadata.num_frames} frames at a time by the "
        f"backbone {metadata.backbone}, and for research on them. {measured} It was trained with "
        f"{len(metadata.class_names):,} classes, whose names are in the checkpoint. What the backbone "
        "learned from its own data, biases included, is in it. It was not tested for decisions about "
        "people, and is not meant for finding real people again without their consent."
    )
    return f"## Intended use and limits\n\n{text}"


def _results(model: DeclaredModel, results: Sequence[ModelResult], revision: Revision) -> str:
    from vidprompt.reporting.measures import Results, table_rows
    from vidprompt.reporting.table import markdown_table

    parts = ["## Results"]
    for dataset in sorted({one.dataset for one in results}, key=lambda d: (d != model.dataset, d)):
        by_method: Results = {FLOOR: {}, model.method: {}}
        for one in results:
            if one.dataset == dataset:
                by_method[model.method][one.protocol] = one.result
                if floor := floor_result(one, revision):
                    by_method[FLOOR][one.protocol] = floor
        if dataset != model.dataset:
            parts.append(f"On {dataset}:")
        parts.append(markdown_table(table_rows(by_method)))
    return "\n\n".join(parts if results else [*parts, "None."])


def _compared(
    model: DeclaredModel,
    results: Sequence[ModelResult],
    weights: Weights,
    revision: Revision,
    policy: Policy,
) -> str:
    """The paired tests with the version in the last stage."""
    from vidprompt.registry.stage_comparison import comparison_checks, find_compared

    last = policy.stages[-1]
    other = find_compared(model, last, weights, revision)
    if isinstance(other, str):
        return f"## Against {last}\n\n{other[0].upper()}{other[1:]}: nothing to compare with."
    rows = []
    for one in results:
        for check in comparison_checks(other, one.name(model), None, model, revision):
            measure = check.subject.replace(f" against {other.version.version} ", " ", 1)
            rows.append((measure, check.value))
    heading = (
        f"## Against {other.version.selector}\n\n"
        f"The version in {last}. Paired on the same videos, with the 95 % interval of the difference.\n"
    )
    return "\n".join([heading, *table(("Measure", "This less that, in points"), rows, "ll")])


def data_section(
    model: DeclaredModel, results: Sequence[ModelResult], revision: Revision, policy: Policy
) -> str:
    """The datasets of its training and its tests, with their licences."""
    rows = []
    for dataset in sorted({model.dataset, *(one.dataset for one in results)}):
        health = revision.json(f"results/{dataset}/health.json") or {}
        validation = revision.json(f"results/{dataset}/validation.json") or {}
        videos, usable = int(health.get("videos") or 0), int(health.get("usable") or 0)
        reasons = health.get("reasons") or {}
        why = ", ".join(
            f"{name} {entry['videos']}" for name, entry in sorted(reasons.items()) if name != "ok"
        )
        passed = {True: "passed", False: "failed"}.get(validation.get("success"), "none")  # type: ignore[arg-type]
        broken = f"{videos - usable:,}" + (f" ({why})" if why else "")
        licence = policy.licences.get(dataset, "not given in params/registry.yaml")
        rows.append((dataset, f"{videos:,}", broken, passed, licence))
    heads = ("Dataset", "Videos", "Cannot be used", "Validation", "Licence")
    return "\n".join(["## Data", "", *table(heads, rows, "lrrll")])


def training_section(model: DeclaredModel, revision: Revision) -> str:
    """How the training went; nothing where the revision has no record of it."""
    path = f"results/{model.dataset}/{model.method}/runs/{model.run}/training.json"
    training = revision.json(path)
    if training is None:
        return ""
    last = ", ".join(f"{k} {v:g}" for k, v in sorted((training.get("last") or {}).items()))
    seen = f"{training.get('videos')} of {training.get('listed')} listed videos"
    return (
        f"## Training\n\n{training.get('steps')} steps, {training.get('epochs')} epochs over {seen}; kept: "
        f"step {training.get('kept_step')} ({training.get('select')}). Its last record: {last}."
    )


def configuration_section(model: DeclaredModel, revision: Revision) -> str:
    """The configuration that today's code composes from the revision's parameters."""
    from vidprompt.config.compose import compose

    overrides = [f"dataset={model.dataset}", f"method={model.method}", f"split={model.run}"]
    try:
        with _parameters(revision) as folder, contextlib.chdir(folder):
            whole = compose(overrides).values
    except UserError as error:
        return f"## Configuration\n\nToday's code does not read it: {error}"
    shown = {part: whole[part] for part in SHOWN if part in whole} | {"seed": whole.get("seed")}
    text = yaml.safe_dump(shown, sort_keys=True, width=110, allow_unicode=True)
    command = shlex.join(["vidprompt", "train", *overrides])
    return f"## Configuration\n\n`{command}`\n\n```yaml\n{text}```"


@contextlib.contextmanager
def _parameters(revision: Revision) -> Iterator[Path]:
    """A folder with the revision's params/."""
    if not revision.commit:
        yield revision.root.absolute()
        return
    with tempfile.TemporaryDirectory() as folder:
        for path in revision.files:
            if path.startswith("params/"):
                file = Path(folder) / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(revision.read(path) or b"")
        yield Path(folder)


def hashes_section(model: DeclaredModel, results: Sequence[ModelResult], weights: Weights) -> str:
    """The hashes of the weights, of what they were trained with, and of their results."""
    metadata = weights.metadata
    rows = [
        (f"{model.path}, MD5 (DVC)", f"`{weights.md5}`"),
        (f"{model.path}, SHA-256", f"`{weights.sha256}`"),
        (f"backbone {metadata.backbone}, SHA-256", f"`{metadata.backbone_checksum}`"),
        ("training's code", f"`{metadata.version}`"),
        ("training's configuration", f"`{metadata.config_hash}`"),
    ]
    for one in results:
        hashes = one.result.hashes
        shown = f"config `{hashes.config}`, data `{hashes.data}`, checkpoint `{one.digest}`"
        rows.append((one.name(model), shown))
    return "\n".join(["## Hashes", "", *table(("Of", "Hash"), rows, "ll")])
