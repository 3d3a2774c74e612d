"""A tokenizer of Hugging Face's in a folder, of a few words: no start, an end token, padding with 0."""

from pathlib import Path

import tokenizers
import transformers

WORDS = ["<pad>", "</s>", "<unk>", "a", "bike", "rides"]


def write_tokenizer(folder: Path, words: list[str] = WORDS) -> Path:
    """Write its files as the library does; the folder."""
    ids = {word: i for i, word in enumerate(words)}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, "<unk>"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    saved = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    saved.save_pretrained(folder)
    return folder
