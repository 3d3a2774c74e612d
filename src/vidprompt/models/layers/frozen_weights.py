"""Frozen weights under autocast: cast once, instead of in every product of every step.

Autocast keeps the copies of trained weights only, and those for one step. A frozen tower would be cast from
float32 again for each of its layers, in the forward and the backward pass.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

HALF = (torch.bfloat16, torch.float16)


class _Copy(NamedTuple):
    """A copy, and what shows that its source has changed since."""

    source: tuple[int, int, torch.device]  # version, address
    value: torch.Tensor


_COPIES: WeakIdKeyDictionary = WeakIdKeyDictionary()  # weight → {(dtype, factor): copy}


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The half precision of products on this device at present; None where they keep their own."""
    kind = device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return None
    dtype = torch.get_autocast_dtype(kind)
    return dtype if dtype in HALF else None


def weight_of(weight: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
    """`weight` · factor, for a product: under autocast a kept copy in half precision if it is frozen.

    Not kept are trained weights, which autocast casts with their gradient, copies within a compiled function,
    where the cast is part of a kernel, and copies of inference tensors: they do not count their changes, and
    those computed from others, as with LoRA, are not found again.
    """
    kept_here = not (torch.compiler.is_compiling() or weight.requires_grad or weight.is_inference())
    dtype = autocast_dtype(weight.device) if kept_here else None
    if dtype is None:
        return weight if factor == 1 else weight * factor
    copies = _COPIES.setdefault(weight, {})
    source = (weight._version, weight.data_ptr(), weight.device)
    kept = copies.get((dtype, factor))
    if kept is None or kept.source != source:
        # not an inference tensor, which a later training could not use
        with torch.inference_mode(False), torch.no_grad():
            kept = _Copy(source, (weight.detach() * factor).to(dtype))
        copies[dtype, factor] = kept
    return kept.value


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """`F.linear` with `weight_of` both."""
    return F.linear(x, weight_of(weight), None if bias is None else weight_of(bias))


def layer_norm(norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """`norm(x)` in the precision of x; the statistics of a layer norm are in float32 always.

    Autocast would compute half precision in float32 and return that, with two more passes over x.
    """
    if x.dtype not in HALF or not isinstance(norm, nn.LayerNorm):
        return norm(x).to(x.dtype)
    weight, bias = (weight_of(p).to(x.dtype) for p in (norm.weight, norm.bias))
    with torch.autocast(x.device.type, enabled=False):
        return F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps)
