"""What a tune leaves: tune.json, a table, a page with pictures, and an experiment file of each method."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidprompt.config.overrides import parse_value, split_override
from vidprompt.config.params_files import params_folder, read_yaml
from vidprompt.files.atomic import replacing, write_json, write_text
from vidprompt.reporting.markdown import code, table
from vidprompt.reporting.measures import percent
from vidprompt.system.errors import UserError
from vidprompt.tuning.plan import TunePlan
from vidprompt.tuning.space import Value
from vidprompt.tuning.study import COMPLETE, FAILED, PRUNED, MethodStudy
from vidprompt.tuning.trainings import Tuned


@dataclass(frozen=True)
class Picture:
    """A PNG of the page, and its file's name."""

    name: str
    png: bytes


MEASURES = {"top1": "top-1", "mAP": "mAP"}
SHOWN = 5  # trials of a method in the table
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_@.-]*")


def tune_result(
    plan: TunePlan, studies: Mapping[str, MethodStudy], tuned: Mapping[str, Tuned]
) -> dict[str, Any]:
    """What tune.json holds: equal trials give equal bytes."""
    methods = {}
    for method, study in studies.items():
        one, results = tuned[method], study.results()
        ended = [trial for trial in results if trial.value is not None]
        best = max(ended, key=lambda trial: (trial.value, -trial.number), default=None)
        methods[method] = {
            "steps": one.steps,
            "searched": {k: str(d) for k, d in plan.settings.dimensions(method).items()},
            "best": None if best is None else best.number,
            "importance": study.importance(),
            "trials": [
                {
                    "number": trial.number,
                    "state": trial.state,
                    "values": trial.values,
                    "value": trial.value,
                    "held_out": trial.held_out,
                }
                | ({"reason": trial.reason} if trial.reason else {})
                for trial in results
            ],
        }
    first = tuned[plan.methods[0]]
    assert first.split.train is not None
    assert first.split.val is not None
    settings = plan.settings
    return {
        "name": plan.folder.name,
        "dataset": str(first.config.dataset.name),
        "split": first.split.id,
        "trained_on": len(first.split.train.videos),
        "held_out": len(first.split.val.videos),
        "measure": "mAP" if first.split.protocol == "reid" else "top1",
        "seed": int(first.config.seed),
        "overrides": list(plan.overrides),
        "settings": {
            "file": f"params/tune/{settings.name}.yaml",
            "trials": settings.trials,
            "sampler": settings.sampler,
            "startup_trials": settings.startup_trials,
            "pruner": settings.pruner,
            "warmup": settings.warmup,
            "held_out": plan.held_out.partition("=")[2],
        },
        "methods": methods,
    }


# -- Markdown and page ----------------------------------------------------------------------------


def write(plan: TunePlan, result: Mapping[str, Any]) -> str:
    """Write tune.json, summary.md, tune.html and its pictures; returns the table in Markdown."""
    from vidprompt.reporting.rendering import png
    from vidprompt.review.output import html_page
    from vidprompt.tuning.pictures import drawn

    write_json(plan.folder / "tune.json", result)
    text = markdown(result)
    pictures = [Picture(f"{name}.png", png(spec)) for name, spec in drawn(result).items()]
    for picture in pictures:
        with replacing(plan.folder / picture.name) as temporary:
            temporary.write_bytes(picture.png)
    shown = "\n\n".join(f'<img src="{one.name}" alt="{one.name}">' for one in pictures)
    page = f"# {result['name']}\n\n{text}\n\n{shown}\n"
    write_text(plan.folder / "summary.md", page)
    write_text(plan.folder / "tune.html", html_page(page, pictures, str(result["name"])))
    return text


def markdown(result: Mapping[str, Any]) -> str:
    """The best trials of each method, the first among them, and how they were found."""
    parts = []
    for method, one in result["methods"].items():
        parts += [*_method_table(method, one), ""]
    settings = result["settings"]
    return "\n".join(
        [
            *parts,
            f"Held-out {MEASURES[result['measure']]} in %, of {result['held_out']:,} training videos that "
            f"are not among the {result['trained_on']:,} trained on ({result['split']}); no test list is "
            f"read. Seed {result['seed']}; sampler {settings['sampler']}, pruner {settings['pruner']}. "
            "Trial 0 is the recipe as it stands. The best of many tries is better here than it will be on "
            "other videos: compare it with the recipe on the tests.",
        ]
    )


