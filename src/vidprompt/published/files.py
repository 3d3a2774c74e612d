"""Read a published checkpoint file: recognise its method, or describe what the file is instead."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from vidprompt.models.foreign_checkpoint import load_foreign
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import first_names

State = dict[str, torch.Tensor]

# The key of the state dict in each published file, and a tensor that only this method has.
KEYS = {"ez_clip": "model_state_dict", "vita_clip": "model"}
SIGNATURES = {
    "ez_clip": "visual.transformer.resblocks.0.Adapter.D_fc1.weight",
    "vita_clip": "visual.time_embed",
}
# DataParallel's prefix, and buffers of old CLIP versions that are not loaded.
PREFIX = "module."
IGNORED = ("input_resolution", "context_length", "vocab_size", "attn_mask", "textual.attn_mask")


def read_published(path: Path | str) -> tuple[str, State]:
    """Method and tensors (published names without `module.`) of a published checkpoint.

    Only tensors and plain containers are unpickled; of harmless objects beside them (`args`, NumPy's scalars)
    nothing is kept. Raises UserError for another file, with a description of its content.
    """
    path = Path(path)
    content = _load(path)
    nested = [content.get(key) for key in KEYS.values()] if isinstance(content, Mapping) else []
    for candidate in (*nested, content):
        state = _tensors(candidate)
        for method, tensor in SIGNATURES.items():
            if tensor in state:
                return method, state
    raise UserError(
        f"{path} is no published EZ-CLIP, T2L or Vita-CLIP checkpoint: {_describe(content)}"
    )


def _load(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"no file {path}")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(f"{path} is not a whole safetensors file: {error}") from error
    return load_foreign(path)


def _tensors(value: Any) -> State:
    """The tensors of a state dict; empty if `value` is not one."""
    if not isinstance(value, Mapping):
        return {}
    state = {
        str(name).removeprefix(PREFIX): tensor
        for name, tensor in value.items()
        if isinstance(tensor, torch.Tensor)
    }
    return {name: tensor for name, tensor in state.items() if name not in IGNORED}


def _describe(content: Any) -> str:
    """One sentence on the content of a file that is no published checkpoint."""
    if isinstance(content, torch.Tensor):
        return f"it holds one tensor of shape {tuple(content.shape)}"
    if not isinstance(content, Mapping):
        return f"it holds a {type(content).__name__}"
    names = [str(name) for name in content]
    nested = [(str(name), value) for name, value in content.items() if isinstance(value, Mapping)]
    text = f"it holds {len(names)} entries ({first_names(names, 6) or 'none'})"
    for name, value in nested[:1]:
        inside = [str(key) for key in value]
        text += f", and in {name!r} {len(inside)} ({first_names(inside, 4)})"
    if any(name.startswith(("visual.", "clip.visual.")) for name in names):
        text += "; it looks like a CLIP without their prompts"
    return text
