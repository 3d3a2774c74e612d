"""Run an ONNX file of `vidprompt export` with ONNX Runtime and NumPy alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidprompt.export.metadata import FEATURES, INPUT, KEY, TEXT_FEATURES, ExportMetadata
from vidprompt.system.errors import UserError, first_line

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

INSTALL = "pip install 'vidprompt[onnx]'"

_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


class OnnxEncoder:
    """Encodes clips with an exported model.

    Args:
        path: an ONNX file; one above 2 GB has its weights in a file beside it.
        providers: ONNX Runtime's, best first. None: a CUDA GPU where its build has it, and the CPU.

    Raises UserError for a file that is missing, damaged or not of `vidprompt export`, and where ONNX
    Runtime is not installed.
    """

    def __init__(self, path: Path | str, providers: Sequence[str] | None = None) -> None:
        self.path = Path(path)
        self.session = _open(self.path, providers)
        text = self.session.get_modelmeta().custom_metadata_map.get(KEY)
        self.metadata = ExportMetadata.from_json(text, str(path))
        self._text_features: NDArray[np.float32] | None = None

    def encode(self, clips: ArrayLike) -> NDArray[np.float32]:
        """Clips (n, T, 3, S, S), uint8 or floats in [0, 255] → features (n, E), not normalised.

        Raises UserError for another shape.
        """
        pixels = np.ascontiguousarray(clips, dtype=self.metadata.input_type)
        size = self.metadata.image_size
        expected = (self.metadata.num_frames, 3, size, size)
        if pixels.ndim != 5 or pixels.shape[1:] != expected:
            raise UserError(
                f"{self.path.name} takes clips of shape (n, {', '.join(map(str, expected))}), and "
                f"these are {pixels.shape}"
            )
        wanted = [FEATURES]
        if self._text_features is None and self.metadata.class_names:
            wanted.append(TEXT_FEATURES)
        outputs: list[Any] = self.session.run(wanted, {INPUT: pixels})
        if len(outputs) > 1:
            self._text_features = outputs[1]
        features: NDArray[np.float32] = outputs[0]
        return features

    def text_features(self) -> NDArray[np.float32]:
        """Features of the classes' prompts, (C, P, E), not normalised. UserError without classes."""
        if not self.metadata.class_names:
            raise UserError(f"{self.path.name} has no classes: export the model with --classes")
        if self._text_features is None:  # an output of every run
            size = self.metadata.image_size
            self.encode(np.zeros((1, self.metadata.num_frames, 3, size, size)))
        assert self._text_features is not None
        return self._text_features


def _open(path: Path, providers: Sequence[str] | None) -> InferenceSession:
    """A session of ONNX Runtime; as many threads as OMP_NUM_THREADS says, or cores."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"ONNX Runtime is not installed: {INSTALL}") from error
    if not path.is_file():
        raise UserError(f"no ONNX file {path}; `vidprompt export MODEL {path}` writes one")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit():
        options.intra_op_num_threads = int(wanted)
    present = onnxruntime.get_available_providers()
    chosen = list(providers or [name for name in _PROVIDERS if name in present])
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=chosen)
    except Exception as error:  # ONNX Runtime has an exception for each of its codes
        reason = first_line(error)[:300]
        raise UserError(f"{path} cannot be loaded by ONNX Runtime: {reason}") from error
