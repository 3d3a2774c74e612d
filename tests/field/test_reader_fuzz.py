"""Mutated lists, label maps and descriptions: never a traceback, never a label that is not in the file."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from hypothesis import given, seed, settings
from hypothesis import strategies as st

from vidprompt.data.annotations import READERS, Source
from vidprompt.data.annotations.label_maps import read_label_map
from vidprompt.data.annotations.list_files import list_readings, read_list
from vidprompt.models.text.descriptions import read_descriptions
from vidprompt.system.errors import UserError

EXAMPLES = 2_000
NAMES = ("walk", "open door", "épée", "hop, skip", "跑步")

LISTS = (
    "walk/a b.mp4 0\nrun/b.mp4 1\n",
    "walk/a.mp4 16 0\nrun/b 20 1\n",
    'walk/a.mp4,walk\n"run/b, c.mp4","hop, skip"\n',
    "path;label;split\na.mp4;épée;train\nb.mp4;walk;test\n",
    "video\tclass\tn_frames\na.mp4\t跑步\t7\nb.mp4\twalk\t\n",
    "path label\na.mp4 0\nb.mp4 1\n",
)
MAPS = (
    "id,name\n0,walk\n1,épée\n2,跑步\n",
    "id;name\n0;walk\n1;hop, skip\n",
    "0 walk\n1 open door\n2 épée\n",
    "name\nwalk\nopen door\n",
    "id\tname\tcount\n0\twalk\t3\n1\trun\t4\n",
    '{"0": "walk", "1": "\\u00e9p\\u00e9e"}',
    '{"walk": 0, "open door": 1}',
    '["walk", "跑步"]',
)
DESCRIPTIONS = (
    'class,description\nwalk,"one, two\nlines"\népée,“high” jump\n',
    "class;description\nwalk;a walk\nopen door;a door\n",
    'SNo,Class Name,GPT3 discription\n1,walk,"\n\nsomebody walks"\n',
    '{"walk": ["a", "b"], "épée": "c"}',
)
OFFICIAL = {
    "ucf101": ("trainlist01.txt", "walk/v_walk_g01_c01.avi 1\nrun/v_run_g02_c01.avi 2\n"),
    "hmdb51": ("walk_test_split1.txt", "a_walk_f_cm_np1_fr_med_0.avi 1 \nb.avi 2 \nc.avi 0 \n"),
    "kinetics": (
        "train.csv",
        "label,youtube_id,time_start,time_end\nwalk,abc,0,10\nrun,abd,1,11\n",
    ),
    "ccvid": ("train.txt", "session1/001_01\t001\tu0_l0\nsession3/002_02\t002\tu1_l0\n"),
    "ssv2": ("train.json", '[{"id": "1", "template": "Putting [something] down"}]'),
}
BESIDE = {  # the other files of the official lists
    "classInd.txt": "1 walk\n2 run\n",
    "labels.json": '{"Putting something down": "0"}',
    "val.csv": "label,youtube_id,time_start,time_end\nwalk,xyz,0,10\n",
    "validation.json": "[]",
    "query.txt": "",
    "gallery.txt": "",
    **{f"{role}list0{n}.txt": "" for role in ("train", "test") for n in (1, 2, 3)},
    **{f"walk_test_split{n}.txt": "" for n in (1, 2, 3)},
}
BITS = (
    *(b"\0", b"\xff", b"\xe9", b"\x93", b"\xef\xbb\xbf", b"\xff\xfe", b"\xe9\x80", b"\xe2\x80\xa8"),
    *(b"\n", b"\r", b"\t", b";", b",", b" ", b'"', b"'", b"\\", b"/", b"..", b"#", b"sep=;\n"),
    *(b"0", b"1", b"99999999999999999999", b"-1", "²".encode(), b"id", b"name", b"label", b"path"),
    *(b"{", b"[" * 9, b"]", b"null", b"\\ud800", b"1e999", b"PK\x03\x04", b"PAR1", b"x" * 300),
)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252", "gb18030", "cp1251", "utf-32")

# A kind of file: its name, its content, and what reads its labels.
Kind = tuple[str, str, Callable[[Path], Iterable[str]]]


def official(reader: str) -> Callable[[Path], Iterable[str]]:
    def labels(path: Path) -> Iterable[str]:
        listing = READERS[reader](Source("s", path.parent, {"annotations": "."}))
        if reader in ("kinetics", "ccvid"):  # other classes are of other files
            return [row.label for row in listing.annotations]
        return []

    return labels


def folder_labels(path: Path) -> Iterable[str]:
    """Labels of a list, and of every form that fits a published list."""
    named = {row.label for reading in list_readings(path) for row in reading.rows}
    return named | {row.label for row in read_list(path)}


KINDS: list[Kind] = [
    *(("list.txt", text, folder_labels) for text in LISTS),
    *(("map.txt", text, lambda path: read_label_map(path, NAMES).values()) for text in MAPS),
    *(("d.csv", text, lambda path: [*read_descriptions(path)][:0]) for text in DESCRIPTIONS[:3]),
    *(("d.json", text, lambda path: [*read_descriptions(path)][:0]) for text in DESCRIPTIONS[3:]),
    *((name, text, official(reader)) for reader, (name, text) in OFFICIAL.items()),
]
places = st.floats(0, 1, exclude_max=True)
changes = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), places, st.sampled_from(BITS)),
        st.tuples(st.just("replace"), places, st.sampled_from(BITS)),
        st.tuples(st.just("delete"), places, st.integers(1, 12)),
        st.tuples(st.just("repeat line"), places, st.none()),
        st.tuples(st.just("cut"), places, st.none()),
        st.tuples(st.just("swap"), st.sampled_from(BITS), st.sampled_from(BITS)),
    ),
    max_size=4,
)


def mutated(data: bytes, steps: list[tuple]) -> bytes:
    for what, where, value in steps:
        at = int(where * len(data)) if isinstance(where, float) else 0
        if what == "insert":
            data = data[:at] + value + data[at:]
        elif what == "replace":
            data = data[:at] + value + data[at + len(value) :]
        elif what == "delete":
            data = data[:at] + data[at + value :]
        elif what == "cut":
            data = data[:at]
        elif what == "swap":
            data = data.replace(where, value)
        else:
            lines = data.splitlines(keepends=True)
            data = b"".join([*lines, *lines[int(where * len(lines)) :][:1]])
    return data


def texts_of(data: bytes) -> Iterable[str]:
    """The file's text in every encoding that a reader may have used."""
    for encoding in ("utf-8-sig", "utf-16", "utf-32", "cp1252"):
        text = data.decode(encoding, "replace").replace("\r\n", "\n").replace("\r", "\n")
        yield text
        yield text.replace('""', '"')
        yield re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: json.loads(f'"{match[0]}"'), text)


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    logging.getLogger("vidprompt").setLevel(logging.ERROR)
    for name, content in BESIDE.items():
        (tmp_path / name).write_text(content, "utf-8")
    count = {"read": 0, "refused": 0}

    @seed(18)
    @settings(max_examples=EXAMPLES, deadline=None, database=None)
    @given(st.sampled_from(KINDS), st.sampled_from(ENCODINGS), changes)
    def check(kind: Kind, encoding: str, steps: list[tuple]) -> None:
        name, text, labels_of = kind
        path = tmp_path / name
        path.write_bytes(mutated(text.encode(encoding, "replace"), steps))
        labels, message = set[str](), ""
        with warnings.catch_warnings(action="ignore"):
            try:
                labels = set(labels_of(path))
            except UserError as error:
                message = str(error)
        count["refused" if message else "read"] += 1
        assert not message or str(tmp_path) in message
        texts = list(texts_of(path.read_bytes()))
        if name in dict(OFFICIAL.values()):  # labels may be of the files beside
            texts += BESIDE.values()
        unknown = [label for label in labels if not any(label in text for text in texts)]
        assert not unknown

    try:
        check()
    finally:
        logging.getLogger("vidprompt").setLevel(logging.NOTSET)
    assert min(count.values()) > EXAMPLES / 5
