"""Compares the CSV tables beside metrics.json with those that follow from the predictions."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pandas as pd

from vidprompt.metrics import recognition
from vidprompt.recompute.differences import is_equal

_TEXT_COLUMNS = ("split", "test", "class", "actual", "predicted", "protocol")
_LAST_RANK = 20  # of cmc.csv; a smaller gallery has fewer ranks


def recompute_tables(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """File name → table, as the evaluate stage writes them."""
    if "average_precision" in predictions:
        curves = [
            {"protocol": name, "rank": rank, "value": float((rows["rank"] < rank).mean())}
            for name, rows in predictions.groupby("protocol", sort=False)
            for rank in range(1, _LAST_RANK + 1)
        ]
        return {"cmc.csv": pd.DataFrame(curves)}
    labels = predictions[["split", "test", "label"]].astype(str)
    classes = {
        (str(split), str(test)): sorted(set(rows["label"]))
        for (split, test), rows in labels.groupby(["split", "test"])
    }
    confusion = predictions[["split", "test", "label", "predicted"]]
    return {
        "confusion.csv": confusion.rename(columns={"label": "actual"}),
        "per_class.csv": recognition.per_class(predictions, classes),
        "reliability.csv": recognition.reliabilities(predictions),
    }


def is_same_table(table: pd.DataFrame, content: bytes) -> bool:
    """Whether a CSV file has a table's rows, in any order: theirs is that of the lists."""
    types = dict.fromkeys(_TEXT_COLUMNS, str)
    try:
        recorded = pd.read_csv(io.BytesIO(content), keep_default_na=False, dtype=types)
        return has_same_rows(table, recorded)
    except (ValueError, TypeError):
        return False


def has_same_rows(table: pd.DataFrame, recorded: pd.DataFrame) -> bool:
    """Whether two tables have equal columns and, in any order, equal rows."""
    if list(table.columns) != list(recorded.columns):
        return False
    if "rank" in table.columns and len(recorded):  # as many ranks as the gallery has
        table = table[table["rank"] <= recorded["rank"].max()]
        if recorded["rank"].max() < _LAST_RANK and not is_equal(recorded["value"].max(), 1.0):
            return False
    one, two = (sorted(_rows(frame)) for frame in (table, recorded))
    return len(one) == len(two) and all(
        is_equal(a, b) for pair in zip(one, two, strict=True) for a, b in zip(*pair, strict=True)
    )


def _rows(table: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    """Rows that sort: text first, then numbers."""
    for row in table.to_dict("records"):
        texts = [str(value) for name, value in row.items() if name in _TEXT_COLUMNS]
        numbers = [float(value) for name, value in row.items() if name not in _TEXT_COLUMNS]
        yield (*texts, *numbers)
