"""Stage evaluate: one protocol of one method from stored features; no model is run."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vidprompt.config import paths
from vidprompt.config.compose import config_hash
from vidprompt.config.plugins import plugin_record, used_plugins
from vidprompt.config.schema import Config, ReidConfig
from vidprompt.data.manifest.table import read_manifest
from vidprompt.data.splits.split_file import Split, read_splits
from vidprompt.files.atomic import replacing, write_text
from vidprompt.files.hashes import digest
from vidprompt.inference.feature_store import Features, read_features, takes_all_frames
from vidprompt.metrics import recognition
from vidprompt.metrics.intervals import METHOD
from vidprompt.metrics.predictions import PredictionsFile, predict, without_lists
from vidprompt.metrics.recognition import rounded
from vidprompt.metrics.reidentification import evaluate_reid
from vidprompt.metrics.result import VERSION, parse_result, write_result
from vidprompt.pipeline.lineage import check_lineage, checkpoint_hash, lineage
from vidprompt.system.errors import DataError

logger = logging.getLogger(__name__)

# of a configuration, what a result of given checkpoints follows from
PARTS = ("backbone", "frames", "method", "prompts", "protocol", "views")


def run(config: Config) -> None:
    """Write metrics.json, plots data and predictions of `config.protocol` for `config.method`."""
    dataset, method, protocol = config.dataset.name, config.method.name, config.protocol.name
    splits = read_splits(paths.splits(dataset))
    splits = {name: split for name, split in splits.items() if split.protocol == protocol}
    if not splits:
        raise DataError(f"{dataset} has no split of protocol {protocol}")
    runs = sorted({split.run for split in splits.values()})
    folders = {run: paths.features(dataset, method, config.method.encoding_of(run)) for run in runs}
    stored = {folder: read_features(folder) for folder in sorted(set(folders.values()))}
    for run, folder in folders.items():
        tested = {name: split for name, split in splits.items() if split.run == run}
        check_lineage(stored[folder].made_with, lineage(config, run, tested), folder)
    features = {run: stored[folder] for run, folder in folders.items()}
    manifest = read_manifest(paths.manifest(dataset)).set_index("video_id", drop=False)
    out = paths.results(dataset, method, protocol)
    reid = isinstance(config.protocol, ReidConfig)
    identity: dict[str, Any] = {
        "dataset": dataset,
        "method": method,
        "protocol": protocol,
        "version": VERSION,
        "intervals": {"method": METHOD, "unit": "person" if reid else "group"},
        "hashes": {
            "config": config_hash(config, *PARTS, *(["metrics"] if config.metrics else [])),
            "data": digest(manifest[["video_id", "label", "size", "health"]].to_dict("list")),
            "checkpoints": {
                run: digest(checkpoint_hash(dataset, config.method, run)) for run in runs
            },
        },
    }
    if used := plugin_record(used_plugins(config)):
        identity["plugins"] = used
    if isinstance(config.protocol, ReidConfig):
        numbers = _reid(config, config.protocol, splits, features, manifest, out)
    else:
        numbers = _recognition(config, splits, features, _video_groups(manifest), out)
    result = parse_result(identity | numbers, f"{dataset}/{method}/{protocol}")
    write_result(out / "metrics.json", result)
    for name, entry in result.summary.items():
        logger.info(f"{method} {protocol} {name}: {next(iter(entry.measures.values())).value:.3f}")


def _recognition(
    config: Config,
    splits: dict[str, Split],
    features: dict[str, Features],
    group_of: dict[str, str],
    out: Path,
) -> dict[str, Any]:
    dataset, method, protocol = config.dataset.name, config.method.name, config.protocol.name
    ensemble, groups = config.prompts.ensemble, _class_groups(dataset)
    kept = []
    with (
        replacing(paths.predictions(dataset, method, protocol)) as temporary,
        PredictionsFile(temporary, groups) as file,
    ):
        for name, split in splits.items():
            for part in predict(name, split, features[split.run], ensemble, groups, group_of):
                file.write_table(part)
                kept.append(without_lists(part))
    table = pa.concat_tables(kept).to_pandas()
    confusion = table[["split", "test", "label", "predicted"]]
    _write_csv(confusion.rename(columns={"label": "actual"}), out / "confusion.csv")
    subsets = {(name, test): s for name, one in splits.items() for test, s in one.tests.items()}
    classes = {key: subset.classes for key, subset in subsets.items()}
    _write_csv(recognition.per_class(table, classes), out / "per_class.csv")
    _write_csv(recognition.reliabilities(table), out / "reliability.csv")
    tests, summary = recognition.metrics_of(table, config.metrics)
    for (name, test), subset in subsets.items():
        found, listed = tests[name][test], len(subset.videos)
        found |= {"listed": listed, "coverage": rounded(found["n"] / listed)}
    listed = sum(len(subset.videos) for subset in subsets.values())
    return {
        "n": len(table),
        "listed": listed,
        "coverage": rounded(len(table) / listed),
        "summary": summary,
        "splits": {
            name: {"id": splits[name].id, "run": splits[name].run, "tests": tests[name]}
            for name in splits
        },
    }


def _reid(
    config: Config,
    protocol: ReidConfig,
    splits: dict[str, Split],
    features: dict[str, Features],
    manifest: pd.DataFrame,
    out: Path,
) -> dict[str, Any]:
    name, split = next(iter(splits.items()))
    result, table, curves = evaluate_reid(
        split, features[split.run], manifest, list(protocol.protocols)
    )
    predictions = paths.predictions(config.dataset.name, config.method.name, protocol.name)
    _write_predictions(table, predictions)
    _write_csv(curves, out / "cmc.csv")
    tests: dict[str, dict[str, Any]] = {}
    for side, subset in split.tests.items():
        whole = takes_all_frames(split)
        found, listed = len(features[split.run].rows(subset.videos, whole)[0]), len(subset.videos)
        tests[side] = {"n": found, "listed": listed, "coverage": rounded(found / listed)}
    usable, listed = (sum(test[key] for test in tests.values()) for key in ("n", "listed"))
    return {
        "n": usable,
        "listed": listed,
        "coverage": rounded(usable / listed),
        "summary": result,
        "splits": {name: {"id": split.id, "run": split.run, "tests": tests}},
    }


def _video_groups(manifest: pd.DataFrame) -> dict[str, str]:
    """Video → group, of those that have one; groups of different sources differ."""
    rows = manifest[manifest["group"] != ""]
    names = rows["source"] + "/" + rows["group"]
    return {str(video): str(name) for video, name in zip(rows["video_id"], names, strict=True)}


def _class_groups(dataset: str) -> dict[str, dict[str, str]]:
    """Column → class → group, as the stage manifest wrote them."""
    path = paths.class_groups(dataset)
    if not path.is_file():
        raise DataError(f"{path} is missing: run `vidprompt manifest dataset={dataset}` first")
    groups: dict[str, dict[str, str]] = json.loads(path.read_text("utf-8"))
    return groups


def _write_predictions(table: pd.DataFrame, path: Path) -> None:
    arrow = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata()
    with replacing(path) as temporary:
        pq.write_table(arrow, temporary, compression="zstd", store_schema=False)


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    write_text(path, table.to_csv(index=False, lineterminator="\n"))
