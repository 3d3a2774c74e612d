"""Adapt a frozen CLIP to video by prompt learning, reproducibly."""

import os
from typing import Any

__version__ = "0.1.0"

# Large tensors in huge pages (Linux, CPU; read by torch at its first allocation): a training process
# stays a fifth smaller, because what is freed leaves whole pages behind, and is not slower.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# A thread of OpenMP's that waits for the others sleeps after a moment (read by torch when it is imported).
# By default it spins for milliseconds, and where other processes share the cores, that is time that
# the others need: training took ten times as long (benchmarks/shared_machine.py). No result depends on it.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "10000"


def __getattr__(name: str) -> Any:
    """`vidprompt.load`, imported when it is used: `import vidprompt` stays fast.

    Nothing in the package uses it, so what a stage runs does not depend on it (`provenance.code`).
    """
    if name == "load":
        from vidprompt.prediction.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
