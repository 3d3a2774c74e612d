"""The commands `embed` and `search`, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_model import FakeModel, write_videos
from typer.testing import CliRunner

from vidprompt.cli.main import app
from vidprompt.index import command, processes, search
from vidprompt.index.command import EmbedOptions, hit_rows, run_embed
from vidprompt.index.results import Hit, SearchResults
from vidprompt.system.errors import UserError


@pytest.fixture(autouse=True)
def _fake_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.ModelName, "load", lambda self, rank=0: FakeModel())
    monkeypatch.setattr(search.Index, "model", property(lambda self: FakeModel()))


def test_embed_and_search(tmp_path: Path) -> None:
    videos = write_videos(tmp_path / "videos", {"good": "fine", "bad": "broken"})
    run = CliRunner()
    arguments = ["embed", str(videos), "--model", "m", "--out", str(tmp_path / "index")]
    done = run.invoke(app, [*arguments, "--workers", "0"])
    assert done.exit_code == 1
    assert "1 videos (1 encoded now), 1 failed, 0 dropped" in done.stdout
    assert "  bad.mp4: it cannot be read as a video" in done.stdout
    (videos / "bad.mp4").unlink()
    done = run.invoke(app, [*arguments, "--workers", "0", "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout) | {"left_out": []} == {
        "rows": 1,
        "videos": 1,
        "failed": 0,
        "encoded": 0,
        "dropped": 1,
        "failures": [],
        "left_out": [],
    }
    done = run.invoke(app, ["search", str(tmp_path / "index"), "fine"])
    assert done.stdout.splitlines()[1:] == ["rank   score  video", "   1  1.0000  good.mp4"]
    done = run.invoke(app, ["search", str(tmp_path / "index"), "fine", "--json"])
    assert json.loads(done.stdout)["hits"][0]["video"] == "good.mp4"
    done = run.invoke(app, ["search", str(tmp_path / "index"), "fine", "--csv"])
    assert done.stdout.splitlines()[0] == "rank,video,start,end,score,path"


def test_options_that_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="an --address is of a cluster"):
        run_embed(tmp_path, tmp_path / "index", EmbedOptions("m", address="tcp://x"))
    with pytest.raises(UserError, match="--processes many: a number, or auto"):
        run_embed(tmp_path, tmp_path / "index", EmbedOptions("m", processes="many"))


def test_times_of_windows_are_shown_as_a_clock() -> None:
    hit = Hit(1, "a.mp4", 59.5, 3725.25, 0.5, Path("a.mp4"))
    heads, rows = hit_rows(SearchResults("x", (hit,)), windows=True)
    assert heads == ["rank", "score", "video", "start", "end"]
    assert rows == [["1", "0.5000", "a.mp4", "0:59.5", "1:02:05.2"]]


def test_a_path_of_a_model_is_the_same_from_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert command._absolute("model.safetensors") == str(tmp_path / "model.safetensors")
    assert command._absolute("name@production") == "name@production"
