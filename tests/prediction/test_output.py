"""Results as rows and subtitles: well-formed whatever the names are, and resumed where they stopped."""

from __future__ import annotations

import csv
import io
import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from vidprompt.prediction import output
from vidprompt.prediction.output import (
    CsvRows,
    JsonList,
    parquet_rows,
    prediction_columns,
    prediction_row,
    resume_csv,
)
from vidprompt.prediction.results import Failure, Prediction, Span, VideoSpans
from vidprompt.prediction.sinks import PageSettings, html_sink, json_sink, subtitle_sink
from vidprompt.prediction.subtitles import subrip, webvtt
from vidprompt.prediction.timeline_page import write_timeline
from vidprompt.system.errors import UserError

ODD = 'a "b",\n<i>c</i> --> d & e'
SPANS = [
    Span(0.0, 1.0004, ODD, 0.987),
    Span(1.0004, 1.0005, "x", 0.5),
    Span(3725.5, 366_000, "y", 1),
]


def prediction(video: str = "a.mp4", unknown: bool | None = None) -> Prediction:
    return Prediction(
        video,
        (ODD, "x"),
        np.array([0.75, 0.25], np.float32),
        np.array([0.3, 0.1]),
        "prompts",
        unknown,
        2.0,
    )


def test_webvtt_is_well_formed() -> None:
    lines = list(webvtt(SPANS))
    assert lines[:2] == ["WEBVTT", ""]
    assert lines[4] == 'a "b", &lt;i&gt;c&lt;/i&gt; --&gt; d &amp; e (99%)'
    times = [line for line in lines if "-->" in line]
    assert times[0] == "00:00:00.000 --> 00:00:01.000"
    assert times[2] == "01:02:05.500 --> 101:40:00.000"
    assert_times_ascend(times)


def test_srt_is_well_formed() -> None:
    blocks = "\n".join(subrip(SPANS)).rstrip("\n").split("\n\n")
    assert [block.split("\n")[0] for block in blocks] == ["1", "2", "3"]
    assert all(len(block.split("\n")) == 3 for block in blocks)
    assert blocks[0].split("\n")[1] == "00:00:00,000 --> 00:00:01,000"
    assert "<" not in blocks[0]
    assert_times_ascend([block.split("\n")[1] for block in blocks])


def assert_times_ascend(lines: list[str]) -> None:
    """No cue is empty, and none begins before the one before ends."""
    values = []
    for line in lines:
        for text in line.split(" --> "):
            hours, minutes, seconds = re.split(":", text.replace(",", "."))
            values.append(int(hours) * 3600 + int(minutes) * 60 + float(seconds))
    assert all(a <= b for a, b in pairwise(values))
    assert all(begin < end for begin, end in zip(values[::2], values[1::2], strict=True))


def test_a_json_list_is_whole_with_any_number_of_elements() -> None:
    for count in range(3):
        stream = io.StringIO()
        rows = JsonList(stream)
        for _ in range(count):
            rows.write(prediction().to_dict(1))
        rows.close()
        assert [one["label"] for one in json.loads(stream.getvalue())] == [ODD] * count


def test_parquet_is_written_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_ROW_GROUP", 3)
    path = tmp_path / "r.parquet"
    with parquet_rows(path, prediction_columns(3)) as rows:
        for number in range(7):
            rows.write(prediction_row(prediction(f"{number}\udcff.mp4", True), 3))
        rows.write(prediction_row(Failure("b.mp4", "broken"), 3))
        assert not path.exists()
    table = pq.read_table(path)
    assert pq.ParquetFile(path).num_row_groups == 3
    assert table["label"].to_pylist() == ["unknown"] * 7 + [None]
    assert table["label_2"].to_pylist()[0] == "x"
    assert table["label_3"].to_pylist()[0] is None
    assert table["error"].to_pylist()[-1] == "broken"


def test_csv_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path, columns = tmp_path / "r.csv", list(prediction_columns(2))
    assert resume_csv(path, columns) == set()
    with path.open("w", encoding="utf-8", newline="") as stream:
        rows = CsvRows(stream, columns)
        rows.write(prediction_row(prediction("a\nb.mp4"), 2))
        rows.write(prediction_row(Failure("c.mp4", "broken"), 2))
        stream.write('d.mp4,"a ""b"",\n<i>')  # killed
    assert resume_csv(path, columns) == {"a\nb.mp4", "c.mp4"}
    with path.open("a", encoding="utf-8", newline="") as stream:
        CsvRows(stream, columns, append=True).write(prediction_row(prediction("d.mp4"), 2))
    with path.open(encoding="utf-8", newline="") as stream:
        found = list(csv.DictReader(stream))
    assert [row["video"] for row in found] == ["a\nb.mp4", "c.mp4", "d.mp4"]
    assert found[2]["label"] == ODD
    with pytest.raises(UserError, match="other columns"):
        resume_csv(path, list(prediction_columns(3)))


def test_spans_of_several_videos_are_a_file_each(tmp_path: Path) -> None:
    with subtitle_sink("vtt", tmp_path / "subtitles", True) as write:
        for video in ("one/clip.mp4", "two/clip.mp4", "https://host/clip.mp4?x=/1"):
            write(VideoSpans(video, tuple(SPANS), 10.0))
        write(Failure("b.mp4", "broken"))
    names = sorted(path.name for path in (tmp_path / "subtitles").iterdir())
    assert names == ["clip-2.vtt", "clip-3.vtt", "clip.vtt"]
    with pytest.raises(UserError, match="--out"), subtitle_sink("srt", None, True):
        pass
    with json_sink(tmp_path / "r.json", 5) as write:
        write(VideoSpans("a.mp4", tuple(SPANS), 10.0, "damage"))
        write(Failure("b.mp4", "broken"))
    first, second = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert first["spans"][0] == {"start": 0.0, "end": 1.0, "label": ODD, "score": 0.987}
    assert (first["note"], second) == ("damage", {"video": "b.mp4", "error": "broken"})


def test_a_page_escapes_names_and_finds_its_video(tmp_path: Path) -> None:
    def page(video: Path, out: Path) -> str:
        write_timeline(out, str(video), SPANS, duration=10, model="<m>", window=2, stride=1)
        return out.read_text("utf-8")

    (tmp_path / "v #1").mkdir()
    large = tmp_path / "v #1/50% <x>.mp4"
    large.touch()
    with large.open("r+b") as file:
        file.truncate(9 << 20)
    text = page(large, tmp_path / "pages/a.html")
    assert 'src="../v%20%231/50%25%20%3Cx%3E.mp4"' in text
    assert "<i>" not in text
    assert "<x>" not in text
    small = tmp_path / "s.webm"
    small.write_bytes(b"1234")
    assert 'src="data:video/webm;base64,MTIzNA=="' in page(small, tmp_path / "b.html")
    assert "<video" not in page(tmp_path / "v #1", tmp_path / "c.html")
    settings = PageSettings("m", 2.0, 1.0)
    with html_sink(tmp_path / "pages", True, settings) as write:
        write(VideoSpans(str(small), (), 3.0))
    assert "No span was found" in (tmp_path / "pages/s.html").read_text("utf-8")
