"""Import a published checkpoint as a VidPrompt model, and export a model in the published format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import open_clip
import torch
from open_clip.transformer import QuickGELU, VisionTransformer

from vidprompt.data.annotations.class_names import class_words
from vidprompt.files.atomic import replacing
from vidprompt.models import create_model
from vidprompt.models.backbones.loading import Backbone, from_clip
from vidprompt.models.layers.low_rank import has_low_rank
from vidprompt.models.methods.ez_clip import EZCLIP
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.models.methods.vita_clip import VitaCLIP
from vidprompt.published.architecture import HEAD_WIDTH, Architecture, read_architecture
from vidprompt.published.files import KEYS, PREFIX, State, read_published
from vidprompt.published.naming import from_published, to_published
from vidprompt.system.errors import UserError

# Vita-CLIP's token embeddings before and after the contexts; derived from the names, so not loaded.
PREFIXES, SUFFIXES = "prompt_learner.token_prefix", "prompt_learner.token_suffix"
TOLERANCE = 2e-3  # relative; frozen weights may have been saved in half precision


def import_published(
    path: Path | str,
    backbone: Backbone | None = None,
    *,
    class_names: Sequence[str] | None = None,
    train_cls_proj: bool = False,
) -> VideoCLIP:
    """Build the model of a published checkpoint.

    Args:
        path: EZ-CLIP's or T2L's file (`model_state_dict`), or Vita-CLIP's (`model`).
        backbone: the CLIP it was trained on, whose frozen weights must equal the file's. Without it the CLIP
            is built from the file.
        class_names: of Vita-CLIP's class-specific contexts, in their order; without them they are read
            from the embedded prompts in the file.
        train_cls_proj: Vita-CLIP's `cls_proj` is a trained parameter (paper) or not (released).

    Raises UserError when the file is not one of these, lacks tensors, or has another CLIP.
    """
    method, state = read_published(path)
    shape = read_architecture(state, method)
    names = _class_names(state, shape, class_names, Path(path))
    if method == "vita_clip":
        shape.options["train_cls_proj"] = train_cls_proj
    own = from_clip(open_clip.CLIP(**shape.clip), f"published:{Path(path).stem}", "")
    model = create_model(
        method, own, num_frames=shape.num_frames, class_names=names, **shape.options
    )
    tensors, missing, unknown = from_published(model, state)
    unknown = [name for name in unknown if name not in (PREFIXES, SUFFIXES)]
    if missing or unknown:
        raise UserError(
            f"{path} looks like {method}, but "
            + "; ".join(
                f"{problem} {len(names)} tensors, the first {names[0]}"
                for problem, names in (("lacks", missing), ("has an unknown", unknown))
                if names
            )
        )
    model.load_state_dict(tensors)
    if backbone is None:
        return model
    _check_same_clip(model.clip.state_dict(), backbone, Path(path))
    on_backbone = create_model(
        method, backbone, num_frames=shape.num_frames, class_names=names, **shape.options
    )
    on_backbone.load_trained_state(model.trained_state())
    return on_backbone


def export_published(model: VideoCLIP, path: Path | str) -> None:
    """Write a model in the format of its published code, with the frozen weights.

    Raises UserError for a method without a published format, or options that the format does not have.
    """
    state = published_state(model)
    if model.method == "vita_clip":
        state = {f"{PREFIX}{name}": value for name, value in state.items()}
    with replacing(path) as temporary:
        torch.save({KEYS[model.method]: state}, temporary)


@torch.no_grad()
def published_state(model: VideoCLIP) -> State:
    """All tensors of a model under the published names."""
    if model.method not in KEYS:
        raise UserError(f"{model.method} has no published checkpoint format")
    context = model.context
    if model.method == "ez_clip" and context is not None:
        raise UserError("the published EZ-CLIP has no learned text context: it cannot be exported")
    if model.method == "vita_clip" and (context is None or context.position != "end"):
        raise UserError(
            "the published Vita-CLIP has its context before the class name: it cannot be exported"
        )
    if isinstance(model, EZCLIP) and not model.vision_adapters:
        raise UserError(
            "the published EZ-CLIP has adapters, and this model none: it cannot be exported"
        )
    if isinstance(model, VitaCLIP) and model.switched_off:
        raise UserError(
            f"the published Vita-CLIP has all its prompts, and this model no "
            f"{' and no '.join(model.switched_off)}: it cannot be exported"
        )
    _check_towers(model.backbone)
    if has_low_rank(model):
        model = deepcopy(model)
        model.merge_lora()
        context = model.context
    state = to_published(model, model.state_dict())
    if context is not None:
        tokens, _, _ = context.layout(context.names or ["X"], pad=True)
        embedded = model.text_tower.embed(tokens.to(model.device))
        state[PREFIXES] = embedded[:, :1].contiguous()
        state[SUFFIXES] = embedded[:, 1 + context.vectors.shape[1] :].contiguous()
        state["logit_scale"] = model.state_dict()["log_scale"]
    return {name: value.detach().cpu() for name, value in state.items()}


def _class_names(
    state: State, shape: Architecture, given: Sequence[str] | None, path: Path
) -> list[str]:
    """The classes of the contexts: those given, after a check, or those embedded in the file.

    Sets the option `clean_names` so that the given names become the file's texts.
    """
    embedded = _read_texts(state) if SUFFIXES in state else None
    if given is None:
        if embedded is None and shape.classes:
            raise UserError(
                f"{path} has contexts for {shape.classes} classes and does not name them: give the "
                "class names in the order of training"
            )
        return [_decode(ids) for ids in embedded or []]
    if shape.classes and len(given) != shape.classes:
        raise UserError(f"{path} has contexts for {shape.classes} classes, not {len(given)}")
    if embedded is None:
        return list(given)
    first_difference = {}
    for clean in (False, True):
        texts = [_TOKENIZER.encode(f"{class_words(name, clean=clean)}.") for name in given]
        pairs = zip(texts, embedded, strict=False)
        different = [i for i, (text, ids) in enumerate(pairs) if text[: len(ids)] != ids]
        if not different:
            shape.options["clean_names"] = clean
            return list(given)
        first_difference[clean] = different[0]
    i = max(first_difference.values())
    raise UserError(f"{path}: class {i} was {_decode(embedded[i])!r} in training, not {given[i]!r}")


def _read_texts(state: State) -> list[list[int]] | None:
    """Token ids of the class names, looked up by their embeddings; None if one is not in the table."""
    words, suffixes = state["textual.token_embedding.weight"], state[SUFFIXES]
    if torch.float16 in (words.dtype, suffixes.dtype):  # one of them may have been saved in half
        words, suffixes = words.half(), suffixes.half()
    table = {row.tobytes(): i for i, row in enumerate(words.float().numpy())}
    texts = []
    for suffix in suffixes.float().numpy():
        ids = [table.get(row.tobytes()) for row in suffix]
        known = [i for i in ids if i is not None]
        if len(known) < len(ids) or _TOKENIZER.eot_token_id not in known:
            return None
        texts.append(known[: known.index(_TOKENIZER.eot_token_id)])
    return texts


def _decode(ids: Sequence[int]) -> str:
    text = _OPENING.sub(r"\1", _CLOSING.sub(r"\1", _TOKENIZER.decode(list(ids)).strip()))
    return text.removesuffix(".").strip()


_TOKENIZER = open_clip.SimpleTokenizer()
# Decoding adds a blank after every token; the names have none around brackets, commas, apostrophes.
_OPENING = re.compile(r"([(\[-]) ")
_CLOSING = re.compile(r" ([)\],.'-])")


def _check_towers(backbone: Backbone) -> None:
    """Check the towers, which are fixed in the published code. Raises UserError."""
    clip = backbone.clip
    if not isinstance(clip, open_clip.CLIP) or not isinstance(clip.visual, VisionTransformer):
        raise UserError(f"{backbone.tag}: the published code has OpenAI's CLIP, and no other tower")
    for side, tower in (("image", clip.visual.transformer), ("text", clip.transformer)):
        block = tower.resblocks[0]
        if block.attn.embed_dim // block.attn.num_heads != HEAD_WIDTH:
            raise UserError(
                f"{backbone.tag}: the published code has heads of width {HEAD_WIDTH}, and the {side} "
                f"tower's are {block.attn.embed_dim // block.attn.num_heads} wide"
            )
        if not isinstance(block.mlp.gelu, QuickGELU):
            raise UserError(
                f"{backbone.tag}: the published code has QuickGELU, and the {side} tower has another "
                "activation (use an open_clip name that ends in -quickgelu)"
            )


def _check_same_clip(state: State, backbone: Backbone, path: Path) -> None:
    """Raise UserError if the frozen weights in `state` are not the backbone's."""
    _check_towers(backbone)
    expected = backbone.clip.state_dict()
    for name, value in expected.items():
        if name == "logit_scale":  # trained by Vita-CLIP
            continue
        theirs = state.get(name)
        if theirs is None or theirs.shape != value.shape:
            shape = "none" if theirs is None else tuple(theirs.shape)
            raise UserError(
                f"{path} was not trained on {backbone.tag}: {name} is {tuple(value.shape)} there, and "
                f"{shape} in the file"
            )
        device = value.device
        error = (theirs.to(device) - value).abs().max() / value.abs().max().clamp_min(1e-12)
        if not error <= TOLERANCE:
            raise UserError(
                f"{path} was not trained on {backbone.tag}: {name} differs by {error:.1e} of its range; "
                "import it without a backbone to keep the file's own"
            )