def _method_table(method: str, one: Mapping[str, Any]) -> list[str]:
    trials = one["trials"]
    counts = {
        state: sum(t["state"] == state for t in trials) for state in (COMPLETE, PRUNED, FAILED)
    }
    ended = sorted(
        (t for t in trials if t["value"] is not None), key=lambda t: (-t["value"], t["number"])
    )
    rows = ended[:SHOWN]
    rows += [t for t in trials if t["number"] == 0 and t not in rows]
    keys = list(one["searched"])
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    lines = [f"**{method}**: {len(trials)} trials of {one['steps']:,} steps ({told})", ""]
    lines += table(
        ["trial", "held-out", *keys],
        [
            [
                str(t["number"]),
                percent(t["value"]) if t["value"] is not None else t["state"],
                *[_text(t["values"].get(key)) for key in keys],
            ]
            for t in rows
        ],
    )
    if one["importance"]:
        shares = ", ".join(f"{key} {share:.2f}" for key, share in one["importance"].items())
        lines += ["", f"What decides (PED-ANOVA): {shares}."]
    failed = [t for t in trials if t["state"] == FAILED]
    if failed:
        lines += ["", f"Failed, trial {failed[0]['number']} first: {code(failed[0]['reason'])}"]
    return lines


def _text(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)


# -- the experiment file --------------------------------------------------------------------------


def check_experiment_name(save: str) -> None:
    """UserError for a name that is no file's of params/experiment/."""
    if save and not _NAME.fullmatch(save):
        raise UserError(f"--save {save}: letters, digits and _ - @ . alone, and no .yaml")


def write_best(
    plan: TunePlan, method: str, tuned: Tuned, result: Mapping[str, Any], save: str
) -> Path:
    """Write `<method>/best.yaml`, and `params/experiment/SAVE.yaml`; returns the last one's path."""
    one = result["methods"][method]
    [best] = [trial for trial in one["trials"] if trial["number"] == one["best"]]
    lengths = {} if len(plan.methods) == 1 else {"trainer.length": one["steps"]}
    text = experiment_text(plan, tuned, {**lengths, **best["values"]}, best, str(result["name"]))
    path = plan.folder / method / "best.yaml"
    write_text(path, text)
    if save:
        name = save if len(plan.methods) == 1 else f"{save}_{method}"
        path = Path("params/experiment") / f"{name}.yaml"
        write_text(path, text)
    return path


def experiment_text(
    plan: TunePlan,
    tuned: Tuned,
    values: Mapping[str, Value],
    best: Mapping[str, Any],
    name: str,
) -> str:
    """An experiment file: what all trials had in common, with the values of the best."""
    import yaml

    groups = {path.name for path in params_folder().iterdir() if path.is_dir()}
    config = tuned.config
    defaults = {"dataset": str(config.dataset.name), "method": tuned.method}
    content: dict[str, Any] = {}
    pairs = [split_override(one) for one in plan.overrides]
    if experiment := dict(pairs).get("experiment"):
        content = read_yaml(params_folder() / "experiment" / f"{experiment}.yaml")
        for entry in content.pop("defaults", []):
            defaults |= {str(k).removeprefix("override ").lstrip("/"): v for k, v in entry.items()}
    for key, text in pairs:
        if key in groups:
            defaults[key] = text
        elif key not in ("experiment", "seed", "split"):
            _set(content, key, parse_value(key, text))
    for key, value in values.items():
        if key in groups:
            defaults[key] = str(value)
        else:
            _set(content, key, value)
    content["split"] = tuned.run
    lists = [{f"override /{group}": file} for group, file in defaults.items()]
    body = yaml.safe_dump({"defaults": lists} | content, sort_keys=False, allow_unicode=True)
    share = percent(best["value"])
    return (
        "# @package _global_\n"
        f"# The best of `vidprompt tune` ({name}): trial {best['number']}, {share} % of held-out videos.\n"
        f"{body}"
    )


def _set(content: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    node = content
    for part in path:
        inner = node.get(part)
        node[part] = node = inner if isinstance(inner, dict) else {}
    node[last] = value
