"""Write the HTML page of a dataset's results, one file without scripts. Equal inputs give equal bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from vidprompt.config.names import FLOOR
from vidprompt.config.params_files import PARAMS
from vidprompt.config.published import rows_of_dataset
from vidprompt.data.frames.cache import FrameCache
from vidprompt.files.atomic import write_text
from vidprompt.reporting import charts
from vidprompt.reporting.dataset_report import data, frame_strips
from vidprompt.reporting.dataset_report.explained_examples import ExampleModel, explained_strip
from vidprompt.reporting.explanations.heat_map import css_gradient
from vidprompt.reporting.measures import (
    PROTOCOL_TITLES,
    Results,
    Row,
    order_methods,
    percent,
    points,
    read_results,
    table_rows,
)
from vidprompt.reporting.rendering import COLOURS, svg
from vidprompt.system.errors import DataError

FRAMES, EXAMPLES, QUERIES, RANKED = 8, 6, 6, 5
CLASSES_DRAWN = 60  # in a plot of classes; of more, the easiest and the hardest
# method, split, test → the model that was tested; None: its examples are not explained
ModelOf = Callable[[str, str, str], ExampleModel | None]
_RECOGNITION = ("supervised", "base_to_novel", "few_shot", "zero_shot")
_REID = ("clothes-changing", "general", "same-clothes")


def write_report(
    dataset: str,
    *,
    manifest_path: Path,
    splits_folder: Path,
    frames_folder: Path,
    predictions_root: Path,
    results_root: Path,
    out: Path,
    mosaic: bool = False,
    model_of: ModelOf | None = None,
) -> None:
    """Write the page to `out`, atomically.

    `predictions_root` and `results_root` hold a folder a dataset, the other paths are the
    dataset's own. `mosaic` pixelates the upper third of re-identification pictures (faces). `model_of` gives
    the model that explains its examples, if there is one.
    Missing methods, frames and predictions are left out. DataError without any metrics.
    """
    metrics = read_results(dataset, results_root)
    results, predictions = results_root / dataset, predictions_root / dataset
    methods = order_methods([*metrics, *(run.parent.name for run in results.glob("*/runs"))])
    rows = table_rows(metrics, rows_of_dataset(dataset, results_root.parent / PARAMS))
    cache = _cache(frames_folder)
    context = {
        "dataset": dataset,
        "methods": methods,
        "floor": FLOOR,
        "titles": PROTOCOL_TITLES,
        "rows": rows,
        "with_published": any(row.published for row in rows),
        "headlines": data.headlines(rows),
        "facets": _bars(rows, methods),
        "matrices": _matrices(metrics, results, methods),
        "losses": _losses(results, methods),
        "classes": _classes(metrics, results, methods),
        "calibration": _calibration(metrics, results, methods),
        "cmc": _cmc(results, methods),
        "examples": _examples(predictions, methods, cache, model_of),
        "gradient": css_gradient(),
        "queries": _queries(predictions, methods, cache, mosaic),
        "health": data.health(manifest_path, splits_folder),
        "validation": data.validation(results / "validation.json"),
        "splits": data.split_files(splits_folder),
        "provenance": data.provenance(metrics, manifest_path),
    }
    write_text(out, _render(context))


def _render(context: dict[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vidprompt", "reporting/dataset_report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"percent": percent, "points": points, "breakable": _breakable}
    environment.globals |= {"colours": COLOURS, "symbols": "●■◆▲"}
    return environment.get_template("page.html.jinja").render(context)


def _breakable(name: str) -> Markup:
    """A class name that may be broken between its words: `Star|Moving|Left`, `apply|_make_up`."""
    words = re.split(r"(?<=[a-z0-9])(?=[A-Z])|(?=_)|(?<=/)", name)
    return Markup("<wbr>").join(words)


def _cache(folder: Path) -> FrameCache | None:
    """The frame cache, or None when it is not built: the page then has no pictures."""
    try:
        return FrameCache(folder)
    except DataError:
        return None


def _bars(rows: Sequence[Row], methods: Sequence[str]) -> list[tuple[str, Markup]]:
    """A bar chart for each facet, with its title."""
    return [
        (title, svg(charts.bars(part, methods), f"{title}: {_values(part, methods)}"))
        for title, part in data.facets(rows).items()
    ]


def _values(rows: Sequence[Row], methods: Sequence[str]) -> str:
    """The values of a bar chart for a screen reader."""
    return "; ".join(
        f"{method} {row.short} {percent(row.cells[method].value)}%"
        for row in rows
        for method in methods
        if method in row.cells
    )


def _matrices(results: Results, folder: Path, methods: Sequence[str]) -> list[dict[str, Any]]:
    """Confusion matrices of the supervised, base and novel tests, a panel for each method."""
    matrices = []
    for protocol, test, title in data.tests_of(results, "supervised", "base_to_novel"):
        by_method = data.confusions(folder, methods, protocol, test)
        classes = sorted({name for pairs in by_method.values() for pair in pairs for name in pair})
        panels = [
            {
                "method": method,
                "index": methods.index(method),
                "chart": charts.confusion_chart(f"{title}: confusion of {method}", pairs, classes),
                "confused": data.most_confused(pairs),
            }
            for method, pairs in by_method.items()
        ]
        if panels:
            matrices.append({"title": title, "classes": len(classes), "panels": panels})
    return matrices


def _losses(folder: Path, methods: Sequence[str]) -> list[dict[str, Any]]:
    """Loss curves by method, a chart a run; the terms of the loss are thin lines."""
    by_method = []
    for colour, method in enumerate(methods):
        runs = []
        for run, table in data.loss_tables(folder, method):
            names = [name for name in table.columns if name not in ("step", "loss", "lr")]
            series = [charts.Series("loss", data.points_of(table, "step", "loss"), colour)]
            for dash, name in enumerate(names, 1):
                term = data.points_of(table, "step", name)
                series.append(charts.Series(name, term, colour, thin=True, dash=dash))
            spec = charts.lines(series, "step", last=True)
            chart = svg(spec, f"Loss of {method} in {run}")
            runs.append({"run": run, "terms": names, "chart": chart})
        if runs:
            by_method.append({"method": method, "runs": runs})
    return by_method


def _classes(results: Results, folder: Path, methods: Sequence[str]) -> list[dict[str, Any]]:
    """A chart of accuracy by class for each test."""
    tests = []
    for protocol, test, title in data.tests_of(results, "supervised", "zero_shot", "base_to_novel"):
        rows = data.class_accuracies(folder, methods, protocol, test)
        if not rows:
            continue
        left_out = max(0, len(rows) - CLASSES_DRAWN)
        if left_out:
            rows = rows[: CLASSES_DRAWN // 2] + rows[-CLASSES_DRAWN // 2 :]
        label = f"{title}: accuracy of {len(rows)} classes by method"
        chart = svg(charts.dots(rows, methods), label)
        tests.append({"title": title, "left_out": left_out, "chart": chart})
    return tests


def _calibration(results: Results, folder: Path, methods: Sequence[str]) -> list[dict[str, Any]]:
    """A reliability diagram and the calibration errors of each test."""
    tests = []
    for protocol, test, title in data.tests_of(results, "supervised", "zero_shot", "base_to_novel"):
        bins = data.reliability_bins(folder, methods, protocol, test)
        if not bins:
            continue
        spec = charts.reliability({methods.index(m): b for m, b in bins.items()})
        chart = svg(spec, f"{title}: accuracy over confidence")
        errors = data.calibration_errors(results, protocol, test)
        tests.append({"title": title, "chart": chart, "errors": errors})
    return tests


def _cmc(folder: Path, methods: Sequence[str]) -> list[tuple[str, Any]]:
    """A chart of CMC curves for each protocol."""
    series: dict[str, list[charts.Series]] = {}
    for k, method in enumerate(methods):
        table = data.read_table(folder / method / "reid" / "cmc.csv")
        if table is None:
            continue
        for protocol, rows in table.groupby("protocol"):
            one = charts.Series(
                method, data.points_of(rows.sort_values("rank"), "rank", "value"), k
            )
            series.setdefault(str(protocol), []).append(one)
    return [
        (
            protocol,
            svg(charts.lines(series[protocol], "rank", share=True), f"CMC, {protocol}"),
        )
        for protocol in sorted(series, key=lambda name: (name != "general", name))
    ]


def _examples(
    predictions: Path, methods: Sequence[str], cache: FrameCache | None, model_of: ModelOf | None
) -> dict[str, Any] | None:
    """Right and wrong predictions of every method in the first protocol that has some."""
    columns = ("split", "test", "video_id", "label", "predicted", "top5_scores")
    for protocol in _RECOGNITION:
        examples: dict[str, data.Examples] = {}
        for method in methods:
            table = data.predictions(predictions / method / f"{protocol}.parquet", columns)
            if table is None or table.empty:
                continue
            table = table[table["split"] == table["split"].min()].set_index("video_id")
            model = None
            if cache and model_of:
                model = model_of(method, str(table["split"].iloc[0]), str(table["test"].iloc[0]))
            right = table["label"] == table["predicted"]
            examples[method] = data.Examples(
                _strips(table[right], cache, model), _strips(table[~right], cache, model)
            )
        if examples:
            return {"title": PROTOCOL_TITLES[protocol], "methods": examples}
    return None


def _strips(
    table: pd.DataFrame, cache: FrameCache | None, model: ExampleModel | None
) -> list[dict[str, Any]]:
    """Some of the predictions, each with `FRAMES` frames in two pictures, explained if there is a model."""
    strips = []
    for video_id in frame_strips.choose(table.index.tolist(), EXAMPLES):
        row = table.loc[video_id]
        scores = list(row["top5_scores"])
        explained = None
        if cache and model:
            labels = (str(row["predicted"]), str(row["label"]))
            explained = explained_strip(cache, model, video_id, labels, FRAMES, num_pictures=2)
        strips.append(
            {
                "video_id": video_id,
                "label": row["label"],
                "predicted": row["predicted"],
                "score": float(scores[0]) if scores else None,
                "explained": explained,
                "pictures": frame_strips.strip(cache, video_id, FRAMES, num_pictures=2)
                if cache and not explained
                else [],
            }
        )
    return strips


def _queries(
    predictions: Path, methods: Sequence[str], cache: FrameCache | None, mosaic: bool
) -> dict[str, Any] | None:
    """The same few queries for every method, with their best gallery tracklets."""

    def picture(video_id: str) -> Any:
        strip = frame_strips.strip(cache, video_id, 1, mosaic=mosaic) if cache else []
        return strip[0] if strip else None

    for protocol in _REID:
        by_method: dict[str, list[dict[str, Any]]] = {}
        columns = ("protocol", "video_id", "label", "average_precision", "ranked", "hits")
        for method in methods:
            table = data.predictions(predictions / method / "reid.parquet", columns)
            if table is None or not (table["protocol"] == protocol).any():
                continue
            table = table[table["protocol"] == protocol].set_index("video_id")
            by_method[method] = [
                _query(query, table.loc[query].to_dict(), picture)
                for query in frame_strips.choose(table.index.tolist(), QUERIES)
            ]
        if by_method:
            return {"protocol": protocol, "methods": by_method}
    return None


def _query(query: str, row: dict[Any, Any], picture: Callable[[str], Any]) -> dict[str, Any]:
    """A query with its first ranked tracklets."""
    ranked = list(zip(row["ranked"], row["hits"], strict=True))[:RANKED]
    return {
        "video_id": query,
        "label": row["label"],
        "picture": picture(query),
        "ap": float(row["average_precision"]),
        "gallery": [{"video_id": v, "hit": bool(hit), "picture": picture(v)} for v, hit in ranked],
    }
