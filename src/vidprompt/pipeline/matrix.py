"""Which stages each active dataset has: params/pipeline.yaml → params/stages.yaml, which dvc.yaml expands.

A dataset takes part in the protocols that its roles allow, with the runs that its protocols' numbers
give; DVC cannot derive that itself (a matrix is the same for every dataset), so it is written down.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from vidprompt.config.compose import compose, protocols_of, stage_choices
from vidprompt.config.names import FLOOR, PROTOCOLS
from vidprompt.config.params_files import params_file, params_folder, read_yaml
from vidprompt.config.plugins import used_plugins
from vidprompt.config.schema import Config, DatasetConfig, Protocols
from vidprompt.files.atomic import write_text
from vidprompt.provenance.code import SOURCE_FOLDER, SourceTree, with_code_dependencies
from vidprompt.provenance.plugin_links import path_in_project, plugin_code, renew_plugin_links
from vidprompt.system.errors import UserError

HEAD = "# Written by `vidprompt activate` from pipeline.yaml and dataset/*.yaml: do not edit.\n"
_ACTIVE = re.compile(r"^active: *\[([^\]]*)\]", re.MULTILINE)
_NAME = re.compile(r"[a-z][a-z0-9_]*")
PROTOCOL = "supervised"  # of config.yaml
Stages = dict[str, dict[str, dict[str, str]]]


def activate(names: Sequence[str]) -> tuple[list[str], Stages]:
    """Add datasets to `active`, write stages.yaml; returns the active ones and their stages.

    The packages of plug-ins that the stages use are linked in `plugins/`.
    """
    file = params_folder() / "pipeline.yaml"
    pipeline = read_pipeline()
    active = [*pipeline["active"], *(name for name in names if name not in pipeline["active"])]
    stages = stages_of(active, pipeline)
    if active != pipeline["active"]:
        text, count = _ACTIVE.subn(
            f"active: [{', '.join(active)}]", file.read_text("utf-8"), count=1
        )
        if not count:
            raise UserError(f"{file}: write the active datasets as `active: [{', '.join(active)}]`")
        write_text(file, text)
    write_text(params_folder() / "stages.yaml", stages_yaml(stages))
    for file, text in _code_dependencies():
        write_text(file, text)
    renew_plugin_links(params_folder().parent)
    return active, stages


def stale() -> list[str]:
    """The files that are not as `activate` would write them: stages.yaml, and dvc.yaml for its code."""
    file = params_folder() / "stages.yaml"
    pipeline = read_pipeline()
    wanted = stages_yaml(stages_of(pipeline["active"], pipeline))
    stages = [] if file.is_file() and file.read_text("utf-8") == wanted else ["params/stages.yaml"]
    return stages + [file.name for file, _ in _code_dependencies()]


def _code_dependencies() -> Iterator[tuple[Path, str]]:
    """dvc.yaml and what it has to be, where its stages do not list the code that they run; only in a
    repository that holds the package's sources."""
    root = params_folder().parent
    sources, file = root / SOURCE_FOLDER, root / "dvc.yaml"
    if (sources / "__init__.py").is_file() and file.is_file():
        text = file.read_text("utf-8")
        wanted = with_code_dependencies(text, SourceTree.of_folder(sources))
        if text != wanted:
            yield file, wanted


def stages_yaml(stages: Stages) -> str:
    """The content of params/stages.yaml."""
    return HEAD + yaml.safe_dump(stages, sort_keys=True, default_flow_style=None, width=160)


def stages_of(active: Sequence[str], pipeline: dict[str, Any]) -> Stages:
    """Kind of stage → key (as in `train@<key>`) → the values that dvc.yaml fills in.

    Raises UserError for an unknown dataset, or a name that a stage cannot have.
    """
    kinds = ("unpack", "dataset", "train", "features", "evaluate", "reid")
    stages: Stages = {kind: {} for kind in kinds}
    for name in active:
        if not _NAME.fullmatch(name):
            raise UserError(f"dataset {name!r}: stages want small letters, digits and _ in a name")
        _add_dataset(stages, name, active, pipeline)
    return stages


