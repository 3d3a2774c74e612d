"""Blocks of encoded videos in a scratch folder, from which a run that was killed resumes.

A block is a file `block-00000.safetensors` (`video`: (n, views, E) float32, with a checksum), written
when all its videos are encoded. `identity.json` says what the blocks are made with. A block does not
depend on the process that encodes it nor on the other blocks.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from vidprompt.files.atomic import replacing, write_json
from vidprompt.files.hashes import digest
from vidprompt.system.errors import DataError


@dataclass(frozen=True)
class Block:
    """Videos encoded together: their views, or all their frames (`whole`)."""

    number: int
    videos: Sequence[str]
    whole: bool


def plan_blocks(by_views: Sequence[str], whole: Sequence[str], size: int) -> list[Block]:
    """Blocks of at most `size` videos, in order: first those encoded by views, then whole tracklets."""
    parts = [
        (videos[start : start + size], all_frames)
        for videos, all_frames in ((by_views, False), (whole, True))
        for start in range(0, len(videos), size)
    ]
    return [Block(number, videos, all_frames) for number, (videos, all_frames) in enumerate(parts)]


class BlockStore:
    """The blocks of one encoding in a scratch folder; `identity` is everything that determines them."""

    def __init__(self, folder: Path, blocks: Sequence[Block], identity: Mapping[str, Any]) -> None:
        listed = digest([[block.whole, list(block.videos)] for block in blocks])
        self.folder, self.blocks = folder, blocks
        self.identity = json.loads(json.dumps({**identity, "videos": listed}))
        self._stamp = digest(self.identity)

    def prepare(self) -> tuple[list[int], str]:
        """Numbers of the blocks that are still to be encoded, and a message on those of an earlier run.

        Blocks with another identity are deleted.
        """
        message, present = "", sorted(self.folder.glob("block-*.safetensors"))
        before = self._identity_before()
        if present and before != self.identity:
            keys = sorted({*before, *self.identity})
            differing = [key for key in keys if before.get(key) != self.identity.get(key)]
            message = (
                f"{self.folder}: {len(present)} blocks of an interrupted run are deleted: "
                f"{', '.join(differing)} changed"
            )
        if before != self.identity:
            shutil.rmtree(self.folder, ignore_errors=True)
            write_json(self.folder / "identity.json", self.identity)
        pending = [block.number for block in self.blocks if self._read(block) is None]
        if len(pending) < len(self.blocks):
            kept = len(self.blocks) - len(pending)
            message = (
                f"{self.folder}: {kept} of {len(self.blocks)} blocks of an interrupted run are kept"
            )
        return pending, message

    def _identity_before(self) -> dict[str, Any]:
        try:
            before = json.loads((self.folder / "identity.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return before if isinstance(before, dict) else {}

    def write(self, block: Block, features: np.ndarray) -> None:
        """Keep a block's features, (n, views, E) float32."""
        if len(features) != len(block.videos):
            raise ValueError(f"{len(features)} features of {len(block.videos)} videos")
        array = np.ascontiguousarray(features, np.float32)
        with replacing(self._path(block)) as temporary:
            save_file({"video": array}, temporary, self._metadata(array))

    def read(self, block: Block) -> np.ndarray:
        """A block's features, (n, views, E). Raises DataError when the file is missing or damaged."""
        features = self._read(block)
        if features is None:
            raise DataError(
                f"{self._path(block)} is missing or damaged: run the features stage again"
            )
        return features

    def _read(self, block: Block) -> np.ndarray | None:
        try:
            with safe_open(self._path(block), "np") as file:
                metadata, features = file.metadata() or {}, file.get_tensor("video")
        except (OSError, SafetensorError):
            return None
        valid = metadata == self._metadata(features) and len(features) == len(block.videos)
        return features if valid else None

    def _metadata(self, features: np.ndarray) -> dict[str, str]:
        return {"stamp": self._stamp, "crc32": str(zlib.crc32(features.data))}

    def remove(self) -> None:
        """Delete the scratch folder."""
        shutil.rmtree(self.folder)

    def _path(self, block: Block) -> Path:
        return self.folder / f"block-{block.number:05}.safetensors"


class BlockRows:
    """All blocks' features as one (N, views, E), read a block at a time (see `feature_store.Rows`).

    The one feature of a whole tracklet is repeated for every view, so that their mean is the feature.
    """

    def __init__(self, store: BlockStore) -> None:
        self._store = store
        blocks = store.blocks
        kinds = {block.whole: block for block in blocks}  # the blocks of a kind have equal views
        views, width = max(store.read(block).shape[1:] for block in kinds.values())
        self.shape = (sum(len(block.videos) for block in blocks), views, width)

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self._store.blocks:
            features = self._store.read(block)
            yield np.broadcast_to(features, (len(features), *self.shape[1:]))
