"""The checks of a method, each a function of a `Subject`.

They return a remark ("" for none), or raise ContractFailure with what to look at, or NotApplicable.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from vidprompt.contract.result import ContractFailure, NotApplicable
from vidprompt.contract.subject import NAMES, PROMPTS, Subject, backward
from vidprompt.models.backbones.loading import load_backbone
from vidprompt.models.factory import create_model
from vidprompt.models.methods.video_clip import VideoCLIP, logits
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import first_names

SAME = 1e-4  # how far logits of equal models may be apart: rounding times CLIP's factor
STEPS = 3  # after which every trained value has had a gradient: LoRA's first matrix has none in the first


def shapes(subject: Subject) -> str:
    """Features and logits have the shapes, and the relation to each other, that all else builds on."""
    model, clips = subject.model(), subject.clips()
    with torch.no_grad():
        frames, video = model.encode_video(clips)
        text = model.encode_classes(NAMES, PROMPTS)
        plain = model.encode_text(model.backbone.tokenizer(list(NAMES)))
        scores = model(clips, text)
    b, t, width = len(clips), subject.num_frames, model.feature_width
    wanted = {
        "frame features of encode_video": (frames, (b, t, frames.shape[-1])),
        "video features of encode_video": (video, (b, width)),
        "encode_text": (plain, (len(NAMES), width)),
        "logits of forward": (scores, (b, len(NAMES))),
        "logit_scale": (model.logit_scale, ()),
    }
    for what, (tensor, shape) in wanted.items():
        if tuple(tensor.shape) != shape:
            raise ContractFailure(
                f"{what}: {tuple(tensor.shape)} and not {shape} (videos, frames, classes, and feature_width, "
                f"which is {width})"
            )
    if text.ndim != 3 or text.shape[0] != len(NAMES) or text.shape[2] != width:
        raise ContractFailure(
            f"encode_classes: {tuple(text.shape)} and not (classes, prompts, {width}): a feature a prompt"
        )
    for what, tensor in (("video features", video), ("text features", text), ("logits", scores)):
        if not torch.isfinite(tensor).all():
            raise ContractFailure(f"{what} are not finite")
    if not torch.allclose(video, model.video_features(frames), rtol=1e-4, atol=1e-5):
        raise ContractFailure(
            "a video's feature is not the mean of its frames' features: export takes it from them, by "
            "`video_features`"
        )
    if not torch.allclose(
        scores, logits(video, text, model.logit_scale, model.logit_bias), atol=SAME
    ):
        raise ContractFailure(
            "forward is not `logits` of the features: evaluation computes logit_scale · cosine from stored "
            "features, so all that classifies has to be in them"
        )
    return ""


def gradients(subject: Subject) -> str:
    """Every parameter with requires_grad gets a gradient, and no other does."""
    objective = subject.new_objective(_trained_model(subject))
    named = dict(objective.named_parameters())
    reached: set[str] = set()
    for step, _ in enumerate(subject.train(objective, STEPS)):
        without = [n for n, p in named.items() if p.requires_grad and p.grad is None]
        if without and step == 0:
            raise ContractFailure(
                f"no gradient reaches {first_names(without, 3)}: nothing that the loss depends on uses it; "
                "set requires_grad=False, or take it out"
            )
        frozen = [n for n, p in named.items() if not p.requires_grad and p.grad is not None]
        if frozen:
            raise ContractFailure(f"a frozen parameter has a gradient: {first_names(frozen, 3)}")
        reached |= {n for n, p in named.items() if p.grad is not None and bool(p.grad.any())}
    zero = sorted({n for n, p in named.items() if p.requires_grad} - reached)
    if zero:
        raise ContractFailure(
            f"the gradient of {first_names(zero, 3)} is 0 in {STEPS} steps: multiplied by 0, or detached?"
        )
    count = sum(p.numel() for p in named.values() if p.requires_grad)
    return f"{count:,} trained values"


def backbone_unchanged(subject: Subject) -> str:
    """Training steps leave the shared backbone as it was, and of the model's what is declared frozen."""
    shared = _copies(subject.backbone.clip.state_dict())
    model = _trained_model(subject)
    frozen = {n: p for n, p in model.named_parameters() if not p.requires_grad}
    before = _copies(frozen)
    for _ in subject.train(subject.new_objective(model), 2):
        pass
    changed = [
        n for n, v in subject.backbone.clip.state_dict().items() if not torch.equal(v, shared[n])
    ]
    if changed:
        raise ContractFailure(
            f"the backbone that was given has changed ({first_names(changed, 3)}): models share it, so what "
            "is trained of it is trained in a copy (`train_backbone`, or `backbone.copy()`)"
        )
    moved = [n for n, p in frozen.items() if not torch.equal(p, before[n])]
    if moved:
        raise ContractFailure(f"frozen parameters have changed: {first_names(moved, 3)}")
    return ""


