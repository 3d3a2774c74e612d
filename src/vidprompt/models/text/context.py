"""Learned text context (CoOp, arXiv 2109.01134): M vectors around a class name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vidprompt.models.text.prompts import class_words, tokenize, warn_cut
from vidprompt.models.text.tower import text_ends
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import check_choice

if TYPE_CHECKING:
    from vidprompt.models.methods.video_clip import VideoCLIP

KINDS = ("none", "class", "shared")
POSITIONS = ("end", "middle", "front")


class LearnedContext(nn.Module):
    """Contexts of shape (classes or 1, M, W) around the class name and its full stop.

    position "end" is "[V]1 … [V]M name.", "middle" half the vectors on either side of the name (the
    full stop last), "front" "name [V]1 … [V]M .".

    Raises UserError for an unknown kind or position, or class-specific contexts of no classes.
    """

    def __init__(
        self,
        names: Sequence[str],
        length: int,
        width: int,
        *,
        kind: str = "class",
        position: str = "end",
        clean_names: bool = True,
    ) -> None:
        super().__init__()
        check_choice("context", kind, KINDS)
        check_choice("context_position", position, POSITIONS)
        if kind == "class" and not names:
            raise UserError("a context for each class needs the classes: give class_names")
        self.names = list(names)
        self.shared = kind == "shared"
        self.position = position
        self.clean_names = clean_names
        count = 1 if self.shared else len(names)
        self.vectors = nn.Parameter(torch.randn(count, length, width) * 0.02)
        # of the last classes asked for: tokenised once, not at every step
        self._layouts: dict[Any, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}

    def knows(self, names: Sequence[str]) -> bool:
        """Can it give features for these classes?"""
        return self.shared or not self.unknown(names)

    def unknown(self, names: Sequence[str]) -> list[str]:
        """The classes it was not made for (for a shared context: those given, all the same)."""
        own = {self._key(name) for name in self.names}
        return [name for name in names if self._key(name) not in own]

    def _key(self, name: str) -> str:
        """Names of one class, whatever their case and blanks: tokens know neither."""
        return "".join(class_words(name, clean=self.clean_names).lower().split())

    def features(
        self, model: VideoCLIP, names: Sequence[str] | None = None, chunk: int = 64
    ) -> torch.Tensor:
        """Features (C, E) of these classes (default: its own), not normalised.

        Raises KeyError for a class it has no context of.
        """
        names = self.names if names is None else list(names)
        device = self.vectors.device
        listed = names if self.unknown(names) else self.names
        key = (tuple(listed), device)
        if key not in self._layouts:
            tokens, places, ends = self.layout(model, listed)
            self._layouts = {key: (tokens.to(device), places.to(device), ends)}
        tokens, places, ends = self._layouts[key]
        chosen = torch.arange(len(listed))
        if names != listed:
            row = {self._key(name): i for i, name in enumerate(listed)}
            chosen = torch.tensor([row[self._key(name)] for name in names])
            tokens, places, ends = tokens[chosen], places[chosen], ends[chosen]
        owner = torch.zeros_like(chosen) if self.shared else chosen

        def embed(rows: torch.Tensor) -> torch.Tensor:
            embedded = model.clip.token_embedding(tokens[rows])
            at = places[rows][..., None].expand(-1, -1, embedded.shape[-1])
            return embedded.scatter(1, at, self.vectors[owner[rows]].to(embedded.dtype))

        return model.encode_in_chunks(embed, ends, chunk)

    def layout(
        self, model: VideoCLIP, names: Sequence[str], *, whole: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Token ids (C, longest) with gaps for the vectors, the gaps' places (C, M), the ends (C,).

        The ids reach to the longest text, or over the `whole` context. A text that is too long loses
        the end of its name, with a warning that names it.
        """
        length, context = self.vectors.shape[1], int(model.clip.context_length)
        room = context - length - 2  # the start-of-text and the end-of-text stand too
        if room < 1:
            raise UserError(
                f"a context of {length} vectors leaves no place for a class name: the backbone's text "
                f"is of {context} tokens"
            )
        words = [class_words(name, clean=self.clean_names) for name in names]
        stopped = tokenize(model.backbone.tokenizer, [f"{word}." for word in words])
        lengths = (text_ends(tokenize(model.backbone.tokenizer, words)) - 1).tolist()
        before = {"end": length, "middle": length // 2, "front": 0}[self.position]
        tokens = torch.zeros(len(names), context, dtype=torch.long)
        places = torch.zeros(len(names), length, dtype=torch.long)
        ends, cut = [], []
        for row, (ids, end) in enumerate(
            zip(stopped.tolist(), text_ends(stopped).tolist(), strict=True)
        ):
            if end - 1 > room:
                cut.append(words[row])
            body = ids[1 : 1 + min(end - 1, room)]
            name, stop = body[: lengths[row]], body[lengths[row] :]
            gap = ids[:1] * length  # any token: the vectors take its place
            line = [ids[0], *gap[:before], *name, *gap[before:], *stop, ids[end]]
            tokens[row, : len(line)] = torch.tensor(line)
            places[row] = torch.tensor([1 + i + len(name) * (i >= before) for i in range(length)])
            ends.append(len(line) - 1)
        if cut:
            warn_cut(cut, context)
        return (tokens if whole else tokens[:, : max(ends) + 1]), places, torch.tensor(ends)
