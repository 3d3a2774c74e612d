"""Speed and memory of the models, as ratios to open_clip's frozen ViT and to the published computation.

    python benchmarks/model.py                      # ratios of time and peak memory (CPU; about 25 minutes)
    python benchmarks/model.py --parts ez           # one method alone
    python benchmarks/model.py --device cuda        # clips/s, memory and matmul share in bf16 on a GPU

Yardstick: open_clip's ViT on the same frames, F = forward, FB = forward and backward to the patch tokens.
Variants take turns in one process and a ratio is the median over rounds: absolute times drift. A training
step is loss, backward and AdamW. Peak memory is each variant's own process's (maximum resident set), so it
contains the interpreter, torch and the weights. Writes `benchmarks/results/model.json` (`model_gpu.json`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.machine import ROOT, provenance
from tests.reference import published_models as published

from vidprompt.models import create_model
from vidprompt.models.backbones.loading import Backbone, load_backbone
from vidprompt.models.backbones.open_clip_towers import eot_positions
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.models.text.prompts import PromptSet
from vidprompt.published.checkpoints import published_state
from vidprompt.published.naming import to_published
from vidprompt.training.objectives import ContrastiveMotion, CrossEntropy, in_batch_kl, motion_loss

Run = Callable[[], object]
FRAMES, CLASSES = 8, 400
RELEASED = {"prompt_dropout": 0.1, "stochastic_depth": 0.1}
WITHOUT_CHANCE: dict[str, Any] = {"prompt_dropout": 0.0, "stochastic_depth": 0.0}
LIMITS = {  # figure → at most
    "ez encode / F": 1.05,
    "ez step / FB": 1.10,
    "ez step as released / FB": 1.10,
    "ez step compiled / FB": 0.95,
    "ez peak / published": 0.75,
    "ez peak recomputed / published": 0.40,
    "ez step recomputed / step": 1.35,
    "vita step / published": 1 / 3,
    "vita peak / published": 1 / 3,
}


def class_names() -> list[str]:
    """400 names of the lengths that action classes have (1 to 8 words, mostly 2 and 3)."""
    text = (
        "riding bike playing violin opening door throwing ball making sandwich washing dishes dancing ballet "
        "juggling swimming backstroke american football tying knot driving car guitar shoveling snow paper"
    )
    words = text.split()
    lengths = [2, 3, 2, 1, 3, 2, 4, 2, 3, 8]
    return [
        " ".join(words[(7 * i + 3 * k) % len(words)] for k in range(lengths[i % 10])) + f" {i}"
        for i in range(CLASSES)
    ]


class Setting:
    """Backbone, frames and the variants on them, built when first asked for."""

    def __init__(self, batch: int = 2, name: str = "ViT-B-16-quickgelu") -> None:
        torch.manual_seed(0)
        self.backbone: Backbone = load_backbone(name)
        self.clip: Any = self.backbone.clip.eval()
        size = self.backbone.image_size
        self.video = torch.randn(batch, FRAMES, 3, size, size)
        self.labels = torch.arange(batch)
        self.names = class_names()

    def build(self, variant: str) -> Run:
        return getattr(self, variant)()

    # -- the yardstick ------------------------------------------------------------------------

    def f(self) -> Run:
        frames = self.video.flatten(0, 1)

        def run() -> None:
            with torch.no_grad():
                self.clip.encode_image(frames)

        return run

    def fb(self) -> Run:
        visual, frames = self.clip.visual, self.video.flatten(0, 1)

        def run() -> None:
            with torch.no_grad():
                tokens = visual._embeds(frames)
            tokens = visual.transformer(tokens.requires_grad_())
            (visual.ln_post(tokens)[:, 0] @ visual.proj).sum().backward()

        return run

    # -- EZ-CLIP ------------------------------------------------------------------------------

    def ez(self, options: Mapping[str, Any] = WITHOUT_CHANCE) -> VideoCLIP:
        return create_model("ez_clip", self.backbone, num_frames=FRAMES, **options)

    def ez_encode(self) -> Run:
        model = self.ez().eval()

        def run() -> None:
            with torch.no_grad():
                model.encode_video(self.video)

        return run

    def ez_step(
        self, options: Mapping[str, Any] = WITHOUT_CHANCE, recompute: str = "nothing"
    ) -> Run:
        model = self.ez(options).train()
        model.recompute = recompute
        prompts = PromptSet(("a video of {}",))
        return step(ContrastiveMotion(model, self.names, prompts, motion_weight=1.0), self)

    def ez_step_released(self) -> Run:
        return self.ez_step(RELEASED)

    def ez_step_recomputed(self) -> Run:
        return self.ez_step(RELEASED, "layer")

    def ez_step_recomputed_mlp(self) -> Run:
        return self.ez_step(RELEASED, "mlp")

    def ez_step_recomputed_plain(self) -> Run:
        return self.ez_step(WITHOUT_CHANCE, "layer")

    def ez_step_compiled(self) -> Run:
        model = self.ez().train()
        model.compile()
        prompts = PromptSet(("a video of {}",))
        return step(ContrastiveMotion(model, self.names, prompts, motion_weight=1.0), self)

    def ez_published_state(self) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
        return trainable_state(self.ez())

    def ez_published_encode(self) -> Run:
        state, _ = self.ez_published_state()

        def run() -> None:
            with torch.no_grad():
                published.ez_clip_video(state, self.video)

        return run

    def ez_published_step(self) -> Run:
        state, trained = self.ez_published_state()
        optimizer = torch.optim.AdamW(trained, lr=1e-6)
        tokens = self.backbone.tokenizer([f"a video of {self.names[i]}" for i in self.labels])

        def run() -> None:
            frames = published.ez_clip_video(state, self.video, prompt_dropout=0.1, depth=0.1)
            embedded = state["token_embedding.weight"][tokens]
            rates = published.ez_clip_rates(state, 0.1)
            text = published.encode_text(state, "", embedded, eot_positions(tokens), rates)
            scale = state["logit_scale"].exp()
            kl = in_batch_kl(frames.mean(1), text, self.labels, scale)
            loss = (kl[0] + kl[1]) / 2 + motion_loss(frames)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        return run

    # -- Vita-CLIP ----------------------------------------------------------------------------

    def vita(self) -> VideoCLIP:
        return create_model(
            "vita_clip", self.backbone, num_frames=FRAMES, class_names=self.names, context_length=8
        )

    def vita_step(self, recompute: str = "nothing") -> Run:
        model = self.vita().train()
        model.recompute = recompute
        return step(CrossEntropy(model, self.names, PromptSet()), self)

    def vita_step_recomputed_mlp(self) -> Run:
        return self.vita_step("mlp")

    def vita_published_step(self) -> Run:
        model = self.vita()
        state, trained = trainable_state(model)
        assert model.context is not None
        ends = model.context.layout(self.names)[2]
        optimizer = torch.optim.AdamW(trained, lr=1e-6)

        def run() -> None:
            video = published.vita_clip_video(state, self.video)
            text = published.vita_clip_text(state, ends)
            logits = F.normalize(video, dim=-1) @ F.normalize(text, dim=-1).T
            F.cross_entropy(state["logit_scale"].exp() * logits, self.labels).backward()
            optimizer.step()
            optimizer.zero_grad()

        return run


def trainable_state(model: VideoCLIP) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    """A model's tensors under the published names, and those of them that are trained."""
    named = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    state, names = published_state(model), to_published(model, named)
    for name in names:
        state[name] = state[name].clone().requires_grad_()
    return state, [state[name] for name in names]


