"""Learned text context (CoOp, arXiv 2109.01134): M trained vectors around a class name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from vidprompt.data.annotations.class_names import check_texts, class_words
from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.text.prompts import tokenize, warn_truncated
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import check_choice

KINDS = ("none", "class", "shared")
POSITIONS = ("end", "middle", "front")

# Row numbers (n,) → token embeddings (n, length, W).
EmbedRows = Callable[[torch.Tensor], torch.Tensor]


class LearnedContext(nn.Module):
    """Context vectors (classes or 1, M, W), in the prompt of a class name and its full stop.

    Args:
        backbone: its tokenizer and token embedding are used and never changed.
        names: the classes that the context is trained for.
        length: M.
        kind: "class" (vectors of its own for each class) or "shared" (one for all classes).
        position: where the class name is: "end" is "[V]1 … [V]M name.", "middle" has half the vectors on
            either side of the name (the full stop last), "front" is "name [V]1 … [V]M .".
        clean_names: apply `clean_class_name` to the names.

    Raises UserError for an unknown kind or position, or a class-specific context without classes.
    """

    def __init__(
        self,
        backbone: Backbone,
        names: Sequence[str],
        length: int,
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
        self.backbone = backbone
        self.names = list(names)
        self.shared = kind == "shared"
        self.position = position
        self.clean_names = clean_names
        count = 1 if self.shared else len(names)
        self.vectors = nn.Parameter(torch.randn(count, length, backbone.text_tower.width) * 0.02)
        # token layout of the classes of the last call: tokenised once, not in every step
        self._layouts: dict[Any, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}

    def covers(self, names: Sequence[str]) -> bool:
        """True if there is a context for all of these classes."""
        return self.shared or not self.missing(names)

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that are not training classes (for a shared context too)."""
        own = {self._key(name) for name in self.names}
        return [name for name in names if self._key(name) not in own]

    def check_distinct(self, names: Sequence[str]) -> None:
        """Raise UserError when two of the classes would have the same prompt."""
        texts = [class_words(name, clean=self.clean_names) for name in names]
        check_texts(names, texts, list(map(self._key, names)), "the learned context")

    def _key(self, name: str) -> str:
        """A class name without case and blanks, which tokens do not distinguish."""
        return "".join(class_words(name, clean=self.clean_names).lower().split())

    def prompts(self, names: Sequence[str] | None = None) -> tuple[EmbedRows, torch.Tensor]:
        """The prompts of C classes (default: the training classes), for the text tower.

        Returns a function from row numbers (n,) to token embeddings (n, length, W), and the positions (C,) at
        which the texts are read, on the CPU. Raises KeyError for a class without a context.
        """
        names = self.names if names is None else list(names)
        device = self.vectors.device
        listed = names if self.missing(names) else self.names
        key = (tuple(listed), device)
        if key not in self._layouts:
            tokens, positions, ends = self.layout(listed)
            self._layouts = {key: (tokens.to(device), positions.to(device), ends)}
        tokens, positions, ends = self._layouts[key]
        owner = torch.arange(len(listed), device=device)
        if names != listed:
            row = {self._key(name): i for i, name in enumerate(listed)}
            chosen = torch.tensor([row[self._key(name)] for name in names])
            ends, owner = ends[chosen], chosen.to(device, non_blocking=True)
            tokens, positions = tokens[owner], positions[owner]
        if self.shared:
            owner = torch.zeros_like(owner)

        def embed(rows: torch.Tensor) -> torch.Tensor:
            embedded = self.backbone.text_tower.embed(tokens[rows])
            index = positions[rows][..., None].expand(-1, -1, embedded.shape[-1])
            return embedded.scatter(1, index, self.vectors[owner[rows]].to(embedded.dtype))

        return embed, ends

    def layout(
        self, names: Sequence[str], *, pad: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Token ids (C, length), positions of the vectors (C, M), positions where texts are read (C,).

        `length` is what the text features depend on, with `pad` the tower's context length. A prompt that is
        too long loses the end of its class name, with a warning. Raises UserError if M vectors leave no room
        for a name.
        """
        tokenizer, tower = self.backbone.tokenizer, self.backbone.text_tower
        context, length = tower.context_length, self.vectors.shape[1]
        start, end = tokenizer.start, tokenizer.end
        room = context - length - len(start) - max(1, len(end))
        if room < 1:
            raise UserError(
                f"a context of {length} vectors leaves no room for a class name: the backbone's text "
                f"tower takes {context} tokens"
            )
        words = [class_words(name, clean=self.clean_names) for name in names]
        sentences = tokenize(tokenizer, [f"{word}." for word in words]).tolist()
        name_lengths = [len(tokenizer.own_ids(row)) for row in tokenize(tokenizer, words).tolist()]
        before = {"end": length, "middle": length // 2, "front": 0}[self.position]
        tokens = torch.full((len(names), context), tokenizer.pad)
        positions = torch.zeros(len(names), length, dtype=torch.long)
        truncated = []
        for row, ids in enumerate(map(tokenizer.own_ids, sentences)):
            if len(ids) > room:
                truncated.append(words[row])
            body = ids[:room]
            name, stop = body[: name_lengths[row]], body[name_lengths[row] :]
            gap = [tokenizer.pad] * length  # any token: the vectors replace it
            line = [*start, *gap[:before], *name, *gap[before:], *stop, *end]
            tokens[row, : len(line)] = torch.tensor(line)
            positions[row] = torch.tensor(
                [len(start) + i + len(name) * (i >= before) for i in range(length)]
            )
        if truncated:
            warn_truncated(truncated, context)
        ends = tower.read_at(tokens)
        return (tokens if pad else tokens[:, : tower.needed_length(ends)]), positions, ends