def start(subject: Subject) -> str:
    """A new model gives frozen CLIP's logits, or its class says in `start` how it differs."""
    model = subject.model(fitted=False)
    frozen = create_model("frozen_clip", subject.backbone, num_frames=subject.num_frames).eval()
    with torch.no_grad():
        difference = float(
            (model(subject.clips(), NAMES) - frozen(subject.clips(), NAMES)).abs().max()
        )
    scale = float(frozen.logit_scale)
    if difference <= SAME * max(scale, 1.0):
        return "logits are frozen CLIP's"
    if not model.start:
        raise ContractFailure(
            f"logits differ from frozen CLIP's by up to {difference:.3g} before any training: let what is "
            "added start at 0, or say in the class attribute `start` how a new model differs"
        )
    return model.start


def determinism(subject: Subject) -> str:
    """The same seed gives the same bytes, in the start values and after training steps."""
    states = []
    for _ in range(2):
        model = subject.model(seed=1)
        if _is_trained(subject, model):
            for _ in subject.train(subject.new_objective(model), 2):
                pass
        first, second = subject.outputs(model), subject.outputs(model)
        if any(not torch.equal(a, b) for a, b in zip(first, second, strict=True)):
            raise ContractFailure(
                "two passes in evaluation mode differ: is something dropped, or drawn, outside of training?"
            )
        states.append({**_copies(model.trained_state()), "features": first[1]})
    differing = [n for n in states[0] if not torch.equal(states[0][n], states[1][n])]
    if differing:
        raise ContractFailure(
            f"two trainings with one seed differ in {first_names(differing, 3)}: draw with torch's "
            "generator, which is seeded, and not with random, numpy or a generator of your own"
        )
    return ""


