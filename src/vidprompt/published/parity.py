"""Compare VidPrompt's outputs and gradients with those that the published implementations gave.

A golden file (`NAME.json`) has a configuration and the published names and shapes of the tensors, whose
values are made by `fill`. The arrays beside it (`NAME.npz`) are the results of the published code: outputs
(`out/…`), and norm and first values of the loss's gradient of each parameter (`gradnorm/…`, `gradhead/…`).
"""

from __future__ import annotations

import json
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from vidprompt.models.methods.video_clip import VideoCLIP, logits
from vidprompt.models.text.prompts import PromptSet
from vidprompt.published.checkpoints import import_published
from vidprompt.published.files import KEYS, PREFIX
from vidprompt.published.naming import to_published
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import suggestion
from vidprompt.training.objectives import in_batch_kl, motion_loss

OUTPUT_TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 1e-3
METHODS = {"ezclip": "ez_clip", "vitaclip": "vita_clip"}
SEED = 7  # of the input video
# A gradient norm below this part of the whole gradient's is rounding error. A bias of attention keys does not
# change the softmax, so its exact gradient is zero.
ROUNDING = 1e-6


def check_parity(path: Path | str) -> dict[str, Any]:
    """Import and run the model of a golden file, and compare outputs and gradients.

    Returns the relative errors of each output and loss term (largest difference over the largest expected
    value) and of each trained parameter's gradient norm, as plain numbers, and `passed`. Raises UserError
    when the golden file or the arrays beside it are missing or malformed.
    """
    golden, expected = _read(Path(path))
    config = golden["config"]
    method = METHODS[golden["model"]]
    frozen_projection = not any(n.startswith("gradnorm/") and "cls_proj" in n for n in expected)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "published.pt"
        _write_checkpoint(file, method, golden["state_dict"])
        model = import_published(
            file,
            class_names=golden["class_names"] if method == "vita_clip" else None,
            train_cls_proj=not frozen_projection,
        )
    model.eval()  # nothing is dropped: so the goldens were made
    size = config["res"]
    video = np.random.default_rng(SEED).standard_normal(
        (config["B"], config["T"], 3, size, size), dtype=np.float32
    )
    labels = torch.tensor(golden["labels"])
    run = _ez_clip if method == "ez_clip" else _vita_clip
    outputs = run(model, torch.from_numpy(video), labels, golden)
    outputs["loss"].backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients = to_published(
        model, {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in trained.items()}
    )
    return _compare(golden, expected, outputs, gradients, sum(p.numel() for p in trained.values()))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    arrays = path.with_suffix(".npz")
    for file in (path, arrays):
        if not file.is_file():
            raise UserError(f"no file {file}: a golden is a .json with an .npz beside it")
    try:
        golden = json.loads(path.read_text(encoding="utf-8"))
        with np.load(arrays, allow_pickle=False) as content:
            expected = {name: content[name] for name in content.files}
    except (ValueError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} or {arrays.name} cannot be read: {error}") from error
    needed = {"model", "config", "class_names", "labels", "state_dict", "text_template"}
    if not isinstance(golden, dict) or needed - set(golden):
        raise UserError(f"{path} is no golden: it needs {', '.join(sorted(needed))}")
    if golden["model"] not in METHODS:
        raise UserError(
            f"{path}: model {golden['model']!r}: {suggestion(golden['model'], METHODS)}"
        )
    missing = {"B", "T", "res"} - set(golden["config"])
    labels = golden["labels"]
    if missing or len(labels) != golden["config"]["B"] or max(labels) >= len(golden["class_names"]):
        raise UserError(
            f"{path}: config needs B, T and res, and there must be B labels of the class names"
        )
    return golden, expected


def fill(name: str, shape: list[int]) -> np.ndarray:
    """Values of a tensor in the goldens: a function of its name, the same in all implementations."""
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(
        shape, dtype=np.float32
    )
    last = name.rsplit(".", 1)[-1]
    if name.endswith("logit_scale"):
        return np.full(shape, np.log(1 / 0.07), np.float32)
    if any(part in name for part in ("ln_", "norm", "ln.")) and last == "weight":
        return 1 + np.float32(0.1) * noise
    if len(shape) >= 2:
        if "embed" in name or "prompt" in name or name.endswith(".ctx"):
            return np.float32(0.1) * noise
        fan_in = shape[-1] if len(shape) == 3 else int(np.prod(shape[1:]))
        return noise / np.sqrt(fan_in).astype(np.float32)
    return np.float32(0.05) * noise


