"""Indexes of videos' embeddings: build one from a folder, and search it for texts and videos."""

from typing import Any


def __getattr__(name: str) -> Any:
    """`Index`, imported when it is used: processes that only decode need no PyTorch."""
    if name == "Index":
        from vidprompt.index.search import Index

        return Index
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
