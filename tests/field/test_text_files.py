"""Text files as people have them: headers, separators, spreadsheets, encodings, and names that collide."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vidprompt.config.compose import compose
from vidprompt.data.annotations.class_names import check_class_names
from vidprompt.data.annotations.label_maps import read_label_map
from vidprompt.data.annotations.list_files import read_list
from vidprompt.data.splits.class_lists import read_classes_file
from vidprompt.files.text import read_text
from vidprompt.models.backbones.tokenizer import Tokenizer
from vidprompt.models.text.prompts import PromptSet, tokenize_classes
from vidprompt.pipeline.stages.manifest import class_groups
from vidprompt.system.errors import UserError

ROOT = Path(__file__).parents[2]


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "file.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("id\tname\n0\twalk\n1\tjump\n", "2 columns, tab, header"),
        ("id;name\r\n0;walk\r\n1;jump\r\n", "2 columns, semicolon, header"),
        ("id name\n0 walk\n1 jump\n", "2 columns, blank, header"),
        ("Class ID,Class Name\n0,walk\n1,jump\n", "2 columns, comma, header"),
        ("name;id\nwalk;0\njump;1\n", "2 columns, semicolon, header"),
        ("id,name,count\n0,walk,4\n1,jump,7\n", "3 columns, comma, header"),
        ("sep=;\nNr;Klasse\n0;walk\n1;jump\n;\n", "2 columns, semicolon, header"),
        ("0;walk;;\n1;jump;;\n", "2 columns, semicolon, no header"),
        ('"0"\t"walk"\n"1"\t"jump"\n', "2 columns, tab, no header"),
        ("name\nwalk\njump\n", "1 column, header"),
        ('walk\n"jump"\n', "1 column, no header"),
    ],
)
def test_a_label_map_with_a_header_names_every_id(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, form: str
) -> None:
    caplog.set_level(logging.INFO, "vidprompt")
    path = write(tmp_path, text)
    assert read_label_map(path, {"0", "1"}) == {"0": "walk", "1": "jump"}
    assert f"{path}: {form}: 2 classes, ids 0 to 1" in caplog.messages


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Code;Klasse\n0;gehen\n1;laufen\n", ":1: expected 'id,name'.* below a header id,name"),
        ("Nr Klasse\n0 gehen\n1 laufen\n", ":1: 'Nr Klasse' can be an id and a name, or"),
        ("0 walk\njump\n2 run\n", ":2: 'jump' can be"),
        ("0: walk\n1: jump\n", ":1: '0: walk' can be"),
        ("walk 0\njump 1\n", ":1: 'walk 0' can be a name and an id"),
        ("0,1\n1,0\n", ":1: .* as id and class or as class and id"),
        ("0\n1\n", ":1: "),
        ("walk\t2 m\njump\t1 m\n", ":1: 2 columns, tab, none of them of ids"),
        ("0\twalk\tx\n1\tjump\ty\n", ":1: 3 columns without a header"),
        ("0\twalk\n1\t\n", ":2: id 1 has no name"),
        ("id,class_id,name\n1,5,walk\n2,6,jump\n", ":1: "),
        ("video,label,start\na,walk,1\nb,jump,2\n", ":1: "),
        ("id,name\n", "names no class"),
        ("0,walk\n1,jump\n".encode("utf-16-le"), "UTF-16 without its byte order mark"),
        (b"PK\x03\x04 [Content_Types].xml", "is a spreadsheet"),
        ("бег\nпрыжок\n".encode("cp1251"), "is not UTF-8 text"),
        ("跑步\n跳\n".encode("gb18030"), "is not UTF-8 text"),
        ("走る\n跳ぶ\n".encode("shift-jis"), "is not UTF-8 text"),
        (b"\xc3\xa9p\xc3\xa9e\n\xe9p\xe9e\n", "is not UTF-8 text"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read_label_map(write(tmp_path, text), {"0", "1"})


def test_labels_in_use_tell_a_header_from_a_class(tmp_path: Path) -> None:
    path = write(tmp_path, "label\nwalk\njump\n")
    assert list(read_label_map(path, {"0", "1"}).values()) == ["walk", "jump"]
    assert list(read_label_map(path, {"0", "2"}).values()) == ["label", "walk", "jump"]
    assert list(read_label_map(path, {"label", "walk"}).values()) == ["label", "walk", "jump"]
    assert read_classes_file(path, ["jump", "walk", "run"]) == ["walk", "jump"]
    for used in ((), {"0"}, {"1", "2"}):  # the last may count from 1 below a header
        with pytest.raises(UserError, match="'label' can be a header or the first class"):
            read_label_map(path, used)


@pytest.mark.filterwarnings("ignore:.*is read as Windows-1252")
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lists_of_any_spreadsheet_and_system(tmp_path: Path, encoding: str, end: str) -> None:
    text = "path;label;;\nwalk/été.mp4;épée;;\nb c.mp4;walk;;\n;;;\n".replace("\n", end)
    rows = read_list(write(tmp_path, text.encode(encoding)))
    expected = [("walk/été.mp4", "épée"), ("b c.mp4", "walk")]
    assert [(row.path, row.label) for row in rows] == expected
    blank = read_list(write(tmp_path, "path n_frames label\na b.mp4 7 1\n".encode(encoding)))
    assert [(row.path, row.n_frames, row.label) for row in blank] == [("a b.mp4", 7, "1")]
    with pytest.raises(UserError, match=r":1: 'Datei' is no video.*call the columns path"):
        read_list(write(tmp_path, "Datei;Klasse\na.mp4;gehen\nb.mp4;gehen\n".encode(encoding)))


def test_windows_1252_is_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="read as Windows-1252, as Excel saves it; it has 'épée'"):
        assert read_text(write(tmp_path, b"walk\n\xe9p\xe9e")) == "walk\népée"


def test_groups_of_classes_in_a_spreadsheets_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    given = ["dataset=own", f"dataset.root={tmp_path}", "dataset.class_groups=file.txt"]
    dataset = compose(given).dataset
    write(tmp_path, "class;object;;\nwalk;leg;;\nwave;hand;;\n".encode("utf-16"))
    with pytest.raises(UserError, match="needs a column class"):
        class_groups(dataset)
    write(tmp_path, "class;object\nwalk;leg;;\nwave;hand;\n".encode("utf-16"))
    assert class_groups(dataset) == {"object": {"walk": "leg", "wave": "hand"}}
    write(tmp_path, "class;object\nwalk;leg\nwave;\n")
    with pytest.raises(UserError, match=r"file\.txt:3: every class needs a group"):
        class_groups(dataset)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["run", "pick_up", "PickUp"], "'pick_up' and 'PickUp' have one text, 'pick up'"),
        (["take2", "take 2"], "'take2' and 'take 2' have one text"),
        (["e\u0301pe\u0301e", "épée"], "have one text, 'épée'"),
        (["run", "-"], "class '-' has no letter or digit"),
        (["run", "_ []"], r"class '_ \[\]' has no letter or digit"),
    ],
)
def test_classes_that_become_one_text_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"somewhere: .*{message}"):
        check_class_names(names, "somewhere")
    check_class_names(["pickup", "pick up", "kick", "kick ball", "C", "C++"], "somewhere")


def test_texts_that_the_text_tower_cannot_tell_apart_are_refused() -> None:
    tokenizer = Tokenizer({}, 77)
    described = PromptSet(descriptions={"run": ("moves fast",), "dash": ("Moves  fast",)})
    for prompts, names in (
        (described, ["run", "dash"]),
        (PromptSet(("a {}.", "{}")), ["PickUp", "pick-up"]),
        (PromptSet(("{}",), clean_names=False), ["Walk", "walk"]),
        (PromptSet(("{}",)), ["a " * 80 + "x", "a " * 80 + "y"]),  # cut
    ):
        with pytest.raises(UserError, match="have one text"):
            tokenize_classes(tokenizer, prompts, names)
    names = ["Pick-up", "Pick up"]  # with names as they are
    assert tokenize_classes(tokenizer, PromptSet(clean_names=False), names).shape == (2, 77)


def test_a_locale_of_another_encoding_changes_nothing(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment["PYTHONPATH"] = str(ROOT / "src")
    command = [sys.executable, "-m", "vidprompt.cli", "config", "dataset=own", "dataset.root=épée"]

    def run() -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            command, cwd=tmp_path, env=os.environ | environment, capture_output=True
        )

    done = run()
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"root: \xe9p\xe9e" in done.stdout  # ASCII, as the terminal has it
    own = tmp_path / "params/dataset/own.yaml"
    own.write_bytes(b"# caf\xe9\n" + own.read_bytes())
    done = run()
    assert done.returncode == 2
    assert b"own.yaml is not UTF-8 text (byte 5): save it as UTF-8" in done.stderr
