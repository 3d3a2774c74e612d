"""What every video got, and how many classes competed, whatever the groups of rows in the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidprompt.comparison.per_video import ROWS, read_per_video

# test → (videos, classes); 0: scores are not kept. Long enough that tests start inside of batches.
TESTS = {"base": (ROWS + 7, 5), "novel": (2 * ROWS, 3), "wide": (9, 0)}


def _table() -> pa.Table:
    rows = [
        {"split": "s", "test": test, "video_id": f"v{i:03}", "label": "a", "predicted": "b"}
        | {"top5": ["b", "a"], "scores": [0.5] * classes if classes else None}
        for test, (count, classes) in TESTS.items()
        for i in range(count)
    ]
    return pa.Table.from_pylist(rows)


@pytest.mark.parametrize("size", [1, 10, ROWS + 7, 1000])
def test_classes_are_counted_for_every_test(tmp_path: Path, size: int) -> None:
    table, path = _table(), str(tmp_path / "p.parquet")
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    for written in (table, shuffled):
        pq.write_table(written, path, row_group_size=size)
        found = read_per_video(path, "supervised", "p")
        for test, (count, classes) in TESTS.items():
            assert found.loc[found["test"] == test, "classes"].tolist() == [classes] * count
    pq.write_table(table.drop_columns(["scores"]), path)
    assert set(read_per_video(path, "supervised", "p")["classes"]) == {0}


def test_only_the_first_scores_of_a_test_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = str(tmp_path / "p.parquet"), []
    plain = pq.ParquetFile.iter_batches

    def counted(*arguments: object, **named: object) -> object:
        for batch in plain(*arguments, **named):
            read.append(len(batch))
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    pq.write_table(_table().slice(0, 3 * ROWS + 7), path, row_group_size=ROWS + 7)
    read_per_video(path, "supervised", "p")
    assert sum(read) == 2 * ROWS
