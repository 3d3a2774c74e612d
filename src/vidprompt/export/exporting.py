"""Export a loaded model as ONNX or as a program of torch.export."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import vidprompt
from vidprompt.export.metadata import ExportMetadata
from vidprompt.export.module import ExportedModel
from vidprompt.export.writing import OPSET, Check, trace_program, write_onnx, write_torch_export
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import check_choice

if TYPE_CHECKING:
    from vidprompt.prediction.classes import Classes
    from vidprompt.prediction.model import Model

SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2"}
INPUT_TYPES = ("float32", "uint8")


@dataclass(frozen=True)
class ExportedFile:
    """A written file: what it says of itself, and how far its outputs are from the model's."""

    path: Path
    metadata: ExportMetadata
    check: Check

    def describe(self) -> str:
        """A line for the user."""
        said = self.metadata
        size = f"(n, {said.num_frames}, 3, {said.image_size}, {said.image_size})"
        classes = f"{len(said.class_names)} classes ({said.text_source})"
        parts = [
            f"{sum(file.stat().st_size for file in self.files()) / 1e6:.1f} MB",
            *([f"opset {said.opset}"] if said.opset else []),
            *([said.precision] if said.precision != "float32" else []),
            f"clips {size} {said.input_type}",
            classes if said.class_names else "features only",
            f"features differ from PyTorch's by {self.check.features:.1e} of their largest value",
            *([f"probabilities by {self.check.probabilities:.1e}"] if said.class_names else []),
        ]
        return f"{self.path}: {', '.join(parts)}"

    def files(self) -> list[Path]:
        """The file, and the one with its weights where it has one."""
        return [self.path, *self.path.parent.glob(f"{self.path.stem}.{'[0-9a-f]' * 12}.data")]


def export_model(
    model: Model,
    paths: Sequence[Path],
    classes: Classes | None = None,
    *,
    prompts: Sequence[str] | None = None,
    half: bool = False,
    input_type: str = "float32",
    opset: int = OPSET,
) -> list[ExportedFile]:
    """Write a model to each of `paths`: ONNX to *.onnx, a program of torch.export to *.pt2.

    Args:
        model: loaded on the CPU.
        classes: as `Model.texts` takes them; None: those of the training. A bare backbone has none, and
            its file gives features only.
        prompts: templates with one `{}`.
        half: compute in float16.
        input_type: of the pixels, "float32" or "uint8".
        opset: of the ONNX file.

    Raises UserError for a model on another device, classes that do not work, another suffix, and a file
    that computes other features than the model.
    """
    check_choice("input", input_type, INPUT_TYPES)
    if model.device.type != "cpu":
        raise UserError("a model is exported on the CPU: load it with device='cpu'")
    for path in paths:
        if path.suffix not in SUFFIXES.values():
            raise UserError(f"{path}: the name ends with {' or '.join(SUFFIXES.values())}")
    texts = model.texts(classes, prompts) if classes or model.class_names else None
    threshold = model.unknown_threshold
    metadata = ExportMetadata(
        model=_public_name(model.name),
        identity=model.identity,
        method=model.method,
        backbone=model.encoder.backbone.tag,
        num_frames=model.input.num_frames,
        image_size=model.input.image_size,
        feature_size=model.width,
        input_type=input_type,
        precision="float16" if half else "float32",
        input=model.input.to_dict(),
        class_names=texts.names if texts else (),
        text_source=texts.source if texts else "",
        prompts_per_class=texts.features.shape[1] if texts else 0,
        logit_scale=texts.logit_scale if texts else float(model.encoder.logit_scale),
        ensemble=texts.ensemble if texts else model.text.ensemble,
        unknown=threshold.to_dict() if threshold else {},
        version=vidprompt.__version__,
    )
    module = ExportedModel(
        model.encoder,
        torch.from_numpy(texts.features) if texts else None,
        logit_scale=metadata.logit_scale,
        ensemble=texts.ensemble if texts else "softmax_sum",
    )
    program = trace_program(module, metadata)
    files = []
    for path in paths:
        if path.suffix == SUFFIXES["onnx"]:
            check = write_onnx(path, program, opset)
            files.append(ExportedFile(path, replace(metadata, opset=opset), check))
        else:
            files.append(ExportedFile(path, metadata, write_torch_export(path, program)))
    return files


def output_paths(
    model: str, out: Path | None, *, onnx: bool = False, torch_export: bool = False
) -> list[Path]:
    """The files of a command line: `out` with the suffix of each format, or in the folder `out`.

    Without `out`: named after the model, in the current folder. Without a format: as the suffix of `out`
    says. Raises UserError where neither says it, or they disagree.
    """
    wanted = [SUFFIXES[name] for name, on in (("onnx", onnx), ("torch_export", torch_export)) if on]
    suffix = out.suffix if out is not None and out.suffix in SUFFIXES.values() else ""
    if not wanted and not suffix:
        raise UserError("which format? Give --onnx, --torch-export or both")
    if suffix and wanted and wanted != [suffix]:
        flags = " ".join(
            f"--{name.replace('_', '-')}" for name in SUFFIXES if SUFFIXES[name] in wanted
        )
        raise UserError(f"{flags} does not write {out}: leave out its suffix {suffix}")
    if out is None or out.is_dir():
        out = (out or Path()) / _file_name(model)
    elif suffix:
        return [out]
    return [out.with_name(out.name + one) for one in wanted or [suffix]]


def _public_name(model: str) -> str:
    """A model's name without the folders of this machine."""
    path = Path(model).expanduser()
    return "/".join(path.parts[-2:]) if path.is_absolute() else model


def _file_name(model: str) -> str:
    """A name without a suffix for a model's files."""
    path = Path(model)
    if path.suffix == ".safetensors":
        model = path.absolute().parent.name if path.stem == "model" else path.stem
    return re.sub(r"[^\w.@-]+", "-", model).strip("-.") or "model"
