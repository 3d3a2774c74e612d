"""Lists in the field's forms: told apart by what they hold, and refused where that does not tell."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidprompt.data.annotations.label_maps import read_label_map, resolve_labels
from vidprompt.data.annotations.list_files import ListedVideo, read_list
from vidprompt.system.errors import DataError


def write(folder: Path, text: str, name: str = "list.txt") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def rows(path: Path, root: Path | None = None) -> list[tuple[str, str, int | None]]:
    return [(row.path, row.label, row.n_frames) for row in read_list(path, root)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b.mp4 3\nc.avi  12\n", [("a b.mp4", "3", None), ("c.avi", "12", None)]),
        ("run 2/a 1.mp4 16 3\n", [("run 2/a 1.mp4", "3", 16)]),
        ("a.mp4 16 3\nframes/b 20 4\n", [("a.mp4", "3", 16), ("frames/b", "4", 20)]),
        ("frames/b 4\nframes/c 5\n", [("frames/b", "4", None), ("frames/c", "5", None)]),
        ("a b.mp4,3\n", [("a b.mp4", "3", None)]),
        ("a.mp4, walking a dog\n", [("a.mp4", "walking a dog", None)]),
        ('a.mp4, "walk, run"\n', [("a.mp4", "walk, run", None)]),
        ("a.mp4,16,3\n", [("a.mp4", "3", 16)]),
        ('"a, b.mp4","walk, run"\n', [("a, b.mp4", "walk, run", None)]),
        ("a, b.mp4\t3\n", [("a, b.mp4", "3", None)]),
        ("a.mp4\t16\twalk, run 3\n", [("a.mp4", "walk, run 3", 16)]),
        ("a,b.mp4 3\n", [("a,b.mp4", "3", None)]),  # with commas: a, and a class `b.mp4 3`
        ("a.mp4,take 2\n", [("a.mp4", "take 2", None)]),  # with blanks: `a.mp4,take`, id 2
        ("\ufeffa.mp4 3\r\n\r\n./b//c.mp4 4", [("a.mp4", "3", None), ("b/c.mp4", "4", None)]),
        ("path,label\nclip 1,walk\n", [("clip 1", "walk", None)]),
        ("label,Video_Path\nwalk,a.mp4\n", [("a.mp4", "walk", None)]),
        (
            "filename\tclass\tnum_frames\na\twalk\t7\nb\trun\t\n",
            [("a", "walk", 7), ("b", "run", None)],
        ),
        ("dir/a.mp4,action\n", [("dir/a.mp4", "action", None)]),  # no header: a class so called
    ],
)
def test_forms(tmp_path: Path, text: str, expected: list[tuple[str, str, int | None]]) -> None:
    assert rows(write(tmp_path, text)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.mp4 3\nb.mp4,4\n", r":2: 'b\.mp4,4' is not 'path label'"),
        ("a.mp4,3\n\nb.mp4 4\n", r":3: 'b\.mp4 4' is not 'path,label'"),
        ("a.mp4,3\na, b.mp4,4\n", r":2: .*double quotes"),
        ("a.mp4 16 3\nb.mp4 4\n", r":2: 'b\.mp4 4' .*n_frames on every line or on none"),
        ("a.mp4 3\nb.mp4 16 4\n", r":2: 'b\.mp4 16 4' .*n_frames on every line or on none"),
        ("a.mp4,16,3\nb.mp4,4\n", r":2: 'b\.mp4,4' is not 'path,n_frames,label'"),
        ("a.mp4 walk\n", r":1: expected 'path label' or .*found 'a\.mp4 walk'"),
        ("a.mp4\n", r":1: expected 'path label'"),
        ('a.mp4,"walk\n', r":1: expected 'path label'"),
        ("a.mp4 -1\n", r":1: expected 'path label'"),
        ("\n", r"lists no videos"),
        ("path,label\n", r"lists no videos"),
        ("path,label\na,b.mp4,walk\n", r":2: 3 fields where the header has 2"),
        ("path,label\na.mp4,\n", r":2: expected a path, a label"),
        ("path,label,split\na.mp4,walk,dev\n", r":2: 'dev' is no role; write train, val or test"),
        ("path,score\na.mp4,1\n", r":1: no column of \['path', 'score'\] is the label"),
        ("label,youtube_id,split\nwalk,x,train\n", r":1: no column of .* is the path"),
        ("path,label,path\na.mp4,1,b\n", r":1: two columns are called 'path'"),
        ("../a.mp4 3\n", r":1: .*leads out of"),
        ("C:/a.mp4 3\n", r":1: .*leads out of"),
        ("a\\b.mp4 3\n", r":1: .*backslash"),
        ("/data/a.mp4 3\n", r":1: '/data/a\.mp4' is absolute"),
    ],
)
def test_what_is_wrong_is_named_by_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_list(write(tmp_path, text))


def test_two_readings_are_an_error_until_a_file_decides(tmp_path: Path) -> None:
    path = write(tmp_path, "walk/take 2 3\nwalk/take 5 4\n")
    with pytest.raises(DataError) as caught:
        read_list(path, tmp_path)
    for said in (f"{path}:1", "'walk/take 2'", "'walk/take', 2 frames", "label '3'", "tabs"):
        assert said in str(caught.value)
    (tmp_path / "walk/take 5").mkdir(parents=True)
    assert rows(path, tmp_path) == [("walk/take 2", "3", None), ("walk/take 5", "4", None)]
    (tmp_path / "walk/take 5").rename(tmp_path / "walk/take")
    assert rows(path, tmp_path) == [("walk/take", "3", 2), ("walk/take", "4", 5)]


def test_absolute_paths_are_taken_below_the_root_only(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    path = write(tmp_path, f"{tmp_path}/link/a.mp4 1\n{tmp_path}/real/b c.mp4 2\n")
    assert rows(path, tmp_path / "link") == [("a.mp4", "1", None), ("b c.mp4", "2", None)]
    for outside in (f"{tmp_path}/real2/a.mp4", f"{tmp_path}/real/../a.mp4", f"{tmp_path}/real"):
        with pytest.raises(DataError, match=r"list\.txt:1"):
            read_list(write(tmp_path, f"{outside},1\n"), tmp_path / "real")


def test_parquet_is_known_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    columns = {
        "group": ["p1", None],
        "split": pa.array(["train", "Validation"]).dictionary_encode(),
        "video": ["a, b c.mp4", "d"],
        "label": [3, 0],
        "score": [0.5, 1.0],
    }
    pq.write_table(pa.table(columns), path)
    assert read_list(path) == [
        ListedVideo("a, b c.mp4", "3", None, "train", "p1", f"{path}:row 1"),
        ListedVideo("d", "0", None, "val", "", f"{path}:row 2"),
    ]
    for bad, message in [
        ({"video": ["a"], "label": [1.0]}, "column 'label' is double"),
        ({"video": ["a", None], "label": [1, 2]}, "row 2: expected a path"),
        ({"clip": ["a"], "label": [1]}, "is the path"),
        ({"clip": ["a"], "mark": [1]}, "no columns for path and label"),
    ]:
        pq.write_table(pa.table(bad), path)
        with pytest.raises(DataError, match=message):
            read_list(path)
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_list(path)


# What can stand in a path: no control characters, no backslash, nor a drive's colon.
_letters = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\\/:")
_parts = st.text(_letters | st.sampled_from(' ,"16'), min_size=1, max_size=8).filter(
    lambda part: part == part.strip() and part not in (".", "..")
)
_paths = st.lists(_parts, min_size=1, max_size=3).map(lambda parts: "/".join(parts) + ".mp4")
_ids = st.integers(0, 699).map(str)


@given(st.lists(st.tuples(_paths, _ids, st.integers(1, 500)), min_size=1, max_size=4))
def test_any_path_survives_every_form(tmp_path_factory, listed) -> None:
    folder = tmp_path_factory.getbasetemp()
    for separator, with_frames in [(s, f) for s in " ,\t" for f in (False, True)]:
        cells = [(p, *([n] if with_frames else []), label) for p, label, n in listed]
        out = io.StringIO()
        if separator == " ":
            out.writelines(" ".join(map(str, row)) + "\n" for row in cells)
        else:
            csv.writer(out, delimiter=separator).writerows(cells)
        expected = [(path, label, n if with_frames else None) for path, label, n in listed]
        assert rows(write(folder, out.getvalue(), "survives.txt")) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('id,name\n0,walk\n1,"hop, skip"\n', {"0": "walk", "1": "hop, skip"}),
        ("7,walk\n05,run\n", {"7": "walk", "5": "run"}),
        ('{"0": "walk", "1": "run"}', {"0": "walk", "1": "run"}),
        ('{"walk": "0", "run": 1}', {"0": "walk", "1": "run"}),
        ('["walk", "run"]', {"0": "walk", "1": "run"}),
        ("walk\nhop, skip\n", {"0": "walk", "1": "hop, skip"}),
        ("[Something] falls\nwalk\n", {"0": "[Something] falls", "1": "walk"}),
        ("1 ApplyEyeMakeup\n2 Base jump\n", {"1": "ApplyEyeMakeup", "2": "Base jump"}),
        ("0\twalk\n1\trun\n", {"0": "walk", "1": "run"}),
        ("walk\n3 point shot\n", {"0": "walk", "1": "3 point shot"}),
    ],
)
def test_label_maps(tmp_path: Path, text: str, expected: dict[str, str]) -> None:
    assert read_label_map(write(tmp_path, text, "classes")) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,walk\n1,hop, skip\n", r":2: expected 'id,name' .*double quotes"),
        ("0,walk\nrun\n", r":2: expected 'id,name'"),
        ("walk,0\nrun,1\n", r":1: expected 'id,name'"),
        ("hop, skip\n1,walk\n", r":1: expected 'id,name'"),  # no header
        ('"walk\n1,run\n', r":1: expected 'id,name'"),
        ("0,walk\n0,run\n", r":2: id 0 or class 'run' stands there twice"),
        ("0,walk\n1,walk\n", r":2: id 1 or class 'walk' stands there twice"),
        ("3 point shot\n2 point shot\n", r":1: '3 point shot' can be an id and a name, or"),
        ('{"0": "1", "1": "0"}', r"can be read as id and class or as class and id"),
        ('{"0": "walk", "0": "run"}', r"id 0 or class 'run' stands there twice"),
        ('{"0": "walk", "x": "run"}', r"expected ids and names"),
        ('{"0": ["walk"]}', r"expected ids and names"),
        ('["walk", 1]', r"expected ids and names, found '1': 1"),
        ('{"0": "walk",\n', r":2 is not JSON"),
        ("", r"names no class"),
        ("[]", r"names no class"),
    ],
)
def test_a_bad_label_map_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_label_map(write(tmp_path, text, "classes"))


def labelled(*labels: str) -> list[ListedVideo]:
    return [
        ListedVideo("a.mp4", label, None, "", "", f"l:{n}") for n, label in enumerate(labels, 1)
    ]


def test_labels_become_names_in_the_order_of_ids() -> None:
    names = {"10": "walk", "2": "run", "3": "unused"}
    found, classes = resolve_labels(labelled("10", "02", "run"), names)
    assert [row.label for row in found] == ["walk", "run", "run"]
    assert classes == ["run", "unused", "walk"]
    found, classes = resolve_labels(labelled("10", "9", "010"), None)
    assert ([row.label for row in found], classes) == (["10", "9", "10"], ["9", "10"])
    found, classes = resolve_labels(labelled("walk", "run"), None)
    assert ([row.label for row in found], classes) == (["walk", "run"], ["run", "walk"])


def test_labels_that_no_map_explains_are_named() -> None:
    with pytest.raises(DataError, match=r"l:2: label '4' .*a label map is needed"):
        resolve_labels(labelled("0", "4"), {"0": "walk"})
    with pytest.raises(DataError, match=r"l:2: label 'run' is not in the label map"):
        resolve_labels(labelled("0", "run"), {"0": "walk"})
    with pytest.raises(DataError, match=r"l:3: label 'run': some labels are ids and some"):
        resolve_labels(labelled("0", "1", "run"), None)
