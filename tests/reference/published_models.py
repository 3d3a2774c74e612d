"""Plain second implementation of EZ-CLIP and Vita-CLIP, computed as in their published code.

Written from the specification, for tests to compare with and for benchmarks of time and memory: tensors are
sequence first, every token is a query in every layer, all prompts go through the frozen projections in every
frame, Vita-CLIP's attention is a full matrix, and all texts are padded to the context length. It works on
tensors with the published names (`vidprompt.published`). EZ-CLIP's dropout and stochastic depth are those of
`ResidualAttentionBlock` in its clip/model.py, in both towers; `Masks` keeps what was drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F

State = Mapping[str, torch.Tensor]


def layers_of(state: State, prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})


def norm(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)


def linear(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(1.702 * x)


@torch.no_grad()
def half_round_trip(module: torch.nn.Module) -> None:
    """EZ-CLIP's `convert_weights` and `convert_models_to_fp32`: of layers and attentions."""
    for name, parameter in module.named_parameters():
        layer = module.get_submodule(name.rpartition(".")[0])
        attention = name.rpartition(".")[2].startswith("in_proj_")
        if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)) or attention:
            parameter.data = parameter.data.half().float()


class Masks:
    """The random factors of a forward pass, 0 or 1 / (1 - rate), in the order of drawing."""

    def __init__(self) -> None:
        self.paths: list[torch.Tensor] = []  # of stochastic depth: (first dimension, 1, 1)
        self.weights: list[torch.Tensor] = []  # of attention dropout: (n, heads, queries, keys)
        self.prompts: list[torch.Tensor] = []  # of prompt dropout: (T, D)


def factors(shape: Sequence[int], rate: float, kept: list[torch.Tensor] | None) -> torch.Tensor:
    drawn = (torch.rand(tuple(shape)) >= rate).float() / (1 - rate)
    if kept is not None:
        kept.append(drawn)
    return drawn


def drop_path(x: torch.Tensor, rate: float, masks: Masks | None) -> torch.Tensor:
    """Drops along the first dimension of a length-first tensor (length, n, D)."""
    if not rate:
        return x
    return x * factors((x.shape[0], 1, 1), rate, None if masks is None else masks.paths)


def torch_attention(
    state: State,
    name: str,
    x: torch.Tensor,
    heads: int,
    mask: torch.Tensor | None,
    dropout: float,
    masks: Masks | None = None,
) -> torch.Tensor:
    """nn.MultiheadAttention on (length, n, D), as in OpenAI's CLIP; with `masks`, written out."""
    if masks is not None and dropout:
        joint = F.linear(x, state[f"{name}.in_proj_weight"], state[f"{name}.in_proj_bias"])
        q, k, v = (
            part.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3) for part in joint.chunk(3, -1)
        )
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        weights = (scores if mask is None else scores + mask).softmax(-1)
        weights = weights * factors(weights.shape, dropout, masks.weights)
        return linear(state, f"{name}.out_proj", (weights @ v).permute(2, 0, 1, 3).flatten(2))
    return F.multi_head_attention_forward(
        x, x, x, x.shape[-1], heads,
        state[f"{name}.in_proj_weight"], state[f"{name}.in_proj_bias"], None, None, False, dropout,
        state[f"{name}.out_proj.weight"], state[f"{name}.out_proj.bias"],
        training=True, need_weights=False, attn_mask=mask,
    )[0]  # fmt: skip


