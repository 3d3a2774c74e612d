"""EZ-CLIP's published code on the demo: its model, loss, optimiser, schedule and random draws.

The loop is that of train_fullysupervised.py on a CPU (float32), the test that of test.py, but for the last
incomplete batch, which test.py drops.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from benchmarks.side_by_side.checkouts import Attributes, prepare_imports
from benchmarks.side_by_side.setting import CONTEXT, FRAMES, Demo, Setting

Batch = tuple[torch.Tensor, torch.Tensor]


class PublishedEZCLIP:
    """The checkout's modules with the demo's settings, and a model on the demo's backbone."""

    method = "ez_clip"

    def __init__(
        self, checkout: Path, setting: Setting, demo: Demo, shape: dict[str, Any], *, chance: bool
    ) -> None:
        prepare_imports(self.method, checkout)
        from clip.model import CLIP
        from utils.KLLoss import KLLoss, Motion_loss

        self.setting, self.demo = setting, demo
        released = yaml.safe_load((checkout / "configs/K-400/k400_train.yaml").read_text("utf-8"))
        config = Attributes(released)
        config["data"] |= {"input_size": shape["size"], "dataset": "something_demo"}  # no flip
        config["data"] |= {"num_segments": FRAMES, "batch_size": setting.batch, "use_llm": False}
        config["solver"] |= {"epochs": setting.epochs, "lr_warmup_step": setting.warmup}
        config["solver"] |= {"lr": setting.lr}
        if not chance:
            config["prompt"]["DROPOUT"] = config["network"]["drop_out"] = 0.0
        self.config = config
        model = CLIP(
            shape["embed"],
            config,
            shape["size"],
            shape["layers"],
            shape["width"],
            shape["patch"],
            FRAMES,
            CONTEXT,
            shape["vocabulary"],
            shape["text_width"],
            shape["text_heads"],
            shape["text_layers"],
            T=FRAMES,
            dropout=config.network.drop_out,
            emb_dropout=config.network.emb_dropout,
        )
        for block in model.visual.transformer.resblocks:  # their code: width // 64
            block.attn.num_heads = shape["heads"]
            block.attn.head_dim = shape["width"] // shape["heads"]
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "prompt" in name or "Adapter" in name
        self.model = model.float()
        self.loss_image, self.loss_text = KLLoss(), KLLoss()
        self.loss_motion = Motion_loss()

    def load(self, values: dict[str, torch.Tensor], *, trained: bool) -> None:
        """Load the backbone's tensors, and with `trained` the initial values of ours."""
        if not trained:
            values = {
                name: value
                for name, value in values.items()
                if "Adapter" not in name and "T_prompt" not in name
            }
        missing, unknown = self.model.load_state_dict(values, strict=False)
        assert not unknown, unknown
        assert not missing or not trained, missing

    # -- training -----------------------------------------------------------------------------

    def loader(self) -> Any:
        """Their dataset, transforms and loader, with the frames of our cache."""
        from torch.utils.data import DataLoader
        from utils.Augmentation import get_augmentation

        dataset = self._dataset("train", get_augmentation(True, self.config), random_shift=True)
        return DataLoader(
            dataset, batch_size=self.setting.batch, num_workers=0, shuffle=True, drop_last=True
        )

    def _dataset(self, part: str, transform: Any, *, random_shift: bool) -> Any:
        from datasets import Action_DATASETS

        demo = self.demo

        class Frames(Action_DATASETS):
            """Their dataset; a path is a row of our frame cache."""

            def _load_image(self, directory: str, idx: int) -> list[Any]:
                return demo.pictures(int(directory), [idx - self.index_bias])

        with tempfile.TemporaryDirectory() as name:
            listed, labels = Path(name) / "list.txt", Path(name) / "labels.csv"
            listed.write_text("".join(f"{r} {n} {k}\n" for r, n, k in demo.rows(part)))
            return Frames(
                str(listed),
                str(labels),
                num_segments=FRAMES,
                image_tmpl="img_{:05d}.jpg",
                transform=transform,
                random_shift=random_shift,
            )

    def texts(self, templates: int | None = None) -> Any:
        """Their tokens: template number → (C, 77), as `text_dict` of train.py."""
        from utils.Text_Prompt import text_prompt

        pairs = list(enumerate(self.demo.classes))
        _, count, by_template = text_prompt(Attributes(classes=pairs), "", False)
        return {i: by_template[i] for i in range(templates or count)}

    def tokens(self, templates: int | None = None) -> torch.Tensor:
        """The same as one tensor (C, P, 77)."""
        return torch.stack(list(self.texts(templates).values()), dim=1)

    def batches(self, loader: Any) -> Iterator[tuple[int, int, Batch]]:
        """Epoch, number in the epoch and batch of every step."""
        for epoch in range(self.setting.epochs):
            for number, batch in enumerate(loader):
                yield epoch, number, batch

    def train(
        self, loader: Any, texts: dict[int, torch.Tensor], *, half: bool = False
    ) -> list[dict[str, float]]:
        """Loss, learning rate and seconds of every step. `loader`: batches of an epoch, with a length.

        `half`: weights are rounded to float16 after each step, as on a GPU; computed is in float32.
        """
        from clip.model import convert_weights
        from utils.solver import _lr_scheduler, _optimizer
        from utils.tools import create_logits, gen_label

        optimizer = _optimizer(self.config, self.model)
        scheduler = _lr_scheduler(self.config, optimizer)
        self.model.train()
        steps, began = [], time.perf_counter()
        for epoch, number, (images, labels) in self.batches(loader):
            loaded = time.perf_counter()
            if number == 0 or (number + 1) % 10 == 0:
                scheduler.step(epoch + number / len(loader))
            optimizer.zero_grad()
            images = images.view((-1, FRAMES, 3, *images.size()[-2:]))
            b, t, c, h, w = images.size()
            drawn = np.random.randint(len(texts), size=len(labels))
            tokens = torch.stack([texts[j][i, :] for i, j in zip(labels, drawn, strict=True)])
            video = self.model.encode_image(images.view(-1, c, h, w)).view(b, t, -1)
            motion = self.loss_motion(video)
            video = video.mean(dim=1, keepdim=False)
            text = self.model.encode_text(tokens)
            scale = self.model.logit_scale.exp()
            per_video, per_text = create_logits(video, text, scale)
            truth = torch.tensor(gen_label(labels), dtype=video.dtype)
            both = self.loss_image(per_video, truth) + self.loss_text(per_text, truth)
            loss = both / 2 + motion
            loss.backward()
            optimizer.step()
            if half:
                convert_weights(self.model)
                self.model.float()
            ended = time.perf_counter()
            lr = optimizer.param_groups[0]["lr"]
            seconds = {"data_s": loaded - began, "step_s": ended - loaded}
            steps.append({"loss": loss.item(), "lr": lr, **seconds})
            began = time.perf_counter()
        return steps

    # -- test ---------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self) -> list[int]:
        """The predicted class of each test video: softmax by template, averaged."""
        from torch.utils.data import DataLoader
        from utils.Augmentation import get_augmentation

        self.model.eval()
        texts = self.texts()
        text = self.model.encode_text(torch.cat(list(texts.values())))
        text = text / text.norm(dim=-1, keepdim=True)
        dataset = self._dataset("test", get_augmentation(False, self.config), random_shift=False)
        found: list[int] = []
        for images, _ in DataLoader(dataset, batch_size=self.setting.batch):
            images = images.view((-1, FRAMES, 3, *images.size()[-2:]))
            b, t = images.shape[:2]
            video = self.model.encode_image(images.flatten(0, 1)).view(b, t, -1).mean(1)
            video = video / video.norm(dim=-1, keepdim=True)
            similarity = (100.0 * video @ text.T).view(b, len(texts), -1).softmax(dim=-1)
            found += similarity.mean(dim=1).argmax(-1).tolist()
        return found


def seed_all(seed: int) -> None:
    """Seed the generators that the published code draws from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
