"""Adapt a frozen CLIP to video by prompt learning, reproducibly."""

__version__ = "0.1.0"
