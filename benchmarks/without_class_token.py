"""What stands for the class token of a tower that has none, measured with a small one on the demo.

    python benchmarks/without_class_token.py --methods vita_clip --steps 400     # 12 minutes on one core
    python benchmarks/without_class_token.py --methods ez_clip --steps 400 --seeds 1     # 6 minutes

After the demo's `dvc repro`, whose frames and splits they read.

No CLIP with attention pooling is small enough to train on here, so one is made: the demo's, with an image
tower of timm's as SigLIP's is (no class token, attention pooling over the patches) that starts from its
layers and is trained to give the same features of stills. Both methods are then trained on the supervised
list, with either choice and several seeds, by the demo's recipe but for its length:

frame        EZ-CLIP's frame feature, and what CLIP's zero-shot is: `pooled` by the tower's attention, or from
             the `mean` token, which is that pooling with equal weights
summary      what Vita-CLIP's summaries and local prompts start from in a layer: the `mean` of its tokens, or
             what the tower's pooling makes of them (`pooled`)

Figures are top-1 of the test list, in rows of `benchmarks/results/without_class_token.json`; a run replaces
those of its methods and number of steps.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any
from unittest import mock

import open_clip
import timm
import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.machine import ROOT, provenance
from tools.demo.backbone import CONFIG, draw_stills, held_out_accuracy

from vidprompt.config.compose import compose
from vidprompt.config.schema import Config
from vidprompt.models.backbones.loading import Backbone, from_clip, load_backbone
from vidprompt.models.factory import configured_model
from vidprompt.models.layers.frozen_weights import layer_norm
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.models.text.prompts import prompt_set
from vidprompt.pipeline.training_data import TrainingLists, batch_plan, batch_source, training_lists
from vidprompt.pipeline.validation import build_validation, tested_lists
from vidprompt.system.progress import Progress
from vidprompt.training.engine import new_accelerator, train
from vidprompt.training.objectives import create_objective
from vidprompt.training.processes import Processes
from vidprompt.training.snapshots import Snapshots

OUT = ROOT / "benchmarks/results/without_class_token.json"
BATCH, LR = 96, 1e-3  # of the tower's own training
CHOICES = {"ez_clip": ("frame", ("pooled", "mean")), "vita_clip": ("summary", ("mean", "pooled"))}


def main() -> None:
    """Make the tower, train with each choice, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--stills", type=int, default=400, help="steps of the tower's training")
    parser.add_argument("--steps", type=int, default=150, help="steps of a method's training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--methods", nargs="+", choices=CHOICES, default=list(CHOICES))
    options = parser.parse_args()
    demo = load_backbone(vars(compose([]).backbone))
    backbone, stills = without_class_token(demo, options.stills)
    print(json.dumps(stills), flush=True)
    rows = json.loads(OUT.read_text("utf-8"))["rows"] if OUT.is_file() else []
    again = [(method, options.steps) for method in options.methods]
    rows = [row for row in rows if (row["method"], row["steps"]) not in again]
    for method in options.methods:
        what, choices = CHOICES[method]
        for choice in choices:
            row = {"method": method, what: choice, "steps": options.steps}
            zero_shot = chosen(backbone, what, choice, "frozen_clip") if what == "frame" else None
            if zero_shot is not None:
                row["frozen"] = zero_shot
            found = [
                trained(backbone, what, choice, method, seed, options.steps)
                for seed in options.seeds
            ]
            row |= {"top1": [round(one, 4) for one in found], "mean": round(mean(found), 4)}
            rows.append(row)
            print(json.dumps(row), flush=True)
    content = {"tower": stills, "rows": rows, **provenance()}
    OUT.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def without_class_token(demo: Backbone, steps: int) -> tuple[Backbone, dict[str, float]]:
    """The demo's CLIP with a tower as SigLIP's is, and how well the two classify stills."""
    torch.manual_seed(0)
    theirs: Any = demo.clip
    clip = deepcopy(theirs)
    clip.visual = tower = small_siglip(theirs.visual).requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(tower.parameters(), lr=LR, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    began = time.time()
    for _ in range(steps):
        images, _ = draw_stills(BATCH, demo.image_size, generator)
        with torch.no_grad():
            target = theirs.encode_image(images)
        # of whole features: EZ-CLIP's motion loss is not of normalised ones, and needs their length
        features = tower(images)
        loss = (features - target).square().sum() / target.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    pixels = {"mean": demo.mean, "std": demo.std}
    backbone = from_clip(clip, "demo without class token", "", pixels, demo.tokenizer)
    tokenizer = open_clip.SimpleTokenizer(context_length=CONFIG["text_cfg"]["context_length"])
    accuracy = {
        name: held_out_accuracy(one.clip, tokenizer, 720, 10_000, range(6), range(6))
        for name, one in (("demo", demo), ("without_class_token", backbone))
    }
    rounded = {f"stills_36_way_{name}": round(value, 4) for name, value in accuracy.items()}
    return backbone, rounded | {
        "squared_error": round(loss.item(), 4),
        "cosine_distance": round(1 - F.cosine_similarity(features, target).mean().item(), 4),
        "seconds": round(time.time() - began),
    }


@torch.no_grad()
def small_siglip(visual: Any) -> TimmModel:
    """timm's tower of SigLIP in the size of a small tower of open_clip's, with the layers of that one."""
    old = visual.transformer.resblocks
    width = len(visual.class_embedding)
    shape = {"embed_dim": width, "depth": len(old), "num_heads": old[0].attn.num_heads}
    size, patch = visual.image_size, visual.patch_size
    create = partial(timm.create_model, pre_norm=True, img_size=size, patch_size=patch, **shape)
    with mock.patch("open_clip.timm_model.timm.create_model", create):
        new = TimmModel(
            "vit_base_patch16_siglip_224",
            embed_dim=visual.proj.shape[1],
            image_size=size,
            pool="map",
            proj="linear",
            pretrained=False,
        )
    trunk: Any = new.trunk
    pairs: list[tuple[Any, Any]] = [  # modules or tensors
        (trunk.patch_embed.proj.weight, visual.conv1.weight),
        (trunk.pos_embed, visual.positional_embedding[None, 1:]),
        (trunk.norm_pre, visual.ln_pre),
        (trunk.norm, visual.ln_post),
    ]
    for block, source in zip(trunk.blocks, old, strict=True):
        pairs += [(block.norm1, source.ln_1), (block.norm2, source.ln_2)]
        pairs += [(block.mlp.fc1, source.mlp.c_fc), (block.mlp.fc2, source.mlp.c_proj)]
        pairs += [(block.attn.proj, source.attn.out_proj)]
        pairs += [(block.attn.qkv.weight, source.attn.in_proj_weight)]
        pairs += [(block.attn.qkv.bias, source.attn.in_proj_bias)]
    for target, source in pairs:
        if isinstance(target, nn.Module):
            target.load_state_dict(source.state_dict())
        else:
            target.copy_(source)
    return new


def model_with(
    backbone: Backbone, what: str, choice: str, method: str, names: list[str], options: list[str]
) -> VideoCLIP:
    """The method as the demo's recipe has it, with a choice."""
    own = replace(backbone, clip=deepcopy(backbone.clip))
    model = configured_model(compose([f"method={method}", *options]), names, own)
    tower: Any = model.image_tower
    trunk = tower.trunk
    if (what, choice) == ("frame", "mean"):
        for value in (trunk.attn_pool.q.weight, trunk.attn_pool.q.bias):
            value.data.zero_()  # equal scores: the mean of the values
    elif (what, choice) == ("summary", "pooled"):
        tower.summary = lambda tokens: tower.attention_pool(layer_norm(trunk.norm, tokens), None)
    return model


def chosen(backbone: Backbone, what: str, choice: str, method: str) -> float:
    """Top-1 of the test list without training."""
    options = ["trainer.best_on_test=true"]
    config = compose(["method=ez_clip", *options])
    lists = training_lists(config)
    model = model_with(backbone, what, choice, method, lists.train.classes, [])
    return round(test_accuracy(config, lists, model), 4)


def test_accuracy(config: Config, lists: TrainingLists, model: VideoCLIP) -> float:
    """Top-1 of the test list."""
    processes = Processes(new_accelerator("no"))
    validation = build_validation(config, lists, tested_lists(config, lists), model, processes)
    assert validation, "with trainer.best_on_test"
    return next(iter(validation.tests.values())).evaluate()


def trained(
    backbone: Backbone, what: str, choice: str, method: str, seed: int, steps: int
) -> float:
    """Top-1 of the test list after a training."""
    options = [f"trainer.length={steps}", f"seed={seed}", "trainer.best_on_test=true"]
    config = compose([f"method={method}", *options])
    lists = training_lists(config)
    torch.manual_seed(seed)
    model = model_with(backbone, what, choice, method, lists.train.classes, options)
    assert config.method.objective, "a method that is trained"
    objective = create_objective(
        config.method.objective,
        model,
        lists.train.classes,
        prompt_set(vars(config.prompts)),
        dict(config.method.objective_options),
    )
    accelerator = new_accelerator("no")
    processes = Processes(accelerator)
    settings, plan = batch_plan(config, lists)
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(f"{method} {choice}", settings.steps, unit="steps", quiet=True) as progress,
    ):
        train(
            objective,
            batch_source(config, lists, model, plan, processes),
            settings,
            accelerator=accelerator,
            snapshots=Snapshots(Path(folder), {}, print),
            log_folder=Path(folder),
            progress=progress,
        )
    return test_accuracy(config, lists, model)


if __name__ == "__main__":
    main()
