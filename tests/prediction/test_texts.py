"""Which texts stand for classes, and the classes of a command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from tests.prediction.small_checkpoint import CLASSES, write_model

import vidprompt
from vidprompt.models.text.prompts import PromptSet
from vidprompt.prediction.classes import class_names, parse_classes
from vidprompt.prediction.model import Model
from vidprompt.system.errors import UserError

DESCRIPTIONS = {
    "opendoor": ["somebody opens a door"],
    "closedoor": ["somebody closes a door"],
    "sitdown": ["somebody takes a seat"],
}


@pytest.fixture(scope="module")
def ez_clip(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return vidprompt.load(write_model(tmp_path_factory.mktemp("ez")), "cpu")


@pytest.fixture(scope="module")
def vita_clip(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return vidprompt.load(write_model(tmp_path_factory.mktemp("vita"), "vita_clip"), "cpu")


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Model:
    prompts = {"descriptions": DESCRIPTIONS, "templates": ["{}"]}
    return vidprompt.load(write_model(tmp_path_factory.mktemp("d"), prompts=prompts), "cpu")


def encoded(model: Model, names: list[str], prompts: PromptSet) -> np.ndarray:
    return model.encoder.encode_classes(names, prompts).detach().numpy()


def test_classes_have_the_models_templates(ez_clip: Model) -> None:
    texts = ez_clip.texts()
    assert (texts.names, texts.source) == (tuple(CLASSES), "prompts")
    assert texts.features.shape == (3, 2, ez_clip.width)
    assert (texts.ensemble, texts.logit_scale) == (
        "mean_feature",
        float(ez_clip.encoder.logit_scale),
    )
    expected = encoded(ez_clip, CLASSES, PromptSet(("a video of {}", "{}")))
    np.testing.assert_array_equal(texts.features, expected)
    own = ez_clip.texts(["jump", "run"], prompts=["somebody who {}s"])
    assert (own.source, own.features.shape) == ("prompts", (2, 1, ez_clip.width))
    plain = ez_clip.texts(["jump", "run"], prompts=["{}"])
    both = ez_clip.texts(["jump", "run"]).features
    np.testing.assert_allclose(plain.features[:, 0], both[:, 1], atol=1e-5)


def test_a_learned_context_serves_its_classes_alone(vita_clip: Model) -> None:
    known = vita_clip.texts(["open door", "sit down"])  # other spellings of trained classes
    assert (known.source, known.features.shape[1]) == ("learned context", 1)
    context = vita_clip.encoder.context
    others = vita_clip.texts(["open door", "jump"])
    assert others.source == "class names"
    assert vita_clip.encoder.context is context
    assert not np.allclose(known.features[0], others.features[0])
    assert vita_clip.texts(CLASSES, prompts=["{}"]).source == "prompts"
    assert vita_clip.texts({"open door": "a hand opens a door"}).source == "descriptions"


def test_descriptions_of_the_training_serve_its_classes(described: Model) -> None:
    known = described.texts(["Open door", "sit_down"])
    assert known.source == "descriptions"
    expected = described.encoder.encode_texts(["somebody opens a door"]).detach().numpy()
    np.testing.assert_allclose(known.features[0], expected, atol=1e-6)
    assert described.texts(["Open door", "jump"]).source == "class names"


@pytest.mark.parametrize("kind", [dict, MappingProxyType])
def test_given_descriptions_are_told_from_names_and_from_others(
    ez_clip: Model, kind: type[Mapping[str, str]]
) -> None:
    first = ez_clip.texts(kind({"a": "one text", "b": "two"}))
    second = ez_clip.texts(kind({"a": "another text", "b": "two"}))
    assert first.source == second.source == "descriptions"
    assert not np.allclose(first.features[0], second.features[0])
    np.testing.assert_array_equal(first.features[1], second.features[1])
    several = ez_clip.texts({"a": ["one", "two"], "b": ["three", "four"]})
    assert several.features.shape[1] == 2
    with pytest.raises(UserError, match="class"):
        ez_clip.texts({"a": ["one", "two"], "b": "three"})


def test_features_of_classes_are_kept(ez_clip: Model) -> None:
    assert ez_clip.texts(["a dog", "a cat"]) is ez_clip.texts(("a dog", "a cat"))
    assert ez_clip.texts(["a cat", "a dog"]).names == ("a cat", "a dog")
    for number in range(20):
        ez_clip.texts([f"class {number}"])
    assert len(ez_clip._texts) < 20


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "no class|has no classes|at least one"),
        (["run", "run"], "class 'run' is given twice"),
        (["run", " "], "a class has an empty name"),
        (["run", "Run"], "have one text, .*no score can tell them apart"),
        ("run", "is one text: give a list of names"),
    ],
)
def test_classes_that_cannot_work_are_refused(
    ez_clip: Model, classes: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        ez_clip.texts(classes)
    with pytest.raises(UserError, match="give a list|no class|empty|twice|one text"):
        class_names(classes) if classes != ["run", "Run"] else ez_clip.texts(classes)


def test_a_template_has_one_place_for_the_name(ez_clip: Model) -> None:
    for prompts in (["a video"], ["{} and {}"], []):
        with pytest.raises(UserError, match="\\{\\}"):
            ez_clip.texts(["run"], prompts=prompts)


def test_sentences_have_features_of_unit_length(ez_clip: Model) -> None:
    features = ez_clip.embed_text(["somebody runs", "a dog"])
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(ez_clip.embed_text("somebody runs"), features[:1], atol=1e-6)
    for nothing in ([], [""], "  "):
        with pytest.raises(UserError, match="an empty text has no feature"):
            ez_clip.embed_text(nothing)


def test_classes_of_a_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_classes("open door, close door,") == ["open door", "close door"]
    assert parse_classes("Putting [something] on") == ["Putting [something] on"]
    (tmp_path / "names.txt").write_text("open door\nclose, then lock\n")
    (tmp_path / "names.csv").write_text("id,name\n0,open door\n1,close door\n")
    (tmp_path / "names.json").write_text('["open door", "sit"]')
    monkeypatch.chdir(tmp_path)
    assert parse_classes("names.csv") == ["open door", "close door"]
    assert parse_classes("names.json") == ["open door", "sit"]
    assert parse_classes(str(tmp_path / "names.json")) == ["open door", "sit"]
    with pytest.raises(UserError, match="there is no file nothing.txt of classes"):
        parse_classes("nothing.txt")
