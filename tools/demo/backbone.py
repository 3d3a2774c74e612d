"""Train the demo backbone: a small CLIP on captioned stills of the generator.

    python -m tools.demo.backbone --out data/demo/backbone

Two stages, about a quarter of an hour on 2 cores:
1. Both towers on captioned stills, with CLIP's objective. All matching (still, caption) pairs of a batch are
positives (captions name few attributes, so many match several stills), and each still is classified among
banks of captions that name all values of one attribute. No still shows a motion and no caption names one.

2. The text tower alone, on fixed image features: captions followed by random BPE tokens must still match
their stills, and a linear decoder must recover the tokens from the text feature. The text tower of a large
CLIP distinguishes any two words; one trained on a few dozen words maps all others to one point, so that
"growing" would equal "shrinking". The tokens are random: none is chosen for its meaning.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tools.demo.captions import (
    VALUES,
    Attributes,
    attributes,
    caption_banks,
    describe,
    draw_captions,
    naming_shape_and_colour,
)
from tools.demo.motions import MOTIONS, draw_pose
from tools.demo.scenes import COLOURS, FULL_STYLE, SHAPES, Pose, draw_appearance, render

from vidprompt.data.clips.reading import normalise
from vidprompt.models.backbones.towers import text_tower
from vidprompt.models.text.tower import encode_embedded

END_OF_TEXT = open_clip.SimpleTokenizer().eot_token_id
CONFIG: dict = {
    "embed_dim": 64,
    "vision_cfg": {
        "image_size": 48,
        "layers": 4,
        "width": 128,
        "head_width": 32,
        "patch_size": 16,
    },
    "text_cfg": {
        "context_length": 32,
        "vocab_size": 49408,
        "width": 56,
        "heads": 4,
        "layers": 4,
    },
}


def draw_stills(
    count: int, size: int, generator: torch.Generator
) -> tuple[torch.Tensor, Attributes]:
    """Draw `count` stills: normalised images (count, 3, size, size) and their attributes."""
    shape = torch.randint(len(SHAPES), (count,), generator=generator)
    appearance, colour, texture = draw_appearance(FULL_STYLE, shape, generator)
    pose = draw_moment(count, generator)
    pixels = render(appearance, pose, size, size, generator)[:, 0]
    return as_input(pixels), attributes(shape, colour, texture, pose)


def draw_moment(count: int, generator: torch.Generator) -> Pose:
    """Draw poses at a random time of a random motion, (count, 1)."""
    motion = torch.randint(len(MOTIONS), (count,), generator=generator)
    return draw_pose(motion, torch.rand(count, 1, generator=generator), FULL_STYLE, generator)


def as_input(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 (N, H, W, 3) → float (N, 3, H, W) with CLIP's mean and deviation."""
    clips = pixels.permute(0, 3, 1, 2)[None]
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    return normalise(clips, mean, std, torch.device("cpu"))[0]


