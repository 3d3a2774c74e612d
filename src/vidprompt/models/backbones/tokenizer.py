"""The tokenizer of a backbone, and where a text's own tokens are among its ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import HFTokenizer

from vidprompt.models.backbones.clip_model import Tokenize
from vidprompt.models.backbones.local_files import PACKAGED
from vidprompt.system.errors import UserError, first_line


class Tokenizer:
    """Texts → token ids (n, context length): CLIP's own tokenizer, one of Hugging Face's, or a plug-in's.

    Args:
        text_cfg: of an open_clip model config.
        context_length: tokens of a text.
        folder: with the tokenizer's files, instead of the Hub's.
        make: gives the function of texts and length of a model that open_clip does not build
            (`CLIPModel.tokenizer`); None, also of the function: CLIP's own.

    It is loaded at its first use, which raises UserError where its files or the package transformers are
    missing.
    """

    def __init__(
        self,
        text_cfg: Mapping[str, Any],
        context_length: int,
        folder: str | None = None,
        make: Callable[[], Tokenize | None] | None = None,
    ) -> None:
        self.context_length = context_length
        self._make = make
        self.name = str(folder or text_cfg.get("hf_tokenizer_name") or "")
        self._local = folder is not None
        self._mode = text_cfg.get("tokenizer_mode")
        self._options = dict(text_cfg.get("tokenizer_kwargs") or {})
        self._options.pop("trust_remote_code", None)  # a stranger's configuration may ask for it

    def __call__(
        self, texts: str | Sequence[str], context_length: int | None = None
    ) -> torch.Tensor:
        texts = [texts] if isinstance(texts, str) else list(texts)
        tokens: torch.Tensor = self._loaded(texts, context_length or self.context_length)
        return tokens

    def save(self, folder: Path) -> None:
        """Write the files of a tokenizer of Hugging Face's into a folder that can be given as `folder`."""
        self._loaded.save_pretrained(str(folder))

    @cached_property
    def _loaded(self) -> Any:
        if self._make and not self._local and (own := self._make()):
            return own
        if not self.name:
            return open_clip.SimpleTokenizer(context_length=self.context_length, **self._options)
        if self._local and not Path(self.name).is_dir():
            raise UserError(
                f"backbone.tokenizer: no folder {self.name}; of a copied checkpoint it may also be in "
                f"{PACKAGED}, beside it"
            )
        try:
            return HFTokenizer(
                self.name,
                context_length=self.context_length,
                tokenizer_mode=self._mode,
                trust_remote_code=False,
                **self._options,
            )
        except ImportError as error:
            raise UserError(
                f"the tokenizer {self.name} needs the package transformers (pip install "
                f"'vidprompt[tokenizers]'): {error}"
            ) from error
        except Exception as error:  # the network, the Hub, its cache and the files have their own
            raise UserError(
                f"the tokenizer {self.name} cannot be loaded ({first_line(error)}); without internet, set "
                "backbone.tokenizer to a folder with its files (tokenizer.json, tokenizer_config.json)"
            ) from error

    @cached_property
    def _around(self) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        """Ids before and after a text's own, and of the padding: what the empty text and a word show."""
        empty, word = self(["", "a"]).tolist()
        pad = empty[-1]
        empty, word = _without_padding(empty, pad), _without_padding(word, pad)
        count = 0
        while count < len(empty) and empty[count] == word[count]:
            count += 1
        return tuple(empty[:count]), tuple(empty[count:]), pad

    @property
    def start(self) -> tuple[int, ...]:
        """Ids before every text."""
        return self._around[0]

    @property
    def end(self) -> tuple[int, ...]:
        """Ids after every text; () where its end is the first token of the padding."""
        return self._around[1]

    @property
    def pad(self) -> int:
        """The id of the padding."""
        return self._around[2]

    def own_ids(self, row: Sequence[int]) -> list[int]:
        """The ids of a text itself, of a row without what every text has."""
        start, end = self.start, self.end
        ids = _without_padding(list(row), self.pad)[len(start) :]
        return ids[: len(ids) - len(end)] if end and tuple(ids[-len(end) :]) == end else ids


def _without_padding(ids: list[int], pad: int) -> list[int]:
    length = len(ids)
    while length and ids[length - 1] == pad:
        length -= 1
    return ids[:length]