def adapter(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    return x + linear(state, f"{name}.D_fc2", F.gelu(linear(state, f"{name}.D_fc1", x)))


def encode_text(
    state: State,
    prefix: str,
    embedded: torch.Tensor,
    ends: torch.Tensor,
    rates: Sequence[float] = (),
    masks: Masks | None = None,
) -> torch.Tensor:
    """Texts (n, context, W) through the whole tower, read at `ends` → (n, E).

    `rates` of drop path and attention dropout by layer; default: nothing is dropped.
    """
    positions = state[f"{prefix}positional_embedding"]
    x = (embedded + positions).transpose(0, 1)
    mask = torch.full((len(positions), len(positions)), float("-inf")).triu(1)
    heads = max(1, x.shape[-1] // 64)
    for layer in range(layers_of(state, f"{prefix}transformer.resblocks.")):
        block, rate = f"{prefix}transformer.resblocks.{layer}", rates[layer] if rates else 0.0
        attended = torch_attention(
            state, f"{block}.attn", norm(state, f"{block}.ln_1", x), heads, mask, rate, masks
        )
        x = x + drop_path(attended, rate, masks)
        if f"{block}.Adapter.D_fc1.weight" in state:
            x = adapter(state, f"{block}.Adapter", x)
        hidden = quick_gelu(linear(state, f"{block}.mlp.c_fc", norm(state, f"{block}.ln_2", x)))
        x = x + drop_path(linear(state, f"{block}.mlp.c_proj", hidden), rate, masks)
    x = norm(state, f"{prefix}ln_final", x.transpose(0, 1))
    return x[torch.arange(len(x)), ends] @ state[f"{prefix}text_projection"]


def ez_clip_rates(state: State, depth: float) -> list[float]:
    """Rates of drop path and attention dropout of a layer, of both towers."""
    return torch.linspace(0, depth, layers_of(state, "visual.transformer.resblocks.")).tolist()


def ez_clip_video(
    state: State,
    video: torch.Tensor,
    *,
    prompt_dropout: float = 0.0,
    depth: float = 0.0,
    masks: Masks | None = None,
) -> torch.Tensor:
    """(B, T, 3, H, W) → frame features (B, T, E). `depth`: last rate of drop path and dropout."""
    b, t = video.shape[:2]
    patch = state["visual.conv1.weight"].shape[-1]
    x = F.conv2d(video.flatten(0, 1), state["visual.conv1.weight"], stride=patch)
    x = x.flatten(2).permute(0, 2, 1)
    x = torch.cat([state["visual.class_embedding"].expand(b * t, 1, -1), x], 1)
    x = x + state["visual.positional_embedding"]
    n, d = x.shape[1:]
    x = (x.reshape(b, t, n, d) + state["visual.temporal_embedding"][:, :, None]).reshape(
        b * t, n, d
    )
    x = norm(state, "visual.ln_pre", x).permute(1, 0, 2)
    for layer, rate in enumerate(ez_clip_rates(state, depth)):
        block, heads, joint = f"visual.transformer.resblocks.{layer}", d // 64, x
        if "visual.transformer.T_prompt_embeddings" in state:
            prompt = state["visual.transformer.T_prompt_embeddings"][layer]
            kept = None if masks is None else masks.prompts
            prompt = prompt * factors(prompt.shape, prompt_dropout, kept)
            prompt = (prompt + x.mean(0).reshape(b, t, d)).permute(1, 0, 2)  # (T, B, D)
            prompt = norm(state, f"{block}.ln_1", prompt)
            prompt = torch_attention(state, f"{block}.attn", prompt, heads, None, rate, masks)
            prompt = drop_path(prompt, rate, masks).permute(1, 0, 2).reshape(1, b * t, d)
            joint = torch.cat([x, prompt], 0)
        joint = norm(state, f"{block}.ln_1", joint)
        attended = torch_attention(state, f"{block}.attn", joint, heads, None, rate, masks)
        x = adapter(state, f"{block}.Adapter", x + drop_path(attended, rate, masks)[:n])
        hidden = quick_gelu(linear(state, f"{block}.mlp.c_fc", norm(state, f"{block}.ln_2", x)))
        x = x + drop_path(linear(state, f"{block}.mlp.c_proj", hidden), rate, masks)
    x = norm(state, "visual.ln_post", x.permute(1, 0, 2)[:, 0])
    return (x @ state["visual.proj"]).reshape(b, t, -1)


def split_attention(state: State, name: str, x: torch.Tensor, heads: int) -> torch.Tensor:
    """Attention on (n, length, D) with its matrix written out and separate projections."""
    q, k, v = (linear(state, f"{name}.{part}_proj", x).unflatten(-1, (heads, -1)) for part in "qkv")
    weights = torch.einsum("nqhc,nkhc->nqkh", q / q.shape[-1] ** 0.5, k).softmax(2)
    return linear(state, f"{name}.out_proj", torch.einsum("nqkh,nkhc->nqhc", weights, v).flatten(2))


def vita_clip_video(state: State, video: torch.Tensor) -> torch.Tensor:
    """(B, T, 3, H, W) → video features (B, E)."""
    b, t = video.shape[:2]
    weight = state["visual.patch_embed.proj.weight"]
    x = F.conv2d(
        video.flatten(0, 1), weight, state["visual.patch_embed.proj.bias"], stride=weight.shape[-1]
    )
    x = x.flatten(2).permute(0, 2, 1)
    x = (
        torch.cat([state["visual.cls_token"].expand(b * t, 1, -1), x], 1)
        + state["visual.pos_embed"]
    )
    n, d = x.shape[1:]
    x = (x.reshape(b, t, n, d) + state["visual.time_embed"][None, :, None]).reshape(b * t, n, d)
    x = norm(state, "visual.ln_pre", x)
    heads = d // 64
    for layer in range(layers_of(state, "visual.blocks.")):
        block = f"visual.blocks.{layer}"
        shared = state["visual.global_prompts"][layer].expand(b * t, -1, -1)
        c = linear(state, f"{block}.cls_proj", x[:, 0]).reshape(b, t, d)
        summary = c + split_attention(
            state, f"{block}.summary_attn_layer", norm(state, f"{block}.summary_ln", c), heads
        )
        local = (state[f"{block}.local_prompts"] + c).repeat_interleave(t, 0)
        joint = torch.cat([x[:, :1], local, shared, x[:, 1:], summary.reshape(b * t, 1, d)], 1)
        joint = joint + split_attention(
            state, f"{block}.attn", norm(state, f"{block}.norm1", joint), heads
        )
        joint = torch.cat([joint[:, :1], joint[:, 1 + t : -1]], 1)
        hidden = quick_gelu(linear(state, f"{block}.mlp.fc1", norm(state, f"{block}.norm2", joint)))
        joint = joint + linear(state, f"{block}.mlp.fc2", hidden)
        x = torch.cat([joint[:, :1], joint[:, 1 + shared.shape[1] :]], 1)
    x = norm(state, "visual.ln_post", x[:, 0])
    return (x @ state["visual.proj"]).reshape(b, t, -1).mean(1)


def vita_clip_text(state: State, ends: torch.Tensor) -> torch.Tensor:
    """Text features (C, E) of the learned contexts; `ends` (C,) where each text is read."""
    contexts = state["prompt_learner.ctx"]
    prefix, suffix = state["prompt_learner.token_prefix"], state["prompt_learner.token_suffix"]
    if contexts.ndim == 2:
        contexts = contexts.expand(len(prefix), -1, -1)
    return encode_text(state, "textual.", torch.cat([prefix, contexts, suffix], 1), ends)
