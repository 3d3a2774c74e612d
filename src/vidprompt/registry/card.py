"""A model card: what a version is, was measured to be, and was made of: a function of its commit and tags."""

from __future__ import annotations

import contextlib
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import yaml

from vidprompt.config.names import FLOOR
from vidprompt.provenance.dvc_project import DvcProject
from vidprompt.provenance.revision import Revision, git
from vidprompt.registry.declared import Declared, Judged, find_model, floor_of, results_of
from vidprompt.registry.policy import Policy, read_policy
from vidprompt.registry.versions import Version
from vidprompt.registry.weights import Weights, find_weights
from vidprompt.system.errors import UserError

SHOWN = ("method", "backbone", "prompts", "views", "frames", "trainer")  # of the configuration


def card(name: str, revision: Revision, version: Version | None = None) -> str:
    """Markdown. `version` is the one that the revision is, None before it is registered.

    UserError where the model is not declared, or its weights are nowhere.
    """
    model, policy = find_model(revision, name), read_policy(Revision(revision.root))
    judged = results_of(model, revision)
    with DvcProject(revision) as project:
        weights = find_weights(model, project)
    parts = [
        _head(model, revision, version),
        _loading(model, weights, version),
        _limits(model, judged, weights),
        _results(model, judged, revision),
        _compared(model, judged, weights, revision, policy),
        _data(model, judged, revision, policy),
        _training(model, revision),
        _configuration(model, revision),
        _hashes(model, judged, weights),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(model: Declared, revision: Revision, version: Version | None) -> str:
    title = f"# {model.name} {version.version}" if version else f"# {model.name} (not registered)"
    lines = [title, ""]
    if model.desc:
        lines += [model.desc, ""]
    lines += ["| | |", "|---|---|"]
    if version:
        lines.append(f"| Stages | {', '.join(version.stages) or 'none'} |")
    commit = revision.commit or "the workspace, not committed"
    if revision.commit:
        date = git(revision.root, "show", "-s", "--format=%cs", revision.commit).strip()
        commit = f"`{commit}` of {date}"
    lines += [f"| Commit | {commit} |", f"| Method | {model.method} |"]
    lines.append(f"| Trained on | {model.dataset}, {model.run} |")
    if model.labels:
        lines.append(f"| Labels | {', '.join(model.labels)} |")
    return "\n".join(lines)


def _loading(model: Declared, weights: Weights, version: Version | None) -> str:
    shown = version.shown if version else f"{model.name}@VERSION"
    return f"""## How to load it

```python
from vidprompt.registry import load

model = load("{shown}")  # in a clone; weights and backbone come through DVC
frames, video = model.encode_video(clips)  # (B, {weights.metadata.num_frames}, 3, H, W), normalised
text = model.encode_classes(["walking", "running"])
```

    vidprompt evaluate-registered {shown} dataset=NAME"""


def _limits(model: Declared, judged: Sequence[Judged], weights: Weights) -> str:
    about = weights.metadata
    protocols = ", ".join(one.shown(model.dataset) for one in judged) or "nothing"
    few = min((one.result.n for one in judged), default=0)
    text = (
        f"For clips like those of {model.dataset}, seen {about.num_frames} frames at a time by the "
        f"backbone {about.backbone}, and for research on them. It was measured on {protocols}, and "
        "nothing is known beyond. It is one training with one seed; another seed moves the numbers, "
        "which the intervals below do not show: they are over the test videos, of which a result has "
        f"{few:,} or more. It was trained with {len(about.class_names):,} classes, whose names are in "
        "the checkpoint. What the backbone learned from its own data, biases included, is in it. It "
        "was not tested for decisions about people, and is not meant for finding real people again "
        "without their consent."
    )
    return f"## Intended use and limits\n\n{text}"


def _results(model: Declared, judged: Sequence[Judged], revision: Revision) -> str:
    from vidprompt.reporting.measures import Results, table_rows
    from vidprompt.reporting.table import markdown_table

    parts = ["## Results"]
    for dataset in sorted({one.dataset for one in judged}, key=lambda d: (d != model.dataset, d)):
        by_method: Results = {FLOOR: {}, model.method: {}}
        for one in judged:
            if one.dataset == dataset:
                by_method[model.method][one.protocol] = one.result
                if floor := floor_of(one, revision):
                    by_method[FLOOR][one.protocol] = floor
        if dataset != model.dataset:
            parts.append(f"On {dataset}:")
        parts.append(markdown_table(table_rows(by_method)))
    return "\n\n".join(parts if judged else [*parts, "None."])


def _compared(
    model: Declared,
    judged: Sequence[Judged],
    weights: Weights,
    revision: Revision,
    policy: Policy,
) -> str:
    """With the model that is in the last stage, measure by measure."""
    from vidprompt.registry.stage_comparison import against, compared_with

    last = policy.stages[-1]
    other = compared_with(model, last, weights, revision)
    if isinstance(other, str):
        return f"## Against {last}\n\n{other[0].upper()}{other[1:]}: nothing to compare with."
    lines = [
        f"## Against {other.version.shown}",
        "",
        f"Which is in {last}. Paired on the same videos, with the 95 % interval of the difference.",
        "",
        "| Measure | This less that, in points |",
        "| --- | --- |",
    ]
    for one in judged:
        result = one.shown(model.dataset)
        for check in against(other, result, None, model, revision):
            about = check.about.removeprefix(f"{result} against {other.version.version} ")
            lines.append(f"| {result} {about} | {check.found} |")
    return "\n".join(lines)


def _data(model: Declared, judged: Sequence[Judged], revision: Revision, policy: Policy) -> str:
    lines = ["## Data", "", "| Dataset | Videos | Cannot be used | Validation | Licence |"]
    lines.append("| --- | ---: | ---: | --- | --- |")
    for dataset in sorted({model.dataset, *(one.dataset for one in judged)}):
        health = revision.json(f"results/{dataset}/health.json") or {}
        validation = revision.json(f"results/{dataset}/validation.json") or {}
        videos, usable = int(health.get("videos") or 0), int(health.get("usable") or 0)
        reasons = health.get("reasons") or {}
        why = ", ".join(
            f"{name} {about['videos']}" for name, about in sorted(reasons.items()) if name != "ok"
        )
        passed = {True: "passed", False: "failed"}.get(validation.get("success"), "none")  # type: ignore[arg-type]
        broken = f"{videos - usable:,}" + (f" ({why})" if why else "")
        licence = policy.licences.get(dataset, "not said in params/registry.yaml")
        lines.append(f"| {dataset} | {videos:,} | {broken} | {passed} | {licence} |")
    return "\n".join(lines)


def _training(model: Declared, revision: Revision) -> str:
    path = f"results/{model.dataset}/{model.method}/runs/{model.run}/training.json"
    about = revision.json(path)
    if about is None:
        return ""
    last = ", ".join(f"{k} {v:g}" for k, v in sorted((about.get("last") or {}).items()))
    seen = f"{about.get('videos')} of {about.get('listed')} listed videos"
    return (
        f"## Training\n\n{about.get('steps')} steps, {about.get('epochs')} epochs over {seen}; kept: step "
        f"{about.get('kept_step')} ({about.get('select')}). Its last record: {last}."
    )


def _configuration(model: Declared, revision: Revision) -> str:
    """As it is composed with today's code from the revision's parameters."""
    from vidprompt.config.compose import compose

    said = [f"dataset={model.dataset}", f"method={model.method}", f"split={model.run}"]
    try:
        with _parameters(revision) as folder, contextlib.chdir(folder):
            whole = compose(said).values
    except UserError as error:
        return f"## Configuration\n\nToday's code does not read it: {error}"
    shown = {part: whole[part] for part in SHOWN if part in whole} | {"seed": whole.get("seed")}
    text = yaml.safe_dump(shown, sort_keys=True, width=110, allow_unicode=True)
    return f"## Configuration\n\n`vidprompt train {' '.join(said)}`\n\n```yaml\n{text}```"


@contextlib.contextmanager
def _parameters(revision: Revision) -> Iterator[Path]:
    """A folder with the revision's params/."""
    if not revision.commit:
        yield revision.root.absolute()
        return
    command = ["git", "-C", str(revision.root), "archive", revision.commit, "params"]
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        raise UserError(f"git archive of params at {revision.shown} failed")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)


def _hashes(model: Declared, judged: Sequence[Judged], weights: Weights) -> str:
    about = weights.metadata
    lines = ["## Hashes", "", "| Of | Hash |", "|---|---|"]
    lines.append(f"| {model.path}, MD5 (DVC) | `{weights.md5}` |")
    lines.append(f"| {model.path}, SHA-256 | `{weights.sha256}` |")
    lines.append(f"| backbone {about.backbone}, SHA-256 | `{about.backbone_checksum}` |")
    lines.append(f"| training's code | `{about.version}` |")
    lines.append(f"| training's configuration | `{about.config_hash}` |")
    for one in judged:
        hashes = one.result.hashes
        lines.append(
            f"| {one.shown(model.dataset)} | config `{hashes.config}`, data `{hashes.data}`, "
            f"checkpoint `{one.digest}` |"
        )
    return "\n".join(lines)
