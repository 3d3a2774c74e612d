"""Peak memory of our forward beside the library's, counted in bytes of living tensors."""

import pytest
import torch
from benchmarks.peak_memory import peak_bytes
from tests.models.families import FAMILIES, small_family

from vidprompt.config.names import METHODS
from vidprompt.models import create_model
from vidprompt.models.layers import attention
from vidprompt.models.text.prompts import tokenize

CPU = torch.device("cpu")
FRAMES, BOUND = 4, 1.05


def test_the_most_bytes_are_counted_that_live_at_once() -> None:
    kept = torch.zeros(1000)

    def call() -> torch.Tensor:
        first = kept + 1  # 4,000 bytes
        second = torch.cat([first, first])  # 8,000, beside the first
        del first
        return second.view(2, -1)[0] + kept  # 4,000, beside the second

    assert peak_bytes(call, CPU) == 12_000
    assert peak_bytes(lambda: kept.view(10, 100), CPU) == 0


@torch.no_grad()
@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("name", FAMILIES)
def test_our_forward_holds_no_more_than_the_librarys(
    name: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With prompts too; "gpu": with the operations of attention on a GPU, on the processor."""
    if device == "gpu":
        monkeypatch.setattr(attention, "on_cpu", lambda x: False)
    backbone = small_family(name)
    size = backbone.image_size
    images = torch.randn(8, 3, size, size)
    videos = images.unflatten(0, (-1, FRAMES))
    theirs = peak_bytes(lambda: backbone.clip.encode_image(images), CPU)
    for method in METHODS:
        if name == "MobileCLIP-B" and method in ("vita_clip", "vl_prompting"):
            continue  # two or three times as many prompts as tokens, in this size
        model = create_model(method, backbone, num_frames=FRAMES, class_names=["a", "b"]).eval()
        model.merge_lora()  # as every use of a model does
        ours = peak_bytes(lambda model=model: model.encode_video(videos), CPU)
        assert ours <= BOUND * theirs, f"{method}: {ours / theirs:.3f}"
    texts = tokenize(backbone.tokenizer, ["a b c d e f g h i"] * 8)
    theirs = peak_bytes(lambda: backbone.clip.encode_text(texts), CPU)
    model = create_model("frozen_clip", backbone, num_frames=FRAMES).eval()
    assert peak_bytes(lambda: model.encode_text(texts), CPU) <= BOUND * theirs