def step(objective: nn.Module, setting: Setting) -> Run:
    trained = [p for p in objective.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-6)

    def run() -> None:
        objective(setting.video, setting.labels)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def seconds(run: Run) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def take_turns(setting: Setting, variants: list[str], rounds: int) -> dict[str, list[float]]:
    """Seconds of each variant in each round, after one round that does not count."""
    runs = {name: setting.build(name) for name in variants}
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds):
        for name, run in runs.items():
            times[name].append(round(seconds(run), 3))
        print(f"round {turn + 1}: " + ", ".join(f"{n} {t[-1]:.2f} s" for n, t in times.items()))
    return times


def ratio(times: dict[str, list[float]], over: str, under: str) -> float:
    return round(median(a / b for a, b in zip(times[over], times[under], strict=True)), 3)


def peak_gb(variant: str) -> float:
    """Maximum resident set of a process that runs a variant twice, in GB.

    The published computation gets torch's default allocation, as its users have it.
    """
    command = [sys.executable, __file__, "--peak", variant]
    pages = "0" if "published" in variant else "1"
    environment = os.environ | {"THP_MEM_ALLOC_ENABLE": pages}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(done.stdout.split()[-1])


def resident_peak_gb() -> float:
    """This process's maximum resident set. (`ru_maxrss` would begin with its parent's.)"""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
    return round(int(kilobytes) * 1024 / 1e9, 3)


