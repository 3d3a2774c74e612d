"""Where a text's own tokens are among its ids, for the forms of all families, and tokenizers from files."""

import sys
import warnings
from pathlib import Path

import pytest
from tests.models.families import tokenizer

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


def test_a_tokenizer_of_hugging_face_is_read_from_its_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = ["<pad>", "</s>", "<unk>", "a", "bike", "rides"]
    inner = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>")
    )
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    saved = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    saved.save_pretrained(tmp_path)
    text = {"hf_tokenizer_name": "timm/X", "tokenizer_kwargs": {"clean": "canonicalize"}}
    tokens = Tokenizer(text, 6, str(tmp_path))
    assert tokens(["A bike, rides!"]).tolist() == [[3, 4, 5, 1, 0, 0]]
    assert (tokens.start, tokens.end, tokens.pad) == ((), (1,), 0)
    (tmp_path / "tokenizer_config.json").write_text("{")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="cannot be loaded .*set backbone.tokenizer to a folder"):
        Tokenizer(text, 6, str(tmp_path))(["a"])
