"""Adapt a frozen CLIP to video by prompt learning, reproducibly."""

import os
from typing import Any

__version__ = "0.1.0"

# Large tensors in huge pages (Linux, CPU; read by torch at its first allocation): a training process
# stays a fifth smaller, because what is freed leaves whole pages behind, and is not slower.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def __getattr__(name: str) -> Any:
    """`vidprompt.load`, imported when it is used: `import vidprompt` stays fast.

    Nothing in the package uses it, so what a stage runs does not depend on it (`provenance.code`).
    """
    if name == "load":
        from vidprompt.prediction.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
