"""Vita-CLIP's published code on the demo: its model, loss, optimiser, schedule and random draws.

The loop is that of training/train.py without distribution, the test its `evaluate` with 3 views.
"""

from __future__ import annotations

import tempfile
import time
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from benchmarks.side_by_side.checkouts import prepare_imports
from benchmarks.side_by_side.setting import CONTEXT, FRAMES, STRIDE, Demo, Setting

Batch = tuple[torch.Tensor, torch.Tensor]
WEIGHT_DECAY = 0.05  # default of train.py, and of the script
AUGMENT = "rand-m7-n4-mstd0.5-inc1"  # train_scripts/k400_train.sh
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class PublishedVitaCLIP:
    """The checkout's modules with the demo's settings, and a model on the demo's backbone."""

    method = "vita_clip"

    def __init__(
        self,
        checkout: Path,
        setting: Setting,
        demo: Demo,
        shape: dict[str, Any],
        values: dict[str, torch.Tensor],
    ) -> None:
        """`values`: of our model by published names; the backbone's are taken."""
        prepare_imports(self.method, checkout)
        from VitaCLIP_model import VitaCLIP

        self.setting, self.demo, self.size = setting, demo, shape["size"]
        parts = ("summary", "local", "global", "time_embed", "cls_proj", "prompt_learner")
        frozen = {k: v for k, v in values.items() if not any(part in k for part in parts)}
        with tempfile.TemporaryDirectory() as name:
            backbone, classes = Path(name) / "clip.pth", Path(name) / "classes.txt"
            torch.save(frozen, backbone)
            classes.write_text("\n".join(demo.classes) + "\n")
            self.model = VitaCLIP(
                backbone_path=str(backbone),
                input_size=(self.size, self.size),
                num_frames=FRAMES,
                feature_dim=shape["width"],
                patch_size=(shape["patch"], shape["patch"]),
                num_heads=shape["heads"],
                num_layers=shape["layers"],
                embed_dim=shape["embed"],
                use_summary_token=True,
                use_local_prompts=True,
                use_global_prompts=True,
                num_global_prompts=8,
                use_text_prompt_learning=True,
                text_context_length=CONTEXT,
                text_vocab_size=shape["vocabulary"],
                text_transformer_width=shape["text_width"],
                text_transformer_heads=shape["text_heads"],
                text_transformer_layers=shape["text_layers"],
                text_num_prompts=8,
                text_prompt_CSC=True,
                text_prompt_classes_path=str(classes),
            )

    def load(self, values: dict[str, torch.Tensor]) -> None:
        """Load the initial values of ours; the texts' embeddings are theirs."""
        missing, unknown = self.model.load_state_dict(values, strict=False)
        assert not unknown, unknown
        assert {name.split(".")[-1] for name in missing} == {"token_prefix", "token_suffix"}

    def tokens(self) -> torch.Tensor:
        """Their tokens (C, 1, 77), 0 where a vector is learned."""
        tokens = self.model.tokenized_prompts.clone()
        tokens[:, 1 : 1 + self.model.prompt_learner.n_ctx] = 0
        return tokens[:, None]

    # -- training -----------------------------------------------------------------------------

    def _loader(self, part: str, steps: int = 0) -> Any:
        """Their loader, with the frames of our cache for those of a video file."""
        import video_dataset.dataset
        from video_dataset import create_train_loader, create_val_loader

        video_dataset.dataset.av = _Frames(self.demo)
        training = part == "train"
        with tempfile.TemporaryDirectory() as name:
            listed = Path(name) / "list.csv"
            listed.write_text("".join(f"{r},{k}\n" for r, _, k in self.demo.rows(part)))
            arguments = types.SimpleNamespace(
                train_data_root="",
                val_data_root="",
                train_list_path=str(listed),
                val_list_path=str(listed),
                data_root="",
                dummy_dataset=False,
                batch_size=self.setting.batch,
                num_steps=steps,
                num_spatial_views=1,
                num_temporal_views=3,
                num_frames=FRAMES,
                sampling_rate=STRIDE,
                tsn_sampling=False,
                spatial_size=self.size,
                mean=list(MEAN),
                std=list(STD),
                num_workers=0,
                auto_augment=AUGMENT,
                interpolation="bicubic",
                mirror=True,
            )
            return create_train_loader(arguments) if training else create_val_loader(arguments)

    def loader(self) -> Any:
        return self._loader("train", self.setting.steps(self.demo.videos))

    def train(self, loader: Iterable[Batch], steps: int) -> list[dict[str, float]]:
        """Loss, learning rate and seconds of every step."""
        model, criterion = self.model, torch.nn.CrossEntropyLoss()
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=self.setting.lr, weight_decay=WEIGHT_DECAY
        )
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        model.train()
        found, began = [], time.perf_counter()
        for clips, labels in loader:
            loaded = time.perf_counter()
            lr = optimizer.param_groups[0]["lr"]
            optimizer.zero_grad()
            loss = criterion(model(clips), labels)
            loss.backward()
            optimizer.step()
            scheduler.step()
            seconds = {"data_s": loaded - began, "step_s": time.perf_counter() - loaded}
            found.append({"loss": loss.item(), "lr": lr, **seconds})
            began = time.perf_counter()
        return found

    # -- test ---------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self) -> list[int]:
        """The predicted class of each test video: softmax by view, averaged; texts are encoded once."""
        model = self.model.eval()
        text = model.textual(model.prompt_learner(), model.tokenized_prompts)
        text = text / text.norm(dim=-1, keepdim=True)
        found = []
        for clips, _ in self._loader("test"):
            video = model.visual(clips[0])
            video = video / video.norm(dim=-1, keepdim=True)
            scores = (model.logit_scale.exp() * video @ text.t()).softmax(dim=-1)
            found.append(int(scores.mean(dim=0).argmax()))
        return found


class _Frames:
    """In place of the module av: "opens" a row of our frame cache as a video."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo

    def open(self, row: str) -> _Video:
        return _Video(self.demo, int(row))


class _Video:
    def __init__(self, demo: Demo, row: int) -> None:
        self.demo, self.row = demo, row

    def decode(self, video: int) -> Iterator[_Frame]:
        del video
        count = self.demo.cache.num_frames(self.row)
        for number, picture in enumerate(self.demo.pictures(self.row, range(count))):
            yield _Frame(number, picture)

    def close(self) -> None:
        pass


class _Frame:
    def __init__(self, number: int, picture: Any) -> None:
        self.pts, self.picture = number, picture

    def to_rgb(self) -> _Frame:
        return self

    def to_ndarray(self) -> Any:
        import numpy as np

        return np.array(self.picture)
