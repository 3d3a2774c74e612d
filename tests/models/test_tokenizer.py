"""Where a text's own tokens are among its ids, for the forms of all families, and tokenizers from files."""

import json
import sys
import warnings
from pathlib import Path

import pytest
import sentencepiece
from tests.models.families import tokenizer
from tests.models.small_tokenizer import WORDS, write_tokenizer

from vidprompt.models.backbones.loading import hub_tokenizer, load_backbone
from vidprompt.models.backbones.local_files import tokenizer_digest
from vidprompt.models.backbones.tokenizer import Tokenizer
from vidprompt.models.text.prompts import tokenize
from vidprompt.system.errors import UserError

FORMS = {  # family → (start, end, padding)
    "ViT-B-16": ((49406,), (49407,), 0),
    "ViT-B-16-SigLIP": ((), (), 1),  # the end has the id of the padding
    "ViT-B-16-SigLIP2": ((), (1,), 0),
    "ViT-L-14-CLIPA": ((7,), (), 0),
    "ViT-H-14-worldwide": ((0,), (2,), 1),
}


@pytest.mark.parametrize("name", FORMS)
def test_what_is_around_a_text_is_seen_in_the_empty_text_and_a_word(name: str) -> None:
    tokens = tokenizer(name, 8)
    assert (tokens.start, tokens.end, tokens.pad) == FORMS[name]
    assert tokens.own_ids(tokens([""])[0].tolist()) == []
    one, three = tokens(["bike", "a bike rides"]).tolist()
    assert len(tokens.own_ids(one)) == 1
    assert len(tokens.own_ids(three)) == 3
    assert tokens.own_ids(three)[1:2] == tokens.own_ids(one)


@pytest.mark.parametrize("name", FORMS)
def test_a_text_that_fits_exactly_is_not_cut(name: str) -> None:
    tokens = tokenizer(name, 8)
    room = 8 - len(tokens.start) - max(1, len(tokens.end))
    fits = " ".join(["bike"] * room)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenize(tokens, [fits, "a", ""])
    with pytest.warns(UserWarning, match="1 text is cut to 8 tokens: 'bike .* rides'"):
        cut = tokenize(tokens, [f"{fits} rides", "a"])
    assert cut.shape == (2, 8)


def test_a_missing_package_folder_or_host_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="backbone.tokenizer: no folder"):
        Tokenizer({}, 8, str(tmp_path / "none"))(["a"])
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"needs the package transformers.*vidprompt\[tokenizers\]"):
        Tokenizer({"hf_tokenizer_name": "google/mt5-base"}, 8)(["a"])


def test_a_tokenizer_of_hugging_face_is_read_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_tokenizer(tmp_path)
    text = {"hf_tokenizer_name": "timm/X", "tokenizer_kwargs": {"clean": "canonicalize"}}
    tokens = Tokenizer(text, 6, str(tmp_path))
    assert tokens(["A bike, rides!"]).tolist() == [[3, 4, 5, 1, 0, 0]]
    assert (tokens.start, tokens.end, tokens.pad) == ((), (1,), 0)
    tokens.save(tmp_path / "copy")
    assert Tokenizer(text, 6, str(tmp_path / "copy"))(["bike a"]).tolist() == [[4, 3, 1, 0, 0, 0]]
    (tmp_path / "tokenizer_config.json").write_text("{")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="cannot be loaded .*set backbone.tokenizer to a folder"):
        Tokenizer(text, 6, str(tmp_path))(["a"])


def test_a_sentencepiece_model_is_read_from_its_folder(tmp_path: Path) -> None:
    """SigLIP's tokenizer is T5's, MetaCLIP 2's XLM's: a SentencePiece model."""
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(["a bike rides", "somebody rides a bike"] * 20), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(texts), model_prefix=str(tmp_path / "spiece"), vocab_size=40, model_type="unigram",
        hard_vocab_limit=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    config = {"tokenizer_class": "T5Tokenizer", "pad_token": "<pad>", "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"extra_ids": 0}))
    tokens = Tokenizer({"hf_tokenizer_name": "timm/X"}, 16, str(tmp_path))
    assert (tokens.start, tokens.end, tokens.pad) == ((), (1,), 0)
    row = tokens(["a bike rides"])[0].tolist()
    model = sentencepiece.SentencePieceProcessor(str(tmp_path / "spiece.model"))
    assert tokens.own_ids(row) == model.encode("a bike rides")


def test_a_backbone_records_which_tokenizer_it_has(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "first")
    config = {
        "embed_dim": 32,
        "vision_cfg": {
            "image_size": 32,
            "layers": 1,
            "width": 32,
            "head_width": 16,
            "patch_size": 16,
        },
        "text_cfg": {"context_length": 8, "width": 32, "heads": 2, "layers": 1, "vocab_size": 6}
        | {"hf_tokenizer_name": "timm/X"},
    }
    spec = {"name": "tiny", "config": config, "tokenizer": str(folder)}
    backbone = load_backbone(spec)
    assert backbone.tokenizer(["bike"]).tolist() == [[4, 1, 0, 0, 0, 0, 0, 0]]
    assert backbone.spec["tokenizer_digest"] == tokenizer_digest(folder)
    (folder / "model.safetensors").write_bytes(b"weights are none of it")
    assert load_backbone(spec).spec == backbone.spec
    other = write_tokenizer(tmp_path / "other", [*WORDS[:3], *WORDS[:2:-1]])
    assert load_backbone(spec | {"tokenizer": str(other)}).spec != backbone.spec
    hub = hub_tokenizer(spec | {"tokenizer": None})
    assert hub is not None
    assert hub.name == "timm/X"
    assert hub_tokenizer(spec) is None
    assert hub_tokenizer({"name": "ViT-B-32"}) is None