def _add_dataset(
    stages: Stages, name: str, active: Sequence[str], pipeline: dict[str, Any]
) -> None:
    config = compose([f"dataset={name}"])
    protocols, roles = protocols_of(config), set(config.dataset.roles)
    groups = _group_files(config.dataset, FLOOR, PROTOCOL)
    weights = config.backbone.weights or "src/vidprompt/models/backbones/loading.py"
    tokenizer = config.backbone.tokenizer or "src/vidprompt/models/backbones/tokenizer.py"
    item = {"dataset": name, "root": str(config.dataset.root), "weights": str(weights)}
    item["tokenizer"] = str(tokenizer)
    item["dataset_file"] = _project_file(f"dataset/{name}")
    for stage, key, places in (("manifest", "reader_code", 3), ("backbone", "backbone_code", 1)):
        item |= plugin_code(key, places, used_plugins(config, stage), f"the dataset {name}")
    texts = _texts_file(config, FLOOR)
    stages["dataset"][name] = item | groups | {"texts": texts}
    if config.dataset.archives:
        archives = {"archives": str(config.dataset.archives), "root": item["root"]}
        file = {"dataset_file": item["dataset_file"]}
        stages["unpack"][name] = {"dataset": name} | file | archives
    trainer = stage_choices(config.dataset, FLOOR, PROTOCOL)["trainer"]
    own, models = _published(config, protocols)
    runs = training_runs(protocols, roles) + own
    tested = _tested_protocols(protocols, roles)
    if "zero_shot" in tested and protocols.zero_shot:
        models.setdefault("zero_shot", set()).add(protocols.zero_shot.trained_on)
    borrowed = sorted(set().union(*models.values()) - set(runs))
    there = {model for model in borrowed if "/" not in model or model.split("/")[0] in active}
    for method in pipeline["trained"]:
        same = {"dataset": name, "method": method, **_method_files(name, method)}
        numbers = _number_files(trainer, method) | {"texts": _texts_file(config, method)}
        for run in runs:
            read = _group_files(config.dataset, method, _protocol_of(run)) | numbers
            item = {**same, "run": run, **read}
            stages["train"][f"{name}-{method}-{run}"] = item
            model = f"{name}/{method}/{run}"
            stages["features"][f"{name}-{method}-{run}"] = item | {"model": model}
        for run in sorted(there):
            home, _, elsewhere = run.rpartition("/")
            read = _group_files(config.dataset, method, _protocol_of(run)) | numbers
            item = {**same, "run": run, **read}
            model = f"{home or name}/{method}/{elsewhere}"
            key = f"{name}-{method}-{run.replace('/', '_')}"
            stages["features"][key] = item | {"model": model}
    metrics = plugin_code("metric_code", 3, used_plugins(config, "evaluate"), "metrics")
    for method in (FLOOR, *pipeline["trained"]):
        same = {"dataset": name, "method": method, "dataset_file": _project_file(f"dataset/{name}")}
        same |= {"method_file": _project_file(f"method/{method}"), **metrics}
        numbers = _number_files(trainer, method)
        for protocol in sorted({*tested, *models}):
            absent = models.get(protocol, set()) - {*runs, *there}
            if absent and method in pipeline["trained"]:
                continue  # nobody trains what it is tested with
            read = _group_files(config.dataset, method, protocol) | numbers
            item = {**same, "protocol": protocol, **read}
            kind, key = ("reid", "") if protocol == "reid" else ("evaluate", f"-{protocol}")
            stages[kind][f"{name}-{method}{key}"] = item


def _project_file(name: str) -> str:
    """The file `params/<name>.yaml` as dvc.yaml names it; a plug-in's through its link."""
    return path_in_project(params_file(name), params_folder().parent)


def _group_files(dataset: DatasetConfig, method: str, protocol: str) -> dict[str, str]:
    """Group → file that stages of a method and a protocol read (`stage_choices`)."""
    choices = stage_choices(dataset, method, protocol)
    return {group: _project_file(f"{group}/{name}") for group, name in choices.items()}


def _method_files(dataset: str, method: str) -> dict[str, str]:
    """Of a trained method: its file, its dataset's, and the code of it and its objective, if a plug-in's.

    Raises UserError for a method with nothing to train.
    """
    config = compose([f"dataset={dataset}", f"method={method}"])
    if not config.method.trained:
        raise UserError(
            f"params/pipeline.yaml: trained: {method} has no objective, so nothing to train: take it out of "
            f"the list; `vidprompt features method={method}` and `vidprompt evaluate method={method}` test it"
        )
    used = [one for one in used_plugins(config) if one.kind in ("methods", "objectives")]
    return {
        "dataset_file": _project_file(f"dataset/{dataset}"),
        "method_file": _project_file(f"method/{method}"),
        **plugin_code("method_code", 2, used, f"the training of {method}"),
    }