def contrastive_loss(
    image: torch.Tensor, text: torch.Tensor, match: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of images and texts in both directions; `match` (texts, images) marks the positives."""
    logits = scale * text @ image.T
    truth = match.float()
    to_image = -(truth / truth.sum(1, keepdim=True) * F.log_softmax(logits, 1)).sum(1).mean()
    seen = truth.sum(0).clamp_min(1)
    to_text = -(truth / seen * F.log_softmax(logits, 0)).sum(0).mean()
    return (to_image + to_text) / 2


def bank_loss(
    image: torch.Tensor,
    text: torch.Tensor,
    banks: list[tuple[list[str], tuple[int, ...]]],
    stills: Attributes,
    scale: torch.Tensor,
) -> torch.Tensor:
    """Mean cross-entropy of classifying each still in each bank, without unclear attributes.

    `text` has the features of the captions of all banks, in order.
    """
    losses = []
    for part, (_, named) in zip(
        text.split([len(captions) for captions, _ in banks]), banks, strict=True
    ):
        values = stills.values[:, list(named)]
        target = values[:, 0]
        if len(named) == 2:
            target = target * VALUES[named[1]] + values[:, 1]
        target = torch.where((values >= 0).all(1), target, -100)
        losses.append(F.cross_entropy(scale * image @ part.T, target))
    return torch.stack(losses).mean()


@torch.no_grad()
def held_out_accuracy(
    model: open_clip.CLIP,
    tokenizer: open_clip.SimpleTokenizer,
    count: int,
    seed: int,
    shapes: range,
    colours: range,
) -> float:
    """Zero-shot top-1, in [0, 1], of colour × shape on `count` stills of another seed."""
    generator = torch.Generator().manual_seed(seed)
    shape = torch.randint(shapes.start, shapes.stop, (count,), generator=generator)
    colour = torch.randint(colours.start, colours.stop, (count,), generator=generator)
    appearance, _, _ = draw_appearance(FULL_STYLE, shape, generator, colour)
    pose = draw_moment(count, generator)
    size = CONFIG["vision_cfg"]["image_size"]
    images = as_input(render(appearance, pose, size, size, generator)[:, 0])
    names = [
        "a photo of " + describe(naming_shape_and_colour(s, c)) for s in shapes for c in colours
    ]
    text = model.encode_text(tokenizer(names), normalize=True)
    video = torch.cat([model.encode_image(part, normalize=True) for part in images.split(256)])
    truth = (shape - shapes.start) * len(colours) + colour - colours.start
    return ((video @ text.T).argmax(1) == truth).float().mean().item()


def build_optimizers(model: torch.nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for embeddings, norms and biases.

    It learns shapes here in half the steps of AdamW alone.
    """
    inside = {
        name: p for name, p in model.named_parameters() if "resblocks" in name and p.ndim == 2
    }
    outside = [p for name, p in model.named_parameters() if name not in inside]
    return [
        torch.optim.Muon(
            inside.values(), lr=lr * 5, weight_decay=0.1, adjust_lr_fn="original", momentum=0.95
        ),
        torch.optim.AdamW(outside, lr=lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def encode_text(model: open_clip.CLIP, tokens: torch.Tensor) -> torch.Tensor:
    """Text features (n, E), L2-normalised."""
    tower = text_tower(model)
    features = encode_embedded(tower, tower.embed(tokens), tower.read_at(tokens))
    return F.normalize(features, dim=-1)


def with_random_words(
    tokens: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Append one to three random tokens to each text, a quarter of them from the texts themselves.

    The latter teach that a word outside its phrase does not describe a still: "left" is not "on the left",
    or "moving left" would mean a place. Returns the token ids (n, context) and the appended ones (n, 3),
    padded with 0.
    """
    n = len(tokens)
    count = torch.randint(1, 4, (n, 1), generator=generator)
    words = torch.randint(400, END_OF_TEXT - 1, (n, 3), generator=generator)
    used = tokens[(tokens > 0) & (tokens < END_OF_TEXT - 1)]
    familiar = used[torch.randint(len(used), (n, 3), generator=generator)]
    words = torch.where(torch.rand(n, 3, generator=generator) < 0.25, familiar, words)
    words = torch.where(torch.arange(3) < count, words, 0)
    longer = tokens.clone()
    ends = tokens.argmax(1)
    for i in range(3):
        put = words[:, i] > 0
        longer[put, ends[put] + i] = words[put, i]
    longer[torch.arange(n), ends + count[:, 0]] = END_OF_TEXT
    return longer, words


def train_text_tower(
    model: open_clip.CLIP, tokenizer: open_clip.SimpleTokenizer, steps: int, batch: int, seed: int
) -> None:
    """Stage 2: train the text tower to encode any word; the image tower is fixed."""
    generator = torch.Generator().manual_seed(seed + 1)
    size = CONFIG["vision_cfg"]["image_size"]
    drawn = [draw_stills(256, size, generator) for _ in range(64)]
    with torch.no_grad():
        features = torch.cat([model.encode_image(images, normalize=True) for images, _ in drawn])
    values = torch.cat([stills.values for _, stills in drawn])
    embedding = model.token_embedding.weight.data
    rare = embedding.norm(dim=1) < 2 * embedding.norm(dim=1).median()
    embedding[rare] = torch.randn(int(rare.sum()), embedding.shape[1], generator=generator) * 0.1
    # the target of a word is a random projection of its embedding
    directions = F.normalize(
        embedding @ torch.randn(embedding.shape[1], 32, generator=generator), dim=1
    )
    directions[0] = 0
    # The decoder's rows have length one and its output is not normalised, so that words take a large part of
    # the text feature. With a free decoder "moving up" and "moving down" had a cosine of .98, and the methods
    # took very long to separate them.
    decoder = torch.nn.Linear(CONFIG["embed_dim"], 32, bias=False)
    text_tower = [
        p
        for name, p in model.named_parameters()
        if not name.startswith(("visual", "token_embedding"))
    ]
    optimizer = torch.optim.AdamW([*text_tower, *decoder.parameters()], lr=1e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        rows = torch.randint(len(values), (batch,), generator=generator)
        stills = Attributes(values[rows])
        captions, named = draw_captions(stills, generator)
        captions, named = captions[: batch // 2], named.first(batch // 2)
        banks = caption_banks(generator)
        for bank, _ in banks:
            captions.extend(bank)
        tokens, words = with_random_words(tokenizer(captions), generator)
        text = encode_text(model, tokens)
        scale = model.logit_scale.exp()
        image = features[rows]
        loss = bank_loss(image, text[batch // 2 :], banks, stills, scale)
        loss = loss + 0.5 * contrastive_loss(
            image, text[: batch // 2], named.matches(stills), scale
        )
        decoded = text @ F.normalize(decoder.weight, dim=1).T
        target = F.normalize(directions[words].sum(1), dim=-1)
        word_loss = F.cross_entropy(20 * decoded @ target.T, torch.arange(len(text)))
        optimizer.zero_grad()
        (loss + word_loss).backward()
        optimizer.step()
        schedule.step()
        model.logit_scale.data.clamp_(max=math.log(100))
        if (step + 1) % 100 == 0:
            print(
                f"words {step + 1} loss {loss.item():.3f} words {word_loss.item():.3f}", flush=True
            )


def train_both_towers(
    model: open_clip.CLIP,
    tokenizer: open_clip.SimpleTokenizer,
    out: Path,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
) -> None:
    """Stage 1: train both towers from random weights; saved every 200 steps."""
    generator = torch.Generator().manual_seed(seed)
    size = CONFIG["vision_cfg"]["image_size"]
    optimizers = build_optimizers(model, lr)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda s: min((s + 1) / 100, 0.5 * (1 + math.cos(math.pi * min(s / steps, 1)))),
        )
        for optimizer in optimizers
    ]
    began = time.time()
    demo_shapes, demo_colours = range(6), range(6)
    for step in range(steps):
        images, stills = draw_stills(batch, size, generator)
        captions, named = draw_captions(stills, generator)
        captions, named = captions[: batch // 2], named.first(batch // 2)
        banks = caption_banks(generator)
        for bank, _ in banks:
            captions.extend(bank)
        with torch.autocast("cpu", torch.bfloat16):
            image = model.encode_image(images, normalize=True).float()
            text = encode_text(model, tokenizer(captions)).float()
        scale = model.logit_scale.exp()
        loss = bank_loss(image, text[batch // 2 :], banks, stills, scale)
        loss = loss + 0.5 * contrastive_loss(
            image, text[: batch // 2], named.matches(stills), scale
        )
        model.zero_grad()
        loss.backward()
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        model.logit_scale.data.clamp_(max=math.log(100))
        if (step + 1) % 200 == 0 or step + 1 == steps:
            model.eval()
            top1 = held_out_accuracy(model, tokenizer, 720, 10_000, demo_shapes, demo_colours)
            model.train()
            print(
                f"step {step + 1} loss {loss.item():.3f} held-out 36-way top-1 {top1:.3f} "
                f"{time.time() - began:.0f} s",
                flush=True,
            )
            save(model, out)


def train(out: Path, steps: int, words: int, batch: int, lr: float, seed: int) -> None:
    """Train both stages into `out`; with `steps` 0 only the second, on the backbone in `out`."""
    torch.manual_seed(seed)
    model = open_clip.CLIP(**CONFIG)
    tokenizer = open_clip.SimpleTokenizer(context_length=CONFIG["text_cfg"]["context_length"])
    runs = []
    if steps:
        train_both_towers(model, tokenizer, out, steps, batch, lr, seed)
    else:
        runs = json.loads((out / "training.json").read_text("utf-8"))["runs"]
        state = load_file(out / "demo_clip.safetensors")
        model.load_state_dict({name: value.float() for name, value in state.items()})
    model.eval()
    train_text_tower(model, tokenizer, words, batch, seed)
    save(model, out)
    runs.append({"steps": steps, "word_steps": words, "batch": batch, "lr": lr, "seed": seed})
    report = {
        "runs": runs,
        "stills": 3600,
        "top1_36_way": held_out_accuracy(model, tokenizer, 3600, 20_000, range(6), range(6)),
        "top1_80_way": held_out_accuracy(
            model, tokenizer, 3600, 20_001, range(len(SHAPES)), range(len(COLOURS))
        ),
    }
    (out / "training.json").write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", "utf-8")
    print(report)


def save(model: torch.nn.Module, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    state = {k: v.to(torch.float16).contiguous() for k, v in model.state_dict().items()}
    save_file(state, out / "demo_clip.safetensors")
    (out / "demo_clip.json").write_text(json.dumps(CONFIG, indent=1) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2800, help="0: stage 2 again, on --out")
    parser.add_argument("--word-steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=192)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    train(
        arguments.out,
        arguments.steps,
        arguments.word_steps,
        arguments.batch,
        arguments.lr,
        arguments.seed,
    )


if __name__ == "__main__":
    main()
