"""Files of descriptions: how they are read, what their errors say, and the rules that ours keep."""

import csv
import json
import re
from pathlib import Path

import pytest
from open_clip import get_tokenizer

from vidprompt.data.annotations.class_names import class_key, clean_class_name
from vidprompt.models.text.descriptions import read_descriptions
from vidprompt.models.text.prompts import prompt_set
from vidprompt.system.errors import UserError

NAMES = ["HandstandPushups", "brush_hair", "Yoga"]
OURS = 'class,description\nYoga,"calm, on a mat"\nbrush hair,a brush\nHandstandPushups,up\n'
RELEASED = (  # the form of EZ-CLIP's files
    'SNo,Class Name,GPT3 discription\n1,HandStandPushups,"\n\nup"\n'
    '2,brush hair,"\n\na\nbrush"\n\n3,yoga,"calm, on\r\na mat"\n'
)


def test_our_csv_the_released_form_and_json_give_the_same_texts(tmp_path: Path) -> None:
    as_json = json.dumps({"yoga": "calm, on a mat", "Brush-Hair": ["a brush"], NAMES[0]: " up "})
    for name, content in (("ours.csv", OURS), ("released.csv", RELEASED), ("d.json", as_json)):
        (tmp_path / name).write_text(content)
        prompts = prompt_set({"descriptions": tmp_path / name, "templates": ["{}"]})
        assert prompts.texts(NAMES) == ["up", "a brush", "calm, on a mat"], name
        assert prompts.per_class == 1
    with pytest.raises(UserError, match="d.json has no description of 1 of 2 classes: Archery"):
        prompts.texts(["Yoga", "Archery"])
    (tmp_path / "bom.csv").write_text(OURS, encoding="utf-8-sig")
    assert read_descriptions(tmp_path / "bom.csv") == read_descriptions(tmp_path / "ours.csv")


def test_a_list_in_json_gives_a_class_several_texts(tmp_path: Path) -> None:
    several = tmp_path / "d.json"
    several.write_text(json.dumps({name: [f"{name} one", f"{name} two"] for name in NAMES}))
    prompts = prompt_set({"descriptions": several})
    assert prompts.per_class == 2
    assert prompts.texts(["yoga"]) == ["Yoga one", "Yoga two"]


def test_spellings_of_a_class_have_one_key_and_other_classes_another() -> None:
    for same in (
        ["HandstandPushups", "HandStandPushups", "handstand_pushups"],
        ["pullup", "pull up"],
    ):
        assert len({class_key(name) for name in same}) == 1
    assert class_key("massaging person’s head") == class_key("massaging person's head")
    others = ["kick", "kick ball", "sword", "sword exercise", "draw sword"]
    assert len({class_key(name) for name in others}) == len(others)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("d.csv", "name,text\nYoga,x\n", "d.csv:1: the header must have"),
        ("d.csv", "", "d.csv:1: the header must have"),
        (
            "d.csv",
            "class,description\nYoga,x\nArchery,\n",
            "d.csv:3: no description of .*'Archery'",
        ),
        (
            "d.csv",
            "class,description\nYoga,on a mat, calm\n",
            "d.csv:2: 3 fields, .* has 2: .*quotes",
        ),
        ("d.csv", "class,description\nYoga\n", "d.csv:2: 1 fields, .* has 2"),
        ("d.csv", "class,description\n,calm\n", "d.csv:2: a description without a class"),
        (
            "d.csv",
            'class,description\nYoga,"two\nlines"\nA,"open\nB,x\n',
            "d.csv:4: .*quote missing",
        ),
        (
            "d.csv",
            'class,description\nYoga,"a "mat" x"\n',
            "d.csv:2: .*quote missing, or not doubled",
        ),
        ("d.csv", "class,description\n", "d.csv has no descriptions"),
        (
            "d.csv",
            "class,description\nYoga,x\nBiking,y\nyo_ga,z\n",
            "csv:4: class 'yo_ga' .*d.csv:2",
        ),
        ("d.json", '{"Yoga": "x", "yoga": "y"}', "d.json: 'yoga'.* before, .*d.json: 'Yoga'"),
        ("d.json", "[1]", "an object of class"),
        ("d.json", '{\n"a": }', "d.json:2 is not JSON"),
        ("d.json", '{"Yoga": ["a", 3]}', "no description of class 'Yoga'"),
        ("d.json", '{"Yoga": []}', "no description of class 'Yoga'"),
        ("d.json", '{"Yoga": ["a", "b"], "Archery": "c"}', "classes with 1 and 2"),
        ("d.json", "{}", "no descriptions"),
    ],
)
def test_malformed_descriptions_say_where(
    tmp_path: Path, file: str, content: str, message: str
) -> None:
    (tmp_path / file).write_text(content)
    with pytest.raises(UserError, match=message):
        prompt_set({"descriptions": tmp_path / file})