def _protocol_of(run: str) -> str:
    """The protocol that a run's name begins with, as in `compose`; of other names the usual one."""
    return next((name for name in PROTOCOLS if run.startswith(name)), PROTOCOL)


def _texts_file(config: Config, method: str) -> str:
    """The file of descriptions that a method reads, if any; else, as dvc.yaml needs one, the code that would.

    Raises UserError for a file that is not there.
    """
    dataset = config.dataset.name
    prompts = stage_choices(config.dataset, method, PROTOCOL)["prompts"]
    if not read_yaml(params_file(f"prompts/{prompts}")).get("descriptions"):
        return "src/vidprompt/models/text/descriptions.py"
    file = str(compose([f"dataset={dataset}", f"method={method}"]).prompts.descriptions)
    if not Path(file).is_file():
        raise UserError(
            f"{dataset}: {method} reads descriptions, and there is no {file}: write it "
            f"(docs/descriptions.md), or choose `prompts` in the pipeline of params/dataset/{dataset}.yaml"
        )
    return file


def _number_files(trainer: str, method: str) -> dict[str, str]:
    """The recipe's file, and the files that the recipe and the trainer are based on (their `defaults`).

    dvc.yaml needs a file in each place: without a recipe, or a base, it is the method's or the file itself.
    """
    recipe = params_file(f"recipe/{trainer}/{method}")
    files = {
        "recipe": recipe if recipe.is_file() else params_file(f"method/{method}"),
        "trainer_base": _base_file(params_file(f"trainer/{trainer}")),
    }
    files["recipe_base"] = _base_file(files["recipe"])
    root = params_folder().parent
    return {key: path_in_project(path, root) for key, path in files.items()}


def _base_file(file: Path) -> Path:
    """The file of params/ that a file's `defaults` name, itself without one. UserError for several."""
    defaults = read_yaml(file).get("defaults", [])
    named = [str(one) for one in defaults if one != "_self_"]
    if not named:
        return file
    if len(named) > 1:
        raise UserError(
            f"{file} begins with several files ({', '.join(named)}): dvc.yaml has a place for one"
        )
    if named[0].startswith("/"):
        return params_file(named[0].lstrip("/"))
    return file.parent / f"{named[0]}.yaml"


def _published(config: Config, protocols: Protocols) -> tuple[list[str], dict[str, set[str]]]:
    """Of the published lists, the trainings they bring; and protocol → the models of those without."""
    from vidprompt.data.splits.published_lists import model_of, published_stem

    runs: list[str] = []
    models: dict[str, set[str]] = {}
    for entry in config.dataset.published:
        stem = published_stem(entry.id)
        needed = models.setdefault(entry.id.partition("/")[0], set())
        if "train" in entry.lists:
            runs.append(stem)
        else:
            needed.add(model_of(entry.trained_on or "", config.dataset.name, protocols))
    return runs, models


def training_runs(protocols: Protocols, roles: set[str]) -> list[str]:
    """The training lists that the splits stage will write: a function of the parameters alone."""
    runs: list[str] = []
    if "recognition" in roles:
        if supervised := protocols.supervised:
            runs += [f"supervised_split{split}" for split in supervised.splits]
        if novel := protocols.base_to_novel:
            drawn = [f"base_to_novel_{novel.shots}shot_seed{seed}" for seed in novel.seeds]
            runs += drawn if novel.shots else ["base_to_novel_full"]
        if few := protocols.few_shot:
            nested = "nested_" if few.nested else ""
            runs += [f"few_shot_{k}shot_{nested}seed{s}" for k in few.shots for s in few.seeds]
    if "reid" in roles and protocols.reid:
        runs.append("reid")
    return runs


def _tested_protocols(protocols: Protocols, roles: set[str]) -> list[str]:
    part = {"zero_shot": "zero_shot", "reid": "reid"}
    return [name for name in sorted(protocols.present()) if part.get(name, "recognition") in roles]


def read_pipeline(params: Path | None = None) -> dict[str, Any]:
    """params/pipeline.yaml: the `active` datasets and the `trained` methods. Raises UserError."""
    file = (params or params_folder()) / "pipeline.yaml"
    content = read_yaml(file)
    lists = ("active", "trained")
    if any(not isinstance(content.get(k), list) for k in lists):
        raise UserError(f"{file} must list {', '.join(lists)}")
    return content