def state_round_trip(subject: Subject) -> str:
    """A trained model's state, saved and loaded into a new model, gives equal outputs."""
    model = subject.model(seed=1)
    if _is_trained(subject, model):
        for _ in subject.train(subject.new_objective(model), 2):
            pass
    state = {name: value.detach().contiguous() for name, value in model.trained_state().items()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        save_file(_copies(state), file)
        loaded = load_file(file)
    other = subject.model(seed=2)
    try:
        other.load_trained_state(loaded)
    except (KeyError, RuntimeError) as error:
        raise ContractFailure(
            f"a new model does not take the state ({error}): names and shapes of trained_state follow from "
            "the options, num_frames and class_names alone"
        ) from error
    pairs = zip(subject.outputs(model), subject.outputs(other), strict=True)
    if any(a.shape != b.shape or not torch.allclose(a, b, atol=1e-6) for a, b in pairs):
        raise ContractFailure(
            "a model loaded from the state gives other outputs: what is learned is no parameter or buffer "
            "(register_buffer), or trained_state leaves it out"
        )
    return f"{sum(value.numel() for value in state.values()):,} values"


def other_lengths(subject: Subject) -> str:
    """Clips of other lengths than num_frames are encoded, or refused with a UserError."""
    model, remarks = subject.model(), []
    for t in sorted(
        {max(1, subject.num_frames - 1), subject.num_frames + 1} - {subject.num_frames}
    ):
        try:
            with torch.no_grad():
                frames, video = model.encode_video(subject.clips(t))
        except UserError:
            remarks.append(f"{t} frames are refused")
            continue
        except Exception as error:
            raise ContractFailure(
                f"clips of {t} frames, with num_frames={subject.num_frames}, raise {_named(error)}: encode "
                "them, or raise UserError with what to do"
            ) from error
        if frames.shape[1] != t or len(video) != len(frames):
            raise ContractFailure(f"clips of {t} frames give frame features {tuple(frames.shape)}")
        remarks.append(f"{t} frames are encoded")
    return ", ".join(remarks)


def meta_device(subject: Subject) -> str:
    """The model is built on the meta device, without memory, as `vidprompt parameters` does."""
    spec = {**subject.spec, "weights": None, "pretrained": None}
    try:
        with torch.device("meta"):
            model = subject.model(backbone=load_backbone(spec), fitted=False)
    except Exception as error:
        raise ContractFailure(
            f"building it on the meta device raises {_named(error)}: __init__ may not look at values"
        ) from error
    here = subject.model(fitted=False)
    shapes_of = {name: tuple(p.shape) for name, p in here.named_parameters()}
    on_meta = {name: tuple(p.shape) for name, p in model.named_parameters()}
    if shapes_of != on_meta:
        names = sorted({n for n, _ in shapes_of.items() ^ on_meta.items()})
        raise ContractFailure(
            f"on the meta device it has other parameters: {first_names(names, 3)}"
        )
    real = [n for n, p in model.named_parameters() if not p.is_meta]
    if real:
        raise ContractFailure(
            f"{first_names(real, 3)} are not on the meta device: make tensors by torch.empty, zeros or randn "
            "without device="
        )
    return ""


def recompute(subject: Subject) -> str:
    """Recomputing activations in the backward pass gives the gradients of keeping them."""
    kept: Mapping[str, torch.Tensor] = {}
    for what in ("nothing", "mlp", "layer"):
        model = _trained_model(subject)
        try:
            model.recompute = what
        except UserError as error:
            raise NotApplicable(str(error)) from error
        objective = subject.new_objective(model)
        objective.train()
        objective.generator = torch.Generator().manual_seed(0)
        backward(objective, subject.clips(), range(len(NAMES)), seed=5)
        found = {n: p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None}
        kept = kept or found
        largest = max(float(value.abs().max()) for value in kept.values())
        differing = [
            n
            for n, value in kept.items()
            if n not in found or not torch.allclose(value, found[n], rtol=1e-3, atol=1e-5 * largest)
        ]
        if differing:
            raise ContractFailure(
                f"recompute={what} gives other gradients of {first_names(differing, 3)}: a layer that runs "
                "twice has to compute the same twice (no counters or draws of its own: `video_draws`)"
            )
    return ""


def torch_export(subject: Subject) -> str:
    """The encoder is traced by torch.export for any number of clips, and computes the same."""
    from vidprompt.export.module import ExportedModel, example_clips, trace

    module = ExportedModel(subject.model())
    try:
        program = trace(module, torch.float32).module()
    except Exception as error:
        raise ContractFailure(
            f"torch.export raises {_named(error)}: encode_video may not branch on values or on the number of "
            "clips"
        ) from error
    for n in (1, 3):
        clips = example_clips(module, n, torch.float32)
        with torch.no_grad():
            expected, found = module(clips)["features"], program(clips)["features"]
        if not torch.allclose(expected, found, rtol=1e-3, atol=1e-4 * float(expected.abs().max())):
            raise ContractFailure(f"the exported program gives other features for {n} clips")
    return ""


def onnx_export(subject: Subject) -> str:
    """The encoder is written as ONNX, where the packages for it are installed, and computes the same."""
    from importlib.util import find_spec

    from vidprompt.export.metadata import ExportMetadata
    from vidprompt.export.module import ExportedModel
    from vidprompt.export.writing import trace_program, write_onnx

    missing = [name for name in ("onnxscript", "onnx_ir", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise NotApplicable(f"{', '.join(missing)} not installed: pip install 'vidprompt[onnx]'")
    model = subject.model()
    metadata = ExportMetadata(
        model="contract",
        identity="",
        method=model.method,
        backbone=model.backbone.tag,
        num_frames=subject.num_frames,
        image_size=model.backbone.image_size,
        feature_size=model.feature_width,
        input={},
        logit_scale=float(model.logit_scale.detach()),
    )
    with tempfile.TemporaryDirectory() as folder:
        try:
            check = write_onnx(
                Path(folder) / "model.onnx", trace_program(ExportedModel(model), metadata)
            )
        except Exception as error:
            raise ContractFailure(f"writing ONNX raises {_named(error)}") from error
    return f"features differ by {check.features:.0e} of the largest"


def _is_trained(subject: Subject, model: VideoCLIP) -> bool:
    return subject.objective is not None and any(p.requires_grad for p in model.parameters())


def _trained_model(subject: Subject) -> VideoCLIP:
    """A model to train. Raises NotApplicable where nothing is trained."""
    model = subject.model()
    trainable = [n for n, p in model.named_parameters() if p.requires_grad]
    if subject.objective is None and trainable:
        raise ContractFailure(
            f"its parameters have no objective, so it is never trained, and {first_names(trainable, 3)} "
            "require gradients: name an objective in params/method, or set requires_grad=False"
        )
    if not trainable:
        raise NotApplicable("nothing is trained")
    return model


def _copies(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}


def _named(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}{f' ({lines[0][:200]})' if lines else ''}"