def measure(parts: list[str], rounds: int) -> dict[str, Any]:
    figures: dict[str, float] = {}
    times: dict[str, list[float]] = {}
    peaks: dict[str, float] = {}
    if "ez" in parts:
        peaks |= {
            name: peak_gb(name)
            for name in (
                "f", "ez_step", "ez_step_released", "ez_step_recomputed_mlp", "ez_step_recomputed",
                "ez_published_step",
            )
        }  # fmt: skip
        times |= take_turns(
            Setting(),
            [
                "f", "ez_encode", "ez_published_encode", "fb", "ez_step", "ez_step_released",
                "ez_step_recomputed_mlp", "ez_step_recomputed", "ez_published_step", "ez_step_compiled",
            ],
            rounds,
        )  # fmt: skip
        figures |= {
            "ez encode / F": ratio(times, "ez_encode", "f"),
            "ez published encode / F": ratio(times, "ez_published_encode", "f"),
            "ez step / FB": ratio(times, "ez_step", "fb"),
            "ez step as released / FB": ratio(times, "ez_step_released", "fb"),
            "ez step compiled / FB": ratio(times, "ez_step_compiled", "fb"),
            "ez published step / FB": ratio(times, "ez_published_step", "fb"),
            "ez step recomputed / step": ratio(times, "ez_step_recomputed", "ez_step_released"),
            "ez step recomputed mlp / step": ratio(
                times, "ez_step_recomputed_mlp", "ez_step_released"
            ),
            "ez peak / published": peaks["ez_step_released"] / peaks["ez_published_step"],
            "ez peak recomputed / published": peaks["ez_step_recomputed"]
            / peaks["ez_published_step"],
            "ez peak recomputed mlp / published": peaks["ez_step_recomputed_mlp"]
            / peaks["ez_published_step"],
        }
    if "vita" in parts:
        names = ["vita_step", "vita_step_recomputed_mlp", "vita_published_step"]
        peaks |= {name: peak_gb(name) for name in names}
        times |= take_turns(Setting(), names, max(2, rounds // 3))
        for name in names[:-1]:
            label = name.replace("_", " ")
            figures[f"{label} / published"] = ratio(times, name, "vita_published_step")
            peak = peaks[name] / peaks["vita_published_step"]
            figures[f"{label.replace(' step', ' peak')} / published"] = peak
    return {
        "figures": {name: round(value, 3) for name, value in figures.items()},
        "limits": {name: round(limit, 3) for name, limit in LIMITS.items() if name in figures},
        "missed": [name for name, limit in LIMITS.items() if figures.get(name, 0) > limit],
        "seconds": times,
        "peak_gb": peaks,
        "setting": f"ViT-B/16, 2 videos × {FRAMES} frames at 224, float32; {CLASSES} classes, 8 vectors",
    }


# -- on a GPU ---------------------------------------------------------------------------------


def matmul_rate(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """FLOP/s of a large square product."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    times = [timed(lambda: a @ b, device) for _ in range(10)]
    return 2 * size**3 / median(times[3:])


def timed(run: Run, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def on_device(device: torch.device, batches: list[int], size: int) -> list[dict[str, Any]]:
    """Clips/s, peak memory and share of the matmul rate of bf16 training, by batch, compiled or not."""
    from torch.utils.flop_counter import FlopCounterMode

    rate = matmul_rate(device, torch.bfloat16, size)
    rows = []
    for method in ("ez_step", "vita_step"):
        for batch in batches:
            setting = Setting(batch)
            setting.clip.to(device)
            setting.video, setting.labels = setting.video.to(device), setting.labels.to(device)
            for compiled in (False, True):
                row: dict[str, Any] = {"variant": method, "batch": batch, "compiled": compiled}
                try:
                    row |= _train_on(device, setting, method, compiled, rate, FlopCounterMode)
                except torch.OutOfMemoryError:
                    row["error"] = "out of memory"
                rows.append(row)
                print(json.dumps(row))
    return rows


def _train_on(
    device: torch.device, setting: Setting, method: str, compiled: bool, rate: float, counter: Any
) -> dict[str, Any]:
    model = (setting.ez(RELEASED) if method == "ez_step" else setting.vita()).to(device).train()
    prompts = PromptSet(("a video of {}",))
    if method == "ez_step":
        inner = step(ContrastiveMotion(model, setting.names, prompts, motion_weight=1.0), setting)
    else:
        inner = step(CrossEntropy(model, setting.names, prompts), setting)

    def run() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            inner()

    with counter(display=False) as counted:
        run()
    if compiled:
        model.compile()
        run()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times = [timed(run, device) for _ in range(8)]
    spent = median(times[3:])
    peak = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else 0.0
    return {
        "clips_per_s": round(len(setting.labels) / spent, 1),
        "peak_gb": round(peak, 2),
        "matmul_share": round(counted.get_total_flops() / spent / rate, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=["ez", "vita"], default=["ez", "vita"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--matmul", type=int, default=8192)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.peak:
        run = Setting().build(arguments.peak)
        run()
        run()
        print(resident_peak_gb())
        return
    name = "model.json" if len(arguments.parts) == 2 else f"model_{arguments.parts[0]}.json"
    if arguments.device == "cpu":
        result = measure(arguments.parts, arguments.rounds)
        print(
            json.dumps({k: result[k] for k in ("figures", "limits", "missed", "peak_gb")}, indent=1)
        )
    else:
        name = "model_gpu.json"
        rows = on_device(torch.device(arguments.device), arguments.batches, arguments.matmul)
        result = {"rows": rows, "gpu": torch.cuda.get_device_name()}
    out = arguments.out or ROOT / "benchmarks/results" / name
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(provenance() | result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
