"""A training step on a device that is not the CPU: nothing stays behind, and the CPU waits for it once.

The device is `meta`: shapes without content, so no GPU is needed; what is read back is made up.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from tests.models.small import small_backbone
from tests.training.small_run import CLASSES, SETTINGS
from torch.utils._python_dispatch import TorchDispatchMode

from vidprompt.data.clips.augmentation import Augmentation
from vidprompt.data.clips.batch_augmentation import augment_batch, collate_drawn, drawn_clip
from vidprompt.data.clips.shared_batches import stack
from vidprompt.models import create_model
from vidprompt.models.text.prompts import PromptSet
from vidprompt.training.engine import new_accelerator
from vidprompt.training.objectives import create_objective
from vidprompt.training.step import Stepper

META = torch.device("meta")
# Operations of a step that write memory of the device, so kernels at least; a change that adds to them
# without a reason is one to think about. With a backbone of 3 layers, 6 clips and 4 classes.
NO_KERNELS = ("aten._unsafe_view.default", "aten.detach.default", "aten.empty_like.default")
MOST = {"ez_clip": 840, "vita_clip": 800}


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    read = torch.Tensor.tolist
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no such device
    # there is no generator of this device
    monkeypatch.setattr("vidprompt.models.methods.ez_clip.torch.Generator", NoGenerator)
    monkeypatch.setattr(torch.Tensor, "tolist", lambda x: [1.0] * len(x) if x.is_meta else read(x))


class NoGenerator(torch.Generator):
    def __new__(cls, *_: object) -> Any:
        return super().__new__(cls)

    def manual_seed(self, seed: int) -> Any:
        super().manual_seed(seed)


class Watch(TorchDispatchMode):
    """Counts operations on the device, and what of them a CPU would wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.launches, self.waits = 0, Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given = [x for x in torch.utils._pytree.tree_leaves((args, kwargs)) if _tensor(x)]
        made = [x for x in torch.utils._pytree.tree_leaves(out) if _tensor(x)]
        name = str(func)
        if any(x.is_meta for x in made) and not func.is_view and name not in NO_KERNELS:
            self.launches += not _of_a_whole_axis(name, args)
        copied = name.startswith(("aten._to_copy", "aten.copy_"))
        mixed = {x.is_meta for x in [*given, *made] if x.ndim} == {True, False}
        if mixed and not (copied and (kwargs.get("non_blocking") or args[-1] is True)):
            self.waits[name] += 1
        return out


def _of_a_whole_axis(name: str, args: Any) -> bool:
    """Is it the gradient of `x[:]`? Newer versions of torch make no operation of it."""
    return name == "aten.slice_backward.default" and list(args[0].shape) == list(args[1])


def _tensor(x: Any) -> bool:
    return isinstance(x, torch.Tensor)


@pytest.fixture
def stepper(request: pytest.FixtureRequest, elsewhere: None) -> Iterator[tuple[Stepper, str]]:
    del elsewhere
    method, recompute, parts = request.param
    torch.manual_seed(0)
    rates = {"stochastic_depth": 0.1, "text_stochastic_depth": 0.1, "prompt_dropout": 0.1}
    options = rates if method == "ez_clip" else {"class_names": CLASSES, "context": "class"}
    model = create_model(method, small_backbone(layers=3), num_frames=2, **options)
    model.recompute = recompute
    objective = create_objective(
        {"ez_clip": "contrastive_motion", "vita_clip": "cross_entropy"}[method],
        model,
        CLASSES,
        PromptSet(("a {}", "the {}")),
        {"motion_weight": 1.0} if method == "ez_clip" else {},
    )
    settings = replace(SETTINGS, micro_batches=parts, batch_size=6)
    with patch.object(Accelerator, "device", META):
        yield Stepper(objective, settings, new_accelerator("no")), method


def step(stepper: Stepper, number: int = 0) -> None:
    clips = torch.zeros(6, 2, 3, 32, 32, dtype=torch.uint8)
    stepper.step(number, (clips, torch.arange(6) % len(CLASSES)), False)


@pytest.mark.parametrize(
    "stepper",
    [
        ("ez_clip", "nothing", 1),
        ("ez_clip", "layer", 3),
        ("vita_clip", "mlp", 1),
        ("vita_clip", "nothing", 3),
    ],
    indirect=True,
)
def test_a_step_leaves_nothing_on_the_cpu(stepper: tuple[Stepper, str]) -> None:
    made, _ = stepper
    step(made)
    assert all(p.is_meta and p.grad is None for p in made.parameters)
    objective = made.objective
    with torch.inference_mode():
        objective.eval()
        video = torch.empty(2, 2, 3, 32, 32, device=META)
        assert objective.model.encode_video(video)[1].is_meta
        assert objective.model.encode_classes(["a", "b"]).is_meta


@pytest.mark.parametrize(
    "stepper", [("ez_clip", "nothing", 1), ("vita_clip", "nothing", 1)], indirect=True
)
def test_the_cpu_waits_for_no_operation_of_a_step(stepper: tuple[Stepper, str]) -> None:
    made, method = stepper
    step(made)  # tokens and layouts are made in the first
    with Watch() as seen:
        step(made, 1)
    assert not seen.waits
    assert MOST[method] / 2 < seen.launches <= MOST[method]


@pytest.mark.parametrize("rand_augment", [None, {"layers": 4, "probability": 1.0}])
def test_the_cpu_waits_for_no_operation_of_an_augmentation(rand_augment: Any) -> None:
    everything: dict[str, Any] = {
        "flip": True, "jitter": 1.0, "jitter_by_frame": True, "channels": 1.0, "greyscale": 0.5, "erase": 1.0
    }  # fmt: skip
    chosen = Augmentation(rand_augment=rand_augment, **everything)
    drawn = [
        drawn_clip(
            torch.zeros(2, 3, 40 + n % 2, 48, dtype=torch.uint8), n, 32, chosen,
            np.random.default_rng(n),
        )
        for n in range(40)
    ]  # fmt: skip
    batch = collate_drawn(chosen, drawn, stack)
    augment_batch(batch, 32, chosen, META)
    with Watch() as seen:
        clips, labels = augment_batch(batch, 32, chosen, META)
    assert clips.is_meta
    assert labels.is_meta
    assert clips.shape == (40, 2, 3, 32, 32)
    assert not seen.waits
    assert seen.launches <= (1700 if rand_augment else 130)


def test_what_the_cpu_waits_for_is_seen() -> None:
    there, here = torch.zeros(3, device=META), torch.tensor([0, 1])
    with Watch() as seen:
        there[here]
        here.to(META)
        here.to(META, non_blocking=True)
        there.add_(1)
    assert seen.waits == {"aten.index.Tensor": 1, "aten._to_copy.default": 1}
    assert seen.launches == 4
