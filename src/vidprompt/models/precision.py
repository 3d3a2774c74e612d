"""The precision of a computation: autocast to half precision, and TF32 on a GPU.

| name | products and convolutions |
|---|---|
| `no` | float32, on a GPU too: PyTorch alone would take TF32 for convolutions and not for products |
| `tf32` | float32 with factors rounded to 11 bits on NVIDIA GPUs since Ampere; elsewhere `no` |
| `bf16`, `fp16` | autocast; what stays in float32 is computed as with `no` |
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

TF32 = "tf32"
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@contextmanager
def computing_in(precision: str, device: torch.device) -> Iterator[None]:
    """Within, compute on `device` in a precision of this module's table."""
    dtype = AUTOCAST.get(precision)
    with float32_products(precision), torch.autocast(device.type, dtype, enabled=dtype is not None):
        yield


@contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """Within, products and convolutions of float32 on a GPU are in TF32 with the precision `tf32` alone."""
    if not torch.cuda.is_available():
        yield
        return
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = precision == TF32
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before
