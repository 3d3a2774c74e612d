"""Write a model as ONNX or as a program of torch.export, and check what was written."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from vidprompt.export.metadata import (
    FEATURES,
    INPUT,
    KEY,
    PROBABILITIES,
    TEXT_FEATURES,
    ExportMetadata,
)
from vidprompt.export.module import ExportedModel, example_clips, trace
from vidprompt.export.onnx_encoder import INSTALL, OnnxEncoder
from vidprompt.files.atomic import naming_full_disk, replacing, write_json
from vidprompt.system.errors import UserError

OPSET = 18  # read by ONNX Runtime 1.14 and newer, in browsers too
OPSETS = range(18, 24)
MAX_ERROR = 1e-4  # of float32 features, relative to the largest
EXTERNAL_BYTES = 1_900_000_000  # an ONNX file of more than 2 GB cannot be read
Outputs = dict[str, Any]  # name → array
_JSON = f"{KEY}.json"  # in a .pt2 file


class Check(NamedTuple):
    """How far the written file is from the model: the largest differences over example clips."""

    features: float  # relative to the largest number of the features
    probabilities: float  # absolute; 0 without classes


class Program(NamedTuple):
    """A module (in float32), its graph in the precision of `metadata`, and what a file says of it."""

    module: ExportedModel
    graph: torch.export.ExportedProgram
    metadata: ExportMetadata


def trace_program(module: ExportedModel, metadata: ExportMetadata) -> Program:
    """Trace a module in the precision and for the type of pixels that the metadata says."""
    traced = module.in_half_precision() if metadata.precision == "float16" else module
    return Program(module, trace(traced, getattr(torch, metadata.input_type)), metadata)


def write_onnx(path: Path, program: Program, opset: int = OPSET) -> Check:
    """Write an ONNX file, checked with ONNX Runtime before it takes the place of an older one.

    Its metadata is also written beside it, `<name>.onnx.json`, for runtimes that cannot read it (in
    JavaScript). Weights of more than 2 GB go to a file beside it, `<stem>.<hash>.data`. Raises UserError
    where the packages are not installed, and for a file that computes other features than the model.
    """
    try:
        import onnx_ir
        import onnxscript  # noqa: F401  what torch.onnx exports with
    except ImportError as error:
        raise UserError(
            f"the packages for ONNX are not installed ({error.name}): {INSTALL}"
        ) from error
    if opset not in OPSETS:
        raise UserError(f"opset {opset}: a number from {OPSETS.start} to {OPSETS.stop - 1}")
    module, graph = program.module, program.graph
    metadata = replace(program.metadata, opset=opset)
    outputs = [FEATURES, PROBABILITIES, TEXT_FEATURES] if module.has_classes else [FEATURES]
    with _quiet():
        exported = torch.onnx.export(
            graph,
            dynamo=True,
            opset_version=opset,
            input_names=[INPUT],
            output_names=outputs,
            verbose=False,
        )
    assert exported is not None
    model = exported.model
    _strip(model)
    model.metadata_props[KEY] = metadata.to_json()
    size = sum(p.numel() * p.element_size() for p in graph.state_dict.values())
    data = ""
    if size > EXTERNAL_BYTES:
        data = f"{path.stem}.{hashlib.sha256(metadata.to_json().encode()).hexdigest()[:12]}.data"
    with _folder_beside(path) as folder:
        written = folder / path.name
        onnx_ir.save(model, written, external_data=data or None)
        check = _check_onnx(written, module)
        write_json(path.with_name(f"{path.name}.json"), metadata.to_dict())
        for name in filter(None, (data, path.name)):  # the weights first
            with (folder / name).open("rb") as file:
                os.fsync(file.fileno())
            (folder / name).replace(path.parent / name)
    for old in path.parent.glob(f"{path.stem}.{'[0-9a-f]' * 12}.data"):
        if old.name != data:
            old.unlink()
    return check


def write_torch_export(path: Path, program: Program) -> Check:
    """Write a program of torch.export (.pt2), checked before it takes the place of an older one.

    Raises UserError when it computes other features than the model.
    """
    with replacing(path) as temporary, _quiet():
        with temporary.open("wb") as output:
            torch.export.save(
                program.graph, output, extra_files={_JSON: program.metadata.to_json()}
            )
        with temporary.open("rb") as file:
            loaded = torch.export.load(file).module()

        def run(clips: torch.Tensor) -> Outputs:
            with torch.no_grad():
                return {name: value.numpy() for name, value in loaded(clips).items()}

        return _check(run, program.module, program.metadata)


def read_torch_export(path: Path | str) -> tuple[torch.nn.Module, ExportMetadata]:
    """The module of a .pt2 file, from clips to a dict of outputs, and what the file says of itself."""
    extra = {_JSON: ""}
    program = torch.export.load(str(path), extra_files=extra)
    return program.module(), ExportMetadata.from_json(extra[_JSON], str(path))


def _strip(model: Any) -> None:
    """Name the dynamic batch `n`, and remove what the exporter notes for its own debugging.

    The format is the oldest that has the opset, so that older runtimes read it.
    """
    import onnx_ir
    from onnx.helper import find_min_ir_version_for, make_opsetid

    opsets = [make_opsetid(domain, version) for domain, version in model.opset_imports.items()]
    model.ir_version = find_min_ir_version_for(opsets, ignore_unknown=True)
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            if not value.is_graph_output():
                value.shape = None  # sizes in terms of the exporter's own name of the batch
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.metadata_props.clear()
        dims = ["n" if not isinstance(dim, int) else dim for dim in value.shape]
        value.shape = onnx_ir.Shape(dims)


def _check_onnx(path: Path, module: ExportedModel) -> Check:
    model = OnnxEncoder(path, ["CPUExecutionProvider"])
    names = [output.name for output in model.session.get_outputs()]

    def run(clips: torch.Tensor) -> Outputs:
        return dict(zip(names, model.session.run(names, {INPUT: clips.numpy()}), strict=True))

    return _check(run, module, model.metadata)


def _check(
    run: Callable[[torch.Tensor], Outputs], module: ExportedModel, metadata: ExportMetadata
) -> Check:
    """Compare what a written file computes with the module, for one clip and for three.

    The reference of a module in half precision is computed in float32. Raises UserError for a float32
    file that computes other features.
    """
    features, probabilities = [0.0], [0.0]
    for n in (1, 3):
        clips = example_clips(module, n, getattr(torch, metadata.input_type))
        with torch.no_grad():
            expected = {name: value.numpy() for name, value in module(clips).items()}
        written = run(clips)
        largest = np.abs(expected[FEATURES]).max()
        features.append(float(np.abs(written[FEATURES] - expected[FEATURES]).max() / largest))
        if PROBABILITIES in expected:
            difference = np.abs(written[PROBABILITIES] - expected[PROBABILITIES]).max()
            probabilities.append(float(difference))
    check = Check(max(features), max(probabilities))
    if metadata.precision == "float32" and not check.features <= MAX_ERROR:
        raise UserError(
            f"the written file computes other features than the model (relative difference "
            f"{check.features:.1e}), and is not kept: try another --opset, or other versions of torch "
            "and onnxruntime"
        )
    return check


@contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    """A temporary folder on the disk of `path`."""
    with naming_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=path.parent, prefix=f".{path.name}.", suffix=".part"
        ) as folder:
            yield Path(folder)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' messages about their own parts."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
