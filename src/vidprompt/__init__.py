"""Adapt a frozen CLIP to video by prompt learning, reproducibly."""

import os
from typing import Any

# Large tensors in huge pages (Linux, CPU; read by torch at its first allocation): a training process
# stays a fifth smaller, because what is freed leaves whole pages behind, and is not slower.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# A thread of OpenMP's that waits for the others sleeps after a moment (read by torch when it is imported).
# By default it spins for milliseconds, and where other processes share the cores, that is time that
# the others need: training takes many times as long (benchmarks/shared_machine.py). No result depends on it.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "5000"


def __getattr__(name: str) -> Any:
    """`vidprompt.load` and `vidprompt.__version__`, imported when used: `import vidprompt` stays fast.

    No stage uses them, so what a stage runs does not depend on them (`provenance.code`).
    """
    if name == "load":
        from vidprompt.prediction.loading import load

        return load
    if name == "__version__":  # of the installed distribution, which has it from the git tag
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("vidprompt")
        except PackageNotFoundError:  # a folder of sources on the path
            return "0+unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