def _write_checkpoint(path: Path, method: str, shapes: Mapping[str, list[int]]) -> None:
    prefix = PREFIX if method == "vita_clip" else ""
    state = {
        f"{prefix}{name}": torch.from_numpy(np.asarray(fill(name, shape), np.float32))
        for name, shape in shapes.items()
    }
    torch.save({KEYS[method]: state, "epoch": 0}, path)


def _ez_clip(
    model: VideoCLIP, video: torch.Tensor, labels: torch.Tensor, golden: Mapping[str, Any]
) -> dict[str, torch.Tensor]:
    prompts = PromptSet((golden["text_template"],), clean_names=False)
    frames, features = model.encode_video(video)
    text = model.encode_classes(golden["class_names"], prompts)[:, 0]
    image_loss, text_loss = in_batch_kl(features, text[labels], labels, model.logit_scale)
    motion = motion_loss(frames)
    return {
        "frame_features": frames,
        "video_features": features,
        "text_features": text,
        "class_logits": logits(features, text, model.logit_scale),
        "loss_image": image_loss,
        "loss_text": text_loss,
        "loss_motion": motion,
        "loss": (image_loss + text_loss) / 2 + motion,
    }


def _vita_clip(
    model: VideoCLIP, video: torch.Tensor, labels: torch.Tensor, golden: Mapping[str, Any]
) -> dict[str, torch.Tensor]:
    _, features = model.encode_video(video)
    text = model.encode_classes(golden["class_names"])[:, 0]
    scores = logits(features, text, model.logit_scale)
    return {
        "video_features": features,
        "text_features": text,
        "class_logits": scores,
        "loss": F.cross_entropy(scores, labels),
    }


def _compare(
    golden: Mapping[str, Any],
    expected: Mapping[str, np.ndarray],
    outputs: Mapping[str, torch.Tensor],
    gradients: Mapping[str, torch.Tensor],
    trained: int,
) -> dict[str, Any]:
    errors = {
        name: _relative(outputs[name].detach().numpy(), expected[f"out/{name}"])
        for name in outputs
        if f"out/{name}" in expected
    }
    unknown = sorted(n for n in expected if n.startswith("out/") and n[4:] not in outputs)
    wanted = {n.removeprefix("gradnorm/") for n in expected if n.startswith("gradnorm/")}
    whole = float(np.sqrt(sum(float(expected[f"gradnorm/{name}"]) ** 2 for name in wanted)))
    norms, heads, zero = {}, {}, []
    for name in sorted(wanted & set(gradients)):
        gradient = gradients[name].reshape(-1).numpy()
        norm, norm_expected = float(np.linalg.norm(gradient)), float(expected[f"gradnorm/{name}"])
        if max(norm, norm_expected) < ROUNDING * whole:
            zero.append(name)
            continue
        norms[name] = _relative(norm, norm_expected)
        head = expected.get(f"gradhead/{name}")
        if head is not None:
            heads[name] = _relative(gradient[: head.size], head.reshape(-1))
    missing, extra = sorted(wanted - set(gradients)), sorted(set(gradients) - wanted)
    parameters = {"expected": golden.get("trainable_parameters"), "found": trained}
    result: dict[str, Any] = {
        "model": golden["model"],
        "config": golden["config"],
        "outputs": errors,
        "gradient_norms": norms,
        "gradient_heads": heads,
        "zero_gradients": zero,
        "trainable_parameters": parameters,
        "not_compared": unknown,
        "gradients_missing": missing,
        "gradients_unexpected": extra,
        "largest": {
            "output": max(errors.values(), default=float("inf")),
            "gradient_norm": max(norms.values(), default=float("inf")),
            "gradient_head": max(heads.values(), default=0.0),
        },
        "tolerance": {"output": OUTPUT_TOLERANCE, "gradient_norm": GRADIENT_TOLERANCE},
    }
    result["passed"] = bool(
        result["largest"]["output"] <= OUTPUT_TOLERANCE
        and result["largest"]["gradient_norm"] <= GRADIENT_TOLERANCE
        and not (unknown or missing or extra)
        and parameters["expected"] in (None, trained)
    )
    return result


def _relative(actual: Any, expected: Any) -> float:
    """Largest difference over the largest expected value; inf if the shapes differ or it is not finite."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return float("inf")
    difference, scale = float(np.abs(actual - expected).max()), float(np.abs(expected).max())
    return difference / scale if scale else difference  # e.g. the loss of one sample is 0
