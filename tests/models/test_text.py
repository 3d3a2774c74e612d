"""Prompt sets, learned contexts, and how texts are encoded."""

import warnings
from pathlib import Path

import pytest
import torch
import yaml
from tests.models.small import small_backbone

from vidprompt.data.annotations.class_names import clean_class_name
from vidprompt.models import create_model
from vidprompt.models.text.context import LearnedContext
from vidprompt.models.text.prompts import (
    PromptSet,
    context_options,
    prompt_set,
    tokenize,
)
from vidprompt.models.text.tower import group_by_length
from vidprompt.system.errors import UserError
from vidprompt.training.objectives import ContrastiveMotion, CrossEntropy

NAMES = ["HandstandPushups", "brush_hair", "Yoga"]
PARAMS = Path(__file__).parents[2] / "params/prompts"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("HandstandPushups", "handstand pushups"),
        ("HandStandPushups", "hand stand pushups"),
        ("YoYo", "yo yo"),
        ("brush_hair", "brush hair"),
        ("Putting [something] onto [something]", "putting something onto something"),
        ("massaging person's head", "massaging person's head"),
        ("tying knot (not on a tie)", "tying knot (not on a tie)"),
        ("UCFSports  clip", "ucf sports clip"),
    ],
)
def test_class_names_become_words(name: str, words: str) -> None:
    assert clean_class_name(name) == words


def test_the_fields_templates_and_bare_names_are_data() -> None:
    sets = {
        name: prompt_set(yaml.safe_load((PARAMS / f"{name}.yaml").read_text("utf-8")))
        for name in (
            "action_templates",
            "action_templates_clean",
            "class_name",
            "demo",
            "learned_context",
        )
    }
    assert sets["action_templates"].per_class == 16
    released = sets["action_templates"].texts(["HandstandPushups", "brush_hair"])
    assert (released[0], released[16]) == (
        "a photo of action HandstandPushups",
        "a photo of action brush hair",
    )
    words = sets["action_templates_clean"].texts(["HandstandPushups", "brush_hair"])
    assert words == [text.replace("HandstandPushups", "handstand pushups") for text in released]
    assert sets["class_name"].texts(NAMES) == ["handstand pushups", "brush hair", "yoga"]
    assert context_options(
        yaml.safe_load((PARAMS / "learned_context.yaml").read_text("utf-8"))
    ) == {
        "context": "shared",
        "context_length": 16,
        "context_position": "end",
        "clean_names": True,
    }
    with pytest.raises(
        UserError, match="prompts.context has no 'size': valid: kind, length, position"
    ):
        context_options({"context": {"size": 3}})


def test_a_template_needs_one_place_for_the_name() -> None:
    with pytest.raises(UserError, match="needs exactly one {}"):
        PromptSet(("a video",))
    with pytest.raises(UserError, match="no text for a class"):
        prompt_set({"templates": []})


def test_long_texts_are_cut_with_a_warning_that_names_them() -> None:
    tokenizer = small_backbone(context=8).tokenizer
    fits = "one two three four five six"  # with both ends, exactly eight
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenize(tokenizer, [fits, "short"])
    with pytest.warns(UserWarning, match="1 text is cut to 8 tokens: 'one two .* seven'"):
        cut = tokenize(tokenizer, [fits + " seven", "short"])
    assert cut.shape == (2, 8)


def test_chunks_hold_texts_of_like_length() -> None:
    groups = group_by_length([5, 2, 9, 2, 7], 2)
    assert groups == [[1, 3], [0, 4], [2]]


@pytest.mark.parametrize("chunk", [1, 2, 7, 64])
def test_features_do_not_depend_on_chunks_or_neighbours(chunk: int) -> None:
    model = create_model("ez_clip", small_backbone(), num_frames=2).eval()
    for adapter in model.text_adapters:
        torch.nn.init.normal_(adapter.up.weight)
    texts = ["a", "somebody rides a bike", "yoga", "a person who is playing the violin", "to open"]
    alone = torch.cat([model.encode_text(model.backbone.tokenizer([text])) for text in texts])
    assert torch.allclose(model.encode_texts(texts, chunk), alone, atol=1e-5)


@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("kind", ["class", "shared"])
def test_a_context_of_word_embeddings_is_the_text_with_these_words(
    kind: str, position: str
) -> None:
    """Vectors set to the embeddings of real words must give the features of the written text."""
    backbone = small_backbone()
    model = create_model(
        "ez_clip", backbone, num_frames=2, class_names=NAMES, context=kind, context_length=3,
        context_position=position,
    ).eval()  # fmt: skip
    words = backbone.tokenizer(["video of somebody"])[0, 1:4]
    assert model.context is not None
    with torch.no_grad():
        model.context.vectors.copy_(
            model.clip.token_embedding(words).expand_as(model.context.vectors)
        )
    written = {
        "end": "video of somebody {}.",
        "middle": "video {} of somebody.",
        "front": "{} video of somebody.",
    }
    texts = [written[position].format(clean_class_name(name)) for name in NAMES]
    assert torch.allclose(model.encode_classes(NAMES)[:, 0], model.encode_texts(texts), atol=1e-5)


def test_a_context_leaves_out_the_end_of_a_long_name() -> None:
    context = LearnedContext(small_backbone(context=8), ["a b c d e f g h"], 3)
    with pytest.warns(UserWarning, match="cut to 8 tokens: 'a b c d e f g h'"):
        _, _, eot = context.layout(context.names)
    assert eot.tolist() == [7]
    with pytest.raises(UserError, match="leaves no room for a class name"):
        LearnedContext(small_backbone(context=8), ["a"], 6).prompts()


def test_a_class_is_known_by_its_words_and_two_of_one_name_keep_their_own_contexts() -> None:
    model = create_model(
        "ez_clip", small_backbone(), num_frames=2, class_names=["a", "a", "HandstandPushups"],
        context="class", context_length=3,
    ).eval()  # fmt: skip
    first, second, last = model.encode_classes(["a", "a", "HandstandPushups"])[:, 0]
    assert not torch.allclose(first, second, atol=1e-4)
    assert torch.allclose(model.encode_classes(["handstand pushups"])[0, 0], last, atol=1e-6)
    with pytest.warns(UserWarning, match=r"1 of 2 classes have no learned context \(Yoga\)"):
        plain = model.encode_classes(["a", "Yoga"])
    assert torch.allclose(plain[:, 0], model.encode_texts(["a", "yoga"]), atol=1e-6)


def test_context_options_are_checked() -> None:
    for options, message in (
        ({"context": "own"}, "context=own: .*valid: none, class, shared"),
        ({"context": "shared", "context_position": "back"}, "valid: end, middle, front"),
        ({"context": "class"}, "give class_names"),
    ):
        with pytest.raises(UserError, match=message):
            create_model("ez_clip", small_backbone(), num_frames=2, **options)


@pytest.mark.parametrize("objective", [ContrastiveMotion, CrossEntropy])
def test_a_fixed_prompt_set_is_encoded_once(
    objective: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = small_backbone()
    model = create_model("vita_clip", backbone, num_frames=2, context="none")
    calls = []
    plain = model.encode_embedded
    monkeypatch.setattr(
        model,
        "encode_embedded",
        lambda *a, **k: calls.append(len(a[0])) or plain(*a, **k),  # type: ignore[func-returns-value]
    )
    prompts = PromptSet(("a {}", "the {}"))
    loss = objective(model, NAMES, prompts)
    for _ in range(3):
        loss(torch.randn(2, 2, 3, 32, 32), torch.tensor([0, 2]))["loss"].backward()
    assert sum(calls) == len(NAMES) * 2