def test_a_class_described_twice_by_the_same_words_is_no_error(tmp_path: Path) -> None:
    table = tmp_path / "d.csv"
    table.write_text('class,description\nYoga,on a mat\nyoga,"on a\nmat"\n')
    assert read_descriptions(table) == {"yoga": ("on a mat",)}


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.filterwarnings("ignore:.*is read as Windows-1252, as Excel saves it; it has '“high”'")
def test_what_spreadsheets_save_is_read(tmp_path: Path, encoding: str, separator: str) -> None:
    table = tmp_path / "d.csv"
    lines = ["class,description,", "café,somebody jumps “high”,", ",,", ""]
    table.write_text("\r\n".join(lines).replace(",", separator), encoding=encoding)
    assert read_descriptions(table) == {"café": ("somebody jumps “high”",)}


def test_another_encoding_is_named(tmp_path: Path) -> None:
    table = tmp_path / "d.csv"
    table.write_text("class,description\nбег,человек бежит\n", encoding="cp1251")
    with pytest.raises(UserError, match=r"d.csv is not UTF-8 text .byte 18.: save it as UTF-8"):
        read_descriptions(table)
    with pytest.raises(UserError, match="no file of descriptions .*set prompts.descriptions=FILE"):
        read_descriptions(tmp_path / "none.csv")


# -- ours (params/prompts/descriptions), by the rules of docs/descriptions.md ----------------------

OURS_FOLDER = Path(__file__).parents[2] / "params/prompts/descriptions"
CLASSES = {"ucf101": 101, "hmdb51": 51, "ssv2": 174, "kinetics400": 400, "kinetics600": 600}
KINETICS = {
    "massaging person's head",
    "tying knot (not on a tie)",
    "passing American football (in game)",
}
SPELLINGS = {  # of the releases, that are easily mistaken
    "ucf101": {"HandstandPushups", "YoYo", "Shotput", "SkateBoarding"},
    "hmdb51": {"brush_hair", "flic_flac", "pullup", "situp", "sword_exercise"},
    "ssv2": {
        "Poking a hole into some substance",
        "Putting number of something onto something",
    },
    "kinetics400": KINETICS,
    "kinetics600": KINETICS,
}


def _rows(dataset: str) -> list[tuple[str, str]]:
    content = (OURS_FOLDER / f"{dataset}.csv").read_bytes()
    assert b"\r" not in content
    header, *rows = csv.reader(content.decode("utf-8").splitlines(), strict=True)
    assert header == ["class", "description"]
    return [(name, text) for name, text in rows]


def _plain(text: str) -> str:
    """Lower-case words between single blanks, without punctuation, to look for whole words in."""
    return f" {' '.join(re.sub('[^a-z0-9]+', ' ', text.lower().replace(chr(39), '')).split())} "


@pytest.mark.parametrize("dataset", CLASSES)
def test_our_descriptions_are_one_sentence_of_15_to_40_words_for_every_class(dataset: str) -> None:
    rows = _rows(dataset)
    assert len({class_key(name) for name, _ in rows}) == len(rows) == CLASSES[dataset]
    assert SPELLINGS[dataset] <= {name for name, _ in rows}
    encode = get_tokenizer("ViT-B-16").encode
    for name, text in rows:
        assert 15 <= len(text.split()) <= 40, name
        assert len(encode(text)) + 2 <= 77, name  # with the tokens of start and end
        assert text == " ".join(text.split()), name
        assert text.isprintable(), name
        assert text[0].isupper(), name
        assert text.endswith("."), name
        assert ". " not in text, name


@pytest.mark.parametrize("dataset", CLASSES)
def test_none_of_our_descriptions_names_another_class_of_the_dataset(dataset: str) -> None:
    """But where the name is a part of the class's own, as "walk" of "walk with dog"."""
    rows = [(_plain(clean_class_name(name)), _plain(text)) for name, text in _rows(dataset)]
    named = [
        (own, other)
        for own, text in rows
        for other, _ in rows
        if other in text and other not in own
    ]
    assert not named


def test_our_descriptions_differ_unless_the_class_is_the_same() -> None:
    classes: dict[str, set[str]] = {}
    for dataset in CLASSES:
        for name, text in _rows(dataset):
            classes.setdefault(_plain(text), set()).add(class_key(name))
    assert not [names for names in classes.values() if len(names) > 1]
    assert {path.stem for path in OURS_FOLDER.iterdir()} == set(CLASSES)  # all are checked
